"""For tests of jobs: run one with a clock that does not wait.

from goflow.testing import run

def test_report_is_written() -> None:
    assert run(my_job()).state == "successful"
"""

import asyncio
import heapq
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from goflow.job import Job
from goflow.run import FinishedExecution, run_job

__all__ = ["FakeClock", "FinishedExecution", "run"]

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that a test moves by `advance`, or, with `jumps`, that moves by itself by as
    much as is slept, so that no retry delay takes any time."""

    def __init__(self, now: datetime = BEGINNING, *, jumps: bool = False) -> None:
        if now.tzinfo is None:
            raise ValueError(f"now must be an aware datetime, not {now!r}")
        self._now = now.astimezone(UTC)
        self._jumps = jumps
        self._elapsed = timedelta(0)
        self._count = 0
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed.total_seconds()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        # Counted from the call on: an `advance` before the first step wakes it, too.
        if self._jumps:
            return self._jump(seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seconds > 0:
            self._count += 1
            until = self._elapsed + timedelta(seconds=seconds)
            heapq.heappush(self._sleepers, (until, self._count, woken))
        else:
            woken.set_result(None)
        return self._woken(woken)

    async def _jump(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self._now += timedelta(seconds=seconds)
        self._elapsed += timedelta(seconds=seconds)

    async def _woken(self, woken: "asyncio.Future[None]") -> None:
        await woken

    def advance(self, **delta: float) -> None:
        """Let `timedelta(**delta)` pass, and wake whoever slept no longer."""
        passed = timedelta(**delta)
        self._now += passed
        self._elapsed += passed
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    def set(self, now: datetime) -> None:
        """Set the clock, forward or back, with no time passing."""
        self._now = now


def run(
    job: Job, params: Mapping[str, Any] | None = None, *, now: datetime = BEGINNING
) -> FinishedExecution:
    """`job.run(params)` as of `now`, with no waiting for retries."""
    return asyncio.run(run_job(job, params, clock=FakeClock(now, jumps=True)))
