"""The items of a mapped task, over HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Context, Goflow, Job, MemoryStore, Task
from tests.web.conftest import Asker


class Give:
    async def run(self) -> Any:
        return ["a", "b", "c"]


class Say:
    async def run(self, context: Context) -> Any:
        print(f"item {context.item}")
        if context.index == 1 and context.attempt == 1:
            raise ValueError("no b")
        return context.item


@pytest.fixture
def asker() -> Iterator[Asker]:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(
        Job(
            "j",
            tasks=[
                Task("give", Give()),
                Task("say", Say(), map_over="give", item_key="{{ item }}!"),
            ],
        )
    )
    with TestClient(gf, base_url="http://localhost") as client:
        yield Asker(client)


def test_items_are_paged_and_filtered(asker: Asker) -> None:
    path = f"/api/executions/{asker.run('j')['id']}/tasks/say/items"
    page = asker.client.get(path, params={"limit": 2}).json()
    assert [item["index"] for item in page["items"]] == [0, 1]
    (attempt,) = page["items"][0].pop("history")
    assert (attempt["attempt"], attempt["state"]) == (1, "successful")
    assert attempt["started"] <= attempt["finished"]
    assert page["items"][0] | {"started": None, "finished": None} == {
        "index": 0,
        "state": "successful",
        "attempts": 1,
        "started": None,
        "finished": None,
        "error": None,
        "result": "a",
        "result_bytes": 3,
        "waiting": None,
        "key": "a!",
    }
    rest = asker.client.get(path, params={"cursor": page["next"]}).json()
    assert ([item["index"] for item in rest["items"]], rest["next"]) == ([2], None)
    failed = asker.client.get(path, params={"state": "failed"}).json()
    assert [item["index"] for item in failed["items"]] == [1]
    assert "ValueError: no b" in failed["items"][0]["error"]


def test_items_are_filtered_and_named_by_their_keys(asker: Asker) -> None:
    id = asker.run("j")["id"]
    path = f"/api/executions/{id}/tasks/say"
    page = asker.client.get(f"{path}/items", params={"key": "B"}).json()
    assert [(item["index"], item["key"]) for item in page["items"]] == [(1, "b!")]
    assert asker.client.get(f"{path}/logs", params={"key": "c!"}).text == "item c\n"
    assert asker.client.get(f"{path}/result", params={"key": "c!"}).json() == "c"
    answer = asker.client.get(f"{path}/logs", params={"key": "d"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (404, "key")
    answer = asker.client.get(f"{path}/logs", params={"key": "c!", "item": 2})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "key")
    answer = asker.client.post(f"{path}/cancel", json={"key": "a!"})
    assert answer.json()["success"] is False
    answer = asker.client.post(f"/api/executions/{id}/retry", json={"key": "b!"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "key")
    answer = asker.client.post(f"/api/executions/{id}/retry", json={"task": "say", "key": "b!"})
    assert answer.json()["success"] is True


def test_a_task_without_items_and_a_bad_page_are_refused(asker: Asker) -> None:
    id = asker.run("j")["id"]
    answer = asker.client.get(f"/api/executions/{id}/tasks/give/items")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-mapped")
    for query in ("cursor=x", "limit=0", "state=done"):
        answer = asker.client.get(f"/api/executions/{id}/tasks/say/items?{query}")
        assert answer.status_code == 400


def test_counts_of_items_are_in_lists_and_details_of_mapped_tasks_alone(asker: Asker) -> None:
    detail = asker.run("j")
    counts = {"total": 3, "successful": 2, "failed": 1}
    (listed,) = asker.client.get("/api/executions").json()["executions"]
    for tasks in (listed["tasks"], detail["tasks"]):
        assert [task.get("items") for task in tasks] == [None, counts]


def test_logs_and_results_of_an_item(asker: Asker) -> None:
    path = f"/api/executions/{asker.run('j')['id']}/tasks/say"
    assert asker.client.get(f"{path}/logs?item=2").text == "item c\n"
    assert asker.client.get(f"{path}/lines?item=2").json()["lines"] == ["item c"]
    assert asker.client.get(f"{path}/find?item=2&text=c").json()["lines"] == [0]
    assert asker.client.get(f"{path}/result?item=2").json() == "c"
    for route in ("logs", "lines", "result"):
        answer = asker.client.get(f"{path}/{route}?item=3")
        assert (answer.status_code, answer.json()["error"]["field"]) == (404, "item")


def test_one_item_is_retried_and_the_others_are_not(asker: Asker) -> None:
    id = asker.run("j")["id"]
    body = {"task": "say", "item": 1}
    assert asker.client.post(f"/api/executions/{id}/retry", json=body).status_code == 200
    detail = asker.finished(id)
    assert detail["state"] == "successful"
    assert detail["tasks"][1]["result"] == ["a", "b", "c"]
    assert detail["actions"][-1]["item"] == 1
    items = asker.client.get(f"/api/executions/{id}/tasks/say/items").json()["items"]
    assert [item["attempts"] for item in items] == [1, 2, 1]


def test_requests_about_items_that_cannot_be_are_refused(asker: Asker) -> None:
    id = asker.run("j")["id"]
    post = asker.client.post
    assert post(f"/api/executions/{id}/retry", json={"item": 1}).status_code == 400
    assert post(f"/api/executions/{id}/retry", json={"task": "say", "item": 9}).status_code == 404
    path = f"/api/executions/{id}/tasks/say"
    assert post(f"{path}/mark", json={"state": "skipped", "item": 1}).status_code == 409
    assert post(f"{path}/cancel", json={"item": 1}).json() == {"id": id, "success": False}
    assert post(f"{path}/cancel", json={"item": -1}).status_code == 400
