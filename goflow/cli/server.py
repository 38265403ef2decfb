"""The command line's client of a goflow server.

An error response is printed in the server's words. A server that does not respond has its own exit
code.
"""

import json
import re
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from goflow.cli.terminal import Problem, Unreachable, Unusable
from goflow.operators.causes import of_any
from goflow.operators.masking import masked

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 30  # seconds per request
USER_LIMIT = 100  # characters


class Refused(Problem):
    """An error response with the given `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Log(NamedTuple):
    """Part of an attempt's log; `following` is the number of the next line."""

    text: str
    following: int


class Server:
    """A client of the server at a URL, which may have a path prefix."""

    def __init__(self, url: str) -> None:
        import httpx2

        self.url = url.rstrip("/")
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise Unusable(f"--server {masked(url)!r} is not a URL: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise Unusable(f"--server {masked(url)!r} must be a URL such as http://127.0.0.1:8181")
        self._shown = masked(self.url)
        self._host = parsed.host
        port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
        self._place = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._client = httpx2.Client(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, *path: str, **query: Any) -> Any:
        """A JSON response. The path segments are given unquoted."""
        return self._decoded(self._request("GET", path, query))

    def text(self, *path: str, **query: Any) -> str:
        """A response as text."""
        return self._request("GET", path, query).content.decode("utf-8", "replace")

    def content(self, *path: str, **query: Any) -> bytes:
        """A response as bytes."""
        return self._request("GET", path, query).content

    def log(
        self,
        id: str,
        task: str,
        attempt: int | None,
        after: int = 0,
        *,
        item: int | None = None,
        timestamps: bool = False,
    ) -> Log:
        """The log of an attempt, by default the last one, from line number `after` on."""
        query = {
            "attempt": attempt,
            "item": item,
            "after": after,
            "timestamps": timestamps or None,
        }
        answer = self._request("GET", ("executions", id, "tasks", task, "logs"), query)
        following = answer.headers.get("x-goflow-next-line", "")
        if not following.isdecimal():
            raise self.foreign()
        return Log(answer.content.decode("utf-8", "replace"), int(following))

    def post(
        self, *path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON response to a POST request."""
        return self._decoded(self._request("POST", path, {}, body, headers))

    def _request(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, Any],
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx2.Response":
        import httpx2

        url = "/".join(
            [self.url, "api", *(quote(part, safe="", errors="surrogateescape") for part in path)]
        )
        given = {name: value for name, value in query.items() if value is not None}
        # As bytes, so that the server gets, and rejects, an invalid header value.
        sent = {
            name.encode(): value.encode("utf-8", "surrogateescape")
            for name, value in {"X-Goflow-User": user(), **(headers or {})}.items()
        }
        try:
            answer = self._client.request(method, url, params=given, json=body, headers=sent)
        except httpx2.LocalProtocolError as error:
            raise Unusable(f"invalid request: {error}") from None
        except httpx2.TimeoutException:
            raise Unreachable(f"{self._shown} did not respond within {TIMEOUT} seconds") from None
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            reason = of_any(error, self._place, self._host)
            raise Unreachable(f"no goflow server responds at {self._shown}: {reason}") from None
        if answer.is_success:
            return answer
        raise Refused(_refusal(answer), answer.status_code)

    def _decoded(self, answer: "httpx2.Response") -> Any:
        try:
            return answer.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise self.foreign() from None

    def foreign(self) -> Unreachable:
        """The error for a response that does not come from a compatible goflow server."""
        return Unreachable(f"{self._shown} is not a goflow server, or of an incompatible version")


def user() -> str:
    """The user name that the server records: login@host, with `?` for non-ASCII characters."""
    import getpass  # imported here, since `goflow serve` does not need it

    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # the account has no name
        login = "unknown"
    return re.sub("[^!-~]", "?", f"{login}@{socket.gethostname()}")[:USER_LIMIT]


def _refusal(answer: "httpx2.Response") -> str:
    """The message of an error response, or its status."""
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        status = f"{answer.status_code} {answer.reason_phrase}".rstrip()
        return f"{masked(str(answer.url))} responded with {status}"
    return str(message)
