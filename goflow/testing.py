"""Runs jobs in tests, with a clock that does not wait.

Examples:
    >>> from goflow import Command, Job, Task
    >>> from goflow.testing import run
    >>> job = Job("hello", tasks=[Task("say", Command("echo", ["hello"]))])
    >>> run(job).state == "successful"
    True
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
TURNS = 10  # turns of the event loop before the clock jumps


class FakeClock:
    """A clock for tests. It stands still until `advance` moves it, or jumps over every sleep.

    A jumping clock jumps only while no task runs. While a thread, a program or a request runs, it
    follows the machine's clock, so that no time limit ends early.

    Args:
        now: Aware datetime at which the clock starts.
        jumps: Whether the clock moves by itself by the length of each sleep.

    Raises:
        ValueError: `now` is naive.

    Examples:
        >>> from datetime import UTC, datetime
        >>> from goflow.testing import FakeClock
        >>> clock = FakeClock(datetime(2026, 10, 23, tzinfo=UTC))
        >>> clock.advance(hours=1)
        >>> str(clock.now())
        '2026-10-23 01:00:00+00:00'
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
        self._seen = 0.0  # the machine's clock at the last look, while a task runs
        self._at_work = 0
        self._quiet: asyncio.Future[None] | None = None  # resolved when no task runs

    def now(self) -> datetime:
        """The clock's time, in UTC."""
        self._follow()
        return self._now

    def elapsed(self) -> float:
        """Seconds that have passed since the start; `set` does not change them."""
        self._follow()
        return self._elapsed.total_seconds()

    def thread_time(self) -> float:
        """0.0, so that the costs of attempts do not depend on the machine."""
        return 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Follow the machine's clock while the block runs."""
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
        """Pass the real time since the last call, while a task runs."""
        if self._jumps and self._at_work:
            seen, self._seen = self._seen, self._real.elapsed()
            self._pass(timedelta(seconds=self._seen - seen))

    def _pass(self, passed: timedelta) -> None:
        self._now += passed
        self._elapsed += passed

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Sleep until the clock has moved by `seconds`, counted from this call."""
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
            # Tasks that are about to start or to end go first.
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
        """Move the clock by `timedelta(**delta)` and wake the sleepers whose time has come."""
        self._pass(timedelta(**delta))
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    def set(self, now: datetime) -> None:
        """Set the clock forward or back, as an administrator does. No time passes."""
        self._now = now


def run(
    job: Job, params: Mapping[str, Any] | None = None, *, now: datetime = BEGINNING
) -> FinishedExecution:
    """Run a job once, as `Job.run` does, with a clock that jumps over retry delays.

    Args:
        job: Job to run.
        params: Parameters of the execution; defaults fill in the rest.
        now: Aware datetime at which the execution is submitted, 2030-01-01 by default.

    Returns:
        The finished execution. A failed task does not raise.

    Raises:
        InvalidJob: The job cannot run.
        InvalidRequest: `params` are invalid.
        ValueError: `now` is naive.

    Examples:
        >>> from goflow import Command, ConstantDelay, Job, Task
        >>> from goflow.testing import run
        >>> task = Task("fail", Command("false"), retries=2, retry_delay=ConstantDelay(3600))
        >>> execution = run(Job("flaky", tasks=[task]))
        >>> len(execution.tasks["fail"].attempts)
        3
    """
    return run_once(job, params, clock=FakeClock(now, jumps=True))
