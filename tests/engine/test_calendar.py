"""A job's executions counted by day in any zone, kept longer than the executions."""

from datetime import UTC, date, datetime, timedelta

import pytest

from goflow import InvalidJob, Task
from goflow.engine.engine import Engine
from goflow.engine.retention import ACTIVITY, EVERY, Keep
from goflow.errors import InvalidRequest, NotFound
from goflow.testing import FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

EVENING = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # in Berlin the next day, of 25 hours


async def ran(engine: Engine, job: str = "j") -> str:
    id = (await engine.submissions.submit(job)).id
    await engine.runners.finished(id)
    return id


async def counts(engine: Engine, zone: str, days: int = 371) -> dict[date, dict[str, int]]:
    return {day: did.counts for day, did in await engine.ledger.calendar("j", zone, days)}


async def test_an_execution_counts_on_the_day_of_its_submit_in_the_requested_zone() -> None:
    clock = FakeClock(EVENING)
    async with running(job_of("j", Task("t", Scripted())), clock=clock) as engine:
        await ran(engine)
        clock.advance(hours=24.25)  # still 23:45 in Berlin
        await ran(engine)
        one, two = {"successful": 1}, {"successful": 2}
        assert await counts(engine, "Europe/Berlin") == {date(2026, 10, 25): two}
        assert await counts(engine, "UTC") == {date(2026, 10, 24): one, date(2026, 10, 25): one}
        assert await counts(engine, "UTC", 1) == {date(2026, 10, 25): one}
        clock.advance(hours=2)
        assert await counts(engine, "Europe/Berlin", 1) == {}


async def test_a_retried_execution_counts_with_its_final_state() -> None:
    clock = FakeClock(EVENING)
    script = Scripted(["fail", "hang"])
    async with running(job_of("j", Task("t", script)), clock=clock) as engine:
        id = await ran(engine)
        assert await counts(engine, "UTC") == {EVENING.date(): {"failed": 1}}
        await engine.control.retry(id)
        await until(lambda: len(script.runs) == 2)
        assert await counts(engine, "UTC") == {}
        clock.advance(seconds=90)
        script.release.set()
        await engine.runners.finished(id)
        [(_, did)] = await engine.ledger.calendar("j", "UTC", 2)
        assert (did.counts, did.took) == ({"successful": 1}, timedelta(seconds=90))


async def test_the_calendar_outlives_executions_for_a_bounded_time() -> None:
    clock = FakeClock(EVENING)
    keep = Keep(days=1)
    async with running(job_of("j", Task("t", Scripted())), clock=clock, keep=keep) as engine:
        id = await ran(engine)

        async def forgotten() -> bool:
            clock.advance(seconds=EVERY)
            page = await engine.reader.page(None, None, 10, None)
            return id not in str(page.executions)

        clock.advance(days=2)
        while not await forgotten():
            pass
        assert await counts(engine, "UTC") == {EVENING.date(): {"successful": 1}}
        clock.advance(days=ACTIVITY.days - 3)
        for _ in range(3):
            clock.advance(seconds=EVERY)
            assert await counts(engine, "UTC", 745) != {}
        clock.advance(days=1)
        while await counts(engine, "UTC", 745):
            clock.advance(seconds=EVERY)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "utc\0", "x" * 10_000])
async def test_an_unknown_zone_is_refused(zone: str) -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        with pytest.raises(InvalidRequest, match="unknown time zone") as refusal:
            await engine.ledger.calendar("j", zone, 9)
        assert refusal.value.field == "timezone"
        with pytest.raises(NotFound):
            await engine.ledger.calendar("unknown", "UTC", 9)
        with pytest.raises(InvalidJob, match="unknown time zone"):
            job_of("k", Task("t", Scripted()), timezone=zone)
