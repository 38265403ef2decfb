"""The stream: one server-sent event per change of an execution, for as long as one listens.

The rule: a listener leaves its mailbox behind at once, however the connection ends.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goflow.engine.broadcast import Listener
from goflow.engine.engine import Engine
from goflow.web.endpoint import Call
from goflow.web.question import read_header

PING = 15  # seconds between comments that keep the connection open
GRACE = 2  # seconds for streams to end by themselves when the server stops
# Sent at once, so that the client and every proxy see the stream open; a client that
# lost it comes back after a second.
HELLO = b": goflow\nretry: 1000\n\n"


class Stream:
    """Answers GET /stream. `shutdown` ends every stream that is open, and every new one."""

    def __init__(self, engine: Engine, shutdown: asyncio.Event) -> None:
        self._engine = engine
        self._shutdown = shutdown

    async def listen(self, call: Call) -> Response:
        if call.request.method == "HEAD":
            return Response(media_type="text/event-stream")
        last = read_header(call.request, "Last-Event-ID") or call.query.last_event_id
        listener = self._engine.broadcast.listen(call.query.jobname or None, last or None)
        return _Events(listener, self._shutdown)


class _Events(EventSourceResponse):
    def __init__(self, listener: Listener, shutdown: asyncio.Event) -> None:
        async def end_with_server() -> None:
            await shutdown.wait()
            listener.close()

        # sse-starlette sets the event too, when it finds its server stopping: under
        # `uvicorn main:gf` nobody else knows in time.
        stopping: Any = shutdown
        super().__init__(
            _framed(listener),
            ping=PING,
            sep="\n",
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
            data_sender_callable=end_with_server,
            shutdown_event=stopping,
            shutdown_grace_period=GRACE,
        )
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.close()


async def _framed(listener: Listener) -> AsyncIterator[bytes]:
    yield HELLO
    async for event in listener:
        # JSON has no line breaks, so it is one line of data.
        yield b"id: %b\nevent: message\ndata: %b\n\n" % (event.id.encode(), event.data)
