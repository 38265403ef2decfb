"""Retention deletes old executions, but neither unfinished ones nor records of due times."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from goflow import Goflow, MemoryStore, SqliteStore, Task
from goflow.core.states import State
from goflow.engine.engine import Engine
from goflow.engine.retention import EVERY, Keep
from goflow.errors import NotFound
from goflow.stores.base import Change, Outcome, Purge, Record, Touch
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


async def kept(engine: Engine) -> int:
    return len((await engine.reader.page(None, None, 1000, None)).executions)


async def wait_until_left(engine: Engine, clock: FakeClock, count: int) -> None:
    """Let time pass until `count` executions are left."""
    for _ in range(200):
        clock.advance(seconds=EVERY / 4)
        # Commits are slower than reads: this one is committed after the queued ones.
        await engine.journal.commit(Touch(clock.now()))
        if await kept(engine) == count:
            return
    pytest.fail(f"{await kept(engine)} are kept")


async def test_old_executions_are_deleted_unless_unfinished() -> None:
    clock = FakeClock()
    hanging = Scripted(["hang"])
    jobs = job_of("j", Task("t", Scripted())), job_of("long", Task("t", hanging))
    async with running(*jobs, clock=clock, keep=Keep(days=10)) as engine:
        unfinished = (await engine.submissions.submit("long")).id
        for _ in range(5):
            await engine.runners.finished((await engine.submissions.submit("j")).id)
        clock.advance(days=9)
        young = (await engine.submissions.submit("j")).id
        await engine.runners.finished(young)
        assert await kept(engine) == 7
        clock.advance(days=2)
        await wait_until_left(engine, clock, 2)
        assert (await engine.reader.execution(unfinished)).state == "running"
        assert (await engine.reader.execution(young)).state == "successful"
        hanging.release.set()
        await engine.runners.finished(unfinished)


@pytest.mark.parametrize(
    ("keep", "left"), [(Keep(executions=4), 4), (Keep(per_job=3), 6), (Keep(None, None, None), 20)]
)
async def test_the_newest_of_all_and_of_each_job_are_kept(keep: Keep, left: int) -> None:
    clock = FakeClock()
    jobs = [job_of(name, Task("t", Scripted())) for name in "ab"]
    async with running(*jobs, clock=clock, keep=keep) as engine:
        ids = []
        for n in range(20):
            ids.append((await engine.submissions.submit("ab"[n % 2])).id)
            await engine.runners.finished(ids[-1])
        await wait_until_left(engine, clock, left)
        for id in ids[-left:]:
            assert (await engine.reader.execution(id)).id == id


async def test_a_job_that_is_idle_or_removed_is_trimmed_too(tmp_path: Path) -> None:
    clock = FakeClock()
    jobs = [job_of(name, Task("t", Scripted())) for name in "ab"]
    async with running(*jobs, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        for n in range(10):
            await engine.runners.finished((await engine.submissions.submit("ab"[n % 2])).id)
    left = job_of("a", Task("t", Scripted()))
    store = SqliteStore(tmp_path / "s")
    async with running(left, store=store, clock=clock, keep=Keep(per_job=2)) as engine:
        await wait_until_left(engine, clock, 4)


async def test_executions_that_finish_after_a_round_are_trimmed_in_the_next() -> None:
    clock = FakeClock()
    operator = Scripted(["hang"] * 4)
    job = job_of("a", Task("t", operator))
    async with running(job, clock=clock, keep=Keep(per_job=1)) as engine:
        ids = [(await engine.submissions.submit("a")).id for _ in range(4)]
        await until(lambda: len(operator.runs) == 4)
        clock.advance(seconds=EVERY)
        await until(lambda: not engine.retention._grown)
        operator.release.set()
        for id in ids:
            await engine.runners.finished(id)
        await wait_until_left(engine, clock, 1)


async def test_a_due_time_whose_execution_was_deleted_does_not_fire_again() -> None:
    clock = FakeClock()
    operator = Scripted()
    job = job_of("j", Task("t", operator), schedule="@daily", active=True, catchup="all")
    store = MemoryStore()
    async with running(job, store=store, clock=clock, keep=Keep(days=1)) as engine:
        for _ in range(4):
            clock.advance(days=1)
            await until(lambda: (engine.schedules.due("j") or clock.now()) > clock.now())
            await until(lambda: not engine.runners)
        ran = len(operator.runs)
        for _ in range(40):
            clock.advance(seconds=1)
            await until(lambda: not engine.runners)
        assert len(operator.runs) == ran
        assert engine.schedules.due("j") == BEGINNING + timedelta(days=5)


@pytest.mark.parametrize(
    ("option", "value"),
    [("keep_days", 0), ("keep_days", float("nan")), ("keep_days", "x"), ("keep_executions", 0),
     ("keep_per_job", -1), ("keep_per_job", True)],
)  # fmt: skip
def test_an_invalid_retention_limit_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        Goflow(**{"store": MemoryStore(), option: value})  # type: ignore[arg-type]


class JustPurged(MemoryStore):
    """Deletes everything just before facts of a finished execution arrive."""

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        records = [change for change in batch if isinstance(change, Record)]
        if any(super(JustPurged, self).find(one.execution).summary for one in records):  # type: ignore[union-attr]
            super().commit([Purge(None, None, 0, 100)])
        return super().commit(batch)


@pytest.mark.parametrize("action", ["retry", "mark"])
async def test_an_execution_deleted_during_a_change_is_not_found(action: str) -> None:
    async with running(job_of("j", Task("t", Scripted(["fail"]))), store=JustPurged()) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        act = (
            engine.control.retry(id)
            if action == "retry"
            else engine.control.mark(id, "t", State.SKIPPED)
        )
        with pytest.raises(NotFound, match=id):
            await act
        assert not engine.live.get(id)
        assert engine.health.defect is None
        await engine.runners.finished((await engine.submissions.submit("j")).id)
