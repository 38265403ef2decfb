"""GET /api/now: running tasks, waiting tasks with reasons, and next due times."""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Command, ConstantDelay, Goflow, Job, MemoryStore, Task
from goflow.engine.attempts.abandoned import Abandoned
from goflow.engine.attempts.hanging import Hanging
from goflow.engine.slots import Slots
from goflow.testing import FakeClock
from tests.web.conftest import DEADLINE, Asker, Fail, Hang, Say, until


@pytest.fixture
def gf() -> Goflow:
    goflow = Goflow(MemoryStore(), ui_path=None, stop_timeout=0.1, max_running=4, pools={"db": 1})
    pooled = Job("pooled", max_running=3)
    for name in ("one", "two"):
        pooled.add(Task(name, Hang(), pool="db"))
    pooled.add(Task("last", Say(), after=["one", "two"]))
    flaky = Job("flaky", tasks=[Task("t", Fail(), retries=1, retry_delay=ConstantDelay(3600))])
    queue = Job("queue", overlap="queue", tasks=[Task("wait", Hang())])
    hooked = Job("hooked", tasks=[Task("t", Say())])
    hooked.on_finish(Task("tell", Hang()))
    hooked.on_finish(Task("again", Fail(), retries=1, retry_delay=ConstantDelay(3600)))
    goflow.add_job(hooked)
    wide = Job("wide", tasks=[Task(f"t{n}", Hang()) for n in range(70)])
    for job in (pooled, flaky, queue, wide):
        goflow.add_job(job)
    return goflow


