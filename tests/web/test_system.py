"""GET /api/system: information about the server."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, __version__
from goflow.engine.metrics import Sample
from tests.web.conftest import Asker, until
from tests.web.test_api import TIME


def seen(client: TestClient, **query: Any) -> Any:
    answer = client.get("/api/system", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_system_describes_the_server(client: TestClient, ask: Asker, gf: Goflow) -> None:
    ask.submit("hanging")
    gf.engine.health.notice("something")
    system = until(lambda: (s := seen(client))["slots"]["running"] and s)
    assert TIME.fullmatch(system["at"])
    assert system["started"] <= system["at"]
    assert set(system["versions"]) == {
        "goflow",
        "python",
        "sqlite",
        "tzdata",
        "starlette",
        "uvicorn",
    }
    assert system["versions"]["goflow"] == __version__
    assert system["store"]["kind"] == "MemoryStore"
    assert system["store"]["bytes"] > 0
    assert system["slots"] == {"limit": 128, "running": 1, "waiting": 0}
    assert [pool["kind"] for pool in system["pools"]] == ["all"]
    assert (system["jobs"], system["active_jobs"], system["unfinished"]) == (3, 1, 1)
    assert system["listeners"] == 0
    assert [notice["text"] for notice in system["notices"]] == ["something"]
    assert set(system["load"]) == {"every", *Sample.__struct_fields__}


def test_samples_accumulate_and_can_be_limited_to_newer_ones(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goflow.engine.metrics.EVERY", 0)
    load = until(lambda: (s := seen(client)["load"])["at"][1:] and s)
    lengths = {len(column) for name, column in load.items() if name != "every"}
    assert lengths == {len(load["at"])}
    assert load["at"] == sorted(load["at"])
    newer = seen(client, after=load["at"][0])["load"]["at"]
    assert newer[: len(load["at"]) - 1] == load["at"][1:]
    later = datetime.fromisoformat(seen(client)["at"]) + timedelta(days=1)
    assert seen(client, after=later.isoformat())["load"]["at"] == []


@pytest.mark.parametrize("after", ["", "x", "5", "2030-01-01", "2030-01-01T00:00:00"])
def test_an_invalid_time_is_refused(client: TestClient, after: str) -> None:
    answer = client.get(f"/api/system?after={after}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "after"
