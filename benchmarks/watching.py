"""What do watchers cost: streams, an open execution page, a followed log?

Every ratio compares runs with and without watchers, alternately on one server.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

from benchmarks.harness import (
    PATIENCE,
    Client,
    Report,
    at_least,
    at_most,
    goflow,
    median,
    milliseconds,
    new_folder,
)
from benchmarks.submits import burst
from benchmarks.throughput import took

PAUSE = 0.3  # seconds between two requests of an open execution page

MAIN = """\
import asyncio
from goflow import Context, Goflow, Job, Task

class Nothing:
    async def run(self): pass

class Talk:
    async def run(self, context: Context):
        for number in range(20):
            context.log(f"line {{number}}")
        await asyncio.Event().wait()  # until it is cancelled

def job(name, layers, width):
    made = Job(name)
    for layer in range(layers):
        for place in range(width):
            before = {{(place + n) % width for n in range(3)}} if layer else ()
            made.add(Task(f"t{{layer}}-{{place}}", Nothing(),
                          after=[f"t{{layer - 1}}-{{one}}" for one in before]))
    return made

def talking(name, others):
    made = Job(name, tasks=[Task("talk", Talk())])
    for number in range(others):
        made.add(Task(f"t{{number}}", Nothing()))
    return made

gf = Goflow()
gf.add_job(job("burst", 1, 1))
gf.add_job(job("layers", {tasks} // 100 or 1, min({tasks}, 100)))
gf.add_job(job("chain", {chain}, 1))
gf.add_job(talking("small-log", 1))
gf.add_job(talking("large-log", {tasks}))
"""

# Reads streams in a separate process, so that reading does not slow down the clients. It answers
# each line on standard input with the number of bytes read so far.
WATCH = """\
import selectors, socket, sys
port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ready, read, begun = selectors.DefaultSelector(), 0, 0
for _ in range(count):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
    while b"retry" not in connection.recv(65536):
        pass
    connection.setblocking(False)
    ready.register(connection, selectors.EVENT_READ)
ready.register(sys.stdin, selectors.EVENT_READ)
print("open", flush=True)
while True:
    for key, _ in ready.select():
        if key.fileobj is sys.stdin:
            if not sys.stdin.readline():
                sys.exit()
            print(read, flush=True)
        else:
            got = len(key.fileobj.recv(1 << 20))
            read += got
            if not got:
                ready.unregister(key.fileobj)
"""


class Watchers:
    """Open streams, read at full speed; `read` counts their bytes."""

    def __init__(self, port: int, count: int, path: str = "/stream") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WATCH, str(port), str(count), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def read(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the process that reads streams has ended")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def page_of(port: int, execution: Callable[[], str | None]) -> Iterator[list[float]]:
    """An open execution page with the dashboard's requests; yields the ms of each response."""
    left = threading.Event()
    answers: list[float] = []

    def ask() -> None:
        since = None
        with Client(port) as client:
            while not left.wait(PAUSE if answers else 0.01):
                if (id := execution()) is None:
                    continue
                begin = time.perf_counter()
                query = "" if since is None else f"?since={since}"
                since = client.json(f"/api/executions/{id}{query}")["version"]
                answers.append((time.perf_counter() - begin) * 1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        left.set()
        thread.join(PATIENCE)


def main(
    report: Report,
    tasks: int = 10_000,
    chain: int = 5_000,
    streams: tuple[int, ...] = (1, 10, 100),
    clients: int = 8,
    each: int = 100,
    repeat: int = 3,
    silent: int = 300,
) -> None:
    """`silent` is the number of streams that never read."""
    report.title(f"watching: {tasks:,} tasks in layers, a chain of {chain:,}, one-task jobs")
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(tasks=tasks, chain=chain)) as server,
        Client(server.port) as client,
    ):
        _measure_submits(report, server.port, client, streams, clients, each, repeat)
        for job in ("layers", "chain"):
            _measure_execution(report, server.port, client, job, streams[:2], repeat)
        _measure_logs(report, server.port, client)
        before = server.memory()
        with _never_reading(server.port, silent):
            burst(server.port, clients, each, lambda one: one.submit("burst"))
            client.wait_until_idle()
            what = f"{silent} streams that never read: MiB for each 1,000"
            report.row(what, (server.memory() - before) / silent * 1000, "MiB", at_most(100))
        deadline = time.monotonic() + PATIENCE
        while client.json("/api/health")["streams"] and time.monotonic() < deadline:
            time.sleep(0.01)
        report.row("  MiB left when they are gone", server.memory() - before, "MiB")


def _measure_submits(
    report: Report,
    port: int,
    client: Client,
    streams: tuple[int, ...],
    clients: int,
    each: int,
    repeat: int,
) -> None:
    rates: dict[int, list[float]] = {count: [] for count in (0, *streams)}
    for _ in range(repeat):
        for count, found in rates.items():
            with Watchers(port, count):
                answered, seconds = burst(port, clients, each, lambda one: one.submit("burst"))
                client.wait_until_idle()
            found.append(len(answered) / seconds)
    alone = median(rates[0])
    report.row("submits, no stream", alone, "/s")
    for count in streams:
        rate = median(rates[count])
        target = at_least(300) if count == 100 else None
        report.row(f"submits, {count} streams", rate, "/s", target)
        report.row("  share of those without", rate / alone, "")


def _measure_execution(
    report: Report, port: int, client: Client, job: str, streams: tuple[int, ...], repeat: int
) -> None:
    seconds: dict[int, list[float]] = {count: [] for count in (0, *streams)}
    volume: dict[int, float] = {}
    beside: list[float] = []
    answers: list[float] = []
    for _ in range(repeat):
        for count, found in seconds.items():
            with Watchers(port, count, f"/stream?jobname={job}") as watchers:
                before = watchers.read()
                found.append(_run(client, job))
                volume[count] = (watchers.read() - before) / max(count, 1)
        current: list[str] = []
        with page_of(port, lambda current=current: current[0] if current else None) as took_ms:
            beside.append(_run(client, job, current))
        answers += took_ms
    alone = median(seconds[0])
    report.row(f"{job}: nobody watches", alone, "s")
    for count in streams:
        ratio = median(seconds[count]) / alone
        report.row(f"{job}: {count} streams, to none", ratio, "times", at_most(1.1))
        report.row("  bytes for each stream", volume[count] / 1e6, "MB")
    report.row(f"{job}: an execution page open, to none", median(beside) / alone, "times")
    if answers:
        report.row("  one of its requests, median", median(answers), "ms")


def _run(client: Client, job: str, current: list[str] | None = None) -> float:
    """Seconds between the execution's `started` and `finished`."""
    id = client.submit(job)
    if current is not None:
        current.append(id)
    client.wait_until_idle()
    (execution,) = client.json(f"/api/executions?jobname={job}&limit=1")["executions"]
    assert execution["id"] == id
    return took(execution)


def _measure_logs(report: Report, port: int, client: Client, times: int = 20) -> None:
    looks = {}
    for job in ("small-log", "large-log"):
        id = client.submit(job)
        deadline = time.monotonic() + PATIENCE
        while len(_running(client, id)) != 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the other tasks of {job} did not end")
            time.sleep(0.05)
        path = f"/api/executions/{id}/tasks/talk/lines?after=0&limit=10"
        looks[job] = median(milliseconds(partial(client.get, path), times))
        client.ask("POST", f"/api/executions/{id}/cancel")
        client.wait_until_idle()
    report.row("a look at a log, small execution", looks["small-log"], "ms")
    report.row("a look at a log, large execution", looks["large-log"], "ms")


def _running(client: Client, id: str) -> list[str]:
    tasks = client.json(f"/api/executions/{id}")["tasks"]
    return [task["name"] for task in tasks if task["finished"] is None]


@contextmanager
def _never_reading(port: int, count: int) -> Iterator[None]:
    connections = []
    try:
        for _ in range(count):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connections.append(connection)
        yield
    finally:
        for connection in connections:
            connection.close()


if __name__ == "__main__":
    main(Report())
