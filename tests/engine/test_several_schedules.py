"""Jobs with several schedules, a start, an end, or `@once`: due times, edits and restarts."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import InvalidJob, Job, SqliteStore, Task
from goflow.engine.engine import Engine
from goflow.stores.base import Tick
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def scheduled(*schedules: str, **options: Any) -> Job:
    given: dict[str, Any] = {"schedule": list(schedules), "active": True, "catchup": "all"}
    return job_of("j", Task("t", Scripted()), **given | options)


async def ledger(engine: Engine) -> list[tuple[str, float, int]]:
    """Outcome, minutes after the beginning and count of each tick, oldest first."""
    ticks: list[Tick] = await engine.reader.ticks("j", None, 1000)
    return [(one.outcome, (one.due - BEGINNING) / MINUTE, one.count) for one in reversed(ticks)]


async def fired_up_to(engine: Engine, minute: float) -> None:
    await until(lambda: engine.ledger.states["j"].accounted >= BEGINNING + minute * MINUTE)
    await until(lambda: not engine.runners)


async def live(engine: Engine, clock: FakeClock, minutes: int) -> None:
    for _ in range(minutes):
        clock.advance(minutes=1)
        due = engine.schedules.due("j")
        await until(
            lambda due=due: due is None or due > clock.now() or engine.schedules.due("j") != due
        )
        await until(lambda: not engine.runners)


async def test_a_due_time_that_schedules_share_fires_once() -> None:
    clock = FakeClock()
    async with running(scheduled("*/2 * * * *", "*/3 * * * *"), clock=clock) as engine:
        await live(engine, clock, 8)
        assert await ledger(engine) == [("fired", minute, 1) for minute in (2, 3, 4, 6, 8)]


async def test_a_schedule_that_stays_is_caught_up_with_and_a_new_one_begins_now(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with running(
        scheduled("@every 4m", "@every 5m"), store=SqliteStore(tmp_path / "s"), clock=clock
    ) as engine:
        await live(engine, clock, 4)
    clock.advance(minutes=7)  # 5, 8 and 10 are due while the server is down
    edited = scheduled("* * * * *", "@every 4m")
    async with running(edited, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        await fired_up_to(engine, 8)
        assert await ledger(engine) == [("fired", 4, 1), ("fired", 8, 1)]
        await live(engine, clock, 2)
        assert [due for _, due, _ in await ledger(engine)] == [4, 8, 12, 13]
    async with running(edited, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        await live(engine, clock, 3)
        assert [due for _, due, _ in await ledger(engine)] == [4, 8, 12, 13, 14, 15, 16]


async def test_other_schedules_alone_begin_now(tmp_path: Path) -> None:
    clock = FakeClock()
    store = tmp_path / "s"
    async with running(scheduled("@every 2m"), store=SqliteStore(store), clock=clock) as engine:
        await live(engine, clock, 2)
    clock.advance(minutes=3)
    other = scheduled("@every 3m", "@every 7m")
    async with running(other, store=SqliteStore(store), clock=clock) as engine:
        assert engine.schedules.due("j") == BEGINNING + 8 * MINUTE
        assert await ledger(engine) == [("fired", 2, 1)]


async def test_an_edit_while_running_keeps_the_phase_of_schedules_that_stay() -> None:
    clock = FakeClock()
    async with running(scheduled("@every 10m"), clock=clock) as engine:
        clock.advance(minutes=4)
        engine.registry.register(scheduled("@every 10m", "@every 3m"), replace=True)
        found = engine.schedules.upcoming("j", 4)
        assert [(due - BEGINNING) / MINUTE for due in found] == [7, 10, 13, 16]
        assert engine.schedules.due("j") == BEGINNING + 7 * MINUTE
        engine.registry.register(scheduled("@every 10m"), replace=True)
        assert engine.schedules.due("j") == BEGINNING + 10 * MINUTE
        assert engine.ledger.states["j"].spans is None


async def test_a_job_is_due_from_its_start_to_its_end() -> None:
    clock = FakeClock()
    job = scheduled("* * * * *", start=BEGINNING + 3 * MINUTE, end=BEGINNING + 5 * MINUTE)
    async with running(job, clock=clock) as engine:
        await live(engine, clock, 8)
        assert await ledger(engine) == [("fired", minute, 1) for minute in (3, 4, 5)]
        assert engine.schedules.due("j") is None
        assert engine.schedules.upcoming("j", 9) == []


async def test_an_earlier_start_makes_no_past_due_time_fire(tmp_path: Path) -> None:
    clock = FakeClock()
    job = scheduled("* * * * *", start=BEGINNING + 60 * MINUTE)
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock):
        clock.advance(minutes=5)
    sooner = scheduled("* * * * *", start=BEGINNING - 60 * MINUTE)
    async with running(sooner, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        assert engine.schedules.due("j") == BEGINNING + 6 * MINUTE
        await live(engine, clock, 1)
        assert await ledger(engine) == [("fired", 6, 1)]


async def test_once_fires_once_whatever_follows(tmp_path: Path) -> None:
    clock = FakeClock()
    job = scheduled("@once")
    for _ in range(2):
        async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
            await live(engine, clock, 2)
            assert await ledger(engine) == [("fired", 1 / 60, 1)]
            assert await engine.schedules.toggle("j") is False
            assert await engine.schedules.toggle("j") is True
            assert engine.schedules.due("j") is None
        job = scheduled("@once")


async def test_once_that_was_missed_is_recorded(tmp_path: Path) -> None:
    clock = FakeClock()
    job = scheduled("@once", start=BEGINNING + MINUTE, catchup_window=60)
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock):
        pass
    clock.advance(minutes=30)
    job = scheduled("@once", start=BEGINNING + MINUTE, catchup_window=60)
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        await fired_up_to(engine, 1)
        assert await ledger(engine) == [("missed", 1, 1)]


async def test_a_backfill_keeps_to_start_and_end_and_runs_a_shared_due_time_once() -> None:
    clock = FakeClock()
    job = scheduled(
        "*/2 * * * *", "*/3 * * * *", start=BEGINNING + 3 * MINUTE, end=BEGINNING + 6 * MINUTE
    )
    async with running(job, clock=clock) as engine:
        await engine.schedules.toggle("j")
        clock.advance(minutes=20)
        done = await engine.backfills.run("j", BEGINNING, clock.now())
        assert [(one.due - BEGINNING) / MINUTE for one in done] == [3, 4, 6]
        await until(lambda: not engine.runners)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"schedule": []}, "schedule is an empty list; a job without a schedule has None"),
        ({"schedule": ["@daily", "@weakly"]}, "unknown descriptor"),
        ({"schedule": ["@daily", None]}, "must be text"),
        ({"schedule": 7}, "must be text"),
        ({"schedule": ["@daily"] * 101}, "101 schedules are too many; the limit is 100"),
        ({"start": "tomorrow"}, "start must be a datetime, a date, or text such as 2026-12-31"),
        ({"end": 17}, "end must be a datetime, a date, or text"),
        ({"end": date.max}, "end must be a datetime"),
        ({"start": date(2026, 1, 2), "end": date(2026, 1, 1)}, "is before start"),
        (
            {"schedule": "0 0 1 6 *", "start": date(2026, 1, 2), "end": date(2026, 5, 1)},
            "its schedule never fires between start and end",
        ),
        ({"start": date(2026, 1, 2), "timezone": "Nowhere"}, "unknown time zone 'Nowhere'"),
    ],
)
def test_a_mistake_raises_when_the_job_is_defined(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        Job("j", **{"schedule": "@daily"} | options)
    assert "job 'j'" in str(refused.value)
    assert told in str(refused.value)


def test_a_moment_without_an_offset_is_local_and_an_end_includes_its_day() -> None:
    job = Job("j", "@daily", timezone="Europe/Berlin", start=date(2026, 7, 1), end="2026-12-31")
    assert job.start == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert job.end == datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC)
    job = Job("j", "@daily", start="2026-07-01T06:00:00+02:00", end="2026-08-01T12:00")
    assert job.start == datetime(2026, 7, 1, 4, tzinfo=UTC)
    assert job.end == datetime(2026, 8, 1, 12, tzinfo=UTC)
