"""A store that fails temporarily: acknowledged changes stay, tasks continue, it recovers."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import SqliteStore, Task
from goflow.engine.entries import SCHEDULE, read_states
from goflow.errors import NotFound, StoreUnavailable
from goflow.stores.base import Change, Outcome, Put
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


class Troubled(SqliteStore):
    """The real store, which refuses every commit while `full` is set, and commits with an entry
    of the kind `refuses`."""

    full = False
    refuses: str | None = None
    refused = 0

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        kinds = {one.kind for one in batch if isinstance(one, Put)}
        if self.full or self.refuses in kinds:
            self.refused += 1
            raise StoreUnavailable("the disk is full")
        return super().commit(batch)


@pytest.fixture
def store(tmp_path: Path) -> Troubled:
    return Troubled(tmp_path / "s.db")


async def test_requests_are_refused_and_change_nothing(store: Troubled) -> None:
    job = job_of("j", Task("t", Scripted()), schedule="@daily")
    clock = FakeClock()
    async with running(job, store=store, clock=clock) as engine:
        store.full = True
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await engine.submissions.submit("j")
        with pytest.raises(StoreUnavailable):
            await engine.schedules.toggle("j")
        assert engine.schedules.active("j") is False
        assert engine.journal.trouble is not None
        await until(lambda: not engine.runners)
        store.full = False
        await until(lambda: engine.journal.trouble is None or clock.advance(seconds=1))
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert len((await engine.reader.page("j", None, 10, None)).executions) == 1


async def test_running_tasks_continue_and_are_recorded_when_the_store_recovers(
    store: Troubled,
) -> None:
    hanging, after = Scripted(["hang"]), Scripted()
    job = job_of("j", Task("a", hanging), Task("b", after, after=["a"]))
    async with running(job, store=store, clock=FakeClock(jumps=True)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        store.full = True
        hanging.release.set()
        await until(lambda: store.refused > 3)
        assert after.runs == [], "nothing starts because of a fact that is not committed"
        assert (await states(engine, id))["a"] == "running"
        store.full = False
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}


async def test_a_refused_fire_is_retried_for_the_same_instant(
    store: Troubled, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(BEGINNING + timedelta(seconds=59))
    operator = Scripted()
    job = job_of("j", Task("t", operator), schedule="* * * * *", active=True)
    async with running(job, store=store, clock=clock) as engine:
        await until(lambda: read_states(store))
        store.full = True
        clock.advance(seconds=1)
        await until(lambda: "waits: the disk is full" in caplog.text)
        store.full = False
        await until(lambda: operator.runs or clock.advance(seconds=1))
        await until(lambda: not engine.runners)
        (execution,) = (await engine.reader.page("j", None, 10, None)).executions
        assert b'"scheduled_at":"2030-01-01T00:01:00Z"' in execution
        assert engine.schedules.due("j") == BEGINNING + timedelta(minutes=2)


async def test_nothing_fires_before_its_schedule_state_is_written(
    store: Troubled, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(BEGINNING + timedelta(seconds=59.9))
    operator = Scripted()
    job = job_of("j", Task("t", operator), schedule="* * * * *", active=True)
    store.refuses = SCHEDULE
    async with running(job, store=store, clock=clock) as engine:
        await until(lambda: store.refused)
        clock.advance(seconds=0.1)  # it is due, but the schedule state is not yet retried
        await until(lambda: operator.runs or "waits: the disk is full" in caplog.text)
        assert (operator.runs, read_states(store)) == ([], {})
        store.refuses = None
        await until(lambda: operator.runs or clock.advance(seconds=1))
        assert read_states(store)["j"].accounted == engine.ledger.states["j"].accounted
        await until(lambda: not engine.runners)


async def test_a_refused_schedule_state_is_not_written_after_a_newer_one(store: Troubled) -> None:
    clock = FakeClock()
    job = job_of("j", Task("t", Scripted()), schedule="@hourly", active=True)
    async with running(job, store=store, clock=clock) as engine:
        await until(lambda: read_states(store))
        state = read_states(store)["j"]
        store.refuses = SCHEDULE
        await engine.schedules.toggle("j", False)
        await until(lambda: store.refused)
        store.refuses = None
        await engine.schedules.toggle("j", True)
        clock.advance(seconds=1)
        await engine.runners.finished((await engine.submissions.submit("j")).id)
        assert read_states(store)["j"] == state


async def test_a_stop_while_the_store_is_full_ends_and_the_next_start_settles(
    store: Troubled,
) -> None:
    hanging = Scripted(["hang"])

    def job() -> Any:
        return job_of("j", Task("t", hanging, retries=1))

    async with running(job(), store=store, clock=FakeClock(jumps=True)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        store.full = True
    assert hanging.ended == ["cancelled"]
    store.full = False
    async with running(job(), store=store, clock=FakeClock(jumps=True)) as engine:
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}
    assert hanging.runs == [1, 2]


async def test_a_change_that_cannot_be_written_fails_alone(
    store: Troubled,
) -> None:
    from goflow.core.states import State
    from goflow.stores.base import Record

    async with running(job_of("j", Task("t", Scripted())), store=store) as engine:
        bad = Record("no such execution", [], State.RUNNING, BEGINNING)
        results = await asyncio.gather(
            engine.journal.commit(Put("kind", "j", b"1")),
            engine.journal.commit(bad),
            engine.journal.commit(Put("kind", "k", b"1")),
            return_exceptions=True,
        )
        assert results[0] is None
        assert isinstance(results[1], NotFound)
        assert results[2] is None
        assert store.entries("kind").keys() == {"j", "k"}
