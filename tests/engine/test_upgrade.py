"""A new version of goflow starts on the store of an older one."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import Job, SqliteStore, Task
from goflow.stores.base import TickOutcome
from goflow.testing import FakeClock
from tests.crash.test_migration import ANCHOR, FILL, RUNS, old_store
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
NOW = ANCHOR + 5 * HOUR + timedelta(minutes=20)
NEXT_DAY = datetime.fromisoformat("2026-01-02T05:00:00Z")


@pytest.mark.parametrize("version", FILL)
async def test_an_upgrade_fires_nothing_and_every_keeps_its_phase(
    version: int, tmp_path: Path
) -> None:
    def job(name: str, schedule: str, timezone: str = "UTC", **options: Any) -> Job:
        tasks = Task("a", Scripted()), Task("b", Scripted(), after=["a"])
        return job_of(name, *tasks, schedule=schedule, timezone=timezone, **options)

    jobs = [
        job("job 1", "0 6 * * *", "Europe/Berlin"),  # it was switched on
        job("job 2", "@every 1h"),  # it was switched off, with everything accounted up to 06:00
        job("job 3", "0 7 * * *", "Asia/Tokyo", active=True),
    ]
    kept = version > 1  # version 1 had no states of schedules
    store = SqliteStore(old_store(version, tmp_path / "store"))
    clock = FakeClock(NOW)
    async with running(*jobs, store=store, clock=clock) as engine:
        await until(lambda: not engine.runners)  # those that were unfinished
        assert [engine.schedules.active(one.name) for one in jobs] == [True, False, True]
        missed = []
        if kept:
            missed = [("job 1", NEXT_DAY - 24 * HOUR)]
            await until(lambda: engine.ledger.states["job 1"].accounted == missed[0][1])
        found = []
        for one in jobs:
            ticks = await engine.reader.ticks(one.name, None, 100)
            found += [(one.name, tick.due) for tick in ticks if tick.outcome is TickOutcome.MISSED]
        assert found == missed, "due times while the server was down are missed, and do not fire"
        assert len(store.page(job=None, state=None, before=None, limit=1000)) == RUNS

        await engine.schedules.toggle("job 2", True)
        phase = ANCHOR if kept else NOW
        due = NOW + (phase - NOW) % HOUR
        due = due if due > NOW else due + HOUR
        assert engine.schedules.due("job 2") == due
        assert engine.schedules.due("job 1") == NEXT_DAY
        clock.advance(hours=(due - NOW) / HOUR)
        await until(lambda: engine.schedules.due("job 2") == due + HOUR)
        await until(lambda: not engine.runners)
        (fired, *_) = await engine.reader.ticks("job 2", None, 1)
        assert (fired.due, fired.outcome) == (due, TickOutcome.FIRED)
        assert len(store.page(job=None, state=None, before=None, limit=1000)) == RUNS + 1
    async with running(
        *jobs, store=SqliteStore(tmp_path / "store" / "goflow.db"), clock=clock
    ) as engine:
        assert engine.schedules.due("job 2") == due + HOUR, "what was accounted for stays so"
        assert engine.schedules.due("job 1") == NEXT_DAY
