"""The routes respond as the contract specifies."""

import inspect
import os
import re
import threading
import uuid
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from starlette.testclient import TestClient

from goflow import Command, Goflow, Job, MemoryStore, State, Task, Template
from tests.web.conftest import Asker, Fail, Say, simple, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
MISSING = str(uuid.UUID(int=7, version=4))


def test_health_is_ok(client: TestClient) -> None:
    health = client.get("/api/health").json()
    assert health["health"] == "OK"
    assert health["tzdata"]


def test_health_reports_a_defect(client: TestClient, gf: Goflow) -> None:
    gf.engine.health.defect = "the scheduler: KeyError: 'x'"
    answer = client.get("/api/health")
    assert answer.status_code == 503
    assert answer.json()["health"] != "OK"
    assert answer.json()["error"]["message"] == gf.engine.health.defect


def test_jobs_are_listed_in_the_order_registered(client: TestClient) -> None:
    assert client.get("/api/jobs").json() == {"jobs": ["simple", "failing", "hanging"]}


def test_a_job_is_shown_with_its_graph_and_schedule(client: TestClient) -> None:
    job = client.get("/api/jobs/simple").json()
    assert job["job"] == "simple"
    assert job["tasks"] == ["first", "second"]
    assert job["dag"] == {"first": ["second"], "second": []}
    assert job["schedule"] == "0 0 1 1 *"
    assert job["active"] is True
    assert TIME.fullmatch(job["next"])


def test_an_unknown_job_is_a_404_with_the_same_keys_empty(client: TestClient) -> None:
    answer = client.get("/api/jobs/nope")
    assert answer.status_code == 404
    body = answer.json()
    assert body.pop("error")["code"] == "not-found"
    assert body == {"job": "", "tasks": [], "dag": {}, "schedule": "", "active": False}


def test_a_submit_returns_the_execution(client: TestClient, ask: Asker) -> None:
    answer = client.post("/api/jobs/simple/submit").json()
    assert (answer["job"], answer["success"]) == ("simple", True)
    assert TIME.fullmatch(answer["submitted"])
    assert str(uuid.UUID(answer["id"])) == answer["id"]
    assert ask.finished(answer["id"])["state"] == "successful"


def test_an_unknown_job_cannot_be_submitted(client: TestClient) -> None:
    answer = client.post("/api/jobs/nope/submit")
    assert answer.status_code == 404
    assert answer.json()["success"] is False
    assert answer.json()["job"] == "nope"


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"params":{}}', b'{"params":null}'])
def test_a_body_is_optional(client: TestClient, body: bytes, headers: dict[str, str]) -> None:
    answer = client.post("/api/jobs/simple/submit", content=body, headers=headers)
    assert answer.json()["success"] is True


def test_params_reach_the_execution(ui: object) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple(params={"day": "today", "count": 1}))
    with TestClient(gf, base_url="http://localhost") as client:
        assert client.get("/api/jobs/simple").json()["params"] == {"day": "today", "count": 1}
        done = Asker(client).run("simple", json={"params": {"count": 5}})
        assert done["params"] == {"day": "today", "count": 5}


def test_an_idempotency_key_makes_a_submit_safe_to_repeat(client: TestClient) -> None:
    headers = {"Idempotency-Key": "monday"}
    first = client.post("/api/jobs/simple/submit", headers=headers)
    again = client.post("/api/jobs/simple/submit", headers=headers)
    assert first.json() == again.json()
    other = client.post("/api/jobs/simple/submit", headers=headers, json={"params": {"a": 1}})
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency-conflict"
    assert other.json()["success"] is False
    assert len(client.get("/api/executions").json()["executions"]) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "\t"])
