"""The result of one attempt, over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, Job, MemoryStore, Task
from tests.web.conftest import Asker, Fail, segment

VALUES: dict[str, Any] = {
    "large": "x" * 100_000,
    "deep/ж": {"rows": [{"n": n, "text": 'a"\n<b>'} for n in range(1000)]},
    "small": [1, 2.5, None, "ж"],
    "nothing": None,
    "zero": 0,
    "number": 2**60,
}


class Give:
    def __init__(self, value: Any) -> None:
        self.value = value

    async def run(self) -> Any:
        return self.value


@pytest.fixture
def asker() -> Iterator[Asker]:
    gf = Goflow(MemoryStore(), ui_path=None)
    tasks = [Task(name, Give(value)) for name, value in VALUES.items()]
    gf.add_job(Job("j", tasks=[*tasks, Task("bad", Fail())]))
    gf.add_job(Job("wide", tasks=[Task(f"t{n}", Give("x" * 100_000)) for n in range(300)]))
    with TestClient(gf, base_url="http://localhost") as client:
        yield Asker(client)


def result(asker: Asker, id: str, task: str, **options: Any) -> Any:
    return asker.client.get(f"/api/executions/{id}/tasks/{segment(task)}/result", **options)


def test_the_route_returns_any_result_and_the_detail_the_small_ones(asker: Asker) -> None:
    execution = asker.run("j")
    for task in execution["tasks"][:-1]:
        name, value = task["name"], VALUES[task["name"]]
        answer = result(asker, execution["id"], name)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-goflow-attempt"] == "1"
        assert json.loads(answer.content) == value
        small = len(answer.content) <= 4096
        assert task["result"] == (value if small else None)
        assert task["result_bytes"] == (0 if value is None else len(answer.content))


def test_the_detail_of_many_large_results_is_small(asker: Asker) -> None:
    execution = asker.run("wide")
    assert execution["state"] == "successful"
    answer = asker.client.get(f"/api/executions/{execution['id']}")
    assert len(answer.content) < 300 * 1000


def test_an_unchanged_result_is_not_sent_again(asker: Asker) -> None:
    id = asker.run("j")["id"]
    tag = result(asker, id, "large").headers["etag"]
    for asked in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = result(asker, id, "large", headers={"If-None-Match": asked})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert result(asker, id, "large", headers={"If-None-Match": '"other"'}).status_code == 200
    assert result(asker, id, "small").headers["etag"] != tag


@pytest.mark.parametrize(
    ("task", "query", "status", "code", "words"),
    [
        ("bad", "", 404, "no-result", "is failed"),
        ("nobody", "", 404, "not-found", "no task 'nobody'"),
        ("large", "?attempt=2", 404, "not-found", "no attempt 2"),
        ("large", "?attempt=0", 400, "invalid-attempt", "attempt"),
        ("large", "?attempt=x", 400, "invalid-attempt", "attempt"),
        ("large", "?attempt=99999999999999999999", 400, "invalid-attempt", "attempt"),
    ],
)
def test_a_missing_result_is_refused_with_the_reason(
    asker: Asker, task: str, query: str, status: int, code: str, words: str
) -> None:
    id = asker.run("j")["id"]
    answer = asker.client.get(f"/api/executions/{id}/tasks/{task}/result{query}")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]


def test_the_result_of_an_unknown_execution_is_refused(asker: Asker) -> None:
    assert result(asker, "nope", "large").status_code == 404


def test_a_head_request_returns_the_size_of_a_result(asker: Asker) -> None:
    id = asker.run("j")["id"]
    answer = asker.client.head(f"/api/executions/{id}/tasks/large/result")
    assert answer.headers["content-length"] == "100002"
    assert answer.content == b""


def test_a_job_run_in_this_process_has_results_of_any_size() -> None:
    job = Job("j", tasks=[Task(name, Give(value)) for name, value in VALUES.items()])
    finished = job.run()
    assert {name: task.result for name, task in finished.tasks.items()} == VALUES


def test_a_job_run_in_this_process_has_any_number_of_results() -> None:
    values = ["x" * 4000] * 1100 + [True, 1234, "y" * 5000]
    job = Job("j", tasks=[Task(f"t{n}", Give(value)) for n, value in enumerate(values)])
    finished = job.run()
    assert [task.result for task in finished.tasks.values()] == values


def test_an_option_limits_the_results_of_an_execution() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, max_results=250_000)
    gf.add_job(Job("j", tasks=[Task(f"t{n}", Give("x" * 100_000)) for n in range(4)]))
    with TestClient(gf, base_url="http://localhost") as client:
        execution = Asker(client).run("j")
    assert [task["state"] for task in execution["tasks"]].count("failed") == 2
    assert all("250,000" in t["error"] for t in execution["tasks"] if t["error"])


@pytest.mark.parametrize(
    "options", [{"max_results": 0}, {"max_results": True}, {"max_result": 2**40}]
)
def test_an_invalid_size_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Goflow(MemoryStore(), **options)
