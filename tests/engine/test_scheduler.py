"""No job delays another, and the next due times over all jobs."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import Job, Schedule, SqliteStore, Task
from goflow.core.catchup import Backlog, Policy
from goflow.engine.engine import Engine
from goflow.engine.entries import read_states
from goflow.engine.scheduler import AT_ONCE, PORTION, TRIES, Scheduler, in_order_of_time
from goflow.engine.submissions import Request, Submissions
from goflow.errors import Unavailable
from goflow.stores.base import Change, Outcome, Submit
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


def scheduler_of(minutes: dict[str, int]) -> Scheduler:
    """A scheduler with a job for each name, due every `minutes[name]` minutes."""

    async def nothing(*args: object) -> None:
        return None

    async def compute(*args: object) -> Backlog:
        raise AssertionError("nothing piles up")

    scheduler = Scheduler(FakeClock(), compute, print, print)
    for job, every in minutes.items():
        schedule = Schedule(f"@every {every}m")
        scheduler.switch_on(job, schedule, BEGINNING, BEGINNING, Policy())
    return scheduler


@given(
    st.lists(st.integers(1, 90), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 40),
    st.integers(1, 130),
    st.integers(0, 120),
)
def test_the_next_due_times_include_every_active_job_in_order(
    every: list[int], off: set[int], limit: int, each: int, ahead: int
) -> None:
    minutes = {f"j{number:02}": every_one for number, every_one in enumerate(every)}
    scheduler = scheduler_of(minutes)
    for number in off:
        scheduler.switch_off(f"j{number:02}")
    until = BEGINNING + timedelta(minutes=ahead)
    expected: list[tuple[datetime, str]] = []
    for number, (job, step) in enumerate(minutes.items()):
        if number not in off:
            times = (BEGINNING + timedelta(minutes=step * n) for n in range(1, ahead // step + 1))
            expected += [(due, job) for due in islice(times, each)]
    found = in_order_of_time(scheduler.nearest(until, limit), until, limit, each)
    assert [one[:2] for one in found] == sorted(expected)[:limit]


class Order(SqliteStore):
    """The real store, which records the jobs that fire, in order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "s.db")
        self.fired: list[str] = []

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        outcomes = super().commit(batch)
        self.fired += [
            one.fact.job
            for one in batch
            if isinstance(one, Submit) and one.fact.cause == "schedule"
        ]
        return outcomes


def minutely(name: str, **options: Any) -> Job:
    task = Task("t", Scripted())
    return job_of(name, task, schedule="* * * * *", active=True, **options)


def greedy(name: str, many: int) -> Job:
    return minutely(name, catchup="all", catchup_window=10**7, catchup_limit=many)


async def ticks(engine: Engine, job: str) -> list[tuple[str, int]]:
    """The outcomes of a job's due times in order, run-length encoded."""
    counts: list[tuple[str, int]] = []
    for tick in reversed(await engine.reader.ticks(job, None, 1000)):
        counts.append((tick.outcome.value, tick.count))
    return [
        (outcome, sum(n for _, n in group)) for outcome, group in groupby(counts, itemgetter(0))
    ]


async def test_a_job_with_a_long_backlog_delays_no_other(tmp_path: Path) -> None:
    many, clock = 2000, FakeClock()
    store = Order(tmp_path)
    quiet = [minutely(f"quiet{n}") for n in range(3)]
    async with running(greedy("greedy", many), store=store, clock=clock):
        await until(lambda: read_states(store))
    clock.advance(minutes=many)
    store = Order(tmp_path)
    async with running(*quiet, greedy("greedy", many), store=store, clock=clock) as engine:
        for n in range(1, 11):
            clock.advance(minutes=1)
            await until(lambda n=n: [store.fired.count(job.name) for job in quiet] == [n] * 3)
        before = store.fired.count("greedy")
        assert before < many / 2, "the other job waited for it"
        assert [await ticks(engine, job.name) for job in quiet] == [[("fired", 10)]] * 3
        for tick in await engine.reader.ticks("quiet0", None, 100):
            assert tick.at == tick.due
        await until(lambda: store.fired.count("greedy") >= many)