def test_an_idempotency_key_is_visible_ascii(client: TestClient, key: str) -> None:
    headers = [(b"idempotency-key", key.encode("latin-1"))]
    answer = client.post("/api/jobs/simple/submit", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "Idempotency-Key"
    assert client.get("/api/executions").json()["executions"] == []


def test_toggle_inverts_or_sets_the_state(client: TestClient) -> None:
    for body, active in [(None, False), (None, True), ({"active": True}, True), ({}, False)]:
        answer = (
            client.post("/api/jobs/simple/toggle", json=body)
            if body is not None
            else (client.post("/api/jobs/simple/toggle"))
        )
        assert answer.json() == {"job": "simple", "success": True, "active": active}
        assert client.get("/api/jobs/simple").json()["active"] is active


def test_an_unknown_job_cannot_be_toggled(client: TestClient) -> None:
    answer = client.post("/api/jobs/nope/toggle")
    assert answer.status_code == 404
    assert (answer.json()["job"], answer.json()["success"]) == ("nope", False)


def test_executions_are_listed_newest_first_and_page_by_page(ask: Asker) -> None:
    ids = [ask.run("simple")["id"] for _ in range(5)]
    seen: list[str] = []
    query = {"limit": 2}
    while True:
        page = ask.client.get("/api/executions", params=query).json()
        seen += [execution["id"] for execution in page["executions"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == ids[::-1]


def test_an_execution_has_the_keys_of_the_contract(ask: Asker) -> None:
    id = ask.run("failing")["id"]
    (execution,) = ask.client.get("/api/executions").json()["executions"]
    assert execution["id"] == id
    assert execution["job"] == "failing"
    assert execution["state"] == "failed"
    assert TIME.fullmatch(execution["submitted"])
    assert TIME.fullmatch(execution["modifiedTimestamp"])
    assert [(task["name"], task["state"]) for task in execution["tasks"]] == [
        ("good", "successful"),
        ("bad", "failed"),
    ]


def test_an_execution_in_a_list_has_the_fields_for_a_grid_and_a_clone(ask: Asker) -> None:
    detail = ask.run("failing", json={"params": {"x": [1, "é"]}})
    (execution,) = ask.client.get("/api/executions?jobname=failing&limit=100").json()["executions"]
    assert execution["params"] == detail["params"] == {"x": [1, "é"]}
    for key in ("submitted", "started", "finished", "scheduled_at", "cause", "state"):
        assert execution[key] == detail[key]
    for row, task in zip(execution["tasks"], detail["tasks"], strict=True):
        assert row == {
            "name": task["name"],
            "state": task["state"],
            "attempts": len(task["attempts"]),
            "started": task["started"],
            "finished": task["finished"],
        }
        assert TIME.fullmatch(row["finished"])


def test_an_executions_page_has_the_plan_it_was_submitted_with(ask: Asker, gf: Goflow) -> None:
    job = Job("odd")
    job.add(Task("first", Fail(), retries=1))
    job.add(Task("last", Say(), after=["first"], trigger_rule="always"))
    gf.add_job(job)
    detail = ask.run("odd")
    assert detail["dag"] == {"first": ["last"], "last": []}
    assert (detail["job"], detail["params"]) == ("odd", {})
    first, last = detail["tasks"]
    assert (first["retries"], first["trigger_rule"]) == (1, "allSuccessful")
    assert (last["retries"], last["trigger_rule"]) == (0, "always")
    assert (first["operator"], last["operator"]) == ("Fail", "Say")
    assert [attempt["state"] for attempt in first["attempts"]] == ["failed", "failed"]
    del gf.engine.registry.jobs["odd"]
    assert [task["operator"] for task in ask.execution(detail["id"])["tasks"]] == [None, None]


def test_executions_are_filtered_by_job_and_state(ask: Asker) -> None:
    good, bad = ask.run("simple")["id"], ask.run("failing")["id"]
    for query, expected in [
        ("jobname=simple", [good]),
        ("jobname=nope", []),
        ("jobname=", [bad, good]),
        ("state=failed", [bad]),
        ("state=", [bad, good]),
        ("state=failed&jobname=simple", []),
        ("unknown=1", [bad, good]),
    ]:
        page = ask.client.get(f"/api/executions?{query}").json()
        assert [execution["id"] for execution in page["executions"]] == expected, query


def test_one_execution_is_shown_with_attempts_errors_and_results(ask: Asker) -> None:
    execution = ask.run("failing")
    good, bad = execution["tasks"]
    assert good["result"] == ["hello"]
    assert [attempt["attempt"] for attempt in bad["attempts"]] == [1]
    assert "scripted" in bad["error"]
    started, finished = bad["attempts"][0]["started"], bad["attempts"][0]["finished"]
    assert datetime.fromisoformat(started) <= datetime.fromisoformat(finished)


@pytest.mark.parametrize("id", [MISSING, "nope", "%00", "%F0%9F%92%A5", "x" * 5000])
def test_an_unknown_execution_is_a_404(client: TestClient, id: str) -> None:
    assert client.get(f"/api/executions/{id}").status_code == 404
    assert client.get(f"/api/executions/{id}/tasks/t/logs").status_code == 404
    for verb in ("cancel", "retry"):
        answer = client.post(f"/api/executions/{id}/{verb}")
        assert answer.status_code == 404
        assert answer.json()["success"] is False


def test_a_log_is_plain_text_and_continues_from_a_line(ask: Asker) -> None:
    id = ask.run("simple")["id"]
    url = f"/api/executions/{id}/tasks/second/logs"
    log = ask.client.get(url)
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.text == "one\ntwo\n"
    assert ask.client.get(f"{url}?after=1").text == "two\n"
    assert ask.client.get(f"{url}?after=2").text == ""
    assert ask.client.get(f"{url}?after=999").text == ""
    assert ask.client.get(f"{url}?attempt=1").text == log.text
    assert ask.client.get(f"{url}?attempt=2").status_code == 404
    assert ask.client.get(f"/api/executions/{id}/tasks/nope/logs").status_code == 404


def test_a_follower_gets_its_next_position_though_lines_were_dropped() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, max_log=20_000)
    lines = tuple(f"line {number}" for number in range(20_000))
    gf.add_job(Job("long", tasks=[Task("t", Say(lines))]))
    with TestClient(gf, base_url="http://localhost") as client:
        id = Asker(client).run("long")["id"]
        url = f"/api/executions/{id}/tasks/t/logs"
        log = client.get(url)
        shown = log.text.splitlines()
        (gap,) = [line for line in shown if line.startswith("[… ")]
        left_out = int(re.sub(r"\D", "", gap))
        assert len(shown) - 1 + left_out == len(lines)
        assert shown[0] == lines[0]
        assert shown[-1] == lines[-1]
        assert log.headers["x-goflow-next-line"] == str(len(lines))
        assert client.get(f"{url}?after=19999").text == "line 19999\n"
        assert client.get(f"{url}?after=20000").text == ""


def test_cancel_stops_an_execution_once(ask: Asker) -> None:
    id = ask.submit("hanging")
    url = f"/api/executions/{id}/cancel"
    until(lambda: ask.execution(id)["state"] == "running")
    assert ask.client.post(url).json() == {"id": id, "success": True}
    assert ask.finished(id)["state"] == "cancelled"
    assert ask.client.post(url).json() == {"id": id, "success": False}


def test_retry_runs_unsuccessful_tasks_again(ask: Asker) -> None:
    id = ask.run("failing")["id"]
    assert ask.client.post(f"/api/executions/{id}/retry").json() == {"id": id, "success": True}
    again = until(lambda: (e := ask.finished(id))["tasks"][1]["attempts"][1:] and e)
    assert len(again["tasks"][0]["attempts"]) == 1
    assert again["state"] == "failed"


def test_retry_is_refused_while_there_is_nothing_to_retry(ask: Asker) -> None:
    for id in (ask.run("simple")["id"], ask.submit("hanging")):
        answer = ask.client.post(f"/api/executions/{id}/retry")
        assert answer.status_code == 409
        assert (answer.json()["id"], answer.json()["success"]) == (id, False)


def test_the_overview_has_every_job_with_its_newest_executions(ask: Asker) -> None:
    ids = [ask.run("simple")["id"] for _ in range(3)]
    running = ask.submit("hanging")
    until(lambda: ask.execution(running)["state"] == "running")
    jobs = ask.client.get("/api/overview?last=2").json()["jobs"]
    assert [job["job"] for job in jobs] == ["simple", "failing", "hanging"]
    assert [one["id"] for one in jobs[0]["executions"]] == ids[:0:-1]
    assert jobs[1]["executions"] == []
    assert [one["state"] for one in jobs[2]["executions"]] == ["running"]


def test_the_overview_has_the_current_recent_executions(
    ask: Asker,
) -> None:
    def recent(job: str) -> list[dict[str, Any]]:
        jobs = ask.client.get("/api/overview").json()["jobs"]
        return next(row["executions"] for row in jobs if row["job"] == job)

    assert recent("failing") == []
    running = ask.submit("hanging")
    until(lambda: ask.execution(running)["state"] == "running")
    for execution in (ask.run("failing"), ask.execution(running)):
        [found] = recent(execution["job"])
        assert found == {key: execution[key] for key in found}
        assert found.keys() == {"id", "state", "submitted", "modifiedTimestamp", "started",
                               "finished", "version"}  # fmt: skip
    assert ask.client.post(f"/api/executions/{running}/cancel").json()["success"]
    assert ask.finished(running)["state"] == "cancelled"
    assert [one["state"] for one in recent("hanging")] == ["cancelled"]


def test_the_overview_shows_which_jobs_have_params() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    for name, params in {"some": {"x": 1}, "none": {}, "any": None}.items():
        gf.add_job(simple(name, params=params))
    with TestClient(gf, base_url="http://localhost") as client:
        rows = client.get("/api/overview").json()["jobs"]
    assert {row["job"]: row["params"] for row in rows} == {
        "some": True,
        "none": False,
        "any": False,
    }


def test_the_overview_can_be_limited_to_some_jobs(ask: Asker) -> None:
    def names(query: str) -> list[str]:
        return [job["job"] for job in ask.client.get(f"/api/overview?{query}").json()["jobs"]]

    assert names("job=failing&job=simple&job=failing&job=nobody") == ["failing", "simple"]
    assert names("job=nobody") == []
    many = "&".join(f"job={n}" for n in range(51))
    refused = ask.client.get(f"/api/overview?{many}")
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "job"


class Load(msgspec.Struct):
    day: date
    rows: Annotated[int, Meta(ge=1)] = 3


@pytest.fixture
def typed() -> Iterator[Asker]:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple("any"))
    gf.add_job(simple("defaults", params={"rows": 3, "note": None}))
    gf.add_job(simple("class", params=Load))
    with TestClient(gf, base_url="http://localhost") as client:
        yield Asker(client)


def test_a_job_has_the_schema_of_its_params(typed: Asker) -> None:
    def told(job: str) -> Any:
        found = typed.client.get(f"/api/jobs/{job}").json()
        return found["params"], found["params_schema"]

    assert told("any") == (None, None)
    assert told("defaults") == (
        {"rows": 3, "note": None},
        {
            "type": "object",
            "properties": {"rows": {"type": "integer", "default": 3}, "note": {"default": None}},
            "additionalProperties": False,
        },
    )
    assert told("class") == (
        {"rows": 3},
        {
            "title": "Load",
            "type": "object",
            "properties": {
                "day": {"type": "string", "format": "date"},
                "rows": {"type": "integer", "minimum": 1, "default": 3},
            },
            "required": ["day"],
            "additionalProperties": False,
        },
    )


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "params.day"),
        ({"day": "soon"}, "params.day"),
        ({"day": "2026-01-02", "rows": 0}, "params.rows"),
        ({"day": "2026-01-02", "more": 1}, "params.more"),
        ({"day": "soon", "rows": "x", "more": 1}, "params.more params.day params.rows"),
    ],
)
def test_invalid_params_change_nothing(typed: Asker, params: Any, field: str) -> None:
    id = typed.run("class", json={"params": {"day": "2026-01-02"}})["id"]
    before = typed.execution(id)
    for path in ("/api/jobs/class/submit", f"/api/executions/{id}/retry"):
        answer = typed.client.post(path, json={"params": params})
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["code"] == "invalid-params"
        assert error["field"] == field.split()[0]
        assert [one["field"] for one in error["errors"]] == field.split()
        assert all(one["message"] in error["message"] for one in error["errors"])
        assert answer.json()["success"] is False
    assert len(typed.client.get("/api/executions").json()["executions"]) == 1
    assert typed.execution(id) == before


