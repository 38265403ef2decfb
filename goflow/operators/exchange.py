"""Sends a request to an untrusted server, follows redirects, and reads the response.

The rules that must not be broken: a response is bounded in size, and is processed in pieces,
between which the event loop runs. The caller's headers, credentials and body go only to the origin
that the caller named.
"""

import asyncio
import base64
import functools
import logging
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass

import httpcore2
import httpx2

from goflow.operators import charset
from goflow.operators.causes import Trouble, of_protocol
from goflow.operators.dial import Backend, Progress
from goflow.operators.http import Request
from goflow.operators.inflate import Gunzip
from goflow.operators.masking import masked

MAX_REDIRECTS = 10  # as Go's net/http
MAX_HEADERS = 1000  # of a response
LONGEST_NAME = 253  # characters of a host name (RFC 1035)
LONGEST = 300  # characters of a server's status or header in logs and errors
PADDING = 64 * 1024  # bytes that gzip may add to its content
PIECE = 64 * 1024  # bytes that are decoded at once

_MOVED = (301, 302, 303, 307, 308)
_KEPT = (307, 308)  # the request is repeated unchanged
_NO_CODING = ("", "identity")
_GZIP = ("gzip", "x-gzip")  # RFC 9110, 8.4.1.3
# Set during goflow's requests: httpcore would log the headers of the response.
_ours: ContextVar[bool] = ContextVar("goflow_http_ours", default=False)


@dataclass(frozen=True)
class Answer:
    """The status, and the text of the body as far as it was read; `whole` if to its end.

    - `size`: decompressed bytes that were read.
    - `trouble`: why the body could not be read. A status outside 2xx takes precedence.
    """

    status: str
    success: bool
    text: str
    size: int
    whole: bool
    trouble: Trouble | None


async def exchange(
    request: Request,
    max_body: int,
    max_error: int,
    progress: Progress,
    tell: Callable[[str], None],
) -> Answer:
    """The response to a request, after redirects.

    `max_body` limits the bytes of the body of a 2xx response, `max_error` those of others. `tell`
    is called with a sentence for each redirect. Raises `Trouble`.
    """
    token = _ours.set(True)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await _ask(request, max_body, max_error, progress)
            if isinstance(answer, Answer):
                return answer
            request = _redirected(request, answer, progress.status, tell)
        shown = masked(request.url)[:LONGEST]
        raise Trouble(f"more than {MAX_REDIRECTS} redirects, the last one to {shown}")
    finally:
        _ours.reset(token)


async def _ask(
    request: Request, max_body: int, max_error: int, progress: Progress
) -> Answer | httpx2.URL:
    """The response, or the target of its redirect."""
    url = _parse(request.url)
    progress.begin(_place(url))
    try:
        async with httpcore2.AsyncConnectionPool(
            ssl_context=_ssl_context(), proxy=_proxy(url), network_backend=Backend(progress)
        ) as pool:
            response = await pool.handle_async_request(_prepared(request, url))
            try:
                head = _Head(response, progress.place)
                progress.answered(head.status)
                if (target := head.target(url)) is not None:
                    return target
                return await _read(
                    response, head, max_body if head.success else max_error, progress
                )
            finally:
                await response.aclose()
    except (httpcore2.ProtocolError, httpcore2.ProxyError) as error:
        raise _of_library(error, progress.place) from None


class _Head:
    """The status line and the headers of a response."""

    def __init__(self, response: httpcore2.Response, place: str) -> None:
        if len(response.headers) > MAX_HEADERS:
            raise Trouble(f"{place} sent more than {MAX_HEADERS} headers")
        reason = response.extensions.get("reason_phrase", b"").decode("latin-1")[:LONGEST]
        self.code = response.status
        self.status = f"{self.code} {reason}".strip()
        self.success = 200 <= self.code < 300
        self._headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in response.headers
        ]

    def all(self, name: str) -> list[str]:
        return [value for each, value in self._headers if each == name]

    def target(self, url: httpx2.URL) -> httpx2.URL | None:
        """The target of a redirect; None if it is not one. Raises `Trouble`."""
        locations = self.all("location")
        if self.code not in _MOVED or not locations:
            return None
        # It should be ASCII, but some servers send UTF-8.
        location = locations[0].encode("latin-1").decode("utf-8", "replace")
        try:
            target = _checked(url.join(location))
        except (httpx2.InvalidURL, ValueError):
            shown = masked(location)[:LONGEST]
            raise Trouble(f"{self.status}, to an invalid address: {shown!r}") from None
        if target.scheme not in ("http", "https") or not target.host:
            shown = masked(str(target))[:LONGEST]
            raise Trouble(f"{self.status}, to {shown!r}, which is not http or https")
        return target

    def codings(self) -> list[str]:
        """The content codings of the body, outermost last."""
        named = ",".join(self.all("content-encoding")).split(",")
        return [one for one in (each.strip().lower() for each in named) if one not in _NO_CODING]


def _redirected(
    request: Request, target: httpx2.URL, status: str, tell: Callable[[str], None]
) -> Request:
    """The request that follows a redirect. Raises `Trouble`.

    After a 307 or 308 to another origin, browsers, curl, requests and Go send the body again.
    goflow does not, since the body was meant for the named server. A POST without its body would be
    another request, so goflow sends none.
    """
    source, code = _parse(request.url), int(status[:3])
    shown = masked(str(target))[:LONGEST]
    stays = _origin(source) == _origin(target)
    if code not in _KEPT and request.method != "GET":
        request = request._replace(method="GET", content=None, headers=_without_content(request))
    if not stays and request.content:
        raise Trouble(
            f"{status}, to {shown}, which is another origin, so the body is not sent there; "
            "post to that address if it is meant"
        )
    own = bool(request.headers or source.userinfo) and not stays
    tell(f"{status}, to {shown}{', without our headers: another origin' if own else ''}")
    if stays and not target.userinfo:
        target = target.copy_with(userinfo=source.userinfo)
    return request._replace(url=str(target), headers=request.headers if stays else {})