async def test_jobs_that_catch_up_take_turns(tmp_path: Path) -> None:
    many, clock = 300, FakeClock()
    store = Order(tmp_path)
    names = [f"greedy{n}" for n in range(4)]
    async with running(*(greedy(name, many) for name in names), store=store, clock=clock):
        await until(lambda: len(read_states(store)) == 4)
    clock.advance(minutes=many)
    store = Order(tmp_path)
    async with running(*(greedy(name, many) for name in names), store=store, clock=clock):
        await until(lambda: len(store.fired) >= 4 * many)
        for upto in range(100, 4 * many, 100):
            counts = [store.fired[:upto].count(name) for name in names]
            assert max(counts) - min(counts) <= 2 * PORTION


async def test_more_jobs_than_are_handled_at_once_all_catch_up(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Order(tmp_path)
    names = [f"j{n}" for n in range(3 * AT_ONCE)]
    async with running(*map(minutely, names), store=store, clock=clock):
        await until(lambda: len(read_states(store)) == len(names))
    clock.advance(minutes=10)
    store = Order(tmp_path)
    async with running(*map(minutely, names), store=store, clock=clock) as engine:
        await until(lambda: len(store.fired) == len(names))
        await until(lambda: not engine.runners)
        assert sorted(store.fired) == sorted(names)
        assert await ticks(engine, "j7") == [("missed", 9), ("fired", 1)]


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError("deep")], ids=repr)
async def test_a_due_time_with_a_defect_is_recorded_and_others_continue(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Submissions.create_next
    tried: list[str] = []

    async def raising(self: Submissions, request: Request) -> Any:
        tried.append(request.job.name)
        if request.job.name == "bad" and tried.count("bad") <= TRIES:
            raise error
        return await create(self, request)

    monkeypatch.setattr(Submissions, "create_next", raising)
    clock = FakeClock()
    async with running(minutely("bad"), minutely("good"), clock=clock) as engine:
        for tries, seconds in enumerate((60, 1, 2), 1):
            clock.advance(seconds=seconds)
            await until(lambda tries=tries: tried.count("bad") == tries)
        await until(lambda: engine.schedules.due("bad") == BEGINNING + timedelta(minutes=2))
        clock.advance(seconds=57)
        await until(lambda: tried.count("good") == 2 and tried.count("bad") == TRIES + 1)
        await until(lambda: not engine.runners)
        assert await ticks(engine, "good") == [("fired", 2)]
        assert await ticks(engine, "bad") == [("skipped", 1), ("fired", 1)]
        skipped = (await engine.reader.ticks("bad", None, 10))[-1]
        assert skipped.reason.startswith(f"a defect in goflow: {type(error).__name__}")
        assert "the schedule of job 'bad'" in str(engine.health.defect)
        assert sum("the schedule of job" in notice.text for notice in engine.health.notices()) == 1


async def test_a_schedule_that_cannot_be_recorded_is_retried_with_backoff() -> None:
    clock = FakeClock()
    tried: list[datetime] = []

    async def fire(job: str, due: datetime, late: bool) -> None:
        if job == "bad":
            tried.append(clock.now())
            raise KeyError("x")
        good.append(due)

    async def record(*given: object) -> None:
        raise KeyError("y")

    async def compute(work: Any, *given: Any) -> Any:
        return work(*given)

    good: list[datetime] = []
    scheduler = Scheduler(clock, compute, print, lambda what, error: None)
    for job in ("bad", "good"):
        scheduler.switch_on(job, Schedule("* * * * *"), BEGINNING, BEGINNING, Policy())
    task = asyncio.create_task(scheduler.run(fire, record))
    await until(lambda: len(good) == 8 or clock.advance(seconds=4))
    assert 5 < len(tried) < 30
    task.cancel()
    await asyncio.wait([task])


async def test_a_scheduler_that_dies_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Scheduler._begin
    failing = [True]

    def raising(self: Scheduler, now: datetime) -> None:
        if failing and now > BEGINNING:
            failing.clear()
            raise KeyError("x")
        begin(self, now)

    monkeypatch.setattr(Scheduler, "_begin", raising)
    clock = FakeClock()
    async with running(minutely("j"), clock=clock) as engine:
        clock.advance(minutes=1)
        await until(lambda: engine.health.defect)
        clock.advance(seconds=1)
        await until(lambda: engine.schedules.due("j") == BEGINNING + timedelta(minutes=2))
        await until(lambda: not engine.runners)
        assert await ticks(engine, "j") == [("fired", 1)]
        assert "the scheduler: KeyError" in str(engine.health.defect)


# -- a flood of submits ---------------------------------------------------------------


async def test_a_flood_of_submits_leaves_room_for_due_times() -> None:
    clock = FakeClock()
    hanging = Scripted(["hang"] * 100)
    flood = job_of("flood", Task("t", hanging))
    async with running(flood, minutely("m"), clock=clock, max_unfinished=20) as engine:
        for _ in range(18):
            await engine.submissions.submit("flood")
        with pytest.raises(Unavailable, match=r"18 executions are unfinished.* 2 kept"):
            await engine.submissions.submit("flood")
        for n in range(1, 6):
            clock.advance(minutes=1)
            await until(
                lambda n=n: engine.schedules.due("m") == BEGINNING + timedelta(minutes=n + 1)
            )
            await until(lambda: len(engine.runners) == 18)
        assert await ticks(engine, "m") == [("fired", 5)]
        hanging.release.set()


async def test_retries_and_backfills_use_no_room_reserved_for_due_times() -> None:
    clock = FakeClock()
    hanging = Scripted(["fail", *["hang"] * 100])
    flood = job_of("flood", Task("t", hanging))
    async with running(flood, minutely("m"), clock=clock, max_unfinished=10) as engine:
        id = (await engine.submissions.submit("flood")).id
        await engine.runners.finished(id)
        await until(lambda: not engine.runners)
        clock.advance(minutes=1)
        await until(lambda: engine.schedules.due("m") == BEGINNING + timedelta(minutes=2))
        for _ in range(9):
            await engine.submissions.submit("flood")
        with pytest.raises(Unavailable, match="kept for schedules"):
            await engine.control.retry(id)
        with pytest.raises(Unavailable, match="kept for schedules"):
            await engine.backfills.run("m", BEGINNING - timedelta(minutes=1), BEGINNING)
        hanging.release.set()


async def test_without_an_active_schedule_submits_may_use_all_the_room() -> None:
    hanging = Scripted(["hang"] * 100)
    jobs = (
        job_of("flood", Task("t", hanging)),
        job_of("m", Task("t", Scripted()), schedule="@hourly"),
    )
    async with running(*jobs, max_unfinished=10) as engine:
        for _ in range(10):
            await engine.submissions.submit("flood")
        with pytest.raises(Unavailable, match="10 executions are unfinished, which is the limit;"):
            await engine.submissions.submit("flood")
        hanging.release.set()


async def test_the_ledger_records_that_the_limit_was_reached() -> None:
    clock = FakeClock()
    hanging = Scripted(["hang"] * 100)
    slow = job_of("slow", Task("t", hanging), schedule="* * * * *", active=True)
    async with running(
        slow, minutely("m", catchup="none"), clock=clock, max_unfinished=3
    ) as engine:
        await engine.submissions.submit("slow")
        await engine.submissions.submit("slow")
        clock.advance(minutes=1)
        await until(lambda: len(engine.runners) == 3)
        seconds = iter(range(600))
        await until(lambda: next(seconds) == 300 or clock.advance(seconds=1))
        assert len(engine.runners) == 3
        hanging.release.set()
        await until(lambda: not engine.runners)
        clock.advance(seconds=1)
        await until(lambda: (engine.schedules.due("m") or BEGINNING) > clock.now())
        missed = [t for t in await engine.reader.ticks("m", None, 10) if t.outcome == "missed"]
        assert missed
        assert {t.reason for t in missed} == {"the limit of unfinished executions was reached: 3"}


async def test_catch_up_uses_no_room_reserved_for_due_times(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Order(tmp_path)
    hanging = Scripted(["hang"] * 100)

    def jobs() -> list[Job]:
        hungry = job_of(
            "hungry", Task("t", hanging), schedule="* * * * *", active=True, catchup="all",
            catchup_window=10**6, catchup_limit=100,
        )  # fmt: skip
        return [hungry, minutely("m")]

    async with running(*jobs(), store=store, clock=clock):
        await until(lambda: len(read_states(store)) == 2)
    clock.advance(minutes=50)
    store = Order(tmp_path)
    async with running(*jobs(), store=store, clock=clock, max_unfinished=10) as engine:
        await until(lambda: store.fired.count("hungry") == 9)
        await until(lambda: store.fired.count("m") == 1)
        for n in range(2, 5):
            await until(lambda: len(engine.runners) == 9)
            clock.advance(minutes=1)
            await until(lambda n=n: store.fired.count("m") == n)
        assert store.fired.count("hungry") == 9
        hanging.release.set()
