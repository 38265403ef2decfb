"""The calendar of a job over HTTP; tests/engine/test_calendar.py tests its counts."""

from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore, zones
from goflow.stores.base import RecordTicks, Tick, TickOutcome
from tests.web.conftest import Asker, simple


@pytest.mark.parametrize("zone", [None, "UTC", "Pacific/Auckland", "America/St_Johns"])
def test_it_counts_executions_of_each_day_in_a_zone(zone: str | None) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple(timezone="Asia/Kathmandu"))
    with TestClient(gf, base_url="http://localhost") as client:
        execution = Asker(client).run("simple")
        query = {"days": 2} | ({} if zone is None else {"timezone": zone})
        answer = client.get("/api/jobs/simple/calendar", params=query).json()
    zone = zone or "Asia/Kathmandu"
    submitted, started, finished = (
        datetime.fromisoformat(execution[key]) for key in ("submitted", "started", "finished")
    )
    day = {
        "day": submitted.astimezone(zones.find(zone)).date().isoformat(),
        "states": {"successful": 1},
        "missed": 0,
        "skipped": 0,
        "seconds": (finished - started).total_seconds(),
        "cost": execution["cost"],
    }
    assert answer == {"job": "simple", "timezone": zone, "days": [day]}


def test_due_times_without_executions_are_counted_separately() -> None:
    store = MemoryStore()
    gf = Goflow(store, ui_path=None)
    gf.add_job(simple())
    now = datetime.now(UTC)
    ticks = [Tick(now, TickOutcome.SKIPPED, now), Tick(now, TickOutcome.MISSED, now, "", 7, now)]
    with TestClient(gf, base_url="http://localhost") as client:
        store.commit([RecordTicks("simple", ticks)])
        days = client.get("/api/jobs/simple/calendar?timezone=UTC").json()["days"]
    nothing = {"states": {}, "seconds": 0}
    assert days == [{"day": now.date().isoformat(), "missed": 7, "skipped": 1} | nothing]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("timezone=Europe%2FAtlantis", "timezone"),
        ("timezone=", "timezone"),
        ("timezone=%00", "timezone"),
        ("days=0", "days"),
        ("days=732", "days"),
        ("days=1e2", "days"),
    ],
)
def test_a_bad_query_is_refused(client: TestClient, query: str, field: str) -> None:
    answer = client.get(f"/api/jobs/simple/calendar?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field


def test_an_unknown_job_has_no_calendar(client: TestClient) -> None:
    assert client.get("/api/jobs/nope/calendar").status_code == 404
