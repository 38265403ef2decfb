"""Goflow as users see it: the public names, its options, and mounting."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import goflow
from goflow import AccessLog, Command, Goflow, InvalidJob, Job, MemoryStore, Task
from goflow.errors import Conflict, NotFound
from goflow.loading import loading

PUBLIC = {
    "AccessLog", "Command", "ConstantDelay", "Context", "ExponentialBackoff", "Get", "Goflow",
    "GoflowError", "InvalidJob", "Job", "Later", "MemoryStore", "Outcome", "Post", "RunJob",
    "Schedule", "Skip", "SqliteStore", "State", "StoreError", "Task", "TaskFailed", "Template",
    "TriggerRule", "WaitFor", "WaitForFile", "WaitForJob", "WaitForUrl", "WaitUntil",
    "__version__", "zipped",
}  # fmt: skip


class Answer:
    def run(self) -> int:
        return 42


def job() -> Job:
    return Job("my-job", tasks=[Task("answer", Answer())])


def make(**options: Any) -> Goflow:
    gf = Goflow(MemoryStore(), **options)
    gf.add_job(job)
    return gf


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text('<head><base href="./" /></head>mine')
    return tmp_path


def test_the_public_names_are_these() -> None:
    assert set(goflow.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(goflow, name) is not None


def test_add_job_accepts_jobs_and_functions() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    made = gf.add_job(job)
    other = gf.add_job(Job("other", tasks=[Task("t", Answer())]))
    assert gf.jobs == [made, other]
    with pytest.raises(InvalidJob, match="add_job takes"):
        gf.add_job(lambda: "job")  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidJob, match="'other' is registered already"):
        gf.add_job(Job("other", tasks=[Task("t", Answer())]))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("store", 3), ("store", "redis://localhost"), ("store", "sqlite://"),
        ("store", MemoryStore), ("ui_path", "/no/such/folder"), ("allowed_hosts", "example.com"),
        ("max_running", 0), ("max_running", 1.5), ("max_running", True), ("max_unfinished", -1),
        ("stop_timeout", -1), ("stop_timeout", float("nan")), ("with_seconds", "yes"),
        ("max_result", 0), ("max_log", -5), ("max_body", "1MB"),
    ],
)  # fmt: skip
def test_an_invalid_option_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        Goflow(**{"store": MemoryStore()} | {option: value})


@pytest.mark.parametrize(
    "address", ["", "8181", "localhost", ":x", ":99999", "a:b:1", "[::1]", ":٣", "http://a:1"]
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        make(ui_path=None).run(address)


def test_run_in_a_program_that_is_being_loaded_only_checks_the_address() -> None:
    with loading():
        make(ui_path=None).run(":8181")
        with pytest.raises(ValueError, match="address"):
            make(ui_path=None).run("not an address")


def test_six_fields_need_with_seconds() -> None:
    def six() -> Job:
        return Job("six", "*/5 * * * * *", tasks=[Task("t", Answer())])

    make(ui_path=None, with_seconds=True).add_job(six)
    with pytest.raises(InvalidJob, match=r"job 'six'.*with_seconds"):
        make(ui_path=None).add_job(six)


def test_it_is_an_asgi_application() -> None:
    with TestClient(make(ui_path=None), base_url="http://localhost") as client:
        assert client.get("/api/health").json()["health"] == "OK"
        assert client.get("/api/jobs").json() == {"jobs": ["my-job"]}


@pytest.mark.parametrize("outer", [FastAPI, Starlette])
@pytest.mark.parametrize("told", [True, False])
def test_it_works_mounted_with_or_without_the_lifespan(outer: Any, told: bool, ui: Path) -> None:
    gf = make(ui_path=ui)
    options = {"lifespan": gf.lifespan} if told else {}
    if outer is FastAPI:
        app = FastAPI(**options)
        app.mount("/flow", gf)
    else:
        app = Starlette(routes=[Mount("/flow", gf)], **options)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/flow/").url.path == "/flow/ui/"
        assert "mine" in client.get("/flow/ui/").text
        assert '<base href="../">' in client.get("/flow/ui/jobs/my-job").text
        answer = client.post("/flow/api/jobs/my-job/submit").json()
        assert answer["success"] is True
        execution = client.get(f"/flow/api/executions/{answer['id']}").json()
        assert execution["job"] == "my-job"
        if not told:  # without a lifespan it does not stop either, and would keep capturing
            assert client.portal is not None
            client.portal.call(gf.engine.stop)


def test_the_first_middleware_is_outermost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []

    class Note:
        def __init__(self, app: Any, *, name: str) -> None:
            self.app, self.name = app, name

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            order.append(self.name)
            await self.app(scope, receive, send)

    gf = make(ui_path=None)
    gf.use(Note, name="outer")
    gf.use(Note, name="inner")
    gf.use(AccessLog, logger=logging.getLogger("requests"))
    with (
        caplog.at_level(logging.INFO, "requests"),
        TestClient(gf, base_url="http://localhost") as client,
    ):
        client.get("/api/jobs%7f")
        assert order == ["outer", "inner"]
        assert any("GET '/api/jobs\\x7f' 404" in record.getMessage() for record in caplog.records)
        with pytest.raises(RuntimeError, match="before the first request"):
            gf.use(Note, name="late")


def test_a_store_that_cannot_be_opened_fails_the_start_with_its_reason(tmp_path: Path) -> None:
    gf = Goflow(tmp_path, ui_path=None)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(gf({"type": "lifespan"}, receive, send))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "is a directory" in sent[0]["message"]


def test_requests_to_a_mounted_goflow_with_a_broken_store_get_the_reason(tmp_path: Path) -> None:
    app = Starlette(routes=[Mount("/flow", Goflow(tmp_path, ui_path=None))])
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.get("/flow/api/jobs")
    assert answer.status_code == 503
    assert "is a directory" in answer.json()["error"]["message"]


def test_examples_are_registered_on_request() -> None:
    names = [job.name for job in Goflow(MemoryStore(), None, show_examples=True).jobs]
    assert names
    assert all(name.startswith("example") for name in names)


def test_jobs_are_replaced_and_removed_from_any_thread_while_goflow_runs() -> None:
    gf = Goflow(store=MemoryStore())

    def job(description: str) -> Job:
        return Job("j", description=description, tasks=[Task("t", Command("true"))])

    gf.add_job(job("first"))
    with TestClient(gf, base_url="http://localhost") as client:  # with a loop in a thread
        gf.add_job(job("second"), replace=True)
        assert client.get("/api/jobs/j").json()["description"] == "second"
        with pytest.raises(InvalidJob, match="registered already"):
            gf.add_job(job("third"))
        gf.remove_job("j")
        assert client.get("/api/jobs/j").status_code == 404
        assert client.post("/api/jobs/j/submit").status_code == 404
        assert client.get("/api/jobs").json() == {"jobs": []}
        with pytest.raises(NotFound):
            gf.remove_job("j")
    gf.add_job(job("fourth"))
    assert [one.description for one in gf.jobs] == ["fourth"]


def test_pools_are_resized_and_removed_from_any_thread_while_goflow_runs() -> None:
    gf = Goflow(store=MemoryStore(), pools={"db": 1})

    def sizes() -> dict[str, int]:
        pools = client.get("/api/system").json()["pools"]
        return {pool["name"]: pool["limit"] for pool in pools if pool["kind"] == "pool"}

    gf.set_pool("db", 2)
    gf.add_job(Job("j", tasks=[Task("t", Command("true"), pool="db")]))
    with TestClient(gf, base_url="http://localhost") as client:  # with a loop in a thread
        assert sizes() == {"db": 2}
        gf.set_pool("db", 3)
        gf.set_pool("web", 5)
        assert sizes() == {"db": 3, "web": 5}
        with pytest.raises(Conflict, match="'j'"):
            gf.remove_pool("db")
        with pytest.raises(ValueError, match="size"):
            gf.set_pool("db", 0)
        gf.remove_pool("web")
        assert sizes() == {"db": 3}
        with pytest.raises(NotFound):
            gf.remove_pool("web")
