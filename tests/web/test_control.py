"""Due times, backfill and users' commands: responses and refusals."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, Job, MemoryStore, Task
from goflow.stores.base import RecordTicks, Tick, TickOutcome
from tests.web.conftest import Asker, Fail, Hang, Say, failing, hanging, simple, until
from tests.web.test_api import MISSING, TIME

MARCH = {"from": "2025-03-01T00:00:00Z", "to": "2025-03-04T00:00:00Z"}


@pytest.fixture
def gf() -> Goflow:
    goflow = Goflow(MemoryStore(), ui_path=None, stop_timeout=0.1, with_seconds=True)
    daily = Job("daily", "0 3 * * *", params={"rows": 3})
    daily.add(Task("load", Say()))
    waiting = Job("waiting", tasks=[Task("wait", Hang()), Task("after", Say(), after=["wait"])])
    lone = Job("lone", overlap="skip", tasks=[Task("wait", Hang())])
    busy = Job("busy", "* * * * * *", overlap="skip", tasks=[Task("wait", Hang())])
    nightly = Job("nightly", "30 2 * * *", timezone="Europe/Berlin", tasks=[Task("say", Say())])
    for job in (simple(), failing(), hanging(), daily, waiting, lone, busy, nightly):
        goflow.add_job(job)
    return goflow


def refused(answer: Any, status: int, field: str | None = None) -> Any:
    """The error, which must have this status and report no success."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["success"] is False
    assert body["error"]["message"]
    if field is not None:
        assert body["error"]["field"] == field
    return body


# -- ticks and upcoming ------------------------------------------------------------


