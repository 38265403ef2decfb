"""An access log, and an example of a middleware for `gf.use`."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from goflow.engine.process.console import ConsoleHandler

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AccessLog:
    """ASGI middleware that logs address, method, path and status of each request at level INFO.

    Args:
        app: ASGI application to wrap; `Goflow.use` passes it.
        logger: Logger to use, `goflow.access` by default.

    Examples:
        >>> from goflow import AccessLog, Goflow, MemoryStore
        >>> gf = Goflow(MemoryStore())
        >>> gf.use(AccessLog)
    """

    def __init__(self, app: Any, *, logger: logging.Logger | None = None) -> None:
        self._app = app
        self._logger = logger or _default_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            client = scope.get("client") or ("-", 0)
            # %r, so that a path cannot forge a log line
            self._logger.info("%s %s %r %s", client[0], scope["method"], scope["path"], status)


def _default_logger() -> logging.Logger:
    logger = logging.getLogger("goflow.access")
    if logger.level == logging.NOTSET and not logging.getLogger().handlers and not logger.handlers:
        logger.setLevel(logging.INFO)
        handler = ConsoleHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger
