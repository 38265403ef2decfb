"""Responses: JSON from typed values, and failures, which all have the same shape."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from goflow.errors import (
    Conflict,
    GoflowError,
    InvalidParams,
    InvalidRequest,
    NotFound,
    Unavailable,
    WrongField,
)
from goflow.web.schemas import Error, Failure, FieldError

MESSAGE_LIMIT = 1000  # characters
FIELD_LIMIT = 300
SUBJECT_LIMIT = 2000
FILE_NAME_LIMIT = 60

_encoder = msgspec.json.Encoder()


class TooLarge(InvalidRequest):
    """The request body exceeds the limit."""

    code = "too-large"


# The most specific class first.
STATUS: list[tuple[type[GoflowError], int]] = [
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (InvalidParams, 422),
    (InvalidRequest, 400),
    (Unavailable, 503),
]


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A typed value as JSON that must not be cached."""
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
    errors: Sequence[WrongField] = (),
    schema: type[Failure] = Failure,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A failure. Its texts may come from the request, so they are shortened and made encodable."""
    error = Error(
        code,
        _sanitized(message, MESSAGE_LIMIT),
        None if field is None else _sanitized(field, FIELD_LIMIT),
        [
            FieldError(_sanitized(one.field, FIELD_LIMIT), _sanitized(one.message, MESSAGE_LIMIT))
            for one in errors
        ]
        or UNSET,
    )
    return json_response(schema.about(_sanitized(subject, SUBJECT_LIMIT), error), status, headers)


def error_response(
    error: GoflowError, subject: str, schemas: Mapping[int, type[Failure]]
) -> Response:
    """The response to a request that raised `error`, in the schema of its status."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return failure(
        status,
        error.code,
        str(error),
        getattr(error, "field", None),
        subject=subject,
        errors=getattr(error, "errors", ()),
        schema=schemas.get(status, Failure),
        headers={"retry-after": "1"} if status == 503 else None,
    )


def attachment(name: str, suffix: str) -> str:
    """A Content-Disposition header that makes the browser save the response (RFC 6266).

    Only letters, digits, `.`, `_` and `-` of `name` are kept: they are safe in a file name on
    every system.
    """
    kept = re.sub(r"[^\w.-]+", "_", name).lstrip(".")[:FILE_NAME_LIMIT] + suffix
    plain = kept.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(kept)}"


def _sanitized(text: str, limit: int) -> str:
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")
