"""The path prefix under which a proxy serves goflow, such as /goflow."""

import re
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f?#\\]")


class Prefixed:
    """Prepends `prefix` to each path, as ASGI servers do with `root_path`.

    If the proxy has not stripped the prefix, the path has it twice; `route_path` removes both.
    uvicorn's own `root_path` fails for non-ASCII prefixes.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self._encoded = quote(prefix).encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix and scope["type"] == "http":
            scope = {
                **scope,
                "root_path": self._prefix,
                "path": self._prefix + scope["path"],
                "raw_path": self._encoded + scope["raw_path"],
            }
        await self._app(scope, receive, send)


def parse_prefix(text: object) -> str:
    """The decoded prefix without a trailing slash; empty if there is none.

    Raises `ValueError`.
    """
    if not isinstance(text, str) or "://" in text or _FORBIDDEN.search(text):
        raise ValueError(f"root_path must be a path such as /goflow, not {text!r}")
    try:
        prefix = unquote(text, errors="strict").strip("/")
        quote(prefix)
    except UnicodeError:
        raise ValueError(f"root_path must be a path in UTF-8, not {text!r}") from None
    if not prefix:
        return ""
    if _FORBIDDEN.search(prefix) or {"", ".", ".."} & set(prefix.split("/")):
        raise ValueError(f"root_path must be a path such as /goflow, not {text!r}")
    return f"/{prefix}"
