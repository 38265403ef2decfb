"""Gets from and posts to a URL.

The rule that must not be broken: what a server sends, or fails to send, is bounded in size
and in time.
"""

import asyncio
import functools
import importlib
import json as jsonlib
import logging
import re
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from goflow.errors import InvalidJob, TaskFailed
from goflow.operators import checks
from goflow.operators.base import Context

MAX_BODY = 1024 * 1024  # bytes
ERROR_LIMIT = 1000  # characters of the body in the error
MAX_REDIRECTS = 10  # as Go's net/http

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
# Set while a request of ours is under way: the client's own line about it would say the same
# again, password included.
_ours: ContextVar[bool] = ContextVar("goflow_http_ours", default=False)

_FORBIDDEN_IN_URL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Get:
    """Gets `url`; the result is the body as text.

    - `url`: http or https. Up to 10 redirects are followed.
    - `headers`: sent with the request.
    - `timeout`: seconds for all of it, redirects and body included; None for no limit.
    - `max_body`: bytes of the body, uncompressed; a larger one fails the attempt. 1 MiB, which
      is also what the engine keeps of a result by default.

    A status other than 2xx fails the attempt with the status and the start of the body. Raises
    `InvalidJob` for what can never be sent.
    """

    url: str
    headers: Mapping[str, str] | None = field(default=None, kw_only=True, repr=False, hash=False)
    timeout: float | None = field(default=30, kw_only=True)
    max_body: int = field(default=MAX_BODY, kw_only=True)

    def __post_init__(self) -> None:
        where = f"Get({self.url!r})"
        _check_url("Get", self.url)
        object.__setattr__(self, "headers", _checked_headers(where, self.headers))
        checks.seconds(f"{where}: timeout", self.timeout)
        _check_max_body(where, self.max_body)

    async def run(self, context: Context) -> str:
        request = Request("GET", self.url, dict(self.headers or {}), None)
        return await request.send(context, self.timeout, self.max_body)


@dataclass(frozen=True)
class Post:
    """Posts `body`, or `json`, to `url`; the rest is as in `Get`.

    - `body`: a str, sent as UTF-8, or bytes. `headers` may say of what type it is.
    - `json`: anything JSON can hold, sent as application/json; it is encoded here and now.

    The same bytes are sent on every attempt, so iterators and open files are refused.
    """

    url: str
    body: str | bytes | None = field(default=None, repr=False)
    json: Any = field(default=None, kw_only=True, repr=False, hash=False)
    headers: Mapping[str, str] | None = field(default=None, kw_only=True, repr=False, hash=False)
    timeout: float | None = field(default=30, kw_only=True)
    max_body: int = field(default=MAX_BODY, kw_only=True)
    _content: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = f"Post({self.url!r})"
        _check_url("Post", self.url)
        headers = _checked_headers(where, self.headers)
        if self.json is not None:
            if self.body is not None:
                raise InvalidJob(f"{where}: give body or json, not both")
            content = _encoded(where, self.json)
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = "application/json"
        else:
            content = _content(where, self.body)
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "_content", content)
        checks.seconds(f"{where}: timeout", self.timeout)
        _check_max_body(where, self.max_body)

    async def run(self, context: Context) -> str:
        request = Request("POST", self.url, dict(self.headers or {}), self._content)
        return await request.send(context, self.timeout, self.max_body)


class Request(msgspec.Struct, frozen=True):
    """A request that can be sent any number of times."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None

    async def send(self, context: Context, timeout: float | None, max_body: int) -> str:
        """The body of the answer. Raises `TaskFailed`."""
        client = await asyncio.to_thread(_client)
        what = f"{self.method} {_without_password(self.url)}"
        token = _ours.set(True)
        try:
            async with asyncio.timeout(timeout):
                status, content, encoding, whole = await self._exchange(client, max_body)
        except TimeoutError:
            raise TaskFailed(f"{what}: timed out after {timeout:g} s") from None
        except (client.HTTPError, client.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise TaskFailed(f"{what}: {reason}") from None
        finally:
            _ours.reset(token)
        size = f"{len(content)} bytes" if whole else f"more than {len(content)} bytes"
        context.log(f"{what} → {status}, {size}")
        text = _decoded(content, encoding)
        if not status.startswith("2"):
            start = text[:ERROR_LIMIT].strip()
            raise TaskFailed(f"{what}: {status}" + (f": {start}" if start else ""))
        if not whole:
            raise TaskFailed(f"{what}: the body is larger than max_body={max_body} bytes")
        return text

    async def _exchange(self, client: Any, max_body: int) -> tuple[str, bytes, str, bool]:
        """Status, the body's first bytes, its encoding, and whether that is all of it."""
        async with (
            client.AsyncClient(
                verify=_ssl_context(), timeout=None, max_redirects=MAX_REDIRECTS
            ) as session,
            session.stream(
                self.method,
                self.url,
                headers={
                    name: value.encode(errors="surrogateescape")
                    for name, value in self.headers.items()
                },
                content=self.content,
                follow_redirects=True,
            ) as response,
        ):
            limit = max_body if response.is_success else min(max_body, 4 * ERROR_LIMIT)
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > limit:
                    break
            status = f"{response.status_code} {response.reason_phrase}".strip()
            whole = len(content) <= limit
            return status, bytes(content[:limit]), response.encoding or "utf-8", whole


@functools.cache
def _client() -> Any:
    """The HTTP client, imported when first needed: it takes longer than all of goflow."""
    client = importlib.import_module("httpx2")
    logging.getLogger("httpx2").addFilter(lambda record: not _ours.get())
    _ssl_context()
    return client


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Shared by all requests: to read the certificates takes tens of milliseconds."""
    context: ssl.SSLContext = importlib.import_module("httpx2").create_ssl_context()
    return context


def _check_url(name: str, value: object) -> None:
    url = checks.text(f"{name}: url", value)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise InvalidJob(f"{name}: url {url!r} is not valid: {error}") from None
    if not good or _FORBIDDEN_IN_URL.search(url):
        raise InvalidJob(f"{name}: url must be like https://host/path, without spaces, not {url!r}")


def _checked_headers(where: str, headers: object) -> dict[str, str]:
    checked = checks.mapping(f"{where}: headers", headers)
    for name, value in checked.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidJob(f"{where}: {name!r} cannot be the name of a header")
        checks.text(f"{where}: header {name!r}", value)
        if "\r" in value or "\n" in value:
            raise InvalidJob(f"{where}: header {name!r} must be one line, not {value!r}")
    return checked


def _check_max_body(where: str, max_body: object) -> None:
    if isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 1:
        raise InvalidJob(f"{where}: max_body must be a positive number of bytes, not {max_body!r}")


def _content(where: str, body: object) -> bytes:
    match body:
        case None:
            return b""
        case str():
            try:
                return body.encode()
            except UnicodeEncodeError as error:
                raise InvalidJob(f"{where}: body cannot be encoded: {error}") from None
        case bytes() | bytearray() | memoryview():
            return bytes(body)
    raise InvalidJob(
        f"{where}: body must be str or bytes, which can be sent again on a retry, not {body!r}; "
        "read it first, or use json="
    )


def _encoded(where: str, value: object) -> bytes:
    try:
        return jsonlib.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"{where}: json cannot be encoded: {error}") from None


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding, errors="replace")
    except (LookupError, UnicodeError):  # a codec that is not for text
        return content.decode(errors="replace")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:***@{host}").geturl()
