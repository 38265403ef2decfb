"""The ledger records every due time once, and catch-up follows its policy."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import Job, MemoryStore, SqliteStore, Task
from goflow.engine.engine import Engine
from goflow.engine.entries import read_states
from goflow.engine.idempotency import Submission
from goflow.errors import Conflict, InvalidRequest, StoreUnavailable, Unavailable
from goflow.stores.base import Accounted, Change, Outcome, Submit, Tick, TickOutcome
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def minutely(operator: Scripted | None = None, **options: Any) -> Job:
    task = Task("t", Scripted() if operator is None else operator)
    return job_of("j", task, **{"schedule": "* * * * *", "active": True} | options)


async def ledger(engine: Engine) -> list[tuple[str, int, int, str]]:
    """Outcome, minutes after the beginning, count and reason of each tick, oldest first."""
    ticks: list[Tick] = await engine.reader.ticks("j", None, 1000)
    return [
        (tick.outcome, int((tick.due - BEGINNING) / MINUTE), tick.count, tick.reason)
        for tick in reversed(ticks)
    ]


async def settled(engine: Engine, minute: int) -> None:
    """Wait until all due times up to this minute are recorded and nothing runs."""
    await until(lambda: engine.ledger.states["j"].accounted >= BEGINNING + minute * MINUTE)
    await until(lambda: not engine.runners)


async def test_every_due_time_is_one_record_with_its_execution() -> None:
    clock = FakeClock()
    async with running(minutely(), clock=clock) as engine:
        for minute in range(1, 4):
            clock.advance(minutes=1)
            await settled(engine, minute)
        assert await ledger(engine) == [("fired", n, 1, "") for n in (1, 2, 3)]
        ticks = await engine.reader.ticks("j", None, 10)
        page = await engine.reader.page("j", None, 10, None)
        assert [tick.execution for tick in ticks] == [
            execution.decode().split('"')[3] for execution in page.executions
        ]


@pytest.mark.parametrize(
    ("options", "fired", "missed"),
    [
        ({"catchup": "latest"}, [10], (1, 9)),
        ({"catchup": "none"}, [], (1, 10)),
        ({"catchup": "all", "catchup_limit": 3}, [8, 9, 10], (1, 7)),
        ({"catchup": "all", "catchup_window": 140}, [9, 10], (1, 8)),
        ({"catchup": "latest", "catchup_window": 20}, [], (1, 10)),
    ],
)
async def test_after_a_downtime_catch_up_follows_its_policy(
    tmp_path: Path, options: dict[str, Any], fired: list[int], missed: tuple[int, int]
) -> None:
    clock = FakeClock()
    async with running(minutely(**options), store=SqliteStore(tmp_path / "s"), clock=clock):
        pass
    clock.advance(minutes=10, seconds=30)
    operator = Scripted()
    async with running(
        minutely(operator, **options), store=SqliteStore(tmp_path / "s"), clock=clock
    ) as engine:
        await settled(engine, 10)
        first, count = missed
        found = await ledger(engine)
        assert found[0][:3] == ("missed", first, count)
        assert "down" in found[0][3]
        assert [tick[:3] for tick in found[1:]] == [("fired", n, 1) for n in fired]
        assert len(operator.runs) == len(fired)
        assert engine.schedules.due("j") == BEGINNING + 11 * MINUTE


async def test_a_process_that_was_blocked_records_missed_due_times() -> None:
    clock = FakeClock()
    operator = Scripted()
    async with running(minutely(operator), clock=clock) as engine:
        clock.advance(minutes=5, seconds=10)
        await settled(engine, 5)
        assert [tick[:3] for tick in await ledger(engine)] == [("missed", 1, 4), ("fired", 5, 1)]
        assert operator.runs == [1]


async def test_a_slightly_late_due_time_fires_even_without_catch_up() -> None:
    clock = FakeClock()
    async with running(minutely(catchup="none"), clock=clock) as engine:
        clock.advance(minutes=1, seconds=4)
        await settled(engine, 1)
        assert await ledger(engine) == [("fired", 1, 1, "")]


async def test_switching_on_and_editing_never_fire(tmp_path: Path) -> None:
    clock = FakeClock()
    operator = Scripted()
    async with running(
        minutely(operator, catchup="all"), store=SqliteStore(tmp_path / "s"), clock=clock
    ) as engine:
        assert await engine.schedules.toggle("j") is False
        clock.advance(minutes=3, seconds=30)
        assert await engine.schedules.toggle("j") is True
        await settled(engine, 3)
        assert await ledger(engine) == [("missed", 1, 3, "the schedule was off")]
    clock.advance(minutes=3)
    edited = minutely(operator, catchup="all", schedule="*/2 * * * *")
    async with running(edited, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        assert engine.schedules.due("j") == BEGINNING + 8 * MINUTE
        assert operator.runs == []


async def test_switching_on_in_the_program_fires_no_due_times_of_the_time_off(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    path = tmp_path / "s"
    operator = Scripted()
    async with running(minutely(operator), store=SqliteStore(path), clock=clock):
        pass
    async with running(minutely(operator, active=False), store=SqliteStore(path), clock=clock):
        clock.advance(minutes=3, seconds=30)
    async with running(
        minutely(operator, catchup="all"), store=SqliteStore(path), clock=clock
    ) as engine:
        await settled(engine, 3)
        assert await ledger(engine) == [("missed", 1, 3, "the schedule was off")]
        assert operator.runs == []


async def test_a_clock_set_back_fires_nothing_twice_and_is_reported() -> None:
    clock = FakeClock()
    operator = Scripted()
    async with running(minutely(operator), clock=clock) as engine:
        for minute in (1, 2, 3):
            clock.advance(minutes=1)
            await settled(engine, minute)
        clock.set(BEGINNING + timedelta(seconds=30))
        await until(lambda: engine.health.notices() or clock.advance(seconds=1))
        assert "the clock went back" in engine.health.notices()[0].text
        while clock.now() < BEGINNING + timedelta(minutes=3, seconds=30):
            clock.advance(seconds=1)
            await until(lambda: (engine.schedules.due("j") or clock.now()) > clock.now())
        assert len(operator.runs) == 3, "what had fired does not fire again"
        clock.advance(seconds=30)
        await settled(engine, 4)
        assert len(operator.runs) == 4


async def test_an_edit_after_the_clock_was_set_back_counts_from_the_new_time(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with running(minutely(), store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        clock.advance(minutes=9, seconds=30)
        await settled(engine, 9)
    edited = minutely(schedule="30 * * * * *", catchup="none")
    options = {"clock": clock, "with_seconds": True}
    clock.set(BEGINNING + MINUTE)
    async with running(edited, store=SqliteStore(tmp_path / "s"), **options):
        pass
    clock.set(BEGINNING + 5 * MINUTE)
    async with running(edited, store=SqliteStore(tmp_path / "s"), **options) as engine:
        await until(lambda: engine.ledger.states["j"].accounted > BEGINNING + 4 * MINUTE)
        assert ("missed", 1, 4, "the server was down") in await ledger(engine)


async def test_a_clock_set_forward_by_174_years_fires_a_bounded_number() -> None:
    clock = FakeClock()
    operator = Scripted()
    async with running(minutely(operator, catchup="all"), clock=clock) as engine:
        await until(lambda: engine.schedules.due("j") == BEGINNING + MINUTE)
        clock.set(BEGINNING + timedelta(days=365 * 174))
        clock.advance(minutes=1)
        await until(lambda: engine.ledger.states["j"].accounted >= clock.now() - MINUTE, 30)
        await until(lambda: not engine.runners)
        assert len(operator.runs) == 61, "the due times of the last hour, including both ends"
        assert (await ledger(engine))[0][0] == "missed"


# -- clock changes -----------------------------------------------------------------

SPRING = datetime(2027, 3, 27, 12, tzinfo=UTC)  # in Berlin, the day before 02:00 becomes 03:00


def of_zone(zone: str, schedule: str, operator: Scripted | None = None, **options: Any) -> Job:
    return minutely(operator, timezone=zone, schedule=schedule, **options)


async def brief(engine: Engine) -> list[str]:
    """A short form of each tick, oldest first."""
    ticks = await engine.reader.ticks("j", None, 1000)
    assert len({tick.due for tick in ticks}) == len(ticks), "a due time is one record"
    return [
        f"{tick.due:%H:%M} {tick.outcome} {tick.count}"
        + (f" into {tick.into:%H:%M}" if tick.into else "")
        for tick in sorted(ticks, key=lambda tick: tick.due)
    ]


async def live_through(engine: Engine, clock: FakeClock, end: datetime) -> None:
    """Let every due time up to `end` fire at its time."""
    while (due := engine.schedules.due("j")) is not None and due <= end:
        clock.advance(seconds=(due - clock.now()).total_seconds())
        await until(lambda due=due: engine.ledger.states["j"].accounted >= due)  # type: ignore[misc]
        await until(lambda: not engine.runners)


@pytest.mark.parametrize(
    ("zone", "schedule", "begin", "expected"),
    [
        (
            "Europe/Berlin", "30 2 * * *", SPRING,
            ["01:00 fired 1", "01:30 merged 1 into 01:00"],
        ),
        ("Europe/Berlin", "0 2 * * *", SPRING, ["01:00 fired 1"]),
        (
            "Europe/Berlin", "0,20,40 2 * * *", SPRING,
            ["01:00 fired 1", "01:20 merged 2 into 01:00"],
        ),
        ("Europe/Berlin", "30 2,3 * * *", SPRING, ["01:00 fired 1", "01:30 fired 1"]),
        ("Europe/Berlin", "*/30 2 * * *", SPRING, []),
        (
            "Europe/Berlin", "30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC),
            ["00:30 fired 1", "01:30 merged 1 into 00:30"],
        ),
        (
            "Australia/Lord_Howe", "15,40 2 * * *", datetime(2026, 10, 3, 3, tzinfo=UTC),
            ["15:30 fired 1", "15:40 fired 1", "15:45 merged 1 into 15:30"],
        ),
        (
            "Australia/Lord_Howe", "40,45 1 * * *", datetime(2026, 4, 4, 3, tzinfo=UTC),
            ["14:40 fired 1", "14:45 fired 1",
             "15:10 merged 1 into 14:40", "15:15 merged 1 into 14:45"],
        ),
        (
            "America/Havana", "20 0 * * *", datetime(2025, 3, 8, 20, tzinfo=UTC),
            ["05:00 fired 1", "05:20 merged 1 into 05:00"],
        ),
    ],
)  # fmt: skip
async def test_due_times_merged_by_a_clock_change_are_in_the_ledger_once(
    tmp_path: Path, zone: str, schedule: str, begin: datetime, expected: list[str]
) -> None:
    clock, operator = FakeClock(begin), Scripted()
    for _ in range(2):  # the second time adds nothing
        async with running(
            of_zone(zone, schedule, operator), store=SqliteStore(tmp_path / "s"), clock=clock
        ) as engine:
            await live_through(engine, clock, begin + timedelta(hours=15))
            assert await brief(engine) == expected
    assert len(operator.runs) == sum("fired" in tick for tick in expected)


async def test_due_times_merged_into_a_skipped_or_missed_one_are_in_the_ledger_too() -> None:
    clock, operator = FakeClock(SPRING), Scripted(["hang"])
    job = of_zone("Europe/Berlin", "30 2 * * *", operator, overlap="skip", catchup="none")
    async with running(job, clock=clock) as engine:
        await engine.submissions.submit("j")
        await until(lambda: operator.runs)
        clock.advance(hours=13)
        await until(lambda: engine.ledger.states["j"].accounted > SPRING)
        assert await brief(engine) == ["01:00 skipped 1", "01:30 merged 1 into 01:00"]
        operator.release.set()
    clock = FakeClock(SPRING)
    async with running(
        of_zone("Europe/Berlin", "30 2 * * *", catchup="none"), clock=clock
    ) as engine:
        clock.advance(hours=14)
        await until(lambda: engine.ledger.states["j"].accounted > SPRING)
        assert await brief(engine) == ["01:00 missed 1", "01:30 merged 1 into 01:00"]


async def test_a_run_of_missed_due_times_does_not_list_merged_ones() -> None:
    clock = FakeClock(SPRING)
    async with running(
        of_zone("Europe/Berlin", "30 2 * * *", catchup="none"), clock=clock
    ) as engine:
        clock.advance(days=3)
        await until(lambda: engine.ledger.states["j"].accounted > SPRING)
        assert await brief(engine) == ["01:00 missed 3"]


async def test_a_backfill_over_a_clock_change_mentions_it() -> None:
    clock = FakeClock(SPRING + timedelta(days=9))
    async with running(of_zone("Europe/Berlin", "30 2 * * *", active=False), clock=clock) as engine:
        for created in (True, False):
            done = await engine.backfills.run("j", SPRING, SPRING + timedelta(days=2))
            assert [one.created for one in done] == [created] * 2
            await until(lambda: not engine.runners)
        assert await brief(engine) == [
            "01:00 fired 1", "01:30 merged 1 into 01:00", "00:30 fired 1"
        ]  # fmt: skip
        [_, merged, fired] = await engine.reader.ticks("j", None, 9)
        sentence = "clock change: 02:30 does not exist; it is due at 03:00"
        assert merged.reason == fired.reason == sentence


async def test_an_edit_may_turn_a_merged_due_time_into_a_regular_one(tmp_path: Path) -> None:
    clock, path = FakeClock(SPRING), tmp_path / "s"
    async with running(
        of_zone("Europe/Berlin", "30 2 * * *"), store=SqliteStore(path), clock=clock
    ) as engine:
        await live_through(engine, clock, SPRING + timedelta(hours=13))
        assert await brief(engine) == ["01:00 fired 1", "01:30 merged 1 into 01:00"]
    async with running(
        of_zone("Europe/Berlin", "30 3 * * *"), store=SqliteStore(path), clock=clock
    ) as engine:
        await live_through(engine, clock, SPRING + timedelta(hours=14))
        assert await brief(engine) == ["01:00 fired 1", "01:30 fired 1"]


# -- backfill ----------------------------------------------------------------------


async def test_a_backfill_runs_each_due_time_once_within_its_parallelism() -> None:
    clock = FakeClock()
    operator = Scripted(["hang"] * 6)
    async with running(minutely(operator, active=False), clock=clock) as engine:
        clock.advance(minutes=10)
        start, end = BEGINNING + MINUTE, BEGINNING + 7 * MINUTE
        plan = await engine.backfills.run("j", start, end, dry_run=True)
        assert [one.due for one in plan] == [BEGINNING + n * MINUTE for n in range(1, 7)]
        assert all(one.execution is None for one in plan)
        done = await engine.backfills.run("j", start, end, parallel=2)
        assert all(one.created for one in done)
        await until(lambda: len(operator.runs) == 2)
        assert (
            sum(engine.runners.waiting(one.execution or "", "t") is not None for one in done) == 4
        )
        operator.release.set()
        await until(lambda: not engine.runners)
        assert len(operator.runs) == 6
        again = await engine.backfills.run("j", start, end)
        assert [one.execution for one in again] == [one.execution for one in done]
        assert not any(one.created for one in again)
        assert {tick[0] for tick in await ledger(engine)} == {"fired"}


async def test_a_backfill_does_not_hide_due_times_not_yet_recorded() -> None:
    clock = FakeClock()
    async with running(minutely(active=False), clock=clock) as engine:
        assert await engine.schedules.toggle("j", True)
        assert not await engine.schedules.toggle("j", False)
        clock.advance(minutes=5, seconds=30)
        await engine.backfills.run("j", BEGINNING + 5 * MINUTE, clock.now())
        assert await engine.schedules.toggle("j", True)
        await settled(engine, 5)
        assert await ledger(engine) == [
            ("missed", 1, 5, "the schedule was off"),
            ("fired", 5, 1, ""),
        ]


async def test_a_due_time_runs_once_by_a_backfill_or_the_schedule(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with running(minutely(), store=SqliteStore(tmp_path / "s"), clock=clock):
        pass
    clock.advance(minutes=9, seconds=30)
    operator = Scripted()
    job = minutely(operator, catchup="all")
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        done = await engine.backfills.run("j", BEGINNING + 4 * MINUTE, clock.now(), parallel=9)
        await settled(engine, 9)
        assert [tick[:3] for tick in await ledger(engine)] == [
            ("fired", n, 1) for n in range(1, 10)
        ]
        assert len(operator.runs) == 9
        assert [one.due for one in done] == [BEGINNING + n * MINUTE for n in range(4, 10)]
    async with running(minutely(), store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        assert engine.schedules.due("j") == BEGINNING + 10 * MINUTE, (
            "the position in the ledger is kept"
        )


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(5, 5, "empty"), (6, 5, "empty"), (0, 99_999, "future"), (-5000, 1, "more than 1000")],
)
async def test_a_backfill_of_an_invalid_range_is_refused(
    start: int, end: int, message: str
) -> None:
    clock = FakeClock()
    async with running(minutely(active=False), clock=clock) as engine:
        clock.advance(hours=2)
        with pytest.raises(InvalidRequest, match=message):
            await engine.backfills.run("j", BEGINNING + start * MINUTE, BEGINNING + end * MINUTE)
        assert not engine.runners


async def test_a_job_without_a_schedule_has_no_due_times() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        with pytest.raises(Conflict, match="no schedule"):
            await engine.backfills.run("j", BEGINNING - MINUTE, BEGINNING)
        assert engine.schedules.upcoming("j", 5) == []


async def test_upcoming_times_are_listed_whether_or_not_the_schedule_is_on() -> None:
    async with running(minutely(active=False)) as engine:
        assert engine.schedules.upcoming("j", 2) == [BEGINNING + MINUTE, BEGINNING + 2 * MINUTE]


async def test_a_clock_set_back_fires_no_skipped_due_time(tmp_path: Path) -> None:
    """Missed due times may still run then, also after a restart."""
    clock = FakeClock()
    operator = Scripted(["hang"])
    job = minutely(operator, overlap="skip", catchup="all")
    path = tmp_path / "s"
    async with running(job, store=SqliteStore(path), clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        for minute in (1, 2):
            clock.advance(minutes=1)
            await until(
                lambda m=minute: engine.ledger.states["j"].accounted == BEGINNING + m * MINUTE
            )
        assert [tick[0] for tick in await ledger(engine)] == ["skipped", "skipped"]
        operator.release.set()
        await engine.runners.finished(id)
        clock.set(BEGINNING)
        clock.advance(seconds=25)
        await until(lambda: engine.schedules.due("j") == BEGINNING + MINUTE)
        clock.advance(seconds=36)
        await until(lambda: engine.schedules.due("j") == BEGINNING + 2 * MINUTE)
    job = minutely(operator, overlap="skip", catchup="all")
    async with running(job, store=SqliteStore(path), clock=clock) as engine:
        clock.advance(minutes=1)
        await until(lambda: engine.schedules.due("j") == BEGINNING + 3 * MINUTE)
        clock.advance(minutes=1)
        await settled(engine, 3)
        assert [tick[:2] for tick in await ledger(engine)] == [
            ("skipped", 1),
            ("skipped", 2),
            ("fired", 3),
        ]
    assert operator.runs == [1, 1]


# -- backfills that exceed a limit, or stop halfway ----------------------------------


async def test_a_backfill_creates_nothing_until_there_is_room_for_all() -> None:
    clock = FakeClock()
    operator = Scripted(["hang"])
    job, other = minutely(active=False), job_of("other", Task("t", operator))
    async with running(job, other, clock=clock, max_unfinished=4) as engine:
        clock.advance(minutes=30)
        taken = (await engine.submissions.submit("other")).id
        range = BEGINNING + MINUTE, BEGINNING + 5 * MINUTE
        with pytest.raises(Unavailable, match="so 4 more are above the limit"):
            await engine.backfills.run("j", *range)
        assert await ledger(engine) == []
        with pytest.raises(InvalidRequest, match="at most 4 executions"):
            await engine.backfills.run("j", BEGINNING, BEGINNING + 6 * MINUTE)
        assert await ledger(engine) == []
        operator.release.set()
        await engine.runners.finished(taken)
        done = await engine.backfills.run("j", *range)
        assert [one.created for one in done] == [True] * 4


async def test_the_room_of_a_backfill_is_reserved_while_it_is_created() -> None:
    clock = FakeClock()
    async with running(minutely(active=False), clock=clock, max_unfinished=6) as engine:
        clock.advance(minutes=30)
        making = asyncio.ensure_future(
            engine.backfills.run("j", BEGINNING + MINUTE, BEGINNING + 6 * MINUTE)
        )
        await until(lambda: engine.room.reserved)
        others = [asyncio.ensure_future(engine.submissions.submit("j")) for _ in range(6)]
        assert len(await making) == 5
        answers = await asyncio.gather(*others, return_exceptions=True)
        assert {type(one) for one in answers} <= {Submission, Unavailable}
        assert engine.room.reserved == 0


class RefusingSome(MemoryStore):
    """Accepts a number of backfilled executions, and refuses the rest."""

    room = 3

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        asked = [one for one in batch if isinstance(one, Submit) and one.fact.cause == "backfill"]
        if len(asked) > self.room:
            raise StoreUnavailable("the disk is full")
        self.room -= len(asked)
        return super().commit(batch)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_a_resumed_backfill_keeps_its_parallelism(parallel: int) -> None:
    clock, store = FakeClock(), RefusingSome()
    operator = Scripted(["hang"] * 10)
    async with running(minutely(operator, active=False), clock=clock, store=store) as engine:
        clock.advance(minutes=30)
        range = BEGINNING + MINUTE, BEGINNING + 8 * MINUTE
        with pytest.raises(StoreUnavailable):
            await engine.backfills.run("j", *range, parallel=parallel)
        assert len(await ledger(engine)) == 3
        assert engine.room.reserved == 0
        store.room = 100
        done = await engine.backfills.run("j", *range, parallel=parallel)
        assert [one.created for one in done] == [False] * 3 + [True] * 4
        await until(lambda: len(operator.runs) == parallel)
        ids = [one.execution for one in done]
        waiting = [engine.runners[id] for id in ids[parallel:] if id is not None]
        assert [list(runner.before) for runner in waiting] == [[id] for id in ids[:-parallel]]
        operator.release.set()


async def test_an_account_never_goes_back_before_the_anchor_of_its_schedule() -> None:
    store, clock = MemoryStore(), FakeClock()
    job = job_of("j", Task("t", Scripted()), schedule="* * * * *", active=True)
    async with running(job, store=store, clock=clock) as engine:
        await until(lambda: read_states(store))
        before = engine.ledger.states["j"]
        tick = Tick(BEGINNING - MINUTE, TickOutcome.MISSED, BEGINNING)
        accounted = Accounted(before.anchor, BEGINNING - MINUTE)  # by a clock that was set back
        await engine.ledger.record("j", [tick], accounted)
        assert read_states(store)["j"] == engine.ledger.states["j"] == before


async def test_a_due_time_of_a_replaced_schedule_moves_no_account_of_the_new_one() -> None:
    store, clock = MemoryStore(), FakeClock()
    async with running(store=store, clock=clock) as engine:
        for schedule in ("* * * * *", "*/5 * * * *"):
            clock.advance(seconds=1)
            job = job_of("j", Task("t", Scripted()), schedule=schedule, active=True)
            engine.registry.register(job, replace=True)
            await engine.ledger.written("j")
        new = engine.ledger.states["j"]
        moved = Accounted(new.anchor, BEGINNING + 5 * MINUTE)
        await engine.ledger.record("j", [], moved)
        new = engine.ledger.states["j"]
        assert new.accounted == moved.upto
        late = Accounted(new.anchor - timedelta(seconds=1), BEGINNING + MINUTE)
        tick = Tick(BEGINNING + MINUTE, TickOutcome.SKIPPED, BEGINNING)
        await engine.ledger.record("j", [tick], late)
        assert read_states(store)["j"] == engine.ledger.states["j"] == new
        assert [one.due for one in store.ticks("j", None, 9)] == [tick.due]
