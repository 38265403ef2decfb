"""Clients that are slow, idle, many, or do not speak HTTP do not block the server."""

import contextlib
import ipaddress
import re
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from goflow import Goflow, Job, MemoryStore, Task
from goflow.web import acceptor
from goflow.web.acceptor import ConnectionLimits
from goflow.web.connection import Pace
from tests.web.conftest import DEADLINE, Served, simple, until

HOST = b"Host: localhost\r\n"
HEALTH = b"GET /api/health HTTP/1.1\r\n" + HOST + b"\r\n"
SUBMIT = b"POST /api/jobs/simple/submit HTTP/1.1\r\n" + HOST
HASTY = Pace(head=0.2, body=0.2, response=0.2, farewell=0.2, rate=1000)
LARGE = 8 * 1024 * 1024


class Large:
    def run(self) -> str:
        return "x" * LARGE


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server with its own limits, pace and notices."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Served:
            gf = Goflow(MemoryStore(), ui_path=None, stop_timeout=0.1, max_result=2 * LARGE)
            gf.add_job(simple())
            gf.add_job(Job("large", tasks=[Task("say", Large())]))
            server = Served(gf, notice=gf.engine.health.notice, **options)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


class Client:
    """A bare connection."""

    def __init__(self, server: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), DEADLINE)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_all(self) -> bytes:
        """All data until the server closes the connection; fails if it does not."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                received += data
        return received

    def read_until(self, text: bytes) -> bytes:
        received = b""
        while text not in received:
            data = self.socket.recv(65536)
            assert data, received
            received += data
        return received

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d+) ", answer)
    assert found, answer
    return int(found[1])


def is_well(server: Served) -> bool:
    answer = httpx2.get(f"{server.url}/api/health", timeout=DEADLINE)
    return bool(answer.json()["health"] == "OK")


# -- unusual requests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/health HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /api/health HTTP/1.0\r\n\r\n", 200),
        (b"OPTIONS / HTTP/1.0\r\n\r\n", 204),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 204),
        (b"GET http://localhost:1/api/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        (b"GET http://evil.example/api/health HTTP/1.1\r\n" + HOST + b"\r\n", 421),
        (b"GET /api/health HTTP/1.1\r\n\r\n", 400),
        (b"GET /api/health HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET /api/jobs/\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (HEALTH[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 200),
        (HEALTH[:-2] + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (HEALTH[:-2] + b"X: " + b"x" * 300_000 + b"\r\n\r\n", 431),
        (SUBMIT + b"Content-Length: -1\r\n\r\n", 400),
        (SUBMIT + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (SUBMIT + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (SUBMIT + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (SUBMIT + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n", 400),
        (SUBMIT + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", 400),
        (SUBMIT + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", 100),
    ],
)
@pytest.mark.parametrize("half_closed", [False, True])
def test_any_input_is_answered(
    served: Served, request_: bytes, status: int, half_closed: bool
) -> None:
    with Client(served) as client:
        client.send(request_)
        if half_closed:
            client.socket.shutdown(socket.SHUT_WR)
        assert status_of(client.read_until(b"\r\n\r\n")) == status


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with Client(served) as client:
        client.send(HEALTH * 20 + SUBMIT + b"Content-Length: 2\r\n\r\n{}" + b"garbage\r\n\r\n")
        answers = client.read_all()
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", answers)] == [200] * 21 + [400]


def test_the_response_to_an_invalid_request_has_the_usual_form_of_errors(served: Served) -> None:
    with Client(served) as client:
        client.send(b"nonsense\r\n\r\n")
        head, _, body = client.read_all().partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"x-content-type-options: nosniff" in head
    assert b'{"error":{"code":"invalid-http","message":"invalid HTTP/1.1 request: ' in body


# -- slow and idle clients -------------------------------------------------------------


def test_a_silent_client_gets_no_response(serve: Serve) -> None:
    with Client(serve(pace=HASTY)) as client:
        assert client.read_all() == b""


@pytest.mark.parametrize("before", [b"", HEALTH])
def test_a_head_must_arrive_in_time(serve: Serve, before: bytes) -> None:
    with Client(serve(pace=HASTY)) as client:
        if before:
            client.send(before)
            assert status_of(client.read_until(b"}")) == 200
        client.send(b"GET /api/health HTTP/1.1\r\nHo")
        assert status_of(client.read_all()) == 408


def test_a_slow_head_gets_no_extra_time(serve: Serve) -> None:
    with Client(serve(pace=HASTY)) as client:
        client.socket.settimeout(0.05)
        client.send(b"GET /api/health HTTP/1.1\r\nX: ")
        answer = b""
        while not answer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(b"x")
            with contextlib.suppress(TimeoutError):
                answer = client.socket.recv(65536)
                break
        assert status_of(answer) == 408


@pytest.mark.parametrize(
    "begun", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]
)
def test_a_body_must_arrive_in_time(serve: Serve, begun: bytes) -> None:
    server = serve(pace=HASTY)
    with Client(server) as client:
        client.send(SUBMIT + begun)
        assert status_of(client.read_all()) == 408
    assert httpx2.get(f"{server.url}/api/executions").json()["executions"] == []


def test_an_unread_body_must_arrive_in_time_too(serve: Serve) -> None:
    with Client(serve(pace=HASTY)) as client:
        client.send(b"GET /api/health HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{")
        assert client.read_all().count(b"HTTP/1.1") == 1


def test_a_steady_body_gets_more_time(serve: Serve) -> None:
    pace = HASTY._replace(rate=1)
    with Client(serve(pace=pace)) as client, Client(serve(pace=HASTY)) as other:
        client.send(SUBMIT + b"Content-Length: 30\r\n\r\n{}" + b" " * 27)
        other.send(SUBMIT + b"Content-Length: 30\r\n\r\n{}")
        assert status_of(other.read_all()) == 408  # so the time has passed
        client.send(b" ")
        assert b'"success":true' in client.read_until(b"}")


def test_a_client_that_does_not_read_is_disconnected(serve: Serve) -> None:
    server = serve(pace=HASTY)
    path = result_of_large(server)
    with Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET %b HTTP/1.1\r\n" % path + HOST + b"\r\n")
        cut_off = select.poll()
        cut_off.register(client.socket, select.POLLHUP)
        assert cut_off.poll(DEADLINE * 1000)
        assert len(client.read_all()) < LARGE


def test_an_idle_stream_stays_open(serve: Serve) -> None:
    server = serve(pace=HASTY)
    with Client(server) as client:
        client.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        client.read_until(b"retry: ")
        with Client(server) as other:
            assert other.read_all() == b""  # it connected later, and its time has passed
        httpx2.post(f"{server.url}/api/jobs/simple/submit")
        client.read_until(b"event: message")


def test_a_stop_waits_neither_for_half_requests_nor_for_clients_that_do_not_read(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(pace=Pace(stop=0.2))
    path = result_of_large(server)
    with Client(server) as silent, Client(server) as half, Client(server) as stuck:
        half.send(SUBMIT + b"Content-Length: 100\r\n\r\n{")
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.send(b"GET %b HTTP/1.1\r\n" % path + HOST + b"\r\n")
        assert status_of(stuck.socket.recv(100)) == 200
        until(lambda: is_well(server))  # so the server has received the half request too
        server.stop()
        assert silent.read_all() == b""
        assert status_of(half.read_all()) == 503
    assert [
        record for record in caplog.records if record.exc_info or "exceeded" in record.msg
    ] == []


def result_of_large(server: Served) -> bytes:
    """The path of a result larger than any buffer."""
    with httpx2.Client(base_url=server.url, timeout=DEADLINE) as http:
        id = http.post("/api/jobs/large/submit").json()["id"]
        until(lambda: http.get(f"/api/executions/{id}").json()["finished"])
    return f"/api/executions/{id}/tasks/say/result".encode()


# -- many connections ------------------------------------------------------------------


def test_the_longest_idle_connection_is_closed_for_a_new_one(serve: Serve) -> None:
    server = serve(limits=ConnectionLimits(total=3))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Client(server)) for _ in range(5)]
        assert silent[0].read_all() == b""
        assert silent[1].read_all() == b""
        silent[4].send(HEALTH)
        assert status_of(silent[4].read_until(b"}")) == 200
        assert is_well(server)
        notices = [notice.text for notice in server.app.engine.health.notices()]
        assert len(notices) == 1
        assert notices[0].startswith("3 connections are open, the limit")


def test_a_connection_with_a_response_in_progress_is_not_closed(serve: Serve) -> None:
    server = serve(limits=ConnectionLimits(total=3))
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Client(server)) for _ in range(3)]
        for stream in streams:
            stream.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
            stream.read_until(b"retry: ")
        with Client(server) as refused:
            answer = refused.read_all()
        assert status_of(answer) == 503
        assert b'"code":"busy"' in answer
        streams.pop().socket.close()
        until(lambda: has_answer(server))
        until(lambda: len(server.app.engine.broadcast) == 2)


def has_answer(server: Served) -> bool:
    with Client(server) as client, contextlib.suppress(ConnectionError):
        client.send(HEALTH)
        return client.socket.recv(65536).startswith(b"HTTP/1.1 200")
    return False


def test_one_address_cannot_use_all_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "LOOPBACK", ())
    server = serve(limits=ConnectionLimits(total=100, per_address=2))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(3)]
        assert clients[0].read_all() == b""
        for client in clients[1:]:
            client.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
            client.read_until(b"retry: ")
        with Client(server) as refused:
            assert status_of(refused.read_all()) == 503
        notice = server.app.engine.health.notices()[0].text
        assert notice.startswith("127.0.0.1 has 2 connections, the limit for one address")


@pytest.mark.parametrize(
    ("host", "exempt"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("10.1.2.3", True), ("10.2.0.1", False), ("::2", False), ("", True)),
    ],
)
def test_proxies_and_loopback_may_use_all_connections(host: str, exempt: bool) -> None:
    limits = ConnectionLimits(proxies=[ipaddress.ip_network("10.1.0.0/16")])
    assert limits.exempts(host) is exempt
