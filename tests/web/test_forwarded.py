"""Forwarded headers are used if they come from a trusted proxy, and ignored otherwise."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from goflow import Goflow, MemoryStore
from tests.web.conftest import Asker, simple

PROXY = "10.0.0.1"
FRONT = {
    "host": "127.0.0.1:8181",
    "x-forwarded-host": "flow.example:8443",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "203.0.113.7",
}


class Seen:
    """A middleware that records scopes."""

    scopes: list[Scope]

    def __init__(self, app: Any, scopes: list[Scope]) -> None:
        self._app, self._scopes = app, scopes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scopes.append(scope)
        await self._app(scope, receive, send)


class Behind:
    """A server that trusts 10.0.0.0/24 and ::1, with requests from `peer`."""

    def __init__(self, peer: str, trusted: tuple[str, ...] = ("10.0.0.0/24", "::1")) -> None:
        self.scopes: list[Scope] = []
        gf = Goflow(
            MemoryStore(), ui_path=None, allowed_hosts=["flow.example"], trusted_proxies=trusted
        )
        gf.add_job(simple())
        gf.use(Seen, scopes=self.scopes)
        self.client = TestClient(gf, base_url="http://127.0.0.1:8181", client=(peer, 1234))

    def seen(self, headers: Any) -> Scope:
        assert self.client.get("/api/health", headers=headers).status_code == 200
        return self.scopes[-1]


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind(PROXY)
    with made.client:
        yield made


def test_client_scheme_and_host_are_those_of_the_request_to_the_proxy(behind: Behind) -> None:
    scope = behind.seen(FRONT)
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["scheme"] == "https"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"flow.example:8443"]


@pytest.mark.parametrize(
    ("peer", "trusted"), [("203.0.113.9", ("10.0.0.0/24",)), (PROXY, ()), ("testclient", ())]
)
def test_forwarded_headers_of_untrusted_peers_are_ignored(
    peer: str, trusted: tuple[str, ...]
) -> None:
    made = Behind(peer, trusted)
    with made.client:
        scope = made.seen({**FRONT, "x-forwarded-host": "evil.example"})
    assert scope["client"] == (peer, 1234)
    assert scope["scheme"] == "http"
    assert (b"host", b"127.0.0.1:8181") in scope["headers"]


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (["203.0.113.7"], ("203.0.113.7", 0)),
        (["203.0.113.7:4711"], ("203.0.113.7", 4711)),
        (["2001:db8::7"], ("2001:db8::7", 0)),
        (["[2001:db8::7]"], ("2001:db8::7", 0)),
        (["[2001:db8::7]:99"], ("2001:db8::7", 99)),
        (["::ffff:203.0.113.7"], ("203.0.113.7", 0)),
        # a client may have sent the start of the list
        (["127.0.0.1, 203.0.113.7"], ("203.0.113.7", 0)),
        (["1.1.1.1", "203.0.113.7,10.0.0.2"], ("203.0.113.7", 0)),
        (["1.1.1.1, 203.0.113.7 , ::ffff:10.0.0.2 , ::1"], ("203.0.113.7", 0)),
        (["10.0.0.3, 10.0.0.2"], ("10.0.0.3", 0)),
        # an unknown client is empty, and entries before it are ignored
        (["unknown"], (PROXY, 1234)),
        (["203.0.113.7, unknown, 10.0.0.2"], ("10.0.0.2", 0)),
        (["203.0.113.7, [::1"], (PROXY, 1234)),
        (["203.0.113.7:port"], (PROXY, 1234)),
        ([""], (PROXY, 1234)),
        ([",,,"], (PROXY, 1234)),
        (["\xff"], (PROXY, 1234)),
        (["1.2.3.4, " * 1000 + "203.0.113.7"], ("203.0.113.7", 0)),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(
    behind: Behind, said: list[str], client: tuple[str, int]
) -> None:
    headers = [(b"host", b"localhost")]
    headers += [(b"x-forwarded-for", each.encode("latin-1")) for each in said]
    assert behind.seen(headers)["client"] == client


@pytest.mark.parametrize(
    ("addresses", "said", "host"),
    [
        ("203.0.113.7", "flow.example", b"flow.example"),
        ("203.0.113.7", "evil.example, flow.example", b"flow.example"),  # the client sent the first
        ("203.0.113.7, 10.0.0.2", "flow.example, localhost", b"flow.example"),
        ("203.0.113.7, 10.0.0.2", "evil.example, flow.example, localhost", b"flow.example"),
        ("203.0.113.7, 10.0.0.2", "flow.example", b"flow.example"),  # a proxy replaced the list
        ("", "flow.example", b"flow.example"),
    ],
)
def test_a_list_is_read_from_its_end_one_entry_per_proxy(
    behind: Behind, addresses: str, said: str, host: bytes
) -> None:
    headers = {"x-forwarded-for": addresses, "x-forwarded-host": said}
    assert (b"host", host) in behind.seen(headers)["headers"]


@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("HTTPS", "https"), ("ftp", "http"), ("", "http")]
)
def test_a_scheme_is_http_or_https(behind: Behind, said: str, scheme: str) -> None:
    assert behind.seen({"x-forwarded-proto": said})["scheme"] == scheme


def test_only_pages_of_the_proxys_origin_may_send_changes(behind: Behind) -> None:
    submit = "/api/jobs/simple/submit"
    own = {**FRONT, "origin": "https://flow.example:8443"}
    assert behind.client.post(submit, headers=own).status_code == 200
    for origin in ("https://evil.example", "https://flow.example:8444.evil.example", "null"):
        answer = behind.client.post(submit, headers={**FRONT, "origin": origin})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"x-forwarded-host": "evil.example"}, 421),
        # a browser on the proxy's machine, with a page whose name resolves to this machine
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example", "x-forwarded-host": "localhost"}, 421),
        ({"x-forwarded-host": "flow.example/x"}, 400),
        ({"x-forwarded-host": ""}, 400),
    ],
)
def test_both_the_sent_and_the_forwarded_host_are_checked(
    behind: Behind, changed: dict[str, str], status: int
) -> None:
    answer = behind.client.get("/api/health", headers={**FRONT, **changed})
    assert answer.status_code == status


def test_two_hosts_are_refused_though_a_proxy_names_one(behind: Behind) -> None:
    headers = [
        (b"host", b"localhost"),
        (b"host", b"localhost"),
        (b"x-forwarded-host", b"localhost"),
    ]
    assert behind.client.get("/api/health", headers=headers).status_code == 400


def test_the_clients_address_is_recorded_as_the_user(behind: Behind) -> None:
    ask = Asker(behind.client)
    ask.client.headers = {**FRONT, "x-goflow-user": "ann"}
    id = ask.submit("simple")
    assert ask.execution(id)["actions"][0]["by"] == "ann from 203.0.113.7"


@pytest.mark.parametrize(
    "value",
    ["127.0.0.1", ["localhost"], ["*"], ["10.0.0.1/8"], [""], [None], [b"1.2.3.4"], 3, [["::1"]]],
)
def test_a_proxy_is_an_address_or_a_network(value: Any) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Goflow(MemoryStore(), ui_path=None, trusted_proxies=value)
    with pytest.raises(ValueError, match="trusted_proxies"):
        Goflow(MemoryStore(), ui_path=None).configure(trusted_proxies=value)
