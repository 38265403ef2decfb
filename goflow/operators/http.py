"""Sends GET and POST requests.

The rule that must not be broken: a response is bounded in size and in time.
"""

import asyncio
import functools
import importlib
import json as jsonlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import quote_plus, urlencode, urlsplit

from goflow import checks
from goflow.checks import defining
from goflow.errors import InvalidJob, TaskFailed
from goflow.operators.base import Confined, Context
from goflow.operators.causes import Trouble
from goflow.operators.masking import masked, masked_header, scrubbed, secrets
from goflow.templates import fields
from goflow.templates.fields import Rendered
from goflow.templates.template import Template

MAX_BODY = 1024 * 1024  # bytes
ERROR_LIMIT = 1000  # characters of the body in the error

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FORBIDDEN_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FORBIDDEN_IN_URL = re.compile(r"[\x00-\x20\x7f]")
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_SET_BY_US = ("content-length", "transfer-encoding")


class Request(NamedTuple):
    """A request that can be sent repeatedly. `content` is None without a body."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None


@dataclass(frozen=True)
class Get(Confined):
    """Sends a GET request. The result is the response body as text.

    A status outside 2xx fails the attempt with the status and the start of the body. The body may
    be compressed with gzip. It is decoded with its charset if that is an encoding of the web, and
    as UTF-8 otherwise. Logs and errors show no passwords and no query values.

    The URL and the values of `headers` and `params` may be a `Template`. The log begins with what
    they were rendered to, except query values and headers with text of the template's own.

    Args:
        url: Address, http or https. Up to 10 redirects are followed.
        params: Parameters added to the query of `url`, encoded: each a str, a number, a bool, or a
            list of these.
        headers: Request headers. Redirects to another origin (scheme, host and port) do not
            receive them, nor a user name and password in `url`.
        timeout: Seconds for the whole exchange, from the DNS lookup to the last byte, redirects
            included; None for no limit.
        max_body: Largest body in bytes after decompression, 1 MiB by default. A larger one fails
            the attempt.

    Raises:
        InvalidJob: An argument is invalid, such as a URL without a host.

    Examples:
        >>> from goflow import Get, Task
        >>> Task("fetch", Get("https://example.com/data.json", timeout=10), retries=3)
        Task('fetch', Get('https://example.com/data.json', timeout=10, max_body=1048576))
    """

    url: str | Template
    params: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, hash=False)
    headers: Mapping[str, str | Template] | None = field(
        default=None, kw_only=True, repr=False, hash=False
    )
    timeout: float | None = field(default=30, kw_only=True)
    max_body: int = field(default=MAX_BODY, kw_only=True)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("Get")
    def __post_init__(self) -> None:
        where = _check_url("Get", self.url)
        object.__setattr__(self, "params", _checked_params(where, self.params))
        object.__setattr__(self, "headers", _checked_headers(where, self.headers))
        _check_limits(where, self.timeout, self.max_body)
        has_templates = fields.has_templates(self.url, self.params, self.headers)
        object.__setattr__(self, "_has_templates", has_templates)

    async def run(self, context: Context) -> str:
        if self._has_templates:
            get, texts = await fields.rendered(self, context)
            _log_rendered(context, get, texts)
            return await get.run(context)
        request = Request("GET", _address(self), _headers(self), None)
        return await _send(request, context, self.timeout, self.max_body)

    def shown_template(self, place: str, text: str) -> str:
        return _masked_template(place, text)

    def __repr__(self) -> str:
        return f"Get({_shown(self.url)}, timeout={self.timeout!r}, max_body={self.max_body!r})"


@dataclass(frozen=True)
class Post(Confined):
    """Sends a POST request. The result is the response body as text, as with `Get`.

    Every attempt sends the same bytes, so iterators and open files are refused. A 307 or 308
    redirect to another origin fails the attempt, because the body is not sent there.

    The URL, the body, and the values of `headers`, `params` and `json`, in lists and dicts too, may
    be a `Template`. In `json` a template that is one expression, such as
    `{{ results.extract.rows }}`, becomes its value, which may be a number, a list or a dict.

    Args:
        url: Address, http or https.
        body: Request body: bytes, or a str that is sent as UTF-8.
        json: Value to send as application/json instead of `body`. It is encoded at once, unless
            there are templates in it.
        params: Parameters added to the query of `url`, as with `Get`.
        headers: Request headers, as with `Get`.
        timeout: Seconds for the whole exchange; None for no limit.
        max_body: Largest response body in bytes after decompression, 1 MiB by default.

    Raises:
        InvalidJob: An argument is invalid, or both `body` and `json` are given.

    Examples:
        >>> from goflow import Post, Task
        >>> Task("notify", Post("https://example.com/hook", json={"text": "done"}), retries=3)
        Task('notify', Post('https://example.com/hook', timeout=30, max_body=1048576))
    """

    url: str | Template
    body: str | bytes | Template | None = field(default=None, repr=False)
    json: Any = field(default=None, kw_only=True, repr=False, hash=False)
    params: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False, hash=False)
    headers: Mapping[str, str | Template] | None = field(
        default=None, kw_only=True, repr=False, hash=False
    )
    timeout: float | None = field(default=30, kw_only=True)
    max_body: int = field(default=MAX_BODY, kw_only=True)
    _content: bytes = field(default=b"", init=False, repr=False, compare=False)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("Post")
    def __post_init__(self) -> None:
        where = _check_url("Post", self.url)
        headers = _checked_headers(where, self.headers)
        if self.json is not None:
            if self.body is not None:
                raise InvalidJob(f"{where}: give body or json, not both")
            json = self.json
            if fields.has_templates(json):  # what cannot be encoded is found without them
                json = fields.replaced(json, lambda place, template: "", f"{where}: json")
            content = _encoded(where, json)
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = "application/json"
        else:
            body = b"" if isinstance(self.body, Template) else self.body
            content = _content(where, body)
        object.__setattr__(self, "params", _checked_params(where, self.params))
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "_content", content)
        _check_limits(where, self.timeout, self.max_body)
        given = (self.url, self.body, self.json, self.params, self.headers)
        object.__setattr__(self, "_has_templates", fields.has_templates(*given))

    async def run(self, context: Context) -> str:
        if self._has_templates:
            post, texts = await fields.rendered(self, context, typed=["json"])
            _log_rendered(context, post, texts)
            if post.json is None and self.json is not None:
                raise TaskFailed("json: the template's value is None; there is nothing to send")
            return await post.run(context)
        request = Request("POST", _address(self), _headers(self), self._content)
        return await _send(request, context, self.timeout, self.max_body)

    def shown_template(self, place: str, text: str) -> str:
        return _masked_template(place, text)

    def __repr__(self) -> str:
        return f"Post({_shown(self.url)}, timeout={self.timeout!r}, max_body={self.max_body!r})"


def _address(operator: Get | Post) -> str:
    """The URL with the params in its query."""
    url = cast("str", operator.url)
    if not operator.params:
        return url
    pairs = [
        (name, _param(one))
        for name, value in operator.params.items()
        for one in (value if isinstance(value, list | tuple) else [value])
    ]
    address, hash, fragment = url.partition("#")
    separator = "&" if "?" in address else "?"
    return f"{address}{separator}{urlencode(pairs)}{hash}{fragment}"


def _param(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _headers(operator: Get | Post) -> dict[str, str]:
    return dict(cast("Mapping[str, str]", operator.headers or {}))


def _shown(url: str | Template) -> str:
    if isinstance(url, Template):
        return f"Template({_masked_template('url', url.text)!r})"
    return repr(masked(url))


def _masked_template(place: str, text: str) -> str:
    """The text of a template, without the secrets that it may have besides its expressions."""
    expressions = _EXPRESSION.findall(text)
    field, _, name = place.partition("[")
    if field == "url":
        return masked(text, expressions)
    if field in ("headers", "params"):
        return masked_header(name.strip("'\"]") if field == "headers" else "", text, expressions)
    return text


def _log_rendered(context: Context, operator: Get | Post, texts: list[Rendered]) -> None:
    """Log what templates were rendered to, without what may be secret in their own text."""
    known = {value for one in texts for value in one.values}
    known |= {quote_plus(value) for value in known}
    shown: list[Rendered] = []
    for one in texts:
        field = one.place.partition("[")[0]
        if field == "headers":
            name = next(n for n in operator.headers or {} if one.place == f"headers[{n!r}]")
            one = one._replace(text=masked_header(name, one.text, known))
        if field not in ("url", "params"):
            shown.append(one)
    if len(shown) < len(texts):
        shown.insert(0, Rendered("url", masked(_address(operator), known), ()))
    fields.log(context.log, shown)


async def _send(request: Request, context: Context, timeout: float | None, max_body: int) -> str:
    """The body of the response. Raises `TaskFailed`."""
    try:
        client = await asyncio.to_thread(_client)
    except RuntimeError:  # no thread is available: then the event loop waits, once
        client = _client()
    what = f"{request.method} {masked(request.url)}"
    hidden = secrets(request.url, request.headers)
    progress = client.Progress()
    try:
        async with asyncio.timeout(timeout):
            answer = await client.exchange(
                request,
                max_body,
                min(max_body, 4 * ERROR_LIMIT),
                progress,
                lambda told: context.log(f"{what} → {scrubbed(told, hidden)}"),
            )
    except TimeoutError:
        reason = f"timed out after {timeout:g} s, {progress.doing}"
        if progress.status:
            reason += f" of the answer {scrubbed(progress.status, hidden)}"
        raise TaskFailed(f"{what}: {reason}") from None
    except Trouble as trouble:
        raise TaskFailed(f"{what}: {scrubbed(str(trouble), hidden)}") from None
    status = scrubbed(answer.status, hidden)
    size = f"{answer.size} bytes" if answer.whole else f"more than {answer.size} bytes"
    context.log(f"{what} → {status}, {size}")
    if not answer.success:
        start = scrubbed(answer.text, hidden)[:ERROR_LIMIT].strip()
        raise TaskFailed(f"{what}: {status}" + (f": {start}" if start else ""))
    if answer.trouble is not None:
        raise TaskFailed(f"{what}: {status}, but {scrubbed(str(answer.trouble), hidden)}")
    if not answer.whole:
        raise TaskFailed(f"{what}: the body is larger than max_body={max_body} bytes")
    text: str = answer.text
    return text


@functools.cache
def _client() -> Any:
    """The HTTP client, imported on first use, since that takes longer than importing goflow."""
    exchange = importlib.import_module("goflow.operators.exchange")
    exchange.prepare()
    return exchange


def _check_url(name: str, value: object) -> str:
    """Check a URL. Returns the operator's name in errors. Raises `InvalidJob`."""
    if isinstance(value, Template):
        return f"{name}({_shown(value)})"
    if not isinstance(value, str):
        raise InvalidJob(f"{name}: url must be a str, not a {type(value).__name__}")
    shown = masked(value)
    try:
        checks.os_text("url", value)
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or _FORBIDDEN_IN_URL.search(value):
        raise InvalidJob(
            f"{name}: url must be like https://host/path, without spaces, not {shown!r}"
        )
    return f"{name}({shown!r})"


