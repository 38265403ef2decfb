"""The doorway: it takes connections in, keeps their number within bounds, and sees to it that
none stands there without a word.

The rule: silent connections never keep others out. When there is no room, the connection that
has been silent longest is closed for the new one.

asyncio's own server logs a traceback for each connection it could have taken, each second,
when the process has no more files to open (128 of them with a backlog of 128).
"""

import asyncio
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from goflow import forks
from goflow.engine.clock import SystemClock
from goflow.web.connection import Connection, Make, Pace, refusal_of

BACKLOG = 128
CHECK_EVERY = 1.0  # seconds between two looks at all connections
PAUSE = 1.0  # seconds without accepting, when the system has nothing to give
QUIET = 600.0  # seconds until the same trouble is told again
TROUBLES = 10  # told in that time
SPARED = 16  # silent connections closed at once when files are short

FULL = refusal_of("there are too many connections; try again later")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1"),
    ipaddress.ip_network("::ffff:127.0.0.0/104"),
)


@dataclass(frozen=True)
class Room:
    """How many connections there may be.

    - `total`: in all.
    - `each`: from one address. Loopback and `proxies`, behind which many people may be, have
      no such limit.
    """

    total: int = 2000
    each: int = 1000
    proxies: Sequence[Network] = ()

    def exempts(self, host: str) -> bool:
        """Whether an address may have all connections there are."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return True  # no address at all, as of a socket in the file system
        return any(address in network for network in (*LOOPBACK, *self.proxies))


class Doorway:
    """Accepts connections from `listening`, made by `make` for an address; has the methods
    that uvicorn calls of a server. `notice` hears what people should know."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[["Doorway"], Make],
        room: Room,
        pace: Pace,
        notice: Callable[[str], None],
    ) -> None:
        self.pace = pace
        self._listening = listening
        self._make = make(self)
        self._room = room
        self._exempts = cache(room.exempts)
        self._notice = notice
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._from: Counter[str] = Counter()
        self._opening = 0  # accepted, and not yet made
        # The silent ones, the one that has been so longest first: in all, and by address.
        self._silent: dict[Connection, None] = {}
        self._silent_from: dict[str, dict[Connection, None]] = {}
        self._told: dict[str, float] = {}
        self._checking: asyncio.TimerHandle | None = None
        self._pausing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # While it rests, the loop does not know the socket, and would not keep it from forks.
        self._share = forks.withhold(lambda: [listening.fileno()])
        listening.setblocking(False)
        self._listen()

    # -- connections come ----------------------------------------------------------

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
                self._rest(error)
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
        elif self._opening:  # those that came just before may turn out to be silent
            self._loop.call_soon(self._place, accepted, host)
        else:
            with accepted, suppress(OSError):
                accepted.setblocking(False)
                accepted.send(FULL)
                accepted.shutdown(socket.SHUT_WR)

    async def _begin(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # it is gone already
            accepted.close()
        finally:
            if connection.transport is None:
                self._opening -= 1
                self._leave(connection.host)

    def _rest(self, error: OSError) -> None:
        """Accept nothing for a while, since it fails, and would again at once."""
        self._loop.remove_reader(self._listening.fileno())
        short = error.errno in (errno.EMFILE, errno.ENFILE)
        spared = list(self._silent)[: SPARED if short else 0]
        for connection in spared:
            self._dismiss(connection)
        self._pausing = self._loop.call_later(PAUSE / 20 if spared else PAUSE, self._listen)
        hint = "; raise the limit of open files (ulimit -n)" if short else ""
        self._tell("accept", f"new connections have to wait: {error.strerror}{hint}")

    def _has_room_for(self, host: str) -> bool:
        if self._from[host] >= self._room.each and not self._exempts(host):
            self._tell(
                host,
                f"{host} has {self._room.each} connections, which is the most from one address; "
                "its silent ones are closed, and further ones refused",
            )
            if not (silent := self._silent_from.get(host)):
                return False
            self._dismiss(next(iter(silent)))
        elif len(self._open) + self._opening >= self._room.total:
            self._tell(
                "total",
                f"{self._room.total} connections are open, which is the most there may be; "
                "silent ones are closed, and further ones refused",
            )
            if not self._silent:
                return False
            self._dismiss(next(iter(self._silent)))
        return True

    def _dismiss(self, connection: Connection) -> None:
        connection.dismiss()
        self.closed(connection)

    def _tell(self, trouble: str, text: str) -> None:
        now = self.elapsed()
        self._told = {known: at for known, at in self._told.items() if now - at < QUIET}
        if trouble not in self._told and len(self._told) < TROUBLES:
            self._told[trouble] = now
            self._notice(text)

    # -- what connections tell -----------------------------------------------------

    def elapsed(self) -> float:
        return self._clock.elapsed()

    def opened(self, connection: Connection) -> None:
        self._opening -= 1
        self._open.add(connection)
        self.silent(connection)
        if self._checking is None:
            self._checking = self._loop.call_later(CHECK_EVERY, self._check)

    def silent(self, connection: Connection) -> None:
        """It waits for the head of a request, of which it may have a part."""
        if connection in self._open:
            self._silent[connection] = None
            self._silent_from.setdefault(connection.host, {})[connection] = None

    def asking(self, connection: Connection) -> None:
        """It has a request that is not answered."""
        self._silent.pop(connection, None)
        if (silent := self._silent_from.get(connection.host)) is not None:
            silent.pop(connection, None)
            if not silent:
                del self._silent_from[connection.host]

    def closed(self, connection: Connection) -> None:
        self.asking(connection)
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

    # -- what uvicorn calls --------------------------------------------------------

    def close(self) -> None:
        """Take in no more, and let those who are here finish, within limits."""
        # Before uvicorn cancels what goes on, which would be in the log with a traceback.
        self._loop.call_later(self.pace.stop, self.abandon)
        if self._pausing is not None:
            self._pausing.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._share()

    async def wait_closed(self) -> None:
        """uvicorn has waited for the connections."""

    def abandon(self) -> None:
        """Close what is still open."""
        if self._checking is not None:
            self._checking.cancel()
        for connection in list(self._open):
            connection.transport.abort()
