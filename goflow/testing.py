"""For tests of jobs: run one with a clock that does not wait.

from goflow.testing import run

def test_report_is_written() -> None:
    assert run(my_job()).state == "successful"
"""

import asyncio
import heapq
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from goflow.engine.clock import SystemClock
from goflow.job import Job
from goflow.run import FinishedExecution, run_once

__all__ = ["FakeClock", "FinishedExecution", "run"]

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
TURNS = 10  # of the event loop, before the clock jumps


class FakeClock:
    """A clock that a test moves by `advance`, or, with `jumps`, that moves by itself by as
    much as is slept, so that no retry delay takes any time.

    It jumps only when nothing real goes on. While a task runs (a thread, a program, a request) it
    goes as the machine's clock does, so that no time limit is over before its time.
    """

    def __init__(self, now: datetime = BEGINNING, *, jumps: bool = False) -> None:
        if now.tzinfo is None:
            raise ValueError(f"now must be an aware datetime, not {now!r}")
        self._now = now.astimezone(UTC)
        self._jumps = jumps
        self._elapsed = timedelta(0)
        self._count = 0
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []
        self._real = SystemClock()
        self._seen = 0.0  # by the machine's clock, while something real goes on
        self._at_work = 0
        self._quiet: asyncio.Future[None] | None = None  # for those who wait until nothing does

    def now(self) -> datetime:
        self._follow()
        return self._now

    def elapsed(self) -> float:
        self._follow()
        return self._elapsed.total_seconds()

    @contextmanager
    def work(self) -> Iterator[None]:
        self._follow()
        if not self._at_work:
            self._seen = self._real.elapsed()
        self._at_work += 1
        try:
            yield
        finally:
            self._follow()
            self._at_work -= 1
            if not self._at_work and self._quiet is not None:
                quiet, self._quiet = self._quiet, None
                if not quiet.done():
                    quiet.set_result(None)

    def _follow(self) -> None:
        """While something real goes on, let as much time pass as really has."""
        if self._jumps and self._at_work:
            seen, self._seen = self._seen, self._real.elapsed()
            self._pass(timedelta(seconds=self._seen - seen))

    def _pass(self, passed: timedelta) -> None:
        self._now += passed
        self._elapsed += passed

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
        until = self.elapsed() + seconds
        while True:
            # Whoever is about to begin something real, or to hear of its end, goes first.
            for _ in range(TURNS):
                await asyncio.sleep(0)
            left = until - self.elapsed()
            if left <= 0:
                return
            if not self._at_work:
                self._pass(timedelta(seconds=left))
                return
            if self._quiet is None:
                self._quiet = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._quiet], timeout=left)

    async def _woken(self, woken: "asyncio.Future[None]") -> None:
        await woken

    def advance(self, **delta: float) -> None:
        """Let `timedelta(**delta)` pass, and wake whoever slept no longer."""
        self._pass(timedelta(**delta))
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
    return run_once(job, params, clock=FakeClock(now, jumps=True))
