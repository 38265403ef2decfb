"""Alarm: calls back at given times, from one sleeper for all of them.

A sleeper of its own for each of 10,000 waiting tasks would wake up every `LONGEST_NAP`.

The rule: a call comes when its time has passed by the clock as it is set now, or when as many
seconds have passed as there were until then, whichever is earlier. So neither a clock that is set
back nor a machine that was suspended delays it.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from goflow.engine.clock import Clock, wait

Start = Callable[[Callable[[], Awaitable[None]]], None]
# The clock was set back if it differs by more from the even course of time.
STEP = 0.25  # seconds
# A call may be so early: sums of times as floats are not exact, and a nap of less than a
# microsecond does not pass.
EARLY = 0.001  # seconds
FEW = 64  # cancelled entries that are always kept


class Entry:
    """A call that is due at some time."""

    __slots__ = ("_alarm", "_call", "at")

    def __init__(self, alarm: "Alarm", at: datetime, call: Callable[[], object]) -> None:
        self.at = at
        self._alarm = alarm
        self._call: Callable[[], object] | None = call

    @property
    def is_cancelled(self) -> bool:
        return self._call is None

    def cancel(self) -> None:
        """Do not call."""
        if self._call is not None:
            self._call = None
            self._alarm.cancelled()

    def ring(self) -> None:
        """Call now, unless it has been called or cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Alarm:
    """Calls that are due. `start` runs the sleeper in the background; it is called once, when the
    first call is set."""

    def __init__(self, clock: Clock, start: Start) -> None:
        self._clock = clock
        self._start: Start | None = start
        self._woken = asyncio.Event()
        self._back = 0.0  # seconds by which the clock was set back so far
        self._skew = self._measure()
        # A heap of the times of entries, in seconds, plus the `_back` at which they were set.
        self._entries: list[tuple[float, int, Entry]] = []
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._entries) - self._cancelled

    def set(self, at: datetime, call: Callable[[], object]) -> Entry:
        """Call back at an instant. `call` must not raise."""
        if self._start is not None:
            start, self._start = self._start, None
            start(self.run)
        entry = Entry(self, at, call)
        self._count += 1
        item = (at.timestamp() + self._back, self._count, entry)
        heapq.heappush(self._entries, item)
        if self._entries[0] is item:
            self._woken.set()
        return entry

    def cancelled(self) -> None:
        """An entry was cancelled. They are removed once they are half of all."""
        self._cancelled += 1
        if self._cancelled > FEW and 2 * self._cancelled > len(self._entries):
            self._entries = [item for item in self._entries if not item[2].is_cancelled]
            heapq.heapify(self._entries)
            self._cancelled = 0

    async def run(self) -> None:
        """Ring the entries that are due, for ever."""
        while True:
            self._ring()
            await wait(self._woken, self._clock, self._next())

    def _ring(self) -> None:
        if (skew := self._measure()) < self._skew - STEP:
            self._back += self._skew - skew
        self._skew = skew
        due = self._clock.now().timestamp() + self._back + EARLY
        while self._entries and self._entries[0][0] <= due:
            entry = heapq.heappop(self._entries)[2]
            if entry.is_cancelled:
                self._cancelled -= 1
            else:
                entry.ring()

    def _next(self) -> datetime | None:
        """When the next entry is due, by the clock as it is set now."""
        if not self._entries:
            return None
        until = self._entries[0][0] - self._back - self._clock.now().timestamp()
        return self._clock.now() + timedelta(seconds=until)

    def _measure(self) -> float:
        """How far the clock is ahead of the even course of time."""
        return self._clock.now().timestamp() - self._clock.elapsed()
