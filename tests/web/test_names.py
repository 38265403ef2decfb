"""Names with any characters work in percent-encoded paths."""

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, Job, MemoryStore, Task
from goflow.web.path import decode, route_path
from tests.web.conftest import Asker, Say, segment

OWN = {"", "api", "ui", "stream", "openapi.json"}
NAMES = [
    "a/b",
    "/",
    "a%2Fb",
    "%",
    "%zz",
    "..%2f..",
    "a/../b",
    "quotes \" and '",
    "<script>alert(1)</script>",
    "question?mark&and=hash#;",
    "a+b c",
    "日本語 ジョブ",
    "émoji 💥",
    "back\\slash",
    "x" * 250,
    "💥" * 250,
    "submit",
]


@pytest.mark.parametrize("name", NAMES)
def test_jobs_and_tasks_with_any_name_are_reachable(name: str) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(Job(name, tasks=[Task(name, Say((name,)))]))
    gf.add_job(Job("other", tasks=[Task("t", Say())]))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        assert client.get("/api/jobs").json()["jobs"] == [name, "other"]
        assert client.get(f"/api/jobs/{segment(name)}").json()["job"] == name
        assert client.post(f"/api/jobs/{segment(name)}/toggle").json()["job"] == name
        execution = ask.run(name)
        ask.run("other")
        log = client.get(f"/api/executions/{execution['id']}/tasks/{segment(name)}/logs")
        assert log.text == f"{name}\n"
        listed = client.get("/api/executions", params={"jobname": name}).json()["executions"]
        assert [one["id"] for one in listed] == [execution["id"]]


@pytest.mark.parametrize(
    ("raw", "root", "path"),
    [
        (b"/api/jobs/a%2Fb", "", "/api/jobs/a%2Fb"),
        (b"/flow/api/jobs/a%2Fb", "/flow", "/api/jobs/a%2Fb"),
        (b"/fl%6Fw/api", "/flow", "/api"),
        (b"/my%20flow/api", "/my flow", "/api"),
        (b"/fl%C3%B6w/api", "/flöw", "/api"),
        (b"/my%20flow/api", "/my%20flow", "/api"),
        (b"/flow", "/flow", ""),
        (b"/flow/", "/flow", "/"),
        (b"/flower/api", "/flow", "/flower/api"),
        (b"/api/jobs", "/stripped", "/api/jobs"),
        (b"/api?x=/flow", "", "/api"),
        # a server prepends the root to a path that already has it
        (b"/flow/flow/api", "/flow", "/api"),
        (b"/flow/flow", "/flow", ""),
        (b"/flow/flow/flow/api", "/flow", "/flow/api"),
        (b"/flow/flower/api", "/flow", "/flower/api"),
        (b"/my%20flow/my%20flow/api", "/my flow", "/api"),
        (b"/fl%C3%B6w/fl%c3%b6w/api", "/flöw", "/api"),
        (b"/a/b/a/b/api", "/a/b", "/api"),
        # unless one of goflow's paths may begin with it
        (b"/api/api/jobs", "/api", "/api/jobs"),
        (b"/ui/x/ui/x/y", "/ui/x", "/ui/x/y"),
    ],
)
def test_the_path_below_the_mount_stays_encoded(raw: bytes, root: str, path: str) -> None:
    assert route_path({"raw_path": raw, "path": "unused", "root_path": root}, OWN) == path


def test_a_server_without_raw_paths_is_supported_as_far_as_possible() -> None:
    assert route_path({"path": "/flow/api/jobs/a b", "root_path": "/flow"}) == "/api/jobs/a%20b"


def test_a_segment_that_is_not_utf_8_is_unknown() -> None:
    assert decode("a%2Fb%25") == "a/b%"
    assert decode("%FF") is None
    assert decode("\xff") is None
