"""The response to GET /stream: server-sent events until the client leaves or the server stops.

The rule: a listener leaves its mailbox at once, however the connection ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from goflow.engine.broadcast import PIECE, Listener

PING = 15  # seconds between the comments that keep silent connections open
GRACE = 2  # seconds in which streams may end when the server stops
# Sent at once, so that the client and every proxy see the stream open; a client that
# lost it reconnects after a second.
HELLO = b": goflow\nretry: 1000\n\n"


class EventStream(EventSourceResponse):
    """The open stream of one listener. It ends when `shutdown` is set: at once if the client
    reads, else after `GRACE`."""

    def __init__(self, listener: Listener, shutdown: asyncio.Event) -> None:
        async def end_with_server() -> None:
            await shutdown.wait()
            listener.close()
            await asyncio.sleep(GRACE)
            raise _Unread

        # sse-starlette also sets the event, when it finds that its server is stopping: under
        # `uvicorn main:gf` nothing else knows in time.
        stopping: Any = shutdown
        super().__init__(
            _parts(listener),
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
            with suppress(_Unread):
                await super().__call__(scope, receive, send)
        finally:
            self._listener.close()


class _Unread(Exception):
    """The client did not read the end of its stream in time."""


async def _parts(listener: Listener) -> AsyncIterator[bytes]:
    """The data to send, in parts small enough that a client that does not read costs little."""
    yield HELLO
    async with aclosing(listener):
        async for events in listener:
            body = b"".join([event.frame for event in events])
            events.clear()  # a client may stop reading at the next line, for hours
            for begin in range(0, len(body), PIECE):
                yield body[begin : begin + PIECE]
