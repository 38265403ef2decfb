"""The cron loop: submits each job when it is due, never early.

The next fire is always computed from the last scheduled instant, not from the time it was
noticed. When the process was held up over several fires of a job, the first of them is
submitted late and the rest of those past are left out.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from goflow.core.schedule import Schedule
from goflow.engine.clock import Clock, wait
from goflow.errors import Unavailable

logger = logging.getLogger(__name__)

AGAIN = timedelta(seconds=1)  # until a fire that the store did not take is tried again
BATCH = 100  # fires submitted at once


class Scheduled:
    """A job whose schedule is on. `due` is its next fire, None when there is none."""

    __slots__ = ("anchor", "due", "job", "schedule")

    def __init__(self, job: str, schedule: Schedule, anchor: datetime) -> None:
        self.job = job
        self.schedule = schedule
        self.anchor = anchor
        self.due: datetime | None = None

    def step(self, after: datetime) -> None:
        self.due = self.schedule.next(after, anchor=self.anchor)


class Scheduler:
    """`fire(job, due)` submits one execution; `Unavailable` from it means: again, soon."""

    def __init__(self, clock: Clock, fire: Callable[[str, datetime], Awaitable[object]]) -> None:
        self._clock = clock
        self._fire = fire
        self._on: dict[str, Scheduled] = {}
        # (when to look, tie-break, entry): an entry that was switched off, or moved, is
        # found out when its turn comes.
        self._agenda: list[tuple[datetime, int, Scheduled]] = []
        self._count = 0
        self._changed = asyncio.Event()

    def switch_on(self, job: str, schedule: Schedule, anchor: datetime) -> None:
        """Let a job fire from now on; never for an instant that is past."""
        entry = self._on[job] = Scheduled(job, schedule, anchor)
        entry.step(self._clock.now())
        self._plan(entry, entry.due)
        self._changed.set()

    def switch_off(self, job: str) -> None:
        """Let a job fire no more."""
        self._on.pop(job, None)

    def due(self, job: str) -> datetime | None:
        """When a job fires next; None if it does not."""
        entry = self._on.get(job)
        return None if entry is None else entry.due

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            now = self._clock.now()
            batch: list[Scheduled] = []
            while self._agenda and self._agenda[0][0] <= now and len(batch) < BATCH:
                entry = heapq.heappop(self._agenda)[2]
                if self._on.get(entry.job) is entry:
                    batch.append(entry)
            if batch:
                await asyncio.gather(*map(self._submit, batch))
            else:
                next_look = self._agenda[0][0] if self._agenda else None
                await wait(self._changed, self._clock, next_look)

    async def _submit(self, entry: Scheduled) -> None:
        due = entry.due
        assert due is not None
        try:
            await self._fire(entry.job, due)
        except Unavailable as error:
            logger.warning("job %r, due %s, waits: %s", entry.job, due.isoformat(), error)
            self._plan(entry, self._clock.now() + AGAIN)
            return
        entry.step(due)
        now = self._clock.now()
        if entry.due is not None and entry.due <= now:
            entry.step(now)
        self._plan(entry, entry.due)

    def _plan(self, entry: Scheduled, look: datetime | None) -> None:
        if look is not None:
            self._count += 1
            heapq.heappush(self._agenda, (look, self._count, entry))
