"""A store that fails temporarily: acknowledged changes stay, tasks continue, it recovers."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import Context, SqliteStore, Task
from goflow.core.events import TaskSucceeded
from goflow.engine.attempts.under_way import LOAD
from goflow.engine.engine import Engine
from goflow.engine.entries import SCHEDULE, read_states
from goflow.engine.output.tasklog import CHUNK
from goflow.errors import NotFound, StoreUnavailable
from goflow.stores.base import Change, Outcome, Put, Record
from goflow.stores.logs import AppendLog
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


# -- the log at the end of an attempt -------------------------------------------------------


class Watched(Troubled):
    """Notes the batches, and raises a defect for logs of attempts if a test says so."""

    broken_logs = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[list[Change]] = []

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        if self.broken_logs and any(isinstance(one, AppendLog) for one in batch):
            raise ValueError("no logs today")
        outcomes = super().commit(batch)
        self.batches.append(list(batch))
        return outcomes

    def place_of(self, wanted: Callable[[Change], bool]) -> list[tuple[int, int]]:
        """The number of the batch, and the place in it, of the changes that are wanted."""
        return [
            (number, place)
            for number, batch in enumerate(self.batches)
            for place, one in enumerate(batch)
            if wanted(one)
        ]


class Prints:
    """Prints lines, and ends. Before that it waits for `release`, if it has one."""

    def __init__(self, text: str, release: asyncio.Event | None = None) -> None:
        self.text = text
        self.release = release

    async def run(self, context: Context) -> None:
        if self.release is not None:
            await self.release.wait()
        context.log(self.text)


def ends(change: Change) -> bool:
    return isinstance(change, Record) and any(
        isinstance(fact, TaskSucceeded) for fact in change.facts
    )


def appends(change: Change) -> bool:
    return isinstance(change, AppendLog)


async def text_of(engine: Engine, id: str, task: str) -> str:
    log = await engine.reader.log_of(id, task, 1)
    return "".join([text async for text in log.texts])


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "s.db")


async def test_the_last_lines_and_the_end_are_one_transaction(watched: Watched) -> None:
    job = job_of("j", Task("t", Prints("the last line")))
    async with running(job, store=watched) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert await text_of(engine, id, "t") == "the last line\n"
    (end,), (line,) = watched.place_of(ends), watched.place_of(appends)
    assert line[0] == end[0]
    assert line[1] < end[1]


@pytest.mark.parametrize("lines", [1, 100_000])
async def test_a_log_is_complete_when_its_end_is_visible_though_the_store_refused(
    watched: Watched, lines: int
) -> None:
    release = asyncio.Event()
    job = job_of("j", Task("t", Prints("line\n" * lines, release)))
    async with running(job, store=watched, clock=FakeClock(jumps=True)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: watched.place_of(lambda one: isinstance(one, Record)))
        watched.full = True
        release.set()
        await until(lambda: watched.refused > 3)
        watched.full = False
        await engine.runners.finished(id)
        assert await text_of(engine, id, "t") == "line\n" * lines + "\n"
    assert max(watched.place_of(appends)) < min(watched.place_of(ends))


async def test_ends_with_large_logs_are_committed_in_bounded_transactions(
    watched: Watched,
) -> None:
    release = asyncio.Event()
    text = "x" * 999 + "\n"
    tasks = [Task(f"t{n}", Prints(text * 60, release)) for n in range(100)]
    async with running(job_of("j", *tasks), store=watched, max_running=100) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.slots.taken == 100)
        release.set()
        await engine.runners.finished(id)
        for task in tasks:
            assert await text_of(engine, id, task.name) == text * 60 + "\n"
    last_lines = [
        sum(len(one.text) for one in batch if isinstance(one, AppendLog))
        for batch in watched.batches
        if any(map(ends, batch))
    ]
    assert sum(last_lines) == len(tasks) * 60_001
    assert max(last_lines) <= LOAD + CHUNK


async def test_lines_that_cannot_be_written_change_no_outcome_and_are_reported(
    watched: Watched,
) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, report: reported.append(str(report["exception"]))
    )
    watched.broken_logs = True
    job = job_of("j", Task("a", Prints("hello")), Task("b", Scripted(), after=["a"]))
    async with running(job, store=watched) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}
        assert await text_of(engine, id, "a") == ""
    assert reported == ["no logs today"]


async def test_states_that_replace_a_refused_one_leave_no_error_behind(store: Troubled) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    clock = FakeClock()
    async with running(store=store, clock=clock) as engine:
        store.refuses = SCHEDULE
        for schedule in ("@hourly", "@daily", "@weekly"):
            job = job_of("j", Task("t", Scripted()), schedule=schedule, active=True)
            engine.registry.register(job, replace=True)
        await until(lambda: store.refused)
        store.refuses = None
        await until(lambda: read_states(store) or clock.advance(seconds=1))
        assert read_states(store) == engine.ledger.states
    gc.collect()
    assert reported == []
