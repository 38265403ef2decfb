"""Requests: query, headers and JSON body as typed values, and the requester.

The rule: an invalid part raises `InvalidRequest`, which names the field, before anything is done.
"""

import ipaddress
import json
import math
import re
from collections.abc import Hashable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.requests import Request

from goflow.engine.principal import Principal
from goflow.errors import InvalidRequest
from goflow.job.params import explain
from goflow.web.responses import TooLarge

T = TypeVar("T")

USER_PATTERN = "^[ -~]{0,100}$"
USER_HEADER = {
    "X-Goflow-User": ("the user's name, recorded with the change and shown", USER_PATTERN)
}

FIELDS_LIMIT = 100  # query parameters
# A client that sends its whole request before it reads would miss the response to a body that is
# too large. So up to this many bytes beyond the limit are read and dropped.
DRAIN_LIMIT = 64 * 1024 * 1024

_DATE = re.compile(r"[0-9]{4}-", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BETWEEN_WORDS = re.compile(r"[^\w.:%@-]+", re.ASCII)


# -- the query -----------------------------------------------------------------------


def read_query(query: bytes, schema: type[T]) -> T:
    """The query string as a `schema`. Unknown parameters are ignored."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_LIMIT,
        )
    except ValueError as error:
        raise InvalidRequest(f"invalid query string: {error}", code="invalid-query") from None
    known, whole, times, lists = _fields(schema)  # type: ignore[arg-type]  # a type is hashable
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            continue
        if name in lists:
            values.setdefault(name, []).append(value)
            continue
        if name in values:
            raise InvalidRequest(
                f"{name} is given more than once", code="repeated-parameter", field=name
            )
        if name in whole and not _WHOLE.fullmatch(value):
            raise _invalid_parameter(name, "must be a whole number", value)
        if name in times and not _DATE.match(value):
            raise _invalid_parameter(name, "must be an RFC 3339 time", value)
        values[name] = value
    try:
        return msgspec.convert(values, schema, strict=False)
    except msgspec.ValidationError as error:
        place, reason = explain(error)
        name = place or "query"
        shown = str(values.get(name, ""))[:80]
        raise InvalidRequest(
            f"{name} cannot be {shown!r}: {reason}", code=f"invalid-{name}", field=name
        ) from None


def _invalid_parameter(name: str, requirement: str, value: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} {requirement}, not {value[:80]!r}", code=f"invalid-{name}", field=name
    )


@cache
def _fields(schema: Hashable) -> tuple[frozenset[str], ...]:
    """The names of all parameters; of whole numbers, since msgspec accepts 1e2 as one; of times,
    since msgspec accepts numbers as times; and of lists, which may be repeated."""
    described = inspect.type_info(schema)
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


# -- headers -------------------------------------------------------------------------


def read_header(request: Request, name: str) -> str | None:
    """The value of a header, None if it is absent. Raises `InvalidRequest` if it is repeated."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(
            f"the header {name} is given more than once", code="repeated-header", field=name
        )
    return values[0] if values else None


def requester(request: Request) -> Principal:
    """The principal: the name in X-Goflow-User, which nobody checks, and the client's address."""
    user = read_header(request, "X-Goflow-User") or ""
    if not re.fullmatch(USER_PATTERN, user):
        raise InvalidRequest(
            f"X-Goflow-User must be up to 100 visible ASCII characters, not {user[:80]!r}",
            code="invalid-user",
            field="X-Goflow-User",
        )
    if any(_is_address(word) for word in _BETWEEN_WORDS.split(user)):
        # Only the address that the server saw may appear in the record.
        raise InvalidRequest(
            f"X-Goflow-User must not contain an IP address: {user!r}",
            code="invalid-user",
            field="X-Goflow-User",
        )
    user = user.strip()
    address = "" if request.client is None else request.client.host
    return Principal(f"{user} from {address}" if user and address else user or address)


def _is_address(word: str) -> bool:
    """Whether a word is an IP address, with or without a port."""
    for text in (word, word.rpartition(":")[0]):
        with suppress(ValueError):
            ipaddress.ip_address(text)
            return True
    return False


# -- the body ------------------------------------------------------------------------


async def read_body(request: Request, schema: type[T], limit: int) -> T:
    """The JSON object in the body as a `schema`. An empty body is an empty object."""
    content = await _content(request, limit)
    value = _decode(content) if content.strip(b" \t\r\n") else {}
    try:
        return msgspec.convert(value, schema)
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a key in the body has half a surrogate pair", code="invalid-json"
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
        raise InvalidRequest("the body is nested too deeply", code="invalid-json") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid-json") from None


async def _content(request: Request, limit: int) -> bytes:
    content = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            content += chunk
        elif size > limit + DRAIN_LIMIT:
            break
    if size > limit:
        raise TooLarge(f"the body exceeds the limit of {limit} bytes")
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
        f"the body contains {word[:80]}, which is not a JSON number", code="invalid-json"
    )


def _finite(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        _refuse_number(word)
    return number
