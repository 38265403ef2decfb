"""No input causes a 500, and a bad request changes nothing."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from tests.web.conftest import simple

HUGE = "9" * 5000


@pytest.mark.parametrize(
    "query",
    [
        *(
            f"limit={v}"
            for v in ("0", "-1", "1001", HUGE, "x", "", "1.0", "1e2", "%2B5", "٣", "null")
        ),
        *(f"cursor={v}" for v in ("x", "", "-1", "1.5", "5%0A", HUGE, "%00", "null", "0x1", "٣")),
        *(
            f"state={v}"
            for v in ("x", "RUNNING", "failed%0A", "null", "running,failed", "%00", "%F0%9F%92%A5")
        ),
        "limit=1&limit=2",
        "jobname=a&jobname=a",
        "jobname=%FF",
        "&".join(f"p{n}=1" for n in range(1000)),
    ],
)
def test_a_bad_page_of_executions_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/executions?{query}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"]
    assert error["field"] in (query.split("=")[0], None)


@pytest.mark.parametrize(
    "query", ["jobname=%00", "jobname=" + "x" * 9000, "%F0%9F%92%A5=1", "&&=", "%"]
)
def test_an_unusual_query_is_taken_literally(client: TestClient, query: str) -> None:
    assert client.get(f"/api/executions?{query}").status_code == 200


@pytest.mark.parametrize("query", ["last=0", "last=101", "last=x", "last="])
def test_a_bad_overview_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/overview?{query}").json()["error"]["field"] == "last"


@pytest.mark.parametrize(
    "query", ["after=-1", f"after={HUGE}", "attempt=0", "attempt=-1", f"attempt={HUGE}", "after=x"]
)
def test_a_bad_range_of_a_log_is_refused(client: TestClient, query: str) -> None:
    id = client.post("/api/jobs/simple/submit").json()["id"]
    answer = client.get(f"/api/executions/{id}/tasks/first/logs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == query.split("=")[0]


BODIES: list[tuple[bytes, str | None]] = [
    (b"{", None),
    (b"nonsense", None),
    (b"[]", None),
    (b"3", None),
    (b"null", None),
    (b'"params"', None),
    (b'{"params":1}', "params"),
    (b'{"params":[]}', "params"),
    (b'{"parms":{}}', "parms"),
    (b'{"params":{},"params":{}}', "params"),
    (b'{"params":{"a":1,"a":2}}', "a"),
    (b'{"params":{"a":NaN}}', None),
    (b'{"params":{"a":-Infinity}}', None),
    (b'{"params":{"a":' + HUGE.encode() * 2 + b"}}", None),
    (b'{"params":{"a":"\xff"}}', None),
    (b'\xef\xbb\xbf{"params":{}}', None),
    (b"[" * 100_000, None),
    (b'{"params":' * 100_000, None),
    (b'{"params":{"a":"\\ud800"}}', "params.a"),
    (b'{"params":{"\\ud800":1}}', "params"),
    (b'{"\\ud800":1}', None),
    (b'{"params":{"a":1e999}}', None),
    (b"\x00", None),
]


@pytest.mark.parametrize(("body", "field"), BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_refused(client: TestClient, body: bytes, field: str | None) -> None:
    answer = client.post("/api/jobs/simple/submit", content=body)
    expected = 422 if b"ud800" in body and field is not None else 400
    assert answer.status_code == expected, answer.text
    assert answer.json()["success"] is False
    assert answer.json()["error"]["field"] == field
    assert client.get("/api/executions").json()["executions"] == []


@pytest.mark.parametrize("body", [{"active": 1}, {"active": "yes"}, {"active": None}, {"on": True}])
def test_a_bad_toggle_changes_nothing(client: TestClient, body: Any) -> None:
    assert client.post("/api/jobs/simple/toggle", json=body).status_code == 400
    assert client.get("/api/jobs/simple").json()["active"] is True


@pytest.mark.parametrize("name", ["nope", "\\ud800", "x" * 100_000])
def test_an_unknown_parameter_is_refused_by_name(name: str) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple(params={"a": 1}))
    with TestClient(gf, base_url="http://localhost") as client:
        answer = client.post(
            "/api/jobs/simple/submit", content=b'{"params":{"%b":1}}' % name.encode()
        )
        assert answer.status_code == 422
        assert answer.json()["error"]["field"].startswith("params")
        assert len(answer.text) < 3000


def test_a_body_over_the_limit_is_refused_whether_announced_or_not(gf: Goflow) -> None:
    gf = Goflow(MemoryStore(), ui_path=None, max_body=1000)
    gf.add_job(simple())
    with TestClient(gf, base_url="http://localhost") as client:
        for size, status in [(1000, 200), (1001, 413), (100_000, 413)]:
            body = b'{"params":{}}'.ljust(size)
            for content in (body, iter([body[:500], body[500:]])):
                answer = client.post("/api/jobs/simple/submit", content=content)
                assert answer.status_code == status
        assert answer.json()["error"]["code"] == "too-large"
        assert answer.json()["success"] is False
        assert len(client.get("/api/executions").json()["executions"]) == 2


def test_a_deeply_nested_body_is_kept_or_refused(client: TestClient) -> None:
    for depth in (10, 200, 900, 1100):
        body = b'{"params":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        assert client.post("/api/jobs/simple/submit", content=body).status_code in (200, 400, 422)


def test_an_error_quotes_only_a_little_of_the_request(client: TestClient) -> None:
    answer = client.get("/api/executions?cursor=" + "x" * 50_000)
    assert len(answer.text) < 3000
    body = json.dumps({"x" * 50_000: 1})
    assert len(client.post("/api/jobs/simple/submit", content=body).text) < 3000
    assert len(client.post(f"/api/jobs/{'y' * 50_000}/submit").text) < 6000
