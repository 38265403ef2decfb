"""Foreign hosts and pages are refused, and responses have security headers."""

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
def test_an_invalid_host_is_refused(named: TestClient, host: str) -> None:
    answer = named.get("/api/health", headers=[(b"host", host.encode("latin-1"))])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid-host"


def test_two_host_headers_are_refused(named: TestClient) -> None:
    headers = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert named.get("/api/health", headers=headers).status_code == 400


def test_any_host_can_be_allowed_explicitly() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, allowed_hosts=["*"])
    gf.add_job(simple())
    with TestClient(gf, base_url="http://any.example") as client:
        assert client.get("/api/health").status_code == 200
        assert client.post(SUBMIT, headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["http://x", "a b", "", "x/y"])
def test_an_allowed_host_must_be_valid(host: str) -> None:
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
        ("127.0.0.1:8181", {"origin": "https://flow.example"}),
        ("127.0.0.1:8181", {"origin": "https://other.example:8443"}),
        ("localhost", {"origin": "http://localhost:9000", "sec-fetch-site": "same-origin"}),
        ("[::1]:8181", {"origin": "http://[0:0:0:0:0:0:0:1]:8181"}),
    ],
)
def test_own_pages_may_send_changes(named: TestClient, host: str, headers: dict[str, str]) -> None:
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
        {"origin": "http://localhost:8181", "sec-fetch-site": "same-site"},
        {"origin": "https://flow.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://flow.example", "sec-fetch-site": "same-site"},
        {"origin": "https://flow.example:8181"},
        {"origin": "http://flow.example:8443"},
        {"origin": "http://other.example"},
        {"origin": "ftp://flow.example"},
        {"origin": "chrome-extension://flow.example"},
        {"origin": "https://flow.example."},
        {"origin": "https://user@flow.example"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"origin": "http://evil.example", "sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "garbage"},
    ],
)
def test_foreign_pages_may_not_send_changes(named: TestClient, headers: dict[str, str]) -> None:
    for path in (SUBMIT, "/api/jobs/simple/toggle", "/api/executions/x/cancel", "/nothing"):
        answer = named.post(path, headers={"host": "localhost:8181", **headers})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign-origin"
    assert named.get("/api/executions").json()["executions"] == []


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("flow.example", "http://flow.example:8181"),
        ("flow.example", "https://flow.example:444"),
        ("flow.example:8181", "https://flow.example"),
        ("flow.example:8181", "http://flow.example:8182"),
        ("other.example:8443", "https://other.example"),
        ("localhost", "http://localhost:5173"),
    ],
)
def test_another_port_of_an_allowed_host_is_foreign(
    named: TestClient, host: str, origin: str
) -> None:
    headers = {"host": host, "origin": origin}
    assert named.post(SUBMIT, headers=headers).status_code == 403
    assert named.get("/api/jobs", headers=headers).status_code == 403


def test_an_http_page_is_foreign_to_an_https_server() -> None:
    gf = Goflow(MemoryStore(), ui_path=None, allowed_hosts=["flow.example"])
    gf.add_job(simple())
    with TestClient(gf, base_url="https://flow.example") as client:
        for scheme, status in (("http", 403), ("https", 200)):
            for origin in (f"{scheme}://flow.example", f"{scheme}://flow.example:443"):
                headers = {"origin": origin}
                assert client.post(SUBMIT, headers=headers).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        *("/api/jobs", "/api/health", "/api/executions/x/tasks/t/logs", "/stream", "/nothing"),
        *("/openapi.json", "/api/jobs/simple/submit", "/uix"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
def test_a_foreign_page_cannot_read_from_the_api(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers", [{}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}]
)
def test_own_pages_users_and_programs_can_read_the_api(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.get("/api/jobs", headers=headers).status_code == 200
    assert client.head("/stream", headers=headers).status_code == 200


def test_a_page_may_be_opened_by_a_link_from_anywhere(client: TestClient) -> None:
    for mode in ("navigate", "no-cors"):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
        for path in ("/ui/", "/ui/jobs/simple", "/ui/assets/app-0123abcd.js"):
            assert client.get(path, headers=headers).status_code == 200
        assert client.get("/", headers=headers).status_code == 307
        assert client.post("/ui/", headers=headers).status_code == 403


def asked(
    client: TestClient, path: str, host: bytes | None, version: str = "1.1", method: str = "GET"
) -> int:
    """The status of the response to a raw ASGI request."""
    raw, _, query = path.encode().partition(b"?")
    scope = {
        "type": "http",
        "http_version": version,
        "method": method,
        "path": raw.decode(),
        "raw_path": raw,
        "query_string": query,
        "headers": [] if host is None else [(b"host", host)],
    }
    found: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        found.append(message.get("status", 0))

    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    return found[0]


@pytest.mark.parametrize(
    ("host", "version", "status"),
    [
        *((None, "1.0", 200), (b"", "1.0", 200), (b"localhost", "1.0", 200)),
        *((b"evil.example", "1.0", 421), (b"a b", "1.0", 400), (None, "1.1", 400)),
    ],
)
def test_http_1_1_requires_a_host(
    client: TestClient, host: bytes | None, version: str, status: int
) -> None:
    assert asked(client, "/api/health", host, version) == status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost:8181/api/health", 200),
        ("HTTP://LOCALHOST/api/jobs/simple?x=1", 200),
        ("https://127.0.0.1/api/health", 200),
        ("http://localhost", 307),
        ("http://localhost?x=1", 307),
        ("http://evil.example/api/health", 421),
        ("http://user@localhost/api/health", 400),
        ("http:///api/health", 400),
        ("ftp://localhost/api/health", 404),
        ("localhost:8181", 404),
    ],
)
@pytest.mark.parametrize("host", [b"localhost", b"evil.example"])
def test_the_host_of_an_absolute_target_takes_precedence(
    client: TestClient, target: str, host: bytes, status: int
) -> None:
    absolute = target.lower().startswith("http")
    expected = status if absolute or host == b"localhost" else 421
    assert asked(client, target, host) == expected


def test_options_lists_the_methods_of_a_path(client: TestClient) -> None:
    for path, allowed in (
        ("/", "GET, HEAD, OPTIONS"),
        ("/api/health", "GET, HEAD, OPTIONS"),
        (SUBMIT, "POST, OPTIONS"),
    ):
        answer = client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
    assert client.options("/nothing").status_code == 404
    assert asked(client, "*", b"localhost", method="OPTIONS") == 204


def test_two_origin_headers_are_foreign(named: TestClient) -> None:
    headers = [(b"origin", b"http://localhost"), (b"origin", b"http://localhost")]
    assert named.post(SUBMIT, headers=headers).status_code == 403


def test_no_response_is_shared_with_other_sites(client: TestClient) -> None:
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
        assert ("unsafe" in policy) is answer.request.url.path.startswith("/ui/")  # custom