def seen(client: TestClient, **query: Any) -> Any:
    answer = client.get("/api/now", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_idle_server_has_empty_lists(client: TestClient) -> None:
    now = seen(client)
    assert (now["unfinished"], now["executions"], now["upcoming"]) == (0, [], [])
    assert now["pools"] == [
        {"kind": "all", "name": "all tasks", "limit": 4, "running": 0, "waiting": 0},
        {"kind": "pool", "name": "db", "limit": 1, "running": 0, "waiting": 0},
        {"kind": "job", "name": "pooled", "limit": 3, "running": 0, "waiting": 0},
    ]


def test_an_abandoned_attempt_is_listed_until_its_thread_ends() -> None:
    gate = threading.Event()
    job = Job("stuck")

    @job.task(timeout=0.1)
    def never() -> None:
        assert gate.wait(DEADLINE)

    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(job)
    with TestClient(gf, base_url="http://localhost") as client:
        id = Asker(client).run("stuck")["id"]
        now = seen(client)
        (listed,) = now["abandoned"]
        assert (listed["execution"], listed["job"], listed["task"]) == (id, "stuck", "never")
        assert listed["attempt"] == 1
        started, abandoned = (
            datetime.fromisoformat(listed[key]) for key in ("started", "abandoned")
        )
        assert started < abandoned <= datetime.fromisoformat(now["at"])
        assert (now["unfinished"], now["pools"][0]["running"]) == (0, 1)
        gate.set()
        until(lambda: not seen(client)["abandoned"])
        until(lambda: seen(client)["pools"][0]["running"] == 0)


def test_a_running_task_and_one_waiting_for_its_pool_are_listed(
    client: TestClient, ask: Asker
) -> None:
    id = ask.submit("pooled")
    (execution,) = until(lambda: (e := seen(client)["executions"])[0]["tasks"][1:] and e)
    assert (execution["id"], execution["job"], execution["cause"]) == (id, "pooled", "api")
    assert (execution["state"], execution["waiting"], execution["after"]) == ("running", None, [])
    assert execution["counts"] == {"running": 1, "notstarted": 2}
    one, two = execution["tasks"]
    assert (one["name"], one["state"], one["waiting"], one["pool"]) == (
        "one",
        "running",
        None,
        "db",
    )
    assert datetime.fromisoformat(one["started"]) >= datetime.fromisoformat(execution["submitted"])
    assert (two["name"], two["state"], two["started"]) == ("two", "notstarted", None)
    assert two["waiting"] == "pool 'db': 1 of 1 in use"
    usage = {one["kind"]: (one["running"], one["waiting"]) for one in seen(client)["pools"]}
    assert usage == {"all": (1, 1), "pool": (1, 1), "job": (1, 1)}


def test_the_pages_name_the_jobs_that_run_after_others() -> None:
    tasks = [Task("t", Command("true"))]
    jobs = (
        Job("load", "@every 1m", active=True, tasks=tasks),
        Job("report", after="load", tasks=[Task("t", Command("true"))]),
        Job("off", after="load", active=False, tasks=[Task("t", Command("true"))]),
    )
    gf = Goflow(MemoryStore(), ui_path=None)
    for job in jobs:
        gf.add_job(job)
    with TestClient(gf, base_url="http://localhost") as client:
        (first, *_) = seen(client)["upcoming"]
        assert (first["job"], first["followers"]) == ("load", ["report"])
        load, report = (client.get(f"/api/jobs/{name}").json() for name in ("load", "report"))
        assert (load["after"], load["followers"]) == ([], ["report", "off"])
        assert (report["after"], report["followers"], report["active"]) == (["load"], [], True)
        rows = client.get("/api/overview").json()["jobs"]
        assert [row["after"] for row in rows] == [[], ["load"], ["load"]]
        Asker(client).run("load")
        (listed,) = until(lambda: client.get("/api/executions?jobname=report").json()["executions"])
        assert listed["cause"] == "after"


def test_a_cancelled_task_no_longer_waits(client: TestClient, ask: Asker) -> None:
    id = ask.submit("pooled")
    until(lambda: seen(client)["pools"][0]["waiting"] == 1)
    client.post(f"/api/executions/{id}/tasks/two/cancel")
    until(lambda: seen(client)["executions"][0]["counts"].get("cancelled") == 1)
    assert [usage["waiting"] for usage in seen(client)["pools"]] == [0, 0, 0]
    assert [task["name"] for task in seen(client)["executions"][0]["tasks"]] == ["one"]


def test_a_task_up_for_retry_has_its_time(client: TestClient, ask: Asker) -> None:
    ask.submit("flaky")
    (task,) = until(lambda: (e := seen(client)["executions"]) and retrying(e[0]))
    assert (task["started"], task["waiting"], task["pool"]) == (None, None, None)
    later = datetime.fromisoformat(task["retry_at"]) - datetime.fromisoformat(seen(client)["at"])
    assert timedelta(minutes=58) < later <= timedelta(hours=1)


def test_hooks_are_listed_while_they_run_or_wait_for_a_retry(
    client: TestClient, ask: Asker
) -> None:
    id = ask.submit("hooked")
    (execution,) = until(
        lambda: [
            one
            for one in seen(client)["executions"]
            if [task["state"] for task in one["tasks"]] == ["running", "upforretry"]
        ]
    )
    tell, again = execution["tasks"]
    assert (tell["name"], tell["hook"]) == ("tell", True)
    assert tell["started"] is not None
    assert (again["name"], again["hook"]) == ("again", True)
    assert again["retry_at"] is not None
    client.post(f"/api/executions/{id}/cancel")
    until(lambda: not seen(client)["executions"])


def retrying(execution: Any) -> Any:
    return [task for task in execution["tasks"] if task["state"] == "upforretry"]


def test_a_queued_execution_names_the_one_it_waits_for(client: TestClient, ask: Asker) -> None:
    first, second, third = (ask.submit("queue") for _ in range(3))
    until(lambda: seen(client)["executions"][0]["state"] == "running")
    now = seen(client)
    assert [execution["id"] for execution in now["executions"]] == [first, second, third]
    assert [execution["after"] for execution in now["executions"]] == [[], [first], [second]]
    assert now["executions"][2]["waiting"] == "earlier executions of the job have not ended"
    assert now["executions"][2]["tasks"] == []
    client.post(f"/api/executions/{first}/cancel")
    ask.finished(first)
    left = until(lambda: (e := seen(client)["executions"])[0]["state"] == "running" and e)
    assert [(execution["id"], execution["after"]) for execution in left] == [
        (second, []),
        (third, [second]),
    ]


def test_lists_are_limited_as_requested(client: TestClient, ask: Asker) -> None:
    ids = [ask.submit("wide"), ask.submit("wide")]
    until(lambda: seen(client)["pools"][0]["waiting"] == 136)
    now = seen(client, limit=1)
    assert now["unfinished"] == 2
    (execution,) = now["executions"]
    assert execution["id"] == ids[0]
    assert execution["counts"] == {"running": 4, "notstarted": 66}
    assert len(execution["tasks"]) == 50
    assert [task["state"] for task in execution["tasks"]][:5] == ["running"] * 4 + ["notstarted"]


def test_next_due_times_of_all_jobs_are_in_order() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    every = {
        "minute": "* * * * *",
        "quarter": "*/15 * * * *",
        "yearly": "@yearly",
        "off": "@every 1s",
    }
    for name, schedule in every.items():
        active = name != "off"
        gf.add_job(Job(name, schedule, active, tasks=[Task("t", Say())], overlap="skip"))
    with TestClient(gf, base_url="http://localhost") as client:
        now = seen(client)
        dues = [datetime.fromisoformat(one["due"]) for one in now["upcoming"]]
        assert dues == sorted(dues)
        jobs = [one["job"] for one in now["upcoming"]]
        assert (jobs.count("minute"), jobs.count("quarter"), len(jobs)) == (60, 4, 64)
        assert {one["overlap"] for one in now["upcoming"]} == {"skip"}
        assert len(seen(client, ahead=86400, limit=1000)["upcoming"]) == 1000
        assert len(seen(client, ahead=86400, limit=7)["upcoming"]) == 7
        assert len(seen(client, ahead=60)["upcoming"]) in (1, 2)
        jobs = [one["job"] for one in seen(client, each=3)["upcoming"]]
        assert (jobs.count("minute"), jobs.count("quarter")) == (3, 3)
        client.post("/api/jobs/minute/toggle")
        assert {one["job"] for one in seen(client)["upcoming"]} == {"quarter"}


@pytest.mark.parametrize(
    "query", ["ahead=-1", "ahead=86401", "ahead=x", "limit=0", "limit=1001", "each=0"]
)
def test_values_out_of_range_are_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/now?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == query.partition("=")[0]


# -- abandoned attempts that still run ---------------------------------------------------


@dataclass(frozen=True)
class Stubborn:
    """Runs in its thread until it is released."""

    let_go: threading.Event

    def run(self) -> None:
        assert self.let_go.wait(60)


def test_abandoned_attempts_are_reported_until_they_end() -> None:
    let_go = threading.Event()
    gf = Goflow(MemoryStore(), ui_path=None, max_running=2, pools={"db": 1}, stop_timeout=0)
    hanging = Job("hanging")
    hanging.add(Task("first", Stubborn(let_go), timeout=0.1, pool="db"))
    gf.add_job(hanging)
    gf.add_job(Job("other", tasks=[Task("second", Stubborn(let_go), timeout=0.1)]))
    gf.add_job(Job("good", tasks=[Task("t", Say())]))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        try:
            id = ask.submit("hanging")
            ask.finished(id)
            (left,) = seen(client)["abandoned"]
            assert (left["job"], left["execution"], left["task"]) == ("hanging", id, "first")
            assert (left["attempt"], left["why"]) == (1, "timed out after 0.1 s")
            health = client.get("/api/health")
            assert (health.status_code, health.json()["health"]) == (200, "OK")
            (notice,) = health.json()["notices"]
            for word in (
                "'hanging'",
                "'first'",
                left["abandoned"][:19],
                "1 of 2 slots",
                "pool 'db'",
            ):
                assert word in notice["text"]
            assert 'isolation="process"' in notice["text"]
            ask.finished(ask.submit("good"))

            ask.finished(ask.submit("other"))
            assert [one["job"] for one in seen(client)["abandoned"]] == ["hanging", "other"]
            assert len(seen(client, limit=1)["abandoned"]) == 1
            health = client.get("/api/health")
            assert (health.status_code, health.json()["health"]) == (503, "stuck")
            assert health.json()["error"]["code"] == "stuck"
            for word in ("'hanging'", "'other'", "all 2 slots", 'isolation="process"'):
                assert word in health.json()["error"]["message"]
            waiting = ask.submit("good")
            assert "slots" in client.get("/api/system").json()["notices"][0]["text"]
        finally:
            let_go.set()
        ask.finished(waiting)
        until(lambda: not seen(client)["abandoned"])
        health = client.get("/api/health")
        assert (health.status_code, health.json()["notices"]) == (200, [])


def test_tasks_that_use_all_slots_for_long_are_named() -> None:
    slots = Slots(1)
    clock = FakeClock()
    hanging = Hanging(slots, Abandoned(), clock)
    assert not hanging.may_be_stalled
    hanging.started()
    for name in "ab":
        slots.request(Deaf(), name, (), 0, clock.now())
    slots.grant()
    assert not hanging.may_be_stalled
    clock.advance(minutes=6)
    assert hanging.may_be_stalled
    told = hanging.stalled([(clock.now(), "task 'a' of job 'j'")])
    assert told is not None
    for word in ("6 minutes", "all 1 slots", "1 tasks wait", "'a' of job 'j' since"):
        assert word in told
    hanging.started()
    assert hanging.stalled([]) is None


class Deaf:
    def granted(self, request: object) -> None:
        """Ignored in this test."""