def test_params_of_a_class_are_kept_with_their_defaults(typed: Asker) -> None:
    execution = typed.run("class", json={"params": {"day": "2026-01-02"}})
    assert execution["params"] == {"day": "2026-01-02", "rows": 3}
    edited = {"params": {"day": "2026-01-03"}, "task": "first"}
    assert typed.client.post(f"/api/executions/{execution['id']}/retry", json=edited).json() == {
        "id": execution["id"],
        "success": True,
    }
    assert typed.execution(execution["id"])["params"] == {"day": "2026-01-03", "rows": 3}


def test_the_code_of_a_job_is_returned_with_its_place(ask: Asker) -> None:
    lines, first = inspect.getsourcelines(simple)
    source = ask.client.get("/api/jobs/simple/source").json()
    assert source == {
        "job": "simple",
        "file": os.path.relpath(__file__).replace("test_api", "conftest"),
        "line": first,
        "text": "".join(lines),
        "truncated": False,
    }
    job = ask.client.get("/api/jobs/simple").json()
    assert job["file"] == source["file"]
    assert lines[job["line"] - first].strip() == "job = Job(name, **options)"


def test_a_server_that_does_not_show_source_shows_neither_code_nor_its_place() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, show_source=False)
    gf.add_job(simple())
    with TestClient(gf, base_url="http://localhost") as client:
        answer = client.get("/api/jobs/simple/source")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "source-hidden")
        job = client.get("/api/jobs/simple").json()
        assert job["file"] is job["line"] is None
        assert "conftest" not in client.get("/api/jobs/simple").text
        assert client.get("/api/jobs/nope/source").json()["error"]["code"] == "not-found"
    with pytest.raises(ValueError, match="show_source"):
        Goflow(MemoryStore(), show_source="no")