def test_the_ledger_is_paged_newest_first(client: TestClient, ask: Asker) -> None:
    done = client.post("/api/jobs/daily/backfill", json=MARCH).json()["executions"]
    seen: list[Any] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = client.get("/api/jobs/daily/ticks", params=query).json()
        assert page["job"] == "daily"
        seen += page["ticks"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert [tick["due"] for tick in seen] == [one["due"] for one in done][::-1]
    assert [tick["execution"] for tick in seen] == [one["execution"] for one in done][::-1]
    for tick in seen:
        assert (tick["outcome"], tick["count"], tick["until"]) == ("fired", 1, None)
        assert TIME.fullmatch(tick["at"])


def test_an_overlapping_due_time_is_skipped_with_the_reason(
    client: TestClient,
) -> None:
    client.post("/api/jobs/busy/toggle")
    first, second = until(
        lambda: (t := client.get("/api/jobs/busy/ticks").json()["ticks"][::-1])[1:] and t[:2]
    )
    assert (first["outcome"], second["outcome"]) == ("fired", "skipped")
    assert first["execution"] in second["reason"]
    assert second["execution"] is None


def test_a_job_without_past_due_times_has_an_empty_ledger(client: TestClient) -> None:
    assert client.get("/api/jobs/daily/ticks").json() == {"job": "daily", "ticks": [], "next": None}


def test_upcoming_times_are_listed_whether_or_not_the_schedule_is_on(client: TestClient) -> None:
    for active in (False, True):
        client.post("/api/jobs/daily/toggle", json={"active": active})
        answer = client.get("/api/jobs/daily/upcoming?n=3").json()
        assert (answer["job"], answer["active"]) == ("daily", active)
        first, second, third = map(datetime.fromisoformat, answer["upcoming"])
        assert first.hour == 3
        assert third - second == second - first == timedelta(days=1)
    none = client.get("/api/jobs/simple/upcoming").json()
    empty: dict[str, list[str]] = {"upcoming": [], "clock_changes": [], "skipped": []}
    assert none == {"job": "simple", "active": False, **empty}


def test_clock_changes_are_marked_in_past_and_upcoming_due_times(
    client: TestClient,
) -> None:
    night = {"from": "2025-03-30T00:00:00Z", "to": "2025-03-31T12:00:00Z"}
    client.post("/api/jobs/nightly/backfill", json=night)
    sentence = "clock change: 02:30 does not exist; it is due at 03:00"
    ordinary, merged, fired = client.get("/api/jobs/nightly/ticks").json()["ticks"]
    assert (ordinary["due"], ordinary["reason"]) == ("2025-03-31T00:30:00Z", "")
    assert (merged["due"], merged["outcome"]) == ("2025-03-30T01:30:00Z", "merged")
    assert (merged["into"], merged["execution"]) == (fired["due"], None)
    assert (fired["due"], fired["outcome"]) == ("2025-03-30T01:00:00Z", "fired")
    assert merged["reason"] == fired["reason"] == sentence
    year = client.get("/api/jobs/nightly/upcoming?n=366").json()
    assert {change["reason"] for change in year["clock_changes"]} == {
        sentence,
        "clock change: 02:30 comes twice; it is due the first time",
    }
    assert {change["due"] for change in year["clock_changes"]} <= set(year["upcoming"])


@pytest.mark.parametrize(
    "query",
    [
        "ticks?limit=0",
        "ticks?limit=1001",
        "ticks?cursor=x",
        "ticks?cursor=2025-01-01T00:00:00",
        "upcoming?n=0",
        "upcoming?n=1001",
        "upcoming?n=x",
    ],
)
def test_a_bad_page_of_due_times_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/jobs/daily/{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == query.partition("?")[2].partition("=")[0]


def test_an_unknown_job_has_no_due_times(client: TestClient) -> None:
    for view in ("ticks", "upcoming"):
        answer = client.get(f"/api/jobs/nope/{view}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-found")


# -- backfill ----------------------------------------------------------------------


def test_a_backfill_creates_executions_for_due_times_without_one(ask: Asker) -> None:
    url = "/api/jobs/daily/backfill"
    plan = ask.client.post(url, json=MARCH | {"dry_run": True}).json()
    assert plan == {
        "job": "daily",
        "success": True,
        "dry_run": True,
        "executions": [
            {"due": f"2025-03-0{day}T03:00:00Z", "execution": None, "created": False}
            for day in (1, 2, 3)
        ],
    }
    assert ask.client.get("/api/executions").json()["executions"] == []
    body = MARCH | {"parallel": 2, "params": {"rows": 5}}
    made = ask.client.post(url, json=body).json()["executions"]
    for one in made:
        execution = ask.finished(one["execution"])
        assert execution["scheduled_at"] == one["due"]
        assert execution["params"] == {"rows": 5}
        assert (execution["state"], execution["cause"]) == ("successful", "backfill")
        assert one["created"] is True
    again = ask.client.post(url, json=MARCH).json()["executions"]
    assert again == [one | {"created": False} for one in made]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "from"),
        ({"from": MARCH["from"]}, "to"),
        (MARCH | {"to": MARCH["from"]}, "to"),
        (MARCH | {"to": "2999-01-01T00:00:00Z"}, "to"),
        (MARCH | {"from": "2022-01-01T00:00:00Z"}, "to"),
        (MARCH | {"from": "2025-03-01T00:00:00"}, "from"),
        (MARCH | {"from": "yesterday"}, "from"),
        (MARCH | {"from": "0001-01-01T00:00:00+23:59"}, "from"),
        (MARCH | {"to": "0001-01-01T00:00:00+23:59"}, "to"),
        (MARCH | {"parallel": 0}, "parallel"),
        (MARCH | {"parallel": 101}, "parallel"),
        (MARCH | {"dry_run": "yes"}, "dry_run"),
        (MARCH | {"params": {"rows": "many"}}, "params.rows"),
        (MARCH | {"params": {"row": 1}}, "params.row"),
        (MARCH | {"until": "now"}, "until"),
    ],
)
def test_a_bad_backfill_is_refused_and_creates_nothing(
    client: TestClient, body: Any, field: str | None
) -> None:
    status = 422 if field is not None and field.startswith("params.") else 400
    answer = refused(client.post("/api/jobs/daily/backfill", json=body), status, field)
    assert answer["job"] == "daily"
    assert client.get("/api/executions").json()["executions"] == []


class Rows(TypedDict):
    rows: NotRequired[int]


def test_a_backfill_with_invalid_params_creates_nothing(ask: Asker, gf: Goflow) -> None:
    gf.add_job(simple("typed", schedule="@daily", params=Rows))
    for job, value, code in (("typed", "x", "invalid-params"), ("daily", "x", "invalid-parameter")):
        body = MARCH | {"params": {"rows": value}}
        answer = ask.client.post(f"/api/jobs/{job}/backfill", json=body)
        assert refused(answer, 422, "params.rows")["error"]["code"] == code
    assert ask.client.get("/api/executions").json()["executions"] == []


