"""Answers: JSON from typed values, and failures in the one shape that all have."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from goflow.errors import Conflict, GoflowError, InvalidRequest, NotFound, Unavailable
from goflow.web.wire import Error, Failure

MESSAGE_LIMIT = 1000  # characters
FIELD_LIMIT = 300
SUBJECT_LIMIT = 2000
FILE_NAME_LIMIT = 60

_encoder = msgspec.json.Encoder()


class TooLarge(InvalidRequest):
    """The body has more bytes than this server takes."""

    code = "too-large"


# The most particular first.
STATUS: list[tuple[type[GoflowError], int]] = [
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (InvalidRequest, 400),
    (Unavailable, 503),
]


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A typed value as JSON; never cached, since it is of this moment."""
    return Response(
        _encoder.encode(value),
        status,
        {"cache-control": "no-store", **(headers or {})},
        "application/json",
    )


def failure(
    status: int,
    code: str,
    message: str,
    field: str | None = None,
    *,
    subject: str = "",
    shape: type[Failure] = Failure,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A failure; texts that came from the request are cut short and made encodable."""
    error = Error(
        code,
        _tame(message, MESSAGE_LIMIT),
        None if field is None else _tame(field, FIELD_LIMIT),
    )
    return json_answer(shape.about(_tame(subject, SUBJECT_LIMIT), error), status, headers)


def failure_of(error: GoflowError, subject: str, shapes: Mapping[int, type[Failure]]) -> Response:
    """The failure that an error of goflow's is on the wire, in the shape of its status."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return failure(
        status,
        error.code,
        str(error),
        getattr(error, "field", None),
        subject=subject,
        shape=shapes.get(status, Failure),
        headers={"retry-after": "1"} if status == 503 else None,
    )


def as_file(name: str, suffix: str) -> str:
    """The header Content-Disposition that has an answer kept as a file (RFC 6266).

    Of `name` only letters, digits, `.`, `_` and `-` are left, none of which any system takes
    for more than a part of a name.
    """
    kept = re.sub(r"[^\w.-]+", "_", name).lstrip(".")[:FILE_NAME_LIMIT] + suffix
    plain = kept.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(kept)}"


def _tame(text: str, limit: int) -> str:
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")
