"""Metrics of the server: a sample every few seconds, kept for half an hour.

The rule: metrics do not affect the engine, and cost an idle server almost nothing. An engine
without a server, as in a simulation, has no metrics.
"""

import os
import resource
import sys
from collections import deque
from contextlib import suppress
from datetime import datetime

import msgspec

from goflow.core.summary import Time
from goflow.engine.clock import processor_time
from goflow.engine.engine import Engine
from goflow.engine.max_gauge import MaxGauge
from goflow.errors import StoreUnavailable

EVERY = 5.0  # seconds between samples
PROBE = 0.25  # seconds between two checks whether the event loop is blocked
KEPT = 360  # samples


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Values at an instant, and maxima since the previous sample.

    - `lateness`: the maximum of seconds from a due time to its record.
    - `loop_lag`: the maximum of seconds that the event loop was late.
    - `commit`: the maximum of seconds that a commit took; `commits`: commits per second.
    - `memory`: bytes in use by the process; `processor`: its share of one core, from 0 to 1 and
      above. Programs that tasks run do not count.
    - `running`, `waiting`: running tasks, and ready tasks that wait for a slot.
    """

    at: Time
    lateness: float
    loop_lag: float
    commit: float
    commits: float
    memory: int
    processor: float
    running: int
    waiting: int
    store_bytes: int
    listeners: int


class Metrics:
    """The metrics of a started engine, sampled while `run` runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._lag = MaxGauge()
        self._store_bytes = 0

    def since(self, after: datetime | None) -> list[Sample]:
        """The samples after an instant, or all if it is None, oldest first."""
        return [sample for sample in self._samples if after is None or sample.at > after]

    async def run(self) -> None:
        """Take samples until cancelled."""
        clock = self._engine.clock
        begun, used = clock.elapsed(), processor_time()
        while True:
            before = clock.elapsed()
            await clock.sleep(PROBE)
            self._lag.note(clock.elapsed() - before - PROBE)
            if (passed := clock.elapsed() - begun) >= EVERY:
                spent = processor_time() - used
                begun, used = begun + passed, used + spent
                # Without free file descriptors there is no sample.
                with suppress(OSError):
                    await self._sample(passed, spent)

    async def _sample(self, passed: float, spent: float) -> None:
        engine = self._engine
        store_bytes = await self.store_bytes()
        commit, commits = engine.journal.commits.take()
        every = engine.slots.usage()[0]
        sample = Sample(
            at=engine.clock.now(),
            lateness=round(engine.schedules.lateness.take()[0], 6),
            loop_lag=round(self._lag.take()[0], 6),
            commit=round(commit, 6),
            commits=round(commits / passed, 3),
            memory=memory_in_use(),
            processor=round(spent / passed, 4),
            running=every.taken,
            waiting=every.waiting,
            store_bytes=store_bytes,
            listeners=len(engine.broadcast),
        )
        while self._samples and self._samples[-1].at >= sample.at:
            self._samples.pop()  # the clock was set back, but times must ascend
        self._samples.append(sample)

    async def store_bytes(self) -> int:
        """The size of the store in bytes; the last known one while the store is unavailable."""
        with suppress(StoreUnavailable, OSError):  # the journal reports it
            self._store_bytes = await self._engine.reader.read(self._engine.store.size)
        return self._store_bytes


def memory_in_use() -> int:
    """Bytes of memory in use by this process; without /proc, its maximum so far."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, PermissionError):  # no /proc
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
