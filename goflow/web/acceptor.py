"""Accepts connections, limits their number, and closes idle ones.

The rule: idle connections never keep others out. At the limit, the connection that has been idle
for the longest time is closed in favour of the new one.

asyncio's own server is not used: when the process runs out of file descriptors, it logs up to 128
tracebacks a second.
"""

import asyncio
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

from msgspec import Struct

from goflow import forks
from goflow.engine.clock import SystemClock
from goflow.web.connection import Connection, Make, Pace, refusal_of

BACKLOG = 128
CHECK_EVERY = 1.0  # seconds between checks of all connections
PAUSE = 1.0  # seconds without accepting after a failure
QUIET = 600.0  # seconds until the same warning is repeated
WARNINGS = 10  # different warnings in that time
RELEASED = 16  # idle connections closed at once when file descriptors run out

FULL = refusal_of("too many connections; try again later")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1"),
    ipaddress.ip_network("::ffff:127.0.0.0/104"),
)


class ConnectionLimits(Struct, frozen=True):
    """Limits on the number of connections.

    - `total`: all connections.
    - `per_address`: those from one address. Loopback and `proxies` are exempt, since many clients
      share such an address.
    """

    total: int = 2000
    per_address: int = 1000
    proxies: Sequence[Network] = ()

    def exempts(self, host: str) -> bool:
        """Whether an address is exempt from the limit per address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return True  # a Unix socket has no address
        return any(address in network for network in (*LOOPBACK, *self.proxies))


class Acceptor:
    """Accepts connections from `listening`.

    `make` creates the protocol of a connection for a client's address, and `notice` is called
    with human-readable warnings. It has the methods of a server that uvicorn calls.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[["Acceptor"], Make],
        limits: ConnectionLimits,
        pace: Pace,
        notice: Callable[[str], None],
    ) -> None:
        self.pace = pace
        self._listening = listening
        self._make = make(self)
        self._limits = limits
        self._exempts = cache(limits.exempts)
        self._notice = notice
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._from: Counter[str] = Counter()
        self._opening = 0  # accepted, without a protocol so far
        # The idle ones, longest idle first: all of them, and by address.
        self._idle: dict[Connection, None] = {}
        self._idle_from: dict[str, dict[Connection, None]] = {}
        self._warned: dict[str, float] = {}
        self._checking: asyncio.TimerHandle | None = None
        self._pausing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # During a pause the loop does not have the socket, so forks must be kept from it here.
        self._share = forks.withhold(lambda: [listening.fileno()])
        listening.setblocking(False)
        self._listen()

    # -- accepting -----------------------------------------------------------------

    def _listen(self) -> None:
        self._pausing = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            host = str(address[0]) if isinstance(address, tuple) else ""
            self._place(accepted, host)

    def _place(self, accepted: socket.socket, host: str) -> None:
        if self._has_room_for(host):
            self._from[host] += 1
            self._opening += 1
            task = self._loop.create_task(self._begin(accepted, self._make(host)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif self._opening:  # those being opened may be idle in a moment
            self._loop.call_soon(self._place, accepted, host)
        else:
            with accepted, suppress(OSError):
                accepted.setblocking(False)
                accepted.send(FULL)
                accepted.shutdown(socket.SHUT_WR)

    async def _begin(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # the client has left
            accepted.close()
        finally:
            if connection.transport is None:
                self._opening -= 1
                self._leave(connection.host)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a while: a retry at once would fail again."""
        self._loop.remove_reader(self._listening.fileno())
        out_of_files = error.errno in (errno.EMFILE, errno.ENFILE)
        released = list(self._idle)[: RELEASED if out_of_files else 0]
        for connection in released:
            self._close_idle(connection)
        self._pausing = self._loop.call_later(PAUSE / 20 if released else PAUSE, self._listen)
        hint = "; raise the limit of open files (ulimit -n)" if out_of_files else ""
        self._warn("accept", f"cannot accept connections: {error.strerror}{hint}")

    def _has_room_for(self, host: str) -> bool:
        if self._from[host] >= self._limits.per_address and not self._exempts(host):
            self._warn(
                host,
                f"{host} has {self._limits.per_address} connections, the limit for one address; "
                "its idle ones are closed and further ones refused",
            )
            if not (idle := self._idle_from.get(host)):
                return False
            self._close_idle(next(iter(idle)))
        elif len(self._open) + self._opening >= self._limits.total:
            self._warn(
                "total",
                f"{self._limits.total} connections are open, the limit; idle ones are closed and "
                "further ones refused",
            )
            if not self._idle:
                return False
            self._close_idle(next(iter(self._idle)))
        return True

    def _close_idle(self, connection: Connection) -> None:
        connection.close_idle()
        self.closed(connection)

    def _warn(self, subject: str, text: str) -> None:
        now = self.elapsed()
        self._warned = {known: at for known, at in self._warned.items() if now - at < QUIET}
        if subject not in self._warned and len(self._warned) < WARNINGS:
            self._warned[subject] = now
            self._notice(text)

    # -- called by connections -----------------------------------------------------

    def elapsed(self) -> float:
        return self._clock.elapsed()

    def opened(self, connection: Connection) -> None:
        self._opening -= 1
        self._open.add(connection)
        self.idle(connection)
        if self._checking is None:
            self._checking = self._loop.call_later(CHECK_EVERY, self._check)

    def idle(self, connection: Connection) -> None:
        """The connection waits for a request, of which it may have a part."""
        if connection in self._open:
            self._idle[connection] = None
            self._idle_from.setdefault(connection.host, {})[connection] = None

    def busy(self, connection: Connection) -> None:
        """The connection has an unanswered request."""
        self._idle.pop(connection, None)
        if (idle := self._idle_from.get(connection.host)) is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle_from[connection.host]

    def closed(self, connection: Connection) -> None:
        self.busy(connection)
        if connection in self._open:
            self._open.remove(connection)
            self._leave(connection.host)

    def _leave(self, host: str) -> None:
        self._from[host] -= 1
        if not self._from[host]:
            del self._from[host]

    def _check(self) -> None:
        self._checking = self._loop.call_later(CHECK_EVERY, self._check) if self._open else None
        for connection in list(self._open):
            connection.check()

    # -- called by uvicorn ---------------------------------------------------------

    def close(self) -> None:
        """Stop accepting, and let open connections finish within `pace.stop` seconds."""
        # Earlier than uvicorn cancels requests, which would log tracebacks.
        self._loop.call_later(self.pace.stop, self.abandon)
        if self._pausing is not None:
            self._pausing.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._share()

    async def wait_closed(self) -> None:
        """Nothing to wait for: uvicorn waits for the connections."""

    def abandon(self) -> None:
        """Close all open connections."""
        if self._checking is not None:
            self._checking.cancel()
        for connection in list(self._open):
            connection.transport.abort()
