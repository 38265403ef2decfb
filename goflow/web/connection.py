"""A connection: uvicorn's HTTP/1.1 protocol, with limits on slow clients.

The rule: whatever a client sends, or fails to send, leads to a response or a closed connection,
never to a traceback. No client can hold an unused connection forever.
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

# Only errors of the server: invalid requests must not fill the log.
logger = logging.getLogger(__name__)
logger.setLevel(logging.ERROR)

# Bytes of a request's body that are read after the response: the client may send the whole body
# before it reads the response.
DRAIN_LIMIT = 64 * 1024 * 1024

# Bytes of responses that a client has not read when the application has to wait, so that a
# thousand clients that do not read cost little.
UNSENT = 16 * 1024


class Pace(NamedTuple):
    """How slow a client may be. Times are in seconds, `rate` is in bytes per second.

    - `head`: time for the head of a request.
    - `body`: time after which the body must have arrived at `rate` or more.
    - `response`: time after which the client must have read the response at `rate` or more.
    - `farewell`: time for the client to close after the response to an invalid request.
    - `stop`: time to read the last response when the server stops.
    """

    head: float = 10.0
    body: float = 10.0
    response: float = 30.0
    farewell: float = 2.0
    stop: float = 4.0
    rate: float = 500.0


class Owner(Protocol):
    """The owner of a connection: it is told when the connection is idle, and has the clock."""

    pace: Pace

    def elapsed(self) -> float: ...
    def opened(self, connection: "Connection") -> None: ...
    def idle(self, connection: "Connection") -> None: ...
    def busy(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection") -> None: ...


class _Parser(h11.Connection):
    """Keeps the error of an invalid request."""

    reason: h11.RemoteProtocolError | None = None

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.reason = error
            raise


class _Transport:
    """A transport that ignores writes once it is closing; asyncio would log each of them."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """A connection of `owner` from `host`. Its `check` must be called about once a second."""

    conn: _Parser

    def __init__(
        self,
        config: Config,
        state: ServerState,
        owner: Owner,
        host: str,
    ) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self.conn = _Parser(h11.SERVER, config.h11_max_incomplete_event_size or 16 * 1024)
        self.host = host
        self._owner = owner
        self._head_since: float | None = None  # since when it has waited for a head
        self._body = (0.0, 0)  # seconds waited for it, and bytes received
        self._left_over = 0  # bytes of the body after the response
        self._checked = 0.0
        self._unsent: tuple[float, int] | None = None  # the time, and the bytes unsent then
        self._farewell: float | None = None  # since when

    # -- called by the transport ---------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT)
        self.transport = cast(asyncio.Transport, _Transport(transport))
        _find_vanished_peers(transport.get_extra_info("socket"))
        self._head_since = self._checked = self._owner.elapsed()
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._farewell is not None or self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self._head_since is None:
            self._head_since = self._owner.elapsed()
        elif self.conn.their_state is h11.SEND_BODY:
            self._body = (self._body[0], self._body[1] + len(data))
            if self.conn.our_state is h11.DONE:
                self._left_over += len(data)
                if self._left_over > DRAIN_LIMIT:
                    self.transport.abort()
                    return
        super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as in asyncio
        cycle = self.cycle
        if (
            self._farewell is None
            and cycle is not None
            and not cycle.more_body
            and not cycle.response_started
        ):
            # The client has closed its side and waits for the response, as `nc -N` does. If it has
            # left, sending the response will fail.
            cycle.keep_alive = False
            return True
        return None

    def resume_writing(self) -> None:
        self._unsent = None
        super().resume_writing()

    # -- called by uvicorn ---------------------------------------------------------

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._head_since, self._left_over = None, 0
            self._body = (0.0, len(self.cycle.body))  # bytes received with the head
            self._owner.busy(self)

    def _should_upgrade(self) -> bool:
        return False  # upgrades to WebSockets or HTTP/2 are not supported

    def send_400_response(self, msg: str) -> None:
        reason = self.conn.reason
        hint = 400 if reason is None else reason.error_status_hint
        what = str(reason).partition(": bytearray")[0]  # without the bytes
        self._refuse(
            hint if hint < 500 else 400, "invalid-http", f"invalid HTTP/1.1 request: {what}"
        )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._check_idle()

    def shutdown(self) -> None:
        """Called when the server stops."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        elif self.cycle.more_body:
            self._refuse(503, "stopping", "the server is stopping and the request is incomplete")
        else:
            self.cycle.keep_alive = False

    # -- called by the owner -------------------------------------------------------

    def close_idle(self) -> None:
        """Close the idle connection in favour of another."""
        self.transport.abort()

    def check(self) -> None:
        """Close the connection if its client is too slow."""
        pace, now = self._owner.pace, self._owner.elapsed()
        passed, self._checked = now - self._checked, now
        if self._farewell is not None:
            if now - self._farewell > pace.farewell:
                self.transport.abort()
        elif self._is_stuck(now):
            # Otherwise the kernel would keep unsent data, which can be megabytes.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif self.conn.their_state is h11.IDLE:
            self._check_idle()
            if self._head_since is not None and now - self._head_since > pace.head:
                if self.conn.trailing_data[0]:
                    self._refuse(408, "too-slow", "the request took too long to arrive")
                else:
                    self.transport.close()  # there is no request to respond to
        elif self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            waited, size = self._body
            self._body = (waited + passed, size)
            if waited + passed > pace.body + size / pace.rate:
                self._refuse(408, "too-slow", "the body of the request arrived too slowly")

    def _check_idle(self) -> None:
        """Tell the owner if the last response is sent and there is no request."""
        if self.conn.our_state is h11.IDLE and not self.transport.get_write_buffer_size():
            self._owner.idle(self)

    def _is_stuck(self, now: float) -> bool:
        """Whether the client reads the response too slowly."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unsent = None
            return False
        since, before = self._unsent or (now, size)
        if size < before and not self.flow.write_paused and not self.transport.is_closing():
            since, before = now, size  # the client reads; more may be written meanwhile
        self._unsent = since, before
        pace = self._owner.pace
        return now - since > pace.response + max(0, before - size) / pace.rate

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Respond to an invalid or incomplete request, and close."""
        cycle = self.cycle
        answered = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if answered or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(_response(status, code, message))
        # Closing a connection with unread bytes would discard the response. So only our side is
        # closed now, and further bytes are dropped.
        self._unset_keepalive_if_required()
        self._farewell = self._owner.elapsed()
        self.flow.resume_reading()
        try:
            self.transport.write_eof()
        except OSError:  # the client is gone
            self.transport.abort()


def refusal_of(notice: str) -> bytes:
    """The response to a connection beyond the limit."""
    return _response(503, "busy", notice)


def _response(status: int, code: str, message: str) -> bytes:
    said = failure(status, code, message)
    headers = [*said.raw_headers, (b"connection", b"close"), *HEADERS]
    lines = [b"%b: %b" % header for header in headers]
    phrase = STATUS_PHRASES[status]
    return b"\r\n".join([b"HTTP/1.1 %d %b" % (status, phrase), *lines, b"", bytes(said.body)])


def _find_vanished_peers(connection: socket.socket | None) -> None:
    """Make the kernel close the connection if its peer has vanished."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options: list[tuple[str, int]] = [
        ("TCP_KEEPIDLE", 60),  # idle seconds until the first probe
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 60_000),  # milliseconds for sent data to be acknowledged
    ]
    with suppress(OSError):  # the peer has left; macOS raises then
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


Make = Callable[[str], Connection]
