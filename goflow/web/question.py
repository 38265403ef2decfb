"""Questions: the query, the headers and the JSON body of a request, as typed values.

The rule: whatever is wrong is an `InvalidRequest` that names the field, before anything
is done.
"""

import json
import math
import re
from collections.abc import Hashable, Iterable
from functools import cache
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.requests import Request

from goflow.errors import InvalidRequest
from goflow.params import explain
from goflow.web.answer import TooLarge

T = TypeVar("T")

FIELDS_LIMIT = 100  # query parameters
# A client that sends all before it reads would not see the refusal of a body too large,
# so this many bytes of one are read and thrown away.
PATIENCE = 64 * 1024 * 1024

_DATE = re.compile(r"[0-9]{4}-", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def read_query(query: bytes, shape: type[T]) -> T:
    """The query string as a `shape`; names it does not know are left aside."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_LIMIT,
        )
    except ValueError as error:
        raise InvalidRequest(f"the query cannot be read: {error}", code="invalid-query") from None
    known, whole, times, listed = _fields(shape)  # type: ignore[arg-type]  # a type is hashable
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            continue
        if name in listed:
            values.setdefault(name, []).append(value)
            continue
        if name in values:
            raise InvalidRequest(
                f"{name} is given twice; once is enough", code="repeated-parameter", field=name
            )
        if name in whole and not _WHOLE.fullmatch(value):
            raise InvalidRequest(
                f"{name} must be a whole number, not {value[:80]!r}",
                code=f"invalid-{name}",
                field=name,
            )
        if name in times and not _DATE.match(value):
            raise InvalidRequest(
                f"{name} must be a time as in RFC 3339, not {value[:80]!r}",
                code=f"invalid-{name}",
                field=name,
            )
        values[name] = value
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        place, reason = explain(error)
        name = place or "query"
        shown = str(values.get(name, ""))[:80]
        raise InvalidRequest(
            f"{name} cannot be {shown!r}: {reason}", code=f"invalid-{name}", field=name
        ) from None


@cache
def _fields(shape: Hashable) -> tuple[frozenset[str], ...]:
    """The names a query may have; those of whole numbers, since msgspec takes 1e2 for one;
    those of times, since it takes numbers for some; and those that may be given repeatedly."""
    described = inspect.type_info(shape)
    assert isinstance(described, inspect.StructType)

    def named(kind: type[inspect.Type] | None) -> frozenset[str]:
        fields = described.fields
        return frozenset(f.name for f in fields if kind is None or _is(kind, f.type))

    kinds = (None, inspect.IntType, inspect.DateTimeType, inspect.ListType)
    return tuple(named(kind) for kind in kinds)


def _is(kind: type[inspect.Type], described: inspect.Type) -> bool:
    match described:
        case inspect.Metadata(type=inner):
            return _is(kind, inner)
        case inspect.UnionType(types=types):
            return any(_is(kind, one) for one in types)
    return isinstance(described, kind)


def read_header(request: Request, name: str) -> str | None:
    """The one value of a header, None if it is absent."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(
            f"the header {name} is given twice; once is enough",
            code="repeated-header",
            field=name,
        )
    return values[0] if values else None


async def read_body(request: Request, shape: type[T], limit: int) -> T:
    """The JSON object in the body as a `shape`; no body is an empty object."""
    content = await _content(request, limit)
    value = _decode(content) if content.strip(b" \t\r\n") else {}
    try:
        return msgspec.convert(value, shape)
    except UnicodeEncodeError:
        raise InvalidRequest(
            "the body has a key with half a surrogate pair", code="invalid-json"
        ) from None
    except msgspec.ValidationError as error:
        field, reason = explain(error)
        raise InvalidRequest(
            f"{field or 'the body'}: {reason}", code="invalid-body", field=field or None
        ) from None


def _decode(content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_refuse_repeated,
            parse_constant=_refuse_number,
            parse_float=_finite,
        )
    except RecursionError:
        raise InvalidRequest("the body is nested too deep", code="invalid-json") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid-json") from None


async def _content(request: Request, limit: int) -> bytes:
    content = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            content += chunk
        elif size > limit + PATIENCE:
            break
    if size > limit:
        raise TooLarge(f"the body is larger than {limit} bytes, which is the limit")
    return bytes(content)


def _refuse_repeated(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidRequest(
                f"the body has the key {key[:80]!r} twice", code="invalid-json", field=key
            )
        found[key] = value
    return found


def _refuse_number(word: str) -> NoReturn:
    raise InvalidRequest(
        f"the body has {word[:80]}, which is no number in JSON", code="invalid-json"
    )


def _finite(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        _refuse_number(word)
    return number
