"""Schemas that several routes share.

Every schema is a msgspec struct: requests are decoded into it, responses are encoded from it, and
the OpenAPI document is generated from it. The rule: keys follow the API of Go's goflow to the
letter. They may be added, never renamed or removed.
"""

from typing import Annotated, Self, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")

# Every number up to it is exact in JavaScript, too.
Count = Annotated[int, Meta(ge=0, le=2**53)]

CHANGE_ERRORS = (400, 404, 409, 413, 422, 503)  # statuses of a refused change


def given(value: T | UnsetType) -> T | None:
    """The value of a field, None if the request does not have it."""
    return None if value is UNSET else value


class NoQuery(Struct):
    """No query parameters."""


class Done(Struct):
    """`success` is false if the execution had already ended."""

    id: str
    success: bool


class FieldError(Struct):
    """An invalid part of a request: its path, such as `params.owners[0].name`, and the reason."""

    field: str
    message: str


class Error(Struct):
    """`code` is a stable word for programs. `field` names the invalid part of the request, or is
    null. A 422 has every invalid parameter in `errors`, up to 50."""

    code: str
    message: str
    field: str | None
    errors: list[FieldError] | UnsetType = UNSET


class Failure(Struct, kw_only=True):
    error: Error

    @classmethod
    def about(cls, subject: str, error: Error) -> "Failure":
        """The failure of a request about `subject`, the job or execution in its path."""
        return cls(error=error)


class JobRefused(Failure, kw_only=True):
    job: str
    success: bool = False

    @classmethod
    def about(cls, subject: str, error: Error) -> Self:
        return cls(job=subject, error=error)


class ExecutionRefused(Failure, kw_only=True):
    id: str
    success: bool = False

    @classmethod
    def about(cls, subject: str, error: Error) -> Self:
        return cls(id=subject, error=error)
