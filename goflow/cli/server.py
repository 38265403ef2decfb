"""A running goflow server, as its clients on the command line see it.

What it refuses is told in its own words; that it does not answer has an exit code of its own.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from goflow.cli.terminal import Problem, Unreachable, Unusable

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 30  # seconds for one answer


class Server:
    """Talks to the server at a URL, which may have a path if it is mounted under one."""

    def __init__(self, url: str) -> None:
        import httpx2

        self.url = url.rstrip("/")
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise Unusable(f"--server {url!r} is not a URL: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise Unusable(f"--server {url!r} must be such as http://127.0.0.1:8181")
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
        """A JSON answer; the segments of the path are quoted here."""
        return self._decoded(self._request("GET", path, query))

    def text(self, *path: str, **query: Any) -> str:
        """An answer that is plain text in UTF-8."""
        return self._request("GET", path, query).content.decode("utf-8", "replace")

    def post(
        self, *path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """A JSON answer to a request that changes something."""
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
        # as bytes, so that what is no header value is for the server to refuse
        sent = {
            name.encode(): value.encode("utf-8", "surrogateescape")
            for name, value in (headers or {}).items()
        }
        try:
            answer = self._client.request(method, url, params=given, json=body, headers=sent)
        except httpx2.LocalProtocolError as error:
            raise Unusable(f"this cannot be sent: {error}") from None
        except httpx2.TimeoutException:
            raise Unreachable(f"{self.url} did not answer within {TIMEOUT} seconds") from None
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no goflow server answers at {self.url}: {reason}") from None
        if answer.is_success:
            return answer
        raise Problem(_refusal(answer))

    def _decoded(self, answer: "httpx2.Response") -> Any:
        try:
            return answer.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise Unreachable(f"{self.url} answers, but not as goflow does") from None


def _refusal(answer: "httpx2.Response") -> str:
    """The message of goflow's error, or what there is instead."""
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}".rstrip()
    return str(message)
