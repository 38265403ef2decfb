"""Serves an ASGI application with uvicorn until it is told to close, then stops gracefully.

At SIGTERM or SIGINT, open streams end, current requests are finished, the engine stops, and the
process exits with 0. A second signal ends the process at once.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from goflow.errors import GoflowError
from goflow.web.acceptor import BACKLOG, Acceptor, ConnectionLimits
from goflow.web.connection import Connection, Pace
from goflow.web.prefix import Prefixed

logger = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024  # bytes of a request's head, which may have the cookies of other local ports
GRACE = 5  # seconds for current requests to finish


class CannotListen(GoflowError):
    """The address is in use, not an address of this machine, or requires more privileges."""

    code = "cannot-listen"


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotListen(f"cannot listen on {host}, port {port}: {reason}") from None
    # Connections inherit it. asyncio does not set it on sockets with protocol 0. Without it the
    # body of a response waits 40 ms for the acknowledgement of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Server(uvicorn.Server):
    """uvicorn with our own acceptor of connections."""

    acceptor: Acceptor

    def __init__(self, config: uvicorn.Config, enter: Callable[["_Server"], Acceptor]) -> None:
        super().__init__(config)
        self._enter = enter

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.acceptor = self._enter(self)
        self.servers = [self.acceptor]  # type: ignore[list-item]  # uvicorn calls no other methods
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The application handles signals.
        yield


async def serve(
    app: Callable[..., Awaitable[None]],
    listening: socket.socket,
    *,
    root_path: str,
    closing: asyncio.Event,
    limits: ConnectionLimits | None = None,
    pace: Pace | None = None,
    notice: Callable[[str], None] = logger.warning,
) -> None:
    """Serve until `closing` is set.

    `root_path` is a prefix from `parse_prefix`. `limits` bounds the number of connections, and
    `pace` how slow they may be. `notice` is called with human-readable warnings.
    """
    config = uvicorn.Config(
        Prefixed(app, root_path),
        lifespan="off",
        log_config=None,  # its handlers would block on a full pipe
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # goflow.web.forwarded handles them
        timeout_graceful_shutdown=GRACE,
        # Otherwise the parser depends on the installed packages.
        http="h11",
        ws="none",
        h11_max_incomplete_event_size=HEAD_LIMIT,
    )

    def enter(server: _Server) -> Acceptor:
        def make(acceptor: Acceptor) -> Callable[[str], Connection]:
            return lambda host: Connection(config, server.server_state, acceptor, host)

        return Acceptor(listening, make, limits or ConnectionLimits(), pace or Pace(), notice)

    server = _Server(config, enter)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    closed = asyncio.ensure_future(closing.wait())
    await asyncio.wait({serving, closed}, return_when=asyncio.FIRST_COMPLETED)
    closed.cancel()
    server.should_exit = True
    await serving
    server.acceptor.abandon()
