"""Serve an ASGI application with uvicorn until a signal comes, then stop in order.

SIGTERM or SIGINT: open streams end, requests under way are answered, `stop` runs, and the
process may exit 0. A second signal ends the process at once.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from goflow.errors import GoflowError
from goflow.web.connection import Connection, Pace
from goflow.web.doorway import BACKLOG, Doorway, Room
from goflow.web.prefix import Prefixed

logger = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024  # bytes of a request's head; browsers send localhost every port's cookies
GRACE = 5  # seconds that requests under way have; the last resort, streams end by themselves


class CannotListen(GoflowError):
    """The address is taken, not this machine's, or needs rights the process does not have."""

    code = "cannot-listen"


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotListen(f"cannot listen on {host}, port {port}: {reason}") from None
    # Connections inherit it. asyncio sets it only on sockets whose protocol is given, not 0;
    # without it the body of an answer waits 40 ms for the acknowledgement of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Server(uvicorn.Server):
    """uvicorn with a doorway of ours."""

    doorway: Doorway

    def __init__(self, config: uvicorn.Config, enter: Callable[["_Server"], Doorway]) -> None:
        super().__init__(config)
        self._enter = enter

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.doorway = self._enter(self)
        self.servers = [self.doorway]  # type: ignore[list-item]  # it asks no more of them
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are handled around the whole run, and not raised again after it.
        yield


async def serve(
    app: Callable[..., Awaitable[None]],
    listening: socket.socket,
    *,
    root_path: str,
    closing: asyncio.Event,
    room: Room | None = None,
    pace: Pace | None = None,
    notice: Callable[[str], None] = logger.warning,
) -> None:
    """Serve until `closing` is set.

    `root_path` is a prefix as `parse_prefix` gives it, `room` how many connections there may be,
    and `pace` how slow they may be. `notice` hears what people should know of.
    """
    config = uvicorn.Config(
        Prefixed(app, root_path),
        lifespan="off",
        log_config=None,  # its own handlers would wait for who reads standard error
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # goflow.web.forwarded reads them
        timeout_graceful_shutdown=GRACE,
        # The parser must not depend on what else is installed.
        http="h11",
        ws="none",
        h11_max_incomplete_event_size=HEAD_LIMIT,
    )

    def enter(server: _Server) -> Doorway:
        def make(doorway: Doorway) -> Callable[[str], Connection]:
            return lambda host: Connection(config, server.server_state, doorway, host)

        return Doorway(listening, make, room or Room(), pace or Pace(), notice)

    server = _Server(config, enter)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    closed = asyncio.ensure_future(closing.wait())
    await asyncio.wait({serving, closed}, return_when=asyncio.FIRST_COMPLETED)
    closed.cancel()
    server.should_exit = True
    await serving
    server.doorway.abandon()
