"""The response that sends server-sent events for as long as a client listens.

The rule: a listener leaves its mailbox at once, however the connection ends.
"""

import asyncio
import signal
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goflow.engine.broadcast import PIECE, Event, Listener

PING = 15  # seconds between the comments that keep silent connections open
GRACE = 2  # seconds in which streams may end when the server stops
POLL = 0.5  # seconds between looks at whether another server, such as uvicorn, is stopping
# Sent at once, so that the client and every proxy see the stream open; a client that
# lost it reconnects after a second.
HELLO = b": goflow\nretry: 1000\n\n"
SILENCE = b": ping\n\n"


class OpenStreams:
    """The streams that are open. `shutdown` ends every one of them, and every new one."""

    def __init__(self, shutdown: asyncio.Event) -> None:
        self._shutdown = shutdown
        self._open: set[EventStream] = set()
        self._pulse: asyncio.Task[None] | None = None

    def opened(self, stream: "EventStream") -> None:
        self._open.add(stream)
        if self._pulse is None:
            self._pulse = asyncio.create_task(self._watch(), name="goflow-streams")

    def closed(self, stream: "EventStream") -> None:
        self._open.discard(stream)
        if not self._open and self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None

    async def _watch(self) -> None:
        """Ping open streams, and end them when the server stops."""
        beats = 0
        while not (self._shutdown.is_set() or _is_stopping()):
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._shutdown.wait()
            beats += 1
            if beats * POLL >= PING:
                beats = 0
                for stream in self._open:
                    stream.ping()
        self._shutdown.set()
        while True:
            for stream in self._open:
                stream.end()
            await asyncio.sleep(POLL)  # some may have opened just now


class EventStream(Response):
    """The open stream of one listener."""

    media_type = "text/event-stream"

    def __init__(self, listener: Listener, streams: OpenStreams) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._listener = listener
        self._streams = streams
        self._limit: asyncio.Timeout | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._listener.close()

        async def write(body: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        watching = asyncio.create_task(watch(), name="goflow-stream-end")
        self._streams.opened(self)
        try:
            # OSError says that the client is gone, TimeoutError (one of them) that `end` is.
            with suppress(OSError):
                async with asyncio.timeout(None) as self._limit, aclosing(self._listener):
                    await send(
                        {
                            "type": "http.response.start",
                            "status": self.status_code,
                            "headers": self.raw_headers,
                        }
                    )
                    await write(HELLO)
                    async for events in self._listener:
                        for part in _parts(events):
                            await write(part)
                    await write(b"", more=False)
        finally:
            self._streams.closed(self)
            self._listener.close()
            watching.cancel()
            if self._ending is not None:
                self._ending.cancel()

    def ping(self) -> None:
        """Show that the connection is alive, if it sends nothing else."""
        self._listener.wake()

    def end(self) -> None:
        """End the stream: now if the client reads, else after `GRACE`."""
        self._listener.close()
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(GRACE, self._give_up)

    def _give_up(self) -> None:
        if self._limit is not None:
            self._limit.reschedule(0)  # which is past, so it expires now


def _parts(events: list[Event]) -> list[bytes]:
    """What to send, in parts small enough that a client that does not read costs little."""
    body = b"".join([event.frame for event in events]) if events else SILENCE
    return [body[at : at + PIECE] for at in range(0, len(body), PIECE)]


def _is_stopping() -> bool:
    """Whether a server that is not ours, such as `uvicorn main:gf`, was told to stop. It tells
    the application only after the last connection has ended."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