def test_a_missing_body_is_refused_if_one_is_required(ask: Asker) -> None:
    id = ask.run("failing")["id"]
    refused(ask.client.post("/api/jobs/daily/backfill"), 400, "from")
    refused(ask.client.post(f"/api/executions/{id}/tasks/bad/mark"), 400, "state")


def test_a_backfill_needs_a_job_with_a_schedule(client: TestClient) -> None:
    refused(client.post("/api/jobs/nope/backfill", json=MARCH), 404, "job")
    refused(client.post("/api/jobs/simple/backfill", json=MARCH), 409)


# -- one task ----------------------------------------------------------------------


def test_one_task_is_cancelled_and_the_others_continue(ask: Asker) -> None:
    id = ask.submit("waiting")
    until(lambda: ask.execution(id)["tasks"][0]["state"] == "running")
    url = f"/api/executions/{id}/tasks/wait/cancel"
    assert ask.client.post(url).json() == {"id": id, "success": True}
    done = ask.finished(id)
    assert [task["state"] for task in done["tasks"]] == ["cancelled", "skipped"]
    assert ask.client.post(url).json() == {"id": id, "success": False}


def test_a_mark_changes_the_task_and_its_execution(ask: Asker) -> None:
    id = ask.run("failing")["id"]
    url = f"/api/executions/{id}/tasks/bad/mark"
    assert ask.client.post(url, json={"state": "skipped"}).json() == {"id": id, "success": True}
    assert ask.execution(id)["state"] == "successful"
    assert ask.execution(id)["tasks"][1]["state"] == "skipped"
    refused(ask.client.post(url, json={"state": "skipped"}), 409)
    (listed,) = ask.client.get("/api/executions").json()["executions"]
    assert listed["state"] == "successful"


def test_a_running_task_cannot_be_marked(ask: Asker) -> None:
    id = ask.submit("waiting")
    until(lambda: ask.execution(id)["tasks"][0]["state"] == "running")
    url = f"/api/executions/{id}/tasks/wait/mark"
    assert refused(ask.client.post(url, json={"state": "successful"}), 409)["id"] == id


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "state"),
        ({"state": "failed"}, "state"),
        ({"state": None}, "state"),
        ({"state": "skipped", "why": "so"}, "why"),
    ],
)
def test_a_bad_mark_changes_nothing(ask: Asker, body: Any, field: str) -> None:
    id = ask.run("failing")["id"]
    before = ask.execution(id)
    refused(ask.client.post(f"/api/executions/{id}/tasks/bad/mark", json=body), 400, field)
    assert ask.execution(id) == before


@pytest.mark.parametrize("id", [MISSING, "nope", "%00"])
def test_requests_for_tasks_of_an_unknown_execution_are_404s(client: TestClient, id: str) -> None:
    refused(client.post(f"/api/executions/{id}/tasks/t/cancel"), 404, "id")
    mark = client.post(f"/api/executions/{id}/tasks/t/mark", json={"state": "skipped"})
    refused(mark, 404, "id")


def test_an_unknown_task_is_named(ask: Asker) -> None:
    for id in (ask.run("simple")["id"], ask.submit("hanging")):
        url = f"/api/executions/{id}/tasks/nope"
        refused(ask.client.post(f"{url}/cancel"), 404, "task")
        refused(ask.client.post(f"{url}/mark", json={"state": "skipped"}), 404, "task")
        if ask.execution(id)["finished"]:
            retry = ask.client.post(f"/api/executions/{id}/retry", json={"task": "nope"})
            refused(retry, 404, "task")


# -- retry -------------------------------------------------------------------------


@pytest.mark.parametrize(("following", "attempts"), [(True, [2, 2]), (False, [2, 1])])
def test_a_retry_from_a_task_runs_it_with_or_without_the_tasks_after_it(
    ask: Asker, following: bool, attempts: list[int]
) -> None:
    id = ask.run("simple")["id"]
    body = {"task": "first", "following": following}
    answer = ask.client.post(f"/api/executions/{id}/retry", json=body)
    assert answer.json() == {"id": id, "success": True}
    assert [len(task["attempts"]) for task in ask.finished(id)["tasks"]] == attempts


def test_a_retry_may_have_other_params(ask: Asker) -> None:
    id = ask.run("daily", json={"params": {"rows": 1}})["id"]
    url = f"/api/executions/{id}/retry"
    refused(ask.client.post(url, json={"task": "load", "params": {"rows": "x"}}), 422)
    assert ask.execution(id)["params"] == {"rows": 1}
    assert ask.client.post(url, json={"task": "load", "params": {"rows": 2}}).status_code == 200
    assert ask.finished(id)["params"] == {"rows": 2}