def _checked_params(where: str, params: object) -> dict[str, Any]:
    """A checked copy. Raises `InvalidJob`, without the values, which may be secret."""
    checked = checks.mapping(f"{where}: params", params)
    for name, value in checked.items():
        if not isinstance(name, str):
            raise InvalidJob(f"{where}: params: {name!r} must be a str")
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(one, str | int | float | Template):
                raise InvalidJob(
                    f"{where}: params[{name!r}] must be a str, a number, a bool or a list of "
                    f"these, not a {type(one).__name__}"
                )
            try:
                f"{name}{one}".encode()
            except UnicodeEncodeError:
                raise InvalidJob(
                    f"{where}: params[{name!r}] has characters that cannot be encoded"
                ) from None
    return checked


def _checked_headers(where: str, headers: object) -> dict[str, str | Template]:
    """A checked copy. Raises `InvalidJob`, without the values, which may be secret."""
    if headers is not None and not isinstance(headers, Mapping):
        raise InvalidJob(f"{where}: headers must be a mapping, not a {type(headers).__name__}")
    checked: dict[str, str | Template] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidJob(f"{where}: {name!r} cannot be the name of a header")
        header = f"{where}: header {name!r}"
        if name.lower() in _SET_BY_US:
            raise InvalidJob(f"{header} is set by goflow, to fit the body")
        if name.lower() in {each.lower() for each in checked}:
            raise InvalidJob(f"{header} is given twice")
        if isinstance(value, Template):
            checked[name] = value
            continue
        if not isinstance(value, str):
            raise InvalidJob(f"{header} must be a str, not a {type(value).__name__}")
        if "\r" in value or "\n" in value:
            raise InvalidJob(f"{header} must be one line; its value has a line break")
        if _FORBIDDEN_IN_HEADER.search(value):
            raise InvalidJob(f"{header} must not have control characters in its value")
        try:
            value.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise InvalidJob(f"{header} has characters that cannot be encoded") from None
        checked[name] = value.strip(" \t")
    return checked


def _check_limits(where: str, timeout: object, max_body: object) -> None:
    if timeout is not None:
        checks.seconds(f"{where}: timeout", timeout)
    checks.count(f"{where}: max_body", max_body, 1)


def _content(where: str, body: object) -> bytes:
    match body:
        case None:
            return b""
        case str():
            try:
                return body.encode()
            except UnicodeEncodeError as error:
                raise InvalidJob(f"{where}: body cannot be encoded: {error.reason}") from None
        case bytes() | bytearray() | memoryview():
            return bytes(body)
    raise InvalidJob(
        f"{where}: body must be str or bytes, which can be sent again on a retry, "
        f"not a {type(body).__name__}; read it first, or use json="
    )


def _encoded(where: str, value: object) -> bytes:
    try:
        return jsonlib.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidJob(f"{where}: json cannot be encoded: {error.reason}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"{where}: json cannot be encoded: {error}") from None
