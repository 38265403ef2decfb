"""The stream over a real socket: immediate, complete, and closed without listeners."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.ports import number_of, reserved_port
from goflow import Goflow, MemoryStore
from goflow.web.connection import Connection
from goflow.web.event_stream import EventStream
from tests.web.conftest import DEADLINE, Asker, Served, simple, until


class Events:
    """Server-sent events, parsed line by line like in a browser."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        event: dict[str, Any] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                yield event
                event = {}
            elif name == "data":
                event["data"] = json.loads(value)
            elif name:
                event[name] = value

    def until(self, id: str, state: str) -> list[dict[str, Any]]:
        """The events up to the one with this state."""
        seen = []
        for event in self:
            seen.append(event)
            if (event["data"]["id"], event["data"]["state"]) == (id, state):
                return seen
        raise AssertionError("the stream has ended")


@contextlib.contextmanager
def listening(http: httpx2.Client, path: str = "/stream", **options: Any) -> Iterator[Events]:
    with http.stream("GET", path, **options) as response:
        assert response.status_code == 200
        yield Events(response)


def test_a_listener_receives_every_change_until_the_end(http: httpx2.Client, gf: Goflow) -> None:
    ask = Asker(http)
    before = ask.run("simple")["id"]
    with listening(http) as events:
        assert events.response.headers["content-type"].startswith("text/event-stream")
        assert events.response.headers["cache-control"] == "no-store"
        first = next(iter(events))
        assert (first["event"], first["data"]["id"]) == ("message", before)
        assert first["data"] == ask.client.get("/api/executions").json()["executions"][0]
        id = ask.submit("failing")
        heard = events.until(id, "failed")
    assert [(task["name"], task["state"]) for task in heard[-1]["data"]["tasks"]] == [
        ("good", "successful"),
        ("bad", "failed"),
    ]


def test_the_first_bytes_arrive_without_events(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"retry: " not in received:
            received += connection.recv(4096)
    assert b"200 OK" in received


def test_a_stream_of_one_job_excludes_the_others(http: httpx2.Client) -> None:
    ask = Asker(http)
    ask.run("simple")
    with listening(http, "/stream?jobname=failing") as events:
        ask.run("simple")
        id = ask.submit("failing")
        assert {event["data"]["job"] for event in events.until(id, "failed")} == {"failing"}


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_resumes_without_a_gap(http: httpx2.Client, how: str) -> None:
    ask = Asker(http)
    with listening(http) as events:
        first = ask.submit("simple")
        last = events.until(first, "successful")[-1]["id"]
    missed = [ask.run("simple")["id"] for _ in range(3)]
    options: dict[str, Any] = {"headers": {"last-event-id": last}}
    if how == "query":
        options = {"params": {"last_event_id": last}}
    with listening(http, **options) as events:
        heard = [event["data"]["id"] for event in events.until(missed[-1], "successful")]
    assert list(dict.fromkeys(heard)) == missed


def test_changes_during_the_snapshot_are_received(served: Served) -> None:
    with httpx2.Client(base_url=served.url) as http:
        ask = Asker(http)
        for _ in range(3):
            ask.run("simple")
        listener = served.app.engine.broadcast.listen(None, None)
        step = lambda: {event.id for event in served.call(anext(listener))}  # noqa: E731
        heard: set[str] = step()
        id = ask.run("simple")["id"]
        while id not in heard:
            heard |= step()
        served.call(listener.aclose())


@pytest.mark.parametrize("id", ["x", "-1", "a-b", "\xe9", "x" * 5000])
def test_an_invalid_last_event_id_is_refused_before_the_stream(
    http: httpx2.Client, gf: Goflow, id: str
) -> None:
    answer = http.get("/stream", headers=[(b"last-event-id", id.encode("latin-1"))])
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "Last-Event-ID"
    assert len(gf.engine.broadcast) == 0


def test_too_many_listeners_are_refused(
    http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goflow.engine.broadcast.LISTENER_LIMIT", 1)
    with listening(http):
        answer = http.get("/stream")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]


def test_a_client_that_disconnects_leaves_no_mailbox(http: httpx2.Client, gf: Goflow) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(listening(http))
        until(lambda: len(gf.engine.broadcast) == 20)
    until(lambda: len(gf.engine.broadcast) == 0)


def test_head_opens_no_stream(http: httpx2.Client, gf: Goflow) -> None:
    answer = http.head("/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert len(gf.engine.broadcast) == 0


def test_a_slow_listener_receives_the_last_state(http: httpx2.Client, served: Served) -> None:
    ask = Asker(http)
    with listening(http) as events:
        ids = [ask.submit("simple") for _ in range(100)]
        for id in ids:
            ask.finished(id)
        waiting = set(ids)
        for event in events:
            if event["data"]["state"] == "successful":
                waiting.discard(event["data"]["id"])
            if not waiting:
                break


def test_open_streams_end_cleanly_when_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple())
    server = Served(gf)
    server.start()
    with httpx2.Client(base_url=server.url) as http, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(listening(http)) for _ in range(50)]
        until(lambda: len(gf.engine.broadcast) == 50)
        server.stop()
        for stream in streams:
            assert list(stream) == []
        assert len(gf.engine.broadcast) == 0
        # after some seconds uvicorn would cut off the streams, with a message
        assert "exceeded" not in caplog.text


