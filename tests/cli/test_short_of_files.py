"""A server with few file descriptors stays reachable, reports the problem, and recovers."""

import json
import resource
import signal
import socket
import urllib.request

import pytest

from tests.cli.commands import eventually

LIMITED = """
import os, resource
from pathlib import Path
from goflow import Command, Goflow, Job, MemoryStore, Task

SOFT, HARD = {soft}, {hard}
resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))
gf = Goflow("kept.db", ui_path=None)
limits = Job("limits")
limits.add(Task("program", Command("sh", ["-c", "ulimit -Sn; ulimit -Hn"])))

@limits.task(isolation="process")
def isolated():
    return list(resource.getrlimit(resource.RLIMIT_NOFILE))

# After the others, since the limit is lowered while a program starts.
@limits.task(after=["program", "isolated"])
def server():
    return list(resource.getrlimit(resource.RLIMIT_NOFILE))

greedy = Job("greedy")

@greedy.task
def take():
    held = []
    try:
        while Path("greedy").exists():
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                if not Path("full").exists():
                    os.mkdir("full")
                os.sched_yield()
    finally:
        for one in held:
            os.close(one)

gf.add_job(limits)
gf.add_job(greedy)
"""


def ask(url, method="GET"):
    asked = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def results(url):
    id = ask(f"{url}/api/jobs/limits/submit", "POST")["id"]
    execution = eventually(lambda: (e := ask(f"{url}/api/executions/{id}"))["finished"] and e)
    return {task["name"]: task["result"] for task in execution["tasks"]}


@pytest.fixture
def files():
    """Raise this process's limit to the files that the test needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_server_raises_its_file_limit_and_programs_get_the_original_one(spawn, main_py):
    url = spawn("serve", main_py(LIMITED.format(soft=200, hard=300)), "--port", "0").address()
    found = results(url)
    assert found["server"] == [300, 300]
    assert found["program"].split() == ["200", "300"]
    assert found["isolated"] == [200, 300]


def test_idle_connections_beyond_the_limit_do_not_block_others(spawn, main_py, files):
    server = spawn("serve", main_py(LIMITED.format(soft=200, hard=200)), "--port", "0")
    url = server.address()
    port = int(url.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(300)]
    assert ask(f"{url}/api/health")["health"] == "OK"
    assert results(url)["program"]
    for one in silent:
        one.close()
    health = ask(f"{url}/api/health")
    assert health["health"] == "OK"
    assert health["notices"][0]["text"].startswith("100 connections are open")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert len(server.errors) < 1000


def test_without_file_descriptors_connections_wait_and_one_line_is_logged(spawn, main_py, tmp_path):
    server = spawn("serve", main_py(LIMITED.format(soft=100, hard=100)), "--port", "0")
    url = server.address()
    port = int(url.rpartition(":")[2])
    (tmp_path / "greedy").touch()
    ask(f"{url}/api/jobs/greedy/submit", "POST")
    eventually((tmp_path / "full").exists)
    with socket.create_connection(("127.0.0.1", port), 60) as waiting:
        waiting.sendall(b"GET /api/health HTTP/1.0\r\n\r\n")
        eventually(lambda: "cannot accept connections: Too many open files" in server.errors)
        (tmp_path / "greedy").unlink()
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask(f"{url}/api/health")["health"] == "OK"
    assert server.errors.count("cannot accept connections") == 1
    assert len(server.errors) < 2000


MISBEHAVED = [
    b"",
    b"GET /api/health HTTP/1.1\r\nHo",
    b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
    b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /api/jobs/limits/toggle HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    b"POST /api/jobs/limits/toggle HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nxx",
    b"POST /api/jobs/limits/toggle HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /api/jobs/limits/toggle HTTP/1.1\r\nHost: localhost\r\n"
    b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"\0" * 100_000,
]


def test_misbehaving_clients_are_not_logged(spawn, main_py):
    server = spawn("serve", main_py(LIMITED.format(soft=500, hard=500)), "--port", "0")
    url = server.address()
    port = int(url.rpartition(":")[2])
    before = server.errors
    for sent in MISBEHAVED * 3:
        for leave in (lambda c: None, reset, lambda c: c.shutdown(socket.SHUT_WR)):
            with socket.create_connection(("127.0.0.1", port), 60) as client:
                client.sendall(sent)
                leave(client)
    assert ask(f"{url}/api/health")["health"] == "OK"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.errors == before


def reset(client):
    on = b"\1\0\0\0\0\0\0\0"  # SO_LINGER with a time of zero resets the connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on)
    client.close()
