"""Artifacts over HTTP: the list, and downloads that are safe."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Context, Goflow, Job, MemoryStore
from tests.web.conftest import Asker, segment

PAGE = "<script>alert(1)</script>"


@pytest.fixture
def gf() -> Goflow:
    return Goflow(MemoryStore())


def pages() -> Job:
    job = Job("pages", params={"fails": False})

    @job.task
    def make(context: Context, fails: bool) -> list[int]:
        context.artifact("page é.html").write_text(f"{PAGE}{context.attempt}")
        context.artifact("empty").touch()
        if fails:
            raise ValueError
        return [1, 2]

    @job.task(map_over="make")
    def each(make: int, context: Context) -> None:
        context.artifact("n").write_text(str(make))

    @job.task(result="pickle")
    def last() -> Any:
        return {1}

    return job


def test_artifacts_are_listed_and_downloaded(gf: Goflow) -> None:
    gf.add_job(pages())
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        id = ask.run("pages")["id"]
        ask.finished(id)
        base = f"/api/executions/{id}/tasks"
        listed = client.get(f"{base}/make/artifacts").json()
        assert listed["attempt"] == 1
        assert [(one["name"], one["size"]) for one in listed["artifacts"]] == [
            ("empty", 0), ("page é.html", len(PAGE) + 1),
        ]  # fmt: skip
        [make, each, last] = ask.execution(id)["tasks"]
        assert make["artifacts"] == listed["artifacts"]
        assert "artifacts" not in each
        assert last["result"] == {"format": "pickle", "type": "builtins.set", "bytes": 18}
        found = client.get(f"{base}/make/artifacts/{segment('page é.html')}")
        assert found.text == f"{PAGE}1"
        assert found.headers["content-type"] == "application/octet-stream"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["content-disposition"] == (
            "attachment; filename=\"page__.html\"; filename*=UTF-8''page_%C3%A9.html"
        )
        assert found.headers["content-length"] == str(len(PAGE) + 1)
        etag = {"If-None-Match": found.headers["etag"]}
        path = f"{base}/make/artifacts/{segment('page é.html')}"
        assert client.get(path, headers=etag).status_code == 304
        assert client.head(path).headers["content-length"] == str(len(PAGE) + 1)
        assert client.get(f"{base}/make/artifacts/empty").content == b""
        assert client.get(f"{base}/each/artifacts/n?item=1").text == "2"
        assert client.get(f"{base}/last/artifacts/result.pickle").content[:2] == b"\x80\x05"
        result = client.get(f"{base}/last/result").json()
        assert result == last["result"]


@pytest.mark.parametrize(
    "name",
    ["..", "../../x", "..%2f..%2fetc%2fpasswd", "nothing", "%00", "s.db", "a" * 300, "%2e%2e%2fn"],
)
def test_no_name_leads_out_of_the_artifacts(gf: Goflow, name: str) -> None:
    gf.add_job(pages())
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        id = ask.run("pages")["id"]
        ask.finished(id)
        answer = client.get(f"/api/executions/{id}/tasks/make/artifacts/{name}")
        assert answer.status_code == 404
        for path in (f"{id}/tasks/nope", "nope/tasks/make"):
            assert client.get(f"/api/executions/{path}/artifacts").status_code == 404
            assert client.get(f"/api/executions/{path}/artifacts/empty").status_code == 404
        assert client.get(f"/api/executions/{id}/tasks/make/artifacts?attempt=9").status_code == 404


def test_a_failed_attempt_has_no_artifacts_and_a_lost_one_is_a_503(gf: Goflow) -> None:
    gf.add_job(pages())
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        failed = ask.run("pages", json={"params": {"fails": True}})["id"]
        ask.finished(failed)
        path = f"/api/executions/{failed}/tasks/make/artifacts"
        assert client.get(path).json() == {"attempt": None, "artifacts": []}
        id = ask.run("pages")["id"]
        ask.finished(id)
        gf.engine.artifacts.forget(id)
        assert client.get(f"/api/executions/{id}/tasks/make/artifacts/empty").status_code == 503
