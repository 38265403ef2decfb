"""Intervals: the due times before and at that of an execution, in context, templates and wire."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goflow import Command, Context, Job, Task, Template
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import job_of, running, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


class Noting:
    """An operator that notes its interval."""

    def __init__(self) -> None:
        self.seen: list[tuple[datetime | None, datetime | None]] = []

    async def run(self, context: Context) -> None:
        self.seen.append((context.interval_start, context.interval_end))


def job(operator: Any, *schedules: str, **options: Any) -> Job:
    given: dict[str, Any] = {"schedule": schedules, "active": True, "interval": True}
    return job_of("j", Task("t", operator), **given | options)


async def test_an_execution_gets_the_due_times_before_and_at_its_own() -> None:
    clock, operator = FakeClock(), Noting()
    async with running(job(operator, "*/10 * * * *", "*/15 * * * *"), clock=clock) as engine:
        for minutes in (10, 5, 5):
            clock.advance(minutes=minutes)
            due = clock.now()
            await until(lambda due=due: engine.ledger.states["j"].accounted >= due)
            await until(lambda: not engine.runners)
        at = [BEGINNING + minutes * MINUTE for minutes in (0, 10, 15, 20)]
        assert operator.seen == list(itertools.pairwise(at))


async def test_every_counts_back_from_its_anchor_and_start_hides_no_interval() -> None:
    clock, operator = FakeClock(), Noting()
    start = BEGINNING + 7 * MINUTE
    async with running(job(operator, "@every 7m", start=start), clock=clock) as engine:
        clock.advance(minutes=7)
        await until(lambda: operator.seen and not engine.runners)
        assert operator.seen == [(BEGINNING, start)]


async def test_a_submit_by_hand_gets_the_last_interval_that_is_over() -> None:
    clock, operator = FakeClock(), Noting()
    async with running(job(operator, "0 0 L * *", active=False), clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        at = datetime(2029, 11, 30, tzinfo=UTC), datetime(2029, 12, 31, tzinfo=UTC)
        assert operator.seen == [at], BEGINNING
        detail = await engine.reader.execution(id)
        assert (detail.interval_start, detail.interval_end) == at
        await engine.control.retry(id, task="t")
        await engine.runners.finished(id)
        assert operator.seen == [at, at], "a retry keeps the interval"


async def test_a_backfill_gives_each_execution_its_interval() -> None:
    clock, operator = FakeClock(), Noting()
    async with running(job(operator, "@hourly", active=False), clock=clock) as engine:
        begin = BEGINNING - timedelta(hours=3)
        await engine.backfills.run("j", begin, BEGINNING)
        await until(lambda: not engine.runners)
        hours = [begin + timedelta(hours=n) for n in range(-1, 3)]
        assert operator.seen == list(itertools.pairwise(hours))


async def test_the_intervals_of_a_backfill_meet_though_every_has_counted_from_nowhere_yet() -> None:
    clock, operator = FakeClock(), Noting()
    job_ = job(operator, "@every 7m", "@every 10m", active=False)
    async with running(job_, clock=clock) as engine:
        begin = BEGINNING - timedelta(minutes=30)
        await engine.backfills.run("j", begin, begin + timedelta(minutes=15))
        await until(lambda: not engine.runners)
        at = [begin + minutes * MINUTE for minutes in (-7, 0, 7, 10, 14)]
        assert operator.seen == list(itertools.pairwise(at))


async def test_once_has_no_interval_before_and_other_jobs_have_none() -> None:
    clock, operator = FakeClock(), Noting()
    async with running(job(operator, "@once"), clock=clock) as engine:
        clock.advance(minutes=1)
        await until(lambda: operator.seen)
        assert operator.seen == [(None, BEGINNING + timedelta(seconds=1))]
        await until(lambda: not engine.runners)
    other = Noting()
    async with running(job(other, "* * * * *", interval=False), clock=clock) as engine:
        await engine.runners.finished((await engine.submissions.submit("j")).id)
        assert other.seen == [(None, None)]


def test_templates_and_separate_processes_know_the_interval() -> None:
    made = Job("j", "@hourly", interval=True)
    text = Template("{{ interval_start }} to {{ interval_end }}")
    made.add(Task("say", Command("echo", [text])))

    @made.task(isolation="process")
    def tell(context: Context) -> list[str]:
        assert context.interval_start is not None
        assert context.interval_end is not None
        return [context.interval_start.isoformat(), context.interval_end.isoformat()]

    tasks = made.run().tasks
    begin, end = (datetime.fromisoformat(one) for one in tasks["tell"].result)
    assert end - begin == timedelta(hours=1)
    assert end.minute == 0
    said = tasks["say"].result.strip().split(" to ")
    assert [datetime.fromisoformat(one) for one in said] == [begin, end]
