"""One connection: uvicorn's HTTP/1.1, and an end to every way of holding it up.

The rule: whatever a client sends, or fails to send, comes to an answer or to a closed
connection. It never comes to a traceback, and no client holds a connection for ever that it
does not use.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from goflow.web.guard import HEADERS
from goflow.web.responses import failure

# Only what went wrong on our side: what clients send must not fill the log.
logger = logging.getLogger(__name__)
logger.setLevel(logging.ERROR)

# Bytes of a request's body that are read after the answer, so that the client reads that one.
PATIENCE = 64 * 1024 * 1024

# Bytes of answers that a client has not taken when the application is to wait, so that
# a thousand clients that do not read cost little.
UNSENT = 16 * 1024


class Pace(NamedTuple):
    """How slow a client may be. In seconds, and bytes a second.

    - `head`: until the head of a request is whole.
    - `body`: after these, at least `rate` bytes of the body a second must have come.
    - `answer`: after these, at least `rate` bytes of the answer a second must have been taken.
    - `farewell`: after an answer to what was no request, until the client closes too.
    - `stop`: until the last answer is taken, once the server stops.
    """

    head: float = 10.0
    body: float = 10.0
    answer: float = 30.0
    farewell: float = 2.0
    stop: float = 4.0
    rate: float = 500.0


class House(Protocol):
    """Where a connection belongs: it hears which ones are silent, and has the time."""

    pace: Pace

    def elapsed(self) -> float: ...
    def opened(self, connection: "Connection") -> None: ...
    def silent(self, connection: "Connection") -> None: ...
    def asking(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection") -> None: ...


class _Parser(h11.Connection):
    """Keeps why a request was refused."""

    reason: h11.RemoteProtocolError | None = None

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.reason = error
            raise


class _Outlet:
    """A transport that takes no more once its peer is gone; asyncio would log each write."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """A connection of `house`, from `host`; `check` must be called about every second."""

    conn: _Parser

    def __init__(
        self,
        config: Config,
        state: ServerState,
        house: House,
        host: str,
    ) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self.conn = _Parser(h11.SERVER, config.h11_max_incomplete_event_size or 16 * 1024)
        self.host = host
        self._house = house
        self._head_since: float | None = None  # when a head began to be waited for
        self._body = (0.0, 0)  # how long we waited for it, and how many bytes came
        self._left_over = 0  # bytes of a body nobody reads
        self._checked = 0.0
        self._unsent: tuple[float, int] | None = None  # since when, and how many bytes then
        self._farewell: float | None = None  # since when

    # -- what the transport calls --------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT)
        self.transport = cast(asyncio.Transport, _Outlet(transport))
        _find_vanished_peers(transport.get_extra_info("socket"))
        self._head_since = self._checked = self._house.elapsed()
        self._house.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._house.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._farewell is not None or self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self._head_since is None:
            self._head_since = self._house.elapsed()
        elif self.conn.their_state is h11.SEND_BODY:
            self._body = (self._body[0], self._body[1] + len(data))
            if self.conn.our_state is h11.DONE:
                self._left_over += len(data)
                if self._left_over > PATIENCE:
                    self.transport.abort()
                    return
        super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        cycle = self.cycle
        if (
            self._farewell is None
            and cycle is not None
            and not cycle.more_body
            and not cycle.response_started
        ):
            # It has sent all it wants to and waits for the answer, as `nc -N` does. One that
            # has left altogether is found when the answer is sent.
            cycle.keep_alive = False
            return True
        return None

    def resume_writing(self) -> None:
        self._unsent = None
        super().resume_writing()

    # -- what uvicorn calls --------------------------------------------------------

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._head_since, self._left_over = None, 0
            self._body = (0.0, len(self.cycle.body))  # what came with the head
            self._house.asking(self)

    def _should_upgrade(self) -> bool:
        return False  # a client that asks for WebSockets or HTTP/2 is answered in HTTP/1.1

    def send_400_response(self, msg: str) -> None:
        reason = self.conn.reason
        hint = 400 if reason is None else reason.error_status_hint
        what = str(reason).partition(": bytearray")[0]  # not the bytes themselves
        self._refuse(hint if hint < 500 else 400, "invalid-http", f"this is not HTTP/1.1: {what}")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._fall_silent()

    def shutdown(self) -> None:
        """As the server stops."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        elif self.cycle.more_body:
            self._refuse(503, "stopping", "the server stops, and the request is not whole")
        else:
            self.cycle.keep_alive = False

    # -- what the house calls ------------------------------------------------------

    def dismiss(self) -> None:
        """Close a silent connection, since another one needs its place."""
        self.transport.abort()

    def check(self) -> None:
        """Close the connection if its client is too slow."""
        pace, now = self._house.pace, self._house.elapsed()
        passed, self._checked = now - self._checked, now
        if self._farewell is not None:
            if now - self._farewell > pace.farewell:
                self.transport.abort()
        elif self._is_stuck(now):
            # Else the system would go on to offer what it holds, which can be megabytes.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif self.conn.their_state is h11.IDLE:
            self._fall_silent()
            if self._head_since is not None and now - self._head_since > pace.head:
                if self.conn.trailing_data[0]:
                    self._refuse(408, "too-slow", "the request took too long to come")
                else:
                    self.transport.close()  # it never asked, so it is not answered
        elif self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            waited, size = self._body
            self._body = (waited + passed, size)
            if waited + passed > pace.body + size / pace.rate:
                self._refuse(408, "too-slow", "the body of the request came too slowly")

    def _fall_silent(self) -> None:
        """Tell the house, if the last answer has left and no request is here."""
        if self.conn.our_state is h11.IDLE and not self.transport.get_write_buffer_size():
            self._house.silent(self)

    def _is_stuck(self, now: float) -> bool:
        """Whether the client takes what it is sent too slowly."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unsent = None
            return False
        since, before = self._unsent or (now, size)
        if size < before and not self.flow.write_paused and not self.transport.is_closing():
            since, before = now, size  # it reads, and more may be written meanwhile
        self._unsent = since, before
        pace = self._house.pace
        return now - since > pace.answer + max(0, before - size) / pace.rate

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer what is no request, or no whole one, and close."""
        cycle = self.cycle
        answered = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if answered or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(_answer(status, code, message))
        # A connection that is closed with bytes unread takes the answer with it. So only our
        # side is closed now, and the rest is thrown away.
        self._unset_keepalive_if_required()
        self._farewell = self._house.elapsed()
        self.flow.resume_reading()
        try:
            self.transport.write_eof()
        except OSError:  # the client is gone
            self.transport.abort()


def refusal_of(notice: str) -> bytes:
    """The answer to a connection for which there is no room."""
    return _answer(503, "busy", notice)


def _answer(status: int, code: str, message: str) -> bytes:
    said = failure(status, code, message)
    headers = [*said.raw_headers, (b"connection", b"close"), *HEADERS]
    lines = [b"%b: %b" % header for header in headers]
    phrase = STATUS_PHRASES[status]
    return b"\r\n".join([b"HTTP/1.1 %d %b" % (status, phrase), *lines, b"", bytes(said.body)])


def _find_vanished_peers(connection: socket.socket | None) -> None:
    """Have the system end the connection if its peer is gone without a word."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options: list[tuple[str, int]] = [
        ("TCP_KEEPIDLE", 60),  # seconds of silence until it is asked whether it is there
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 60_000),  # milliseconds until it must have taken what was sent
    ]
    with suppress(OSError):  # it is gone already, as macOS finds
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


Make = Callable[[str], Connection]