def test_a_retry_may_take_the_newest_definition(gf: Goflow, ask: Asker) -> None:
    id = ask.run("failing")["id"]
    url = f"/api/executions/{id}/retry"
    assert ask.execution(id)["newer"] is False
    gf.add_job(Job("failing", tasks=[Task("other", Say()), Task("more", Say())]), replace=True)
    assert ask.execution(id)["newer"] is True
    body = {"task": "bad", "definition": "newest"}
    assert refused(ask.client.post(url, json=body), 409, "task")["error"]["code"] == "task-gone"
    body = {"definition": "newest"}
    assert ask.client.post(url, json=body).json() == {"id": id, "success": True}
    again = ask.finished(id)
    assert [(task["name"], task["state"]) for task in again["tasks"]] == [
        ("other", "successful"),
        ("more", "successful"),
    ]
    assert "bad" in [task["name"] for task in again["dropped"]]
    assert (again["state"], again["newer"]) == ("successful", False)
    assert (again["dag"], again["actions"][-1]["definition"]) == (
        {"other": [], "more": []},
        "newest",
    )
    assert ask.client.get(f"/api/executions/{id}/tasks/bad/logs").status_code == 200
    refused(ask.client.post(url, json=body), 409)
    gf.remove_job("failing")
    assert refused(ask.client.post(url, json=body), 409)["error"]["code"] == "job-gone"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"task": 1}, "task"),
        ({"following": "no"}, "following"),
        ({"only": True}, "only"),
        ({"params": None}, "params"),
        ({"definition": "oldest"}, "definition"),
        ({"definition": None}, "definition"),
    ],
)
def test_a_bad_retry_changes_nothing(ask: Asker, body: Any, field: str) -> None:
    id = ask.run("failing")["id"]
    refused(ask.client.post(f"/api/executions/{id}/retry", json=body), 400, field)
    assert len(ask.execution(id)["tasks"][1]["attempts"]) == 1


def test_overlap_policies_apply_to_submits_and_retries(ask: Asker) -> None:
    first = ask.submit("lone")
    ask.client.post(f"/api/executions/{first}/cancel")
    ask.finished(first)
    running = ask.submit("lone")
    body = refused(ask.client.post("/api/jobs/lone/submit"), 409)
    assert body["error"]["code"] == "overlap"
    assert running in body["error"]["message"]
    body = refused(ask.client.post(f"/api/executions/{first}/retry"), 409)
    assert body["error"]["code"] == "overlap"


# -- users and reasons -------------------------------------------------------------


def test_the_user_of_each_request_is_recorded(ask: Asker) -> None:
    def said(name: str) -> dict[str, str]:
        return {"X-Goflow-User": name}

    id = ask.submit("failing", headers=said("ada@desk"))
    ask.finished(id)
    url = f"/api/executions/{id}"
    ask.client.post(f"{url}/retry", headers=said("bob@desk"))
    ask.finished(id)
    ask.client.post(f"{url}/tasks/bad/mark", json={"state": "successful"}, headers=said("eve"))
    actions = ask.execution(id)["actions"]
    assert [(one["action"], one["by"].split()[0], one["task"]) for one in actions] == [
        ("submit", "ada@desk", None),
        ("retry", "bob@desk", None),
        ("mark successful", "eve", "bad"),
    ]


def test_users_are_recorded_with_tasks_params_and_switches(
    ask: Asker,
) -> None:
    id = ask.run("failing")["id"]
    ask.client.post(f"/api/executions/{id}/retry", json={"task": "bad", "params": {}})
    ask.finished(id)
    again = ask.execution(id)["actions"][1]
    assert (again["action"], again["task"], again["params"]) == ("retry", "bad", {})
    assert ask.client.get("/api/jobs/daily").json()["switched"] is None
    ask.client.post("/api/jobs/daily/toggle", headers={"X-Goflow-User": "ada@desk"})
    switched = ask.client.get("/api/jobs/daily").json()["switched"]
    assert TIME.fullmatch(switched["at"])
    assert switched["by"].startswith("ada@desk from ")


