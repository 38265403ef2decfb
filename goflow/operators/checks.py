"""What operators refuse when they are made, so that it is not found out at run time."""

import math
from collections.abc import Mapping
from typing import Any

from goflow.errors import InvalidJob


def text(where: str, value: object) -> str:
    """A `str` that can be handed to the system: no NUL, nothing that has no encoding."""
    if not isinstance(value, str):
        raise InvalidJob(f"{where} must be a str, not {value!r}")
    if "\0" in value:
        raise InvalidJob(f"{where} must not contain a NUL character: {value!r}")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise InvalidJob(f"{where} has characters that cannot be encoded: {value!r}") from None
    return value


def seconds(where: str, value: object) -> float | None:
    """A positive number of seconds, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(f"{where} must be a number of seconds or None, not {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise InvalidJob(f"{where} must be more than 0 seconds and finite, not {value!r}")
    return value


def mapping(where: str, value: object) -> dict[str, Any]:
    """A copy of a mapping, or an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{where} must be a mapping, not {value!r}")
    return dict(value)