TEMPLATED = Job(
    "templated",
    params={"day": "2026-01-01"},
    tasks=[
        Task("say", Command("echo", ["-n", Template("day {{ params.day }}")])),
        Task("long", Command("true", [Template("x" * 100_000), Template("y")])),
    ],
)


@pytest.mark.parametrize("show_source", [True, False])
def test_a_job_is_described_with_its_templates_unless_the_source_is_hidden(
    show_source: bool,
) -> None:
    gf = Goflow(MemoryStore(), ui_path=None, show_source=show_source)
    gf.add_job(TEMPLATED)
    with TestClient(gf, base_url="http://localhost") as client:
        say, long = client.get("/api/jobs/templated").json()["task_details"]
    if not show_source:
        assert say["templates"] == long["templates"] == []
        return
    assert say["templates"] == [{"place": "args[1]", "text": "day {{ params.day }}"}]
    assert [one["place"] for one in long["templates"]] == ["args[0]", "args[1]"]
    assert sum(len(one["text"]) for one in say["templates"] + long["templates"]) < 65_600


@pytest.mark.parametrize("name", ["nope", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "a%00b"])
def test_a_request_cannot_make_the_server_read_a_file(client: TestClient, name: str) -> None:
    answer = client.get(f"/api/jobs/{name}/source")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not-found"


