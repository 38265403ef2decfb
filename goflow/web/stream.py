"""The stream: one server-sent event per change of an execution, for as long as one listens.

The rule: a listener leaves its mailbox behind at once, however the connection ends.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from msgspec import Meta, Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goflow.engine.broadcast import Listener
from goflow.web.endpoint import Call, Endpoint
from goflow.web.requests import read_header

PING = 15  # seconds between comments that keep the connection open
GRACE = 2  # seconds for streams to end by themselves when the server stops
# Sent at once, so that the client and every proxy see the stream open; a client that
# lost it comes back after a second.
HELLO = b": goflow\nretry: 1000\n\n"


EVENT_ID = "^([!-~]+-[0-9]{1,18})?$"


class StreamQuery(Struct):
    jobname: Annotated[str, Meta(description="only executions of this job")] = ""
    last_event_id: Annotated[
        str,
        Meta(
            pattern=EVENT_ID,
            description="like the header Last-Event-ID, which takes precedence",
        ),
    ] = ""


async def listen(call: Call) -> Response:
    if call.request.method == "HEAD":
        return Response(media_type="text/event-stream")
    last = read_header(call.request, "Last-Event-ID") or call.query.last_event_id
    listener = call.engine.broadcast.listen(call.query.jobname or None, last or None)
    return _Events(listener, call.services.shutdown)


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


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/stream",
        summary="Recent executions, then every change, as server-sent events",
        handler=listen,
        query=StreamQuery,
        response="text/event-stream",
        headers={"Last-Event-ID": ("resumes after the event with this id", EVENT_ID)},
    ),
]
