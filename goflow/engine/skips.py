"""Skipped dates: asks the `skip_dates` of a job, which may be a user's function, about dates.

The rule that must not be broken: a function that raises, hangs or is slow affects its job only. So
it runs in a thread, one call of a job at a time and for a limited time.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import date, datetime

from goflow.core.timetable import Times, Timetable
from goflow.engine.clock import Clock
from goflow.job import Job
from goflow.job.skip_dates import SkipDatesFailed

LIMIT = 10.0  # seconds for a call, and for the wait until the one before has returned
CALLS = 1000  # threads at most, of which functions that hang keep one each


class Skips:
    """Answers why due times are skipped."""

    def __init__(self, threads: Executor, clock: Clock) -> None:
        self._threads = threads
        self._clock = clock
        self._calls: dict[str, asyncio.Future[list[str | None]]] = {}  # under way, by job

    async def reasons(self, job: Job, times: Times, dues: Sequence[datetime]) -> list[str | None]:
        """Why each due time is skipped, or None for one that is not. Raises `SkipDatesFailed`."""
        if job.skip_dates is None:
            return [None] * len(dues)
        days = [date_of(times, due) for due in dues]
        if (before := self._calls.get(job.name)) is not None and not await self._ended(before):
            raise SkipDatesFailed("skip_dates failed: an earlier call has not returned")
        try:
            call = asyncio.wrap_future(self._threads.submit(job.skip_dates.reasons, days))
        except RuntimeError as error:  # no thread, or the engine stops
            raise SkipDatesFailed(f"skip_dates cannot be called: {error}") from None
        self._calls[job.name] = call
        call.add_done_callback(lambda call: self._returned(job.name, call))
        if not await self._ended(call):
            raise SkipDatesFailed(f"skip_dates failed: it took longer than {LIMIT:g} seconds")
        return call.result()

    async def _ended(self, call: "asyncio.Future[list[str | None]]") -> bool:
        """Wait for the end of a call; returns False if it does not end in time."""
        limit = asyncio.ensure_future(self._clock.sleep(LIMIT))
        try:
            await asyncio.wait((call, limit), return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
        return call.done()

    def _returned(self, job: str, call: "asyncio.Future[list[str | None]]") -> None:
        if not call.cancelled():
            call.exception()  # asked for, since nobody may wait any more
        if self._calls.get(job) is call:
            del self._calls[job]


def date_of(times: Times, due: datetime) -> date:
    """The date of a due time in the zone of its schedule."""
    zone = times.zone_of(due) if isinstance(times, Timetable) else times.zone
    return due.astimezone(zone).date()