def test_listeners_that_never_read_use_bounded_memory_and_leave_nothing(
    served: Served, gf: Goflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Connection] = []
    made = Connection.connection_made

    def connection_made(connection: Connection, transport: Any) -> None:
        made(connection, transport)
        # The system would buffer megabytes for each.
        taken = transport.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connections.append(connection)

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    note = {"params": {"note": "x" * 4000}}  # the longest that a stream shows
    with contextlib.ExitStack() as stack, httpx2.Client(base_url=served.url) as http:
        ask = Asker(http)
        ids = [ask.submit("simple", json=note) for _ in range(10)]
        silent = []
        for _ in range(40):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.settimeout(DEADLINE)
            listener.connect(("127.0.0.1", served.port))
            listener.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            silent.append(listener)
        until(lambda: len(gf.engine.broadcast) == 40)
        mailboxes = list(gf.engine.broadcast._mailboxes)
        ids += [ask.submit("simple", json=note) for _ in range(60)]
        for id in ids:
            ask.finished(id)
        until(lambda: all(mailbox.overflowed for mailbox in mailboxes))
        streams = [one for one in connections if one.cycle and not one.cycle.response_complete]
        buffered = [one.transport.get_write_buffer_size() for one in streams]
        assert sum(size > 0 for size in buffered) >= 40
        assert max(buffered) < 50_000
        assert sum(buffered) + sum(one.size for one in mailboxes) < 40 * 100 * 1024
        # One of them starts to read, and still receives the last state of every execution.
        states: dict[str, str] = {}
        reader = stack.enter_context(silent[0].makefile("rb"))
        while set(states.values()) != {"successful"} or not states.keys() >= set(ids):
            line = reader.readline()
            if line.startswith(b"data: ") and line.endswith(b"}\n"):
                told = json.loads(line[6:])
                states[told["id"]] = told["state"]
    until(lambda: len(gf.engine.broadcast) == 0)
    assert not any(mailbox.size for mailbox in mailboxes)
    until(lambda: not gf.engine.broadcast._shared)


def test_a_silent_stream_is_pinged(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goflow.web.event_stream.PING", 0.01)
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while received.count(b": ping\n\n") < 2:
            received += connection.recv(4096)


MAIN = """\
from goflow import Goflow, Job, Task
gf = Goflow()
"""


def test_open_streams_end_when_uvicorn_stops(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    reserved = reserved_port()
    port = number_of(reserved)
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "main:gf", "--port", str(port)], cwd=tmp_path
    )
    try:
        answer = until(lambda: _opened(port))
        server.terminate()
        while answer.recv(4096):
            pass
        answer.close()
        server.wait(DEADLINE)
    finally:
        server.kill()
        server.wait()
        reserved.close()


def _opened(port: int) -> socket.socket | None:
    try:
        connection = socket.create_connection(("127.0.0.1", port), DEADLINE)
    except OSError:
        return None
    connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return connection


def test_an_unread_stream_ends_soon_after_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[Any]:
        shutdown = asyncio.Event()
        gf = Goflow(MemoryStore(), ui_path=None)
        sent: list[Any] = []
        stuck = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                stuck.set()
                await asyncio.Event().wait()  # like a client that reads nothing

        async with gf.lifespan():
            stream = EventStream(gf.engine.broadcast.listen(None, None), shutdown)
            asked = asyncio.create_task(
                stream({"type": "http", "method": "GET"}, asyncio.Event().wait, send)
            )
            await stuck.wait()
            shutdown.set()
            async with asyncio.timeout(DEADLINE):
                await asked
            assert len(gf.engine.broadcast) == 0
        return sent

    monkeypatch.setattr("goflow.web.event_stream.GRACE", 0.01)
    assert [message["type"] for message in asyncio.run(main())] == [
        "http.response.start",
        "http.response.body",
    ]
