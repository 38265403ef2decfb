"""The caller's headers and body go only to the named origin, even after redirects."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from goflow import Get, Post
from goflow.errors import TaskFailed
from tests.operators.memory_log import MemoryLog, context_with
from tests.operators.sockets import Server, answers

OWN = {"Authorization": "Bearer s3cr3t-token", "X-Api-Key": "s3cr3t-key", "Cookie": "a=s3cr3t-c"}


class Site:
    """Two origins; the path tells the first one where to redirect."""

    def __init__(self) -> None:
        self.status = "302 Found"
        self.locations: dict[str, str] = {}
        self.here = Server(self._answer)
        self.there = Server(self._answer)
        self.log = MemoryLog()

    def _answer(self, connection: socket.socket, head: bytes) -> None:
        path = head.split(b" ")[1].decode()
        if location := self.locations.get(path):
            answer = answers(b"", f"Location: {location}", status=self.status)
        else:
            answer = answers(b"hello")
        answer(connection, head)

    def run(self, operator: Get | Post) -> str:
        return asyncio.run(operator.run(context_with(self.log)))

    def failure(self, operator: Get | Post) -> str:
        with pytest.raises(TaskFailed) as caught:
            self.run(operator)
        return str(caught.value)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.here, made.there:
        yield made


def test_custom_headers_follow_a_redirect_within_the_origin(site: Site) -> None:
    site.locations = {"/": "/a", "/a": f"{site.here.url}/b", "/b": "c?d#e"}
    assert site.run(Get(f"{site.here.url}/", headers=OWN)) == "hello"
    assert len(site.here.asked) == 4
    assert all(b"s3cr3t-token" in head and b"s3cr3t-key" in head for head in site.here.asked)
    assert site.here.asked[-1].startswith(b"GET /c?d HTTP/1.1")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temp", "308 Perm"])
def test_custom_headers_do_not_follow_a_redirect_to_another_origin(site: Site, status: str) -> None:
    site.status, site.locations = status, {"/": f"{site.there.url}/x"}
    headers = {**OWN, "User-Agent": "s3cr3t", "Accept": "s3cr3t", "Host": "s3cr3t.example"}
    assert site.run(Get(f"{site.here.url}/", headers=headers)) == "hello"
    [head] = site.there.asked
    assert b"s3cr3t" not in head
    assert f"Host: 127.0.0.1:{site.there.port}".encode() in head
    assert f"{status}, to {site.there.url}/x, without our headers: another origin" in site.log.text


def test_another_name_for_the_same_server_is_another_origin(site: Site) -> None:
    site.locations = {"/": f"http://localhost:{site.here.port}/x"}
    site.run(Get(f"{site.here.url}/", headers=OWN))
    assert b"s3cr3t" in site.here.asked[0]
    assert b"s3cr3t" not in site.here.asked[1]


def test_dropped_headers_do_not_return_on_a_redirect_back(site: Site) -> None:
    site.locations = {"/": f"{site.there.url}/x", "/x": f"{site.here.url}/home"}
    site.run(Get(f"{site.here.url}/", headers=OWN))
    assert b"s3cr3t" not in site.here.asked[1]


def test_a_name_and_password_in_the_address_stay_in_their_origin(site: Site) -> None:
    site.locations = {"/": "/a", "/a": f"{site.there.url}/x"}
    site.run(Get(site.here.url.replace("//", "//me:s3cr3t-word@") + "/"))
    assert [b"Authorization: Basic" in head for head in site.here.asked] == [True, True]
    assert b"Authorization" not in site.there.asked[0]
    assert "s3cr3t" not in site.log.text


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See"])
def test_a_post_becomes_a_get_without_its_body(site: Site, status: str) -> None:
    site.status, site.locations = status, {"/": "/a", "/a": f"{site.there.url}/x"}
    site.run(Post(f"{site.here.url}/", json={"a": "s3cr3t"}, headers=OWN))
    for head in (site.here.asked[1], site.there.asked[0]):
        assert head.startswith(b"GET ")
        assert b"ontent-" not in head
        assert not head.partition(b"\r\n\r\n")[2]
    assert b"s3cr3t-key" in site.here.asked[1]


@pytest.mark.parametrize("status", ["307 Temp", "308 Perm"])
def test_a_body_is_sent_again_in_its_origin_and_not_in_another(site: Site, status: str) -> None:
    site.status, site.locations = status, {"/": "/a", "/away": f"{site.there.url}/x?key=s3cr3t"}
    assert site.run(Post(f"{site.here.url}/", "body", headers=OWN)) == "hello"
    assert site.here.asked[1].startswith(b"POST /a ")
    assert b"Content-Length: 4\r\n" in site.here.asked[1]
    error = site.failure(Post(f"{site.here.url}/away", "body"))
    assert f"{status}, to {site.there.url}/x?key=***, which is another origin" in error
    assert "so the body is not sent" in error
    assert site.there.asked == []


def test_a_post_without_a_body_may_follow_a_redirect_to_another_origin(site: Site) -> None:
    site.status, site.locations = "308 Perm", {"/": f"{site.there.url}/x"}
    assert site.run(Post(f"{site.here.url}/", headers=OWN)) == "hello"
    assert site.there.asked[0].startswith(b"POST /x ")
    assert b"s3cr3t" not in site.there.asked[0]


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("ftp://127.0.0.1/x?key=s3cr3t", "'ftp://127.0.0.1/x?key=***', which is not http or https"),
        ("javascript:alert(1)", "which is not http or https"),
        ("file:///etc/passwd", "which is not http or https"),
        ("http://me:s3cr3t@[::1", "to an invalid address: 'http://***@[::1'"),
        ("http://a:b:c/", "to an invalid address"),
        ("http://a:99999999/", "to an invalid address"),
    ],
)
def test_an_invalid_redirect_is_a_clear_failure(site: Site, location: str, shown: str) -> None:
    site.locations = {"/": location}
    error = site.failure(Get(f"{site.here.url}/"))
    assert error.startswith(f"GET {site.here.url}/: 302 Found, to ")
    assert shown in error
    assert "s3cr3t" not in error


def test_a_redirect_without_a_location_fails_like_other_statuses(site: Site) -> None:
    site.here._script = answers(b"where to?", status="302 Found")
    assert site.failure(Get(site.here.url)) == f"GET {site.here.url}: 302 Found: where to?"


def test_redirects_in_a_circle_end_after_ten(site: Site) -> None:
    site.locations = {"/": "/?token=s3cr3t", "/?token=s3cr3t": "/"}
    error = site.failure(Get(f"{site.here.url}/"))
    assert "more than 10 redirects" in error
    assert len(site.here.asked) == 11
    assert "s3cr3t" not in error + site.log.text