def test_job_runs_are_listed_as_gos_goflow_does(ask: Asker) -> None:
    first, second = ask.run("simple"), ask.run("failing")
    third = ask.run("simple")

    def runs(query: str = "") -> Any:
        return ask.client.get(f"/api/jobruns{query}").json()

    assert runs() == {
        "jobruns": [
            {
                "job": execution["job"],
                "submitted": execution["submitted"],
                "state": {
                    "job": execution["state"],
                    "tasks": {
                        "state": {task["name"]: task["state"] for task in execution["tasks"]}
                    },
                },
            }
            for execution in (first, second, third)
        ]
    }
    assert [run["job"] for run in runs("?jobname=simple")["jobruns"]] == ["simple", "simple"]
    assert [run["job"] for run in runs("?state=failed")["jobruns"]] == ["failing"]
    assert runs("?jobname=&state=") == runs()
    for query in ("?jobname=simple&state=failed", "?jobname=nope", "?state=nonsense"):
        assert runs(query) == {"jobruns": []}
    assert runs("?limit=1")["jobruns"] == runs()["jobruns"][2:]
    assert ask.client.get("/api/jobruns?limit=0").status_code == 400
    operation = ask.client.get("/openapi.json").json()["paths"]["/api/jobruns"]["get"]
    assert operation["deprecated"] is True