@pytest.mark.parametrize("user", ["é", "x" * 101, "a\tb"])
def test_a_user_name_must_be_ascii(client: TestClient, user: str) -> None:
    headers = [(b"x-goflow-user", user.encode("latin-1"))]
    refused(client.post("/api/jobs/simple/submit", headers=headers), 400, "X-Goflow-User")
    assert client.get("/api/executions").json()["executions"] == []


@pytest.mark.parametrize(
    "user",
    [
        *("10.0.0.5", "ada from 10.0.0.5", "::1", "[::1]:80", "10.0.0.5:80", "ada (10.0.0.5)"),
        *("ada, 2001:db8::1", "fe80::1%eth0", " 127.0.0.1 ", "from 10.0.0.5"),
    ],
)
def test_a_user_name_must_not_look_like_an_address(ask: Asker, user: str) -> None:
    answer = ask.client.post("/api/jobs/simple/submit", headers={"X-Goflow-User": user})
    assert refused(answer, 400, "X-Goflow-User")["error"]["code"] == "invalid-user"
    assert ask.client.get("/api/executions").json()["executions"] == []


@pytest.mark.parametrize("user", ["ada@10.0.0.5", "bot 1.2.3", "12345", "a:b", "CI / main", "  "])
def test_a_user_name_that_is_no_address_is_accepted(ask: Asker, user: str) -> None:
    ask.run("failing", headers={"X-Goflow-User": user})


@pytest.fixture
def crowded() -> Iterator[Asker]:
    """A server with one slot, which is in use."""
    gf = Goflow(MemoryStore(), ui_path=None, stop_timeout=0.1, pools={"db": 1})
    job = Job("pooled", tasks=[Task("a", Hang(), pool="db"), Task("b", Fail(), pool="db")])
    gf.add_job(job)
    with TestClient(gf, base_url="http://localhost") as client:
        yield Asker(client)


def test_a_waiting_task_shows_the_reason(crowded: Asker) -> None:
    id = crowded.submit("pooled")
    reasons = until(
        lambda: [r for task in crowded.execution(id)["tasks"] if (r := task["waiting"])]
    )
    assert reasons == ["pool 'db': 1 of 1 in use"]


def test_health_includes_notices(client: TestClient, gf: Goflow) -> None:
    assert client.get("/api/health").json()["notices"] == []
    gf.engine.health.notice("the clock went back")
    (notice,) = client.get("/api/health").json()["notices"]
    assert notice["text"] == "the clock went back"
    assert TIME.fullmatch(notice["at"])


def test_ids_of_backfilled_executions_are_uuids(client: TestClient) -> None:
    for one in client.post("/api/jobs/daily/backfill", json=MARCH).json()["executions"]:
        assert str(uuid.UUID(one["execution"])) == one["execution"]


def test_a_removed_job_keeps_its_history(tmp_path: Path) -> None:
    path = tmp_path / "s"
    gf = Goflow(path, ui_path=None)
    gf.add_job(failing("gone/über"))
    with TestClient(gf, base_url="http://localhost") as client:
        id = Asker(client).run("gone/über")["id"]
        now = datetime.now(UTC)
        missed = Tick(now, TickOutcome.MISSED, now)
        gf.engine.store.commit([RecordTicks("gone/über", [missed])])
    gf = Goflow(path, ui_path=None)
    with TestClient(gf, base_url="http://localhost") as client:
        job = "/api/jobs/gone%2F%C3%BCber"
        answer = client.get(job)
        assert answer.status_code == 404
        assert (answer.json()["job"], answer.json()["tasks"]) == ("", [])
        (tick,) = client.get(f"{job}/ticks").json()["ticks"]
        assert tick["outcome"] == "missed"
        days = client.get(f"{job}/calendar").json()
        assert days["timezone"] == "UTC"
        assert sum(day["states"].get("failed", 0) for day in days["days"]) == 1
        listed = client.get("/api/executions", params={"jobname": "gone/über"}).json()
        assert [one["id"] for one in listed["executions"]] == [id]
        assert client.get(f"/api/executions/{id}").json()["job"] == "gone/über"
        retried = client.post(f"/api/executions/{id}/retry")
        assert (retried.status_code, retried.json()["error"]["code"]) == (409, "job-gone")
        for method, route in (("POST", "submit"), ("POST", "toggle"), ("GET", "upcoming")):
            assert client.request(method, f"{job}/{route}").status_code == 404
        assert client.get("/api/jobs/never/ticks").status_code == 404
        assert client.get("/api/jobs/never/calendar").status_code == 404
