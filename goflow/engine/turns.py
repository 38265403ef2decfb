"""CPU-bound threads leave the event loop its turns.

Whoever wants the interpreter waits until each thread before it in line has had its interval.
With 100 of them the usual 5 ms make that half a second, each time, and a request takes several.

Among so many the loop gets a hundredth of the processor, so that a millisecond of its work takes
a tenth of a second. A hundred attempts that start together would be ten seconds in which it
answers nobody: they start one after another, and between them the loop does what else there is.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator

from goflow.engine.clock import Clock

INTERVAL = 0.0005  # seconds; less than that costs more than it gains
AT_ONCE = 0.005  # seconds that the loop may be busy with starts before it looks at other things

_lock = threading.Lock()
_asked = 0
_before: float


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """While inside, threads take turns often; may be nested and overlap."""
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
            if not _asked and sys.getswitchinterval() == INTERVAL:  # else it is somebody else's
                sys.setswitchinterval(_before)


class StartingLine:
    """Attempts that will run in threads wait here for their turn to start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line = asyncio.Lock()
        self._begun: float | None = None  # when the first one started in this round of the loop

    async def turn(self) -> None:
        """Return when the next attempt may start: at once, unless the loop is busy with starts."""
        async with self._line:
            now = self._clock.elapsed()
            if self._begun is not None and now - self._begun > AT_ONCE:
                await asyncio.sleep(0)
                now = self._clock.elapsed()
            if self._begun is None:
                self._begun = now
                asyncio.get_running_loop().call_soon(self._round_is_over)

    def _round_is_over(self) -> None:
        self._begun = None
