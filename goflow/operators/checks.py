"""What operators refuse when they are made, so that it is not found out at run time."""

import math
from collections.abc import Mapping
from typing import Any

from goflow.errors import InvalidJob
from goflow.shown import shown


def text(where: str, value: object) -> str:
    """A `str` that can be handed to the system: no NUL, nothing that has no encoding."""
    if not isinstance(value, str):
        raise InvalidJob(f"{where} must be a str, not {shown(value)}")
    if "\0" in value:
        raise InvalidJob(f"{where} must not contain a NUL character: {shown(value)}")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise InvalidJob(f"{where} has characters that cannot be encoded: {shown(value)}") from None
    return value


def seconds(where: str, value: object) -> float | None:
    """A positive number of seconds, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(f"{where} must be a number of seconds or None, not {shown(value)}")
    if not (value > 0 and math.isfinite(value)):
        raise InvalidJob(f"{where} must be more than 0 seconds and finite, not {shown(value)}")
    return value


def mapping(where: str, value: object) -> dict[str, Any]:
    """A copy of a mapping, or an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{where} must be a mapping, not {shown(value)}")
    return dict(value)
