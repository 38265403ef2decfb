"""Foreign names and foreign pages are kept out, and browsers are told what is allowed."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from tests.web.conftest import simple

SUBMIT = "/api/jobs/simple/submit"


@pytest.fixture
def named() -> Any:
    gf = Goflow(MemoryStore(), ui_path=None, allowed_hosts=("Flow.example", "other.example:8443"))
    gf.add_job(simple())
    with TestClient(gf, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost:8181", "localhost:", "127.0.0.1", "127.0.0.1:1"),
        *("10.1.2.3:8181", "[::1]", "[::1]:8181", "[2001:db8::1]:80", "[::ffff:1.2.3.4]"),
        *("flow.example", "FLOW.EXAMPLE:1234", "other.example:8443"),
    ],
)
def test_our_own_names_are_served(named: TestClient, host: str) -> None:
    assert named.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "x.localhost", "127.0.0.1.nip.io", "127.1"),
        *("other.example", "other.example:80", "sub.flow.example", "flow.example.", "0x7f.1"),
    ],
)
def test_other_names_are_refused(named: TestClient, host: str) -> None:
    answer = named.get("/api/health", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "forbidden-host"


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "local host", "localhost/", "user@localhost", "localhost:99999", "localhost:x"),
        *("[::1", "[localhost]", "::1", "a:1:2", "localhost,evil", "\xe9"),
    ],
)
def test_a_host_that_is_none_is_refused(named: TestClient, host: str) -> None:
    answer = named.get("/api/health", headers=[(b"host", host.encode("latin-1"))])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid-host"


def test_two_hosts_are_refused(named: TestClient) -> None:
    headers = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert named.get("/api/health", headers=headers).status_code == 400


def test_any_host_may_be_allowed_on_purpose() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, allowed_hosts=["*"])
    gf.add_job(simple())
    with TestClient(gf, base_url="http://any.example") as client:
        assert client.get("/api/health").status_code == 200
        assert client.post(SUBMIT, headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["http://x", "a b", "", "x/y"])
def test_an_allowed_host_must_be_a_host(host: str) -> None:
    from goflow.web.guard import Guard

    with pytest.raises(ValueError, match="allowed_hosts"):
        Guard(simple, [host])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:8181", {}),
        ("localhost:8181", {"origin": "http://localhost:8181"}),
        ("localhost:8181", {"origin": "http://LOCALHOST:8181", "sec-fetch-site": "same-origin"}),
        ("localhost", {"origin": "http://localhost:80"}),
        ("flow.example", {"origin": "https://flow.example"}),
        ("[::1]:8181", {"origin": "http://[::1]:8181"}),
        ("localhost:8181", {"sec-fetch-site": "none"}),
        ("localhost:8181", {"sec-fetch-site": "same-origin"}),
        ("127.0.0.1:8181", {"origin": "https://flow.example", "sec-fetch-site": "same-origin"}),
    ],
)
def test_our_own_pages_may_change_things(
    named: TestClient, host: str, headers: dict[str, str]
) -> None:
    assert named.post(SUBMIT, headers={"host": host, **headers}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:8182"},
        {"origin": "http://127.0.0.1:8181"},
        {"origin": "https://localhost"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:8181.evil.example"},
        {"origin": "http://localhost:8181@evil.example"},
        {"origin": "file://"},
        {"origin": "http://localhost:8181", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "garbage"},
    ],
)
def test_foreign_pages_may_not_change_anything(named: TestClient, headers: dict[str, str]) -> None:
    for path in (SUBMIT, "/api/jobs/simple/toggle", "/api/executions/x/cancel", "/nothing"):
        answer = named.post(path, headers={"host": "localhost:8181", **headers})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign-origin"
    assert named.get("/api/executions").json()["executions"] == []


def test_two_origins_are_foreign(named: TestClient) -> None:
    headers = [(b"origin", b"http://localhost"), (b"origin", b"http://localhost")]
    assert named.post(SUBMIT, headers=headers).status_code == 403


def test_no_answer_is_shared_with_other_sites(client: TestClient) -> None:
    answers = [
        client.get(path, headers={"origin": "http://evil.example"})
        for path in ("/api/jobs", "/ui/", "/nothing", "/ui/assets/app-0123abcd.js", "/")
    ]
    answers.append(client.get("/api/jobs", headers={"host": "evil.example"}))
    for answer in answers:
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