def _without_content(request: Request) -> dict[str, str]:
    return {
        name: value
        for name, value in request.headers.items()
        if not name.lower().startswith("content-")
    }


async def _read(
    response: httpcore2.Response, head: _Head, limit: int, progress: Progress
) -> Answer:
    content, whole, trouble = bytearray(), True, None
    try:
        async for piece in _unpacked(response, head, limit):
            content += piece
            if len(content) > limit:
                del content[limit:]
                whole = False
                break
    except (Trouble, httpcore2.ProtocolError) as error:
        trouble = error if isinstance(error, Trouble) else of_protocol(error, progress.place)
    text = await _decoded(content, ", ".join(head.all("content-type")[:1]))
    return Answer(head.status, head.success, text, len(content), whole, trouble)


async def _unpacked(response: httpcore2.Response, head: _Head, limit: int) -> AsyncIterator[bytes]:
    codings = head.codings()
    if len(codings) > 1:
        raise Trouble(
            f"the body is compressed {len(codings)} times; goflow accepts one layer of gzip"
        )
    if codings and codings[0] not in _GZIP:
        raise Trouble(f"the body is encoded as {codings[0][:50]!r}; goflow accepts only gzip")
    gunzip, taken = Gunzip(), 0
    async for chunk in response.aiter_stream():
        taken += len(chunk)
        await asyncio.sleep(0)
        if not codings:
            yield chunk
            continue
        try:
            for piece in gunzip.steps(chunk):
                yield piece
                await asyncio.sleep(0)
        except ValueError as error:
            raise Trouble(f"the body is not valid gzip: {error}") from None
        if taken > limit + PADDING:
            raise Trouble(f"the body is larger than max_body={limit} bytes, as gzip already")
    if codings and taken:
        try:
            gunzip.end()
        except ValueError as error:
            raise Trouble(f"the body is not valid gzip: {error}") from None


async def _decoded(content: bytearray, content_type: str) -> str:
    decoder = charset.decoder(content_type, bytes(content[:2]))
    pieces = []
    for start in range(0, len(content), PIECE):
        pieces.append(decoder.decode(bytes(content[start : start + PIECE])))
        await asyncio.sleep(0)
    pieces.append(decoder.decode(b"", final=True))
    return "".join(pieces).removeprefix("\ufeff")  # a byte order mark


def _prepared(request: Request, url: httpx2.URL) -> httpcore2.Request:
    headers = {
        "Host": url.netloc.decode("ascii"),
        "Accept": "*/*",
        "Accept-Encoding": "gzip",
        "User-Agent": "goflow",
    }
    if url.userinfo:
        headers["Authorization"] = _basic(url)
    own = {name.lower() for name in request.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in own}
    headers |= request.headers
    if request.content is not None:
        headers["Content-Length"] = str(len(request.content))
    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=[
            (name.encode("ascii"), value.encode(errors="surrogateescape"))
            for name, value in headers.items()
        ],
        content=request.content,
    )


def _basic(url: httpx2.URL) -> str:
    pair = f"{url.username}:{url.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _parse(url: str) -> httpx2.URL:
    try:
        return _checked(httpx2.URL(url))
    except (httpx2.InvalidURL, ValueError) as error:
        raise Trouble(f"the address is not valid: {error}") from None


def _checked(url: httpx2.URL) -> httpx2.URL:
    """Parse an address with a valid host name and port. Raises `ValueError`."""
    if url.port is not None and not 0 < url.port < 65_536:
        raise ValueError("its port is not 1 to 65535")
    if len(url.host) > LONGEST_NAME:
        raise ValueError(f"its host name is longer than {LONGEST_NAME} characters")
    return url


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    usual = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or usual


def _place(url: httpx2.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{_origin(url)[2]}"


def _proxy(url: httpx2.URL) -> httpcore2.Proxy | None:
    """The environment's proxy for this address (HTTPS_PROXY, NO_PROXY and so on)."""
    named = urllib.request.getproxies()
    address = named.get(url.scheme) or named.get("all")
    if not address or urllib.request.proxy_bypass(_place(url)):
        return None
    try:
        proxy = httpx2.URL(address if "://" in address else f"http://{address}")
        if proxy.scheme not in ("http", "https"):
            raise ValueError(f"{proxy.scheme}:// is not supported, only http:// and https://")
        auth = (proxy.username, proxy.password) if proxy.userinfo else None
        return httpcore2.Proxy(str(proxy.copy_with(userinfo=b"")), auth=auth)
    except (httpx2.InvalidURL, ValueError) as error:
        raise Trouble(f"the proxy of the environment is not valid: {error}") from None


def _of_library(error: Exception, place: str) -> Trouble:
    if isinstance(error, httpcore2.ProxyError):
        return Trouble(f"the proxy refused to connect to {place}: {error}")
    if isinstance(error, httpcore2.LocalProtocolError):
        # The message may repeat a header, and with it a secret.
        return Trouble("the request cannot be sent; one of its headers is not valid HTTP")
    return of_protocol(error, place)


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Shared by all requests, since reading the certificates takes tens of milliseconds."""
    return httpx2.create_ssl_context()


def _quiet() -> None:
    for name in ("connection", "http11", "proxy", "socks"):
        logging.getLogger(f"httpcore2.{name}").addFilter(lambda record: not _ours.get())


def prepare() -> None:
    """Do what takes long the first time. Safe from any thread."""
    _ssl_context()


_quiet()
