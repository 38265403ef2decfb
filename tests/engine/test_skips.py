"""Skipped dates: recorded as skipped with their reason, and what a bad function does to others."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import InvalidJob, Job, Task
from goflow.engine.engine import Engine
from goflow.engine.skips import LIMIT
from goflow.errors import Conflict
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
FIRST = (BEGINNING + DAY).date()

CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//tests//goflow//
BEGIN:VEVENT
UID:1
SUMMARY:Second of January
DTSTART;VALUE=DATE:20200102
RRULE:FREQ=YEARLY
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:A meeting
DTSTART:20300103T100000Z
DTEND:20300103T110000Z
END:VEVENT
BEGIN:VEVENT
UID:3
SUMMARY:Called off
STATUS:CANCELLED
DTSTART;VALUE=DATE:20300103
END:VEVENT
END:VCALENDAR
"""


def daily(skip_dates: Any, name: str = "j", **options: Any) -> Job:
    given: dict[str, Any] = {"schedule": "@daily", "active": True, "skip_dates": skip_dates}
    return job_of(name, Task("t", Scripted()), **given | options)


async def live(engine: Engine, clock: FakeClock, days: int) -> list[tuple[str, str]]:
    """Outcome and reason of the next due times."""
    for _ in range(days):
        clock.advance(hours=24)
        now = clock.now()
        await until(lambda now=now: engine.ledger.states["j"].accounted >= now)
        await until(lambda: not engine.runners)
    found = await engine.reader.ticks("j", None, days)
    return [(tick.outcome, tick.reason) for tick in reversed(found)]


class Lazy(Mapping[date, str]):
    """As the objects of the package `holidays`: nothing is in it before it is asked."""

    def __getitem__(self, day: date) -> str:
        if day == FIRST:
            return "New"
        raise KeyError(day)

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("skip_dates", "reason"),
    [
        ([FIRST], f"{FIRST} is in skip_dates"),
        ([str(FIRST)], f"{FIRST} is in skip_dates"),
        ({FIRST: "New"}, f"{FIRST} is in skip_dates: New"),
        (Lazy(), f"{FIRST} is in skip_dates: New"),
        (lambda day: day == FIRST, f"{FIRST} is in skip_dates"),
        (lambda day: "New" if day == FIRST else "", f"{FIRST} is in skip_dates: New"),
    ],
)
async def test_a_due_time_on_a_skipped_date_is_recorded_with_the_reason(
    skip_dates: Any, reason: str
) -> None:
    clock = FakeClock()
    async with running(daily(skip_dates), clock=clock) as engine:
        assert await live(engine, clock, 2) == [("skipped", reason), ("fired", "")]


async def test_the_date_is_that_of_the_schedules_zone() -> None:
    clock, asked = FakeClock(), list[date]()
    schedules = ["CRON_TZ=Asia/Tokyo 0 6 * * *", "CRON_TZ=America/New_York 0 20 * * *"]
    job = daily(asked.append, schedule=schedules, timezone="Asia/Tokyo")
    async with running(job, clock=clock) as engine:
        for count in (1, 2):
            due = engine.schedules.due("j")
            assert due is not None
            clock.advance(seconds=(due - clock.now()).total_seconds())
            await until(lambda count=count: len(asked) == count and not engine.runners)
            await until(lambda due=due: engine.schedules.due("j") != due)
        # 20:00 on the last day of the year in New York, and 06:00 two days later in Tokyo
        assert asked == [BEGINNING.date() - DAY, BEGINNING.date() + DAY]


async def test_the_whole_day_events_of_a_calendar_file_are_skipped(tmp_path: Path) -> None:
    file, clock = tmp_path / "days.ics", FakeClock()
    file.write_text(CALENDAR, encoding="utf-8")
    async with running(daily(file), clock=clock) as engine:
        reason = "2030-01-02 is in skip_dates: Second of January"
        found = await live(engine, clock, 2)
        assert found == [("skipped", reason), ("fired", "")]
        file.write_text(CALENDAR.replace("20300103\n", "20300104\n").replace("CANCELLED", "X"))
        (found_after,) = await live(engine, clock, 1)
        assert found_after == ("skipped", "2030-01-04 is in skip_dates: Called off")
        file.unlink()
        ((outcome, told),) = await live(engine, clock, 1)
        assert outcome == "skipped"
        assert told.startswith("skip_dates failed: FileNotFoundError")


def raising(error: BaseException) -> Callable[[date], bool]:
    def fail(day: date) -> bool:
        raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), StopIteration()])
async def test_a_function_that_raises_skips_the_due_times_of_its_job(error: BaseException) -> None:
    clock = FakeClock()
    good = job_of("good", Task("t", Scripted()), schedule="@daily", active=True)
    async with running(daily(raising(error)), good, clock=clock) as engine:
        ((outcome, reason),) = await live(engine, clock, 1)
        assert outcome == "skipped"
        assert reason.startswith(f"skip_dates failed: {type(error).__name__}")
        assert any("'j' was due" in notice.text for notice in engine.health.notices())
        await until(lambda: engine.ledger.states["good"].accounted >= clock.now())
        with pytest.raises(Conflict, match="job 'j': skip_dates failed"):
            await engine.backfills.run("j", BEGINNING - DAY, BEGINNING)


async def test_a_function_that_hangs_delays_only_its_job() -> None:
    clock, release = FakeClock(), threading.Event()
    good = job_of("good", Task("t", Scripted()), schedule="@daily", active=True)

    def hang(day: date) -> bool:
        assert release.wait(60)
        return False

    async with running(daily(hang), good, clock=clock) as engine:
        clock.advance(hours=24)
        now = clock.now()
        await until(lambda: engine.ledger.states["good"].accounted >= now)
        assert engine.ledger.states["j"].accounted < now
        async with asyncio.timeout(60):
            while engine.ledger.states["j"].accounted < now:
                clock.advance(seconds=LIMIT)
                await asyncio.sleep(0.01)
        (tick,) = await engine.reader.ticks("j", None, 1)
        assert tick.reason == "skip_dates failed: it took longer than 10 seconds"
        release.set()


async def test_a_backfill_leaves_out_skipped_dates() -> None:
    begin = BEGINNING - 4 * DAY
    async with running(daily([(begin + DAY).date()], active=False)) as engine:
        done = await engine.backfills.run("j", begin, BEGINNING)
        assert [one.due for one in done] == [begin, begin + 2 * DAY, begin + 3 * DAY]
        await until(lambda: not engine.runners)


async def plain(day: date) -> bool:
    return True


@pytest.mark.parametrize(
    ("skip_dates", "told"),
    [
        (7, "skip_dates must be a list of dates, not 7"),
        (["christmas"], "'christmas' is none of these"),
        ([BEGINNING], "skip_dates must be dates"),
        (plain, "must be a plain function"),
        ("/nowhere.ics", "'/nowhere.ics' is no calendar: FileNotFoundError"),
    ],
)
def test_a_mistake_raises_when_the_job_is_defined(skip_dates: Any, told: str) -> None:
    with pytest.raises(InvalidJob, match="job 'j'") as refused:
        Job("j", "@daily", skip_dates=skip_dates)
    assert told in str(refused.value)


def test_a_file_that_is_no_calendar_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "days.ics"
    file.write_text("no calendar", encoding="utf-8")
    with pytest.raises(InvalidJob, match="is no calendar"):
        Job("j", "@daily", skip_dates=file)
