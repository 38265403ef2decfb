"""Metrics: each sample contains the worst values since the previous one."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from goflow import SqliteStore, Task
from goflow.engine.engine import Engine
from goflow.engine.max_gauge import MaxGauge
from goflow.engine.metrics import EVERY, KEPT, PROBE, Metrics, Sample, memory_in_use
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Blocking, Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


class Stepped(FakeClock):
    """A clock that knows its sleepers, and can wake them late."""

    async def pass_by(self, seconds: float) -> None:
        """Let time pass in naps; each begins after the previous one was noticed."""
        for _ in range(round(seconds / PROBE)):
            await self.nap(PROBE)

    async def nap(self, seconds: float) -> None:
        sleeping = len(self._sleepers)
        self.advance(seconds=seconds)
        await until(lambda: len(self._sleepers) >= sleeping)


@asynccontextmanager
async def watched(engine: Engine) -> AsyncIterator[Metrics]:
    """The engine's metrics, while they are sampled."""
    metrics = Metrics(engine)
    clock = engine.clock
    assert isinstance(clock, Stepped)
    before = len(clock._sleepers)
    taking = asyncio.create_task(metrics.run())
    await until(lambda: len(clock._sleepers) > before)
    try:
        yield metrics
    finally:
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking


async def sampled(metrics: Metrics, clock: Stepped, seconds: float = EVERY) -> Sample:
    """The sample taken after `seconds`."""
    known = metrics.since(None)
    await clock.pass_by(seconds)
    await until(lambda: metrics.since(None) != known)
    return metrics.since(None)[-1]


def test_a_max_gauge_is_the_maximum_since_it_was_read() -> None:
    peak = MaxGauge()
    assert peak.take() == (0.0, 0)
    for value in (0.5, 2.0, 1.0):
        peak.note(value)
    assert peak.take() == (2.0, 3)
    assert peak.take() == (0.0, 0)


async def test_a_sample_counts_running_and_waiting_tasks() -> None:
    clock, operator = Stepped(), Blocking()
    tasks = [Task(f"t{n}", operator) for n in range(3)]
    async with running(job_of("j", *tasks), clock=clock, max_running=2) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(operator.runs) == 2)
        async with watched(engine) as metrics:
            sample = await sampled(metrics, clock)
            assert (sample.running, sample.waiting, sample.listeners) == (2, 1, 0)
            assert sample.at == BEGINNING + timedelta(seconds=EVERY)
            assert sample.commits > 0
            assert sample.memory > 1_000_000
            assert sample.processor >= 0
            assert sample.store_bytes == engine.store.size()
            operator.release.set()
            await engine.runners.finished(id)
            sample = await sampled(metrics, clock)
            assert (sample.running, sample.waiting) == (0, 0)


async def test_a_sample_has_the_worst_lag_and_lateness_since_the_previous_one() -> None:
    clock = Stepped(BEGINNING + timedelta(seconds=58))
    job = job_of("j", Task("t", Scripted()), schedule="* * * * *", active=True)
    async with running(job, clock=clock) as engine, watched(engine) as metrics:
        clock.advance(seconds=4)  # no sleeper was woken meanwhile; the job is due after 2
        await until(lambda: engine.schedules.lateness._count)
        late = await sampled(metrics, clock, EVERY - 4)
        assert late.lateness == 2
        assert late.loop_lag == 4 - PROBE
        quiet = await sampled(metrics, clock)
        assert (quiet.lateness, quiet.loop_lag) == (0, 0)


async def test_samples_are_kept_for_half_an_hour_and_their_times_ascend() -> None:
    clock = Stepped()
    async with running(clock=clock) as engine, watched(engine) as metrics:
        for _ in range(KEPT + 3):
            known = metrics.since(None)[-1:]
            await clock.nap(EVERY)
            await until(lambda known=known: metrics.since(None)[-1:] != known)
        times = [sample.at for sample in metrics.since(None)]
        assert len(times) == KEPT
        assert metrics.since(times[-3])[0].at == times[-2]
        clock.set(times[-10])
        await clock.nap(EVERY)
        await until(lambda: metrics.since(None)[-1].at != times[-1])
        times = [sample.at for sample in metrics.since(None)]
        assert times == sorted(set(times))


async def test_an_unreadable_store_keeps_its_last_size(tmp_path: Path) -> None:
    file, away = tmp_path / "goflow.db", tmp_path / "away.db"
    async with running(store=SqliteStore(file), clock=FakeClock()) as engine:
        metrics = Metrics(engine)
        known = await metrics.store_bytes()
        assert known > 0
        file.rename(away)
        assert await metrics.store_bytes() == known
        away.rename(file)


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process cannot open any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_failed_sample_is_left_out() -> None:
    clock = Stepped()
    async with running(clock=clock) as engine, watched(engine) as metrics:
        with no_more_files():
            await clock.pass_by(EVERY)
        assert metrics.since(None) == []
        assert engine.health.defect is None
        await sampled(metrics, clock)
        assert len(metrics.since(None)) == 1


def test_the_memory_in_use_is_that_of_this_process() -> None:
    before = memory_in_use()
    taken = bytearray(b"x") * 50_000_000
    assert memory_in_use() > before + 40_000_000
    del taken