def test_answers_are_not_cached(client: TestClient) -> None:
    for path in ("/api/jobs", "/api/executions", "/api/jobs/nope", "/nothing"):
        assert client.get(path).headers["cache-control"] == "no-store"


def test_head_is_get_without_the_body(client: TestClient) -> None:
    for path in ("/api/jobs", "/api/jobs/nope", "/ui/", "/stream", "/nothing"):
        head = client.head(path)
        assert head.content == b""
        if path != "/stream":
            assert head.status_code == client.get(path).status_code


def test_a_wrong_method_and_an_unknown_path_are_errors_in_json(client: TestClient) -> None:
    wrong = client.delete("/api/jobs")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert wrong.json()["error"]["code"] == "method-not-allowed"
    assert client.get("/api/jobs/simple/submit").headers["allow"] == "POST"
    for path in ("/api", "/api/jobs/", "/api/jobs/a/b", "/nothing", "/api/jobs/%FF"):
        assert client.get(path).status_code == 404
        assert client.get(path).json()["error"]["code"] == "not-found"


def test_concurrent_submits_are_all_kept(ask: Asker) -> None:
    ids: list[str] = []

    def submit() -> None:
        ids.extend(ask.submit("simple") for _ in range(20))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = ask.client.get("/api/executions").json()["executions"]
    assert len(ids) == len(set(ids)) == 80
    assert {execution["id"] for execution in kept} == set(ids)
    assert {execution["state"] for execution in kept} <= set(State)


def test_an_execution_answers_with_the_tasks_that_changed(
    client: TestClient, ask: Asker, gf: Goflow
) -> None:
    id = ask.submit("hanging")
    until(lambda: ask.execution(id)["state"] == "running")
    whole = ask.execution(id)
    assert (whole["since"], len(whole["tasks"]), whole["dag"]) == (None, 1, {"wait": []})
    path = f"/api/executions/{id}"
    same = client.get(path, params={"since": whole["version"]}).json()
    assert same == {**whole, "since": whole["version"], "tasks": [], "dag": {}}
    assert client.post(f"{path}/cancel").json()["success"]
    changed = until(
        lambda: (
            (told := client.get(path, params={"since": whole["version"]}).json())["finished"]
            and told
        )
    )
    assert [(task["name"], task["state"]) for task in changed["tasks"]] == [("wait", "cancelled")]
    assert changed["since"] == whole["version"]
    assert ask.execution(id) == {**changed, "since": None, "dag": {"wait": []}}
    for wrong in ("x", "-1", "1.5", ""):
        assert client.get(path, params={"since": wrong}).status_code == 400
    assert client.get(f"/api/executions/{MISSING}?since=1").status_code == 404
