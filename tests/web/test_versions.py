"""Versions order the states of an execution across all routes."""

from typing import Any

import httpx2

from goflow import Goflow
from tests.web.conftest import Asker, until
from tests.web.test_stream import listening


def told(ask: Asker, id: str) -> dict[str, Any]:
    """The version and state of an execution by each route."""
    detail = ask.execution(id)
    job = detail["job"]
    [listed] = ask.client.get(f"/api/executions?jobname={job}").json()["executions"]
    [row] = ask.client.get(f"/api/overview?job={job}").json()["jobs"]
    [mark] = row["executions"]
    accounts = {"detail": detail, "list": listed, "overview": mark}
    return {route: (one["version"], one["state"]) for route, one in accounts.items()}


def agreed(ask: Asker, id: str, state: str) -> int:
    """The version of an execution in a state, on which all routes must agree."""
    accounts = until(lambda: len(set((each := told(ask, id)).values())) == 1 and each)
    version, seen = accounts["list"]
    assert seen == state
    return int(version)


def test_all_routes_return_the_same_version_and_a_retry_increases_it(ask: Asker) -> None:
    id = ask.run("failing")["id"]
    ended = agreed(ask, id, "failed")
    assert ask.client.post(f"/api/executions/{id}/retry").json()["success"]
    until(lambda: ask.execution(id)["version"] > ended and ask.execution(id)["finished"])
    again = agreed(ask, id, "failed")
    assert again > ended
    marked = ask.client.post(
        f"/api/executions/{id}/tasks/bad/mark", json={"state": "successful"}
    ).json()
    assert marked["success"]
    assert agreed(ask, id, "successful") > again


def test_unfinished_executions_have_a_version_too(ask: Asker) -> None:
    id = ask.submit("hanging")
    until(lambda: ask.execution(id)["state"] == "running")
    running = agreed(ask, id, "running")
    assert ask.client.post(f"/api/executions/{id}/cancel").json()["success"]
    ask.finished(id)
    assert agreed(ask, id, "cancelled") > running


def test_versions_of_an_execution_only_grow_in_a_stream(http: httpx2.Client, gf: Goflow) -> None:
    ask = Asker(http)
    before = ask.run("simple")
    with listening(http) as events:
        first = next(iter(events))["data"]
        assert (first["id"], first["version"]) == (before["id"], before["version"])
        id = ask.submit("failing")
        heard = events.until(id, "failed")
        assert ask.client.post(f"/api/executions/{id}/retry").json()["success"]
        heard += events.until(id, "failed")
    versions = [event["data"]["version"] for event in heard if event["data"]["id"] == id]
    assert versions == sorted(set(versions))
    assert heard[-1]["id"].endswith(f"-{versions[-1]}")
    last = heard[-1]["data"]["version"]
    with listening(http, headers={"Last-Event-ID": heard[0]["id"]}) as events:
        assert events.until(id, "failed")[-1]["data"]["version"] == last
