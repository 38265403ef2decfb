"""Keeps the event loop responsive beside CPU-bound threads.

A thread that wants the interpreter waits until each thread ahead of it has used its switch
interval. With 100 threads and the default of 5 ms that is half a second, and a request needs
several turns.

Beside 100 threads the loop gets a hundredth of the processor, so a millisecond of its work takes
a tenth of a second. Starting 100 attempts at once blocked all requests for 18 seconds. So attempts
start one after another, and the loop handles other events in between.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator

from goflow.engine.clock import Clock

INTERVAL = 0.0005  # seconds; less than that costs more than it gains
AT_ONCE = 0.005  # seconds that the loop may be busy with starts before it handles other events

_lock = threading.Lock()
_asked = 0
_before: float


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Shorten the switch interval while inside. May be nested, and may overlap."""
    global _asked, _before
    with _lock:
        if not _asked:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(_before, INTERVAL))
        _asked += 1
    try:
        yield
    finally:
        with _lock:
            _asked -= 1
            if (
                not _asked and sys.getswitchinterval() == INTERVAL
            ):  # otherwise another program has set it
                sys.setswitchinterval(_before)


class StartingLine:
    """A queue of attempts that are about to start in threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line = asyncio.Lock()
        self._begun: float | None = None  # when the first one started in this round of the loop

    async def turn(self) -> None:
        """Wait until the next attempt may start: at once, unless the loop is busy with starts."""
        if not self._line.locked() and self._may_start():
            return
        async with self._line:
            while not self._may_start():  # noqa: ASYNC110  nothing tells but the next round
                await asyncio.sleep(0)

    def _may_start(self) -> bool:
        now = self._clock.elapsed()
        if self._begun is None:
            self._begun = now
            asyncio.get_running_loop().call_soon(self._round_is_over)
        return now - self._begun <= AT_ONCE

    def _round_is_over(self) -> None:
        self._begun = None
