"""Servers to measure, clients, and a report of figures in rows.

The rule: a benchmark always ends, and ends only the processes that it has started. Every wait
has a deadline.
"""

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.ports import number_of, reserved_port

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0  # seconds until a wait fails
IDLE = 3.0  # seconds; uvicorn closes a connection that was idle for 5
TICKS = os.sysconf("SC_CLK_TCK")

# -- programs to compare with ------------------------------------------------------

# The same web server without goflow. /commit responds after a durable commit of one row, and
# /bytes/N with N bytes of prepared JSON.
BARE_WEB = """\
import asyncio, sqlite3, sys
from concurrent.futures import ThreadPoolExecutor
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

db = sqlite3.connect("bare.db", isolation_level=None, check_same_thread=False)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE facts (body TEXT)")
writer = ThreadPoolExecutor(1)
ready = {}

async def health(request):
    return Response(b'{"health":"OK"}', media_type="application/json")

async def commit(request):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(writer, db.execute, "INSERT INTO facts VALUES ('a fact')")
    return Response(b'{"success":true}', media_type="application/json")

async def some_bytes(request):
    size = request.path_params["size"]
    body = ready.get(size) or ready.setdefault(size, b'"' + b"x" * (size - 2) + b'"')
    return Response(body, media_type="application/json")

app = Starlette(routes=[
    Route("/api/health", health),
    Route("/commit", commit, methods=["POST"]),
    Route("/bytes/{size:int}", some_bytes),
])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


# -- servers -----------------------------------------------------------------------


class Server:
    """A server process on loopback with `folder` as its working directory, until `stop`.

    `seconds_to_answer` is the time from the start of the process to its first 200.
    """

    def __init__(self, folder: Path, command: Callable[[int], list[str]]) -> None:
        self._reserved = reserved_port()
        self.port = number_of(self._reserved)
        log = folder / "server.log"
        with log.open("wb") as output:
            begin = time.perf_counter()
            self._process = subprocess.Popen(
                [sys.executable, *command(self.port)],
                cwd=folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._await_answer()
        except BaseException as error:
            self.stop()
            error.add_note(log.read_text(errors="replace"))
            raise
        self.seconds_to_answer = time.perf_counter() - begin

    def _await_answer(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}")
            try:
                with Client(self.port) as client:
                    client.get("/api/health")
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL if it does not end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reserved.close()

    def kill(self) -> None:
        """End it with SIGKILL, like a crash."""
        self._process.kill()
        self._process.wait()
        self._reserved.close()

    def cpu(self) -> float:
        """Seconds of processor time used so far, to a hundredth."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """MiB resident."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def idle_share(self, seconds: float) -> float:
        """Percent of one core used without requests, after it has become idle."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(min(seconds, 1.0))
            if self.cpu() - before <= 1 / TICKS:
                break
        before, begin = self.cpu(), time.perf_counter()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.perf_counter() - begin) * 100


def goflow(folder: Path, main: str) -> Server:
    """`goflow serve` in `folder`, for a main.py with this text and default options."""
    (folder / "main.py").write_text(main)
    return Server(folder, lambda port: ["-m", "goflow", "serve", "main.py", "--port", str(port)])


def bare(folder: Path) -> Server:
    """The bare web server."""
    (folder / "bare.py").write_text(BARE_WEB)
    (folder / "bare.db").unlink(missing_ok=True)
    return Server(folder, lambda port: ["bare.py", str(port)])


def _environment() -> dict[str, str]:
    """Our environment, but with bytecode cached as for an installed package, so that compilation
    is not measured."""
    kept = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


@contextmanager
def new_folder() -> Iterator[Path]:
    """A temporary folder. TMPDIR chooses its disk."""
    with tempfile.TemporaryDirectory(prefix="goflow-benchmark-") as name:
        yield Path(name)


# -- clients -----------------------------------------------------------------------


class Client:
    """A client with one persistent connection."""

    def __init__(self, port: int) -> None:
        self._used = 0.0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str) -> bytes:
        """The body of a 200; anything else raises."""
        if time.monotonic() - self._used > IDLE:
            self._connection.close()  # the server may be closing it, so open a new one
        self._connection.request(method, path)
        answer = self._connection.getresponse()
        body = answer.read()
        self._used = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {body[:500]!r}")
        return body

    def get(self, path: str) -> bytes:
        return self.ask("GET", path)

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def submit(self, job: str) -> str:
        """The id of the new execution."""
        return str(json.loads(self.ask("POST", f"/api/jobs/{job}/submit"))["id"])

    def wait_until_idle(self) -> None:
        """Wait until no execution is unfinished, at almost no cost to the server."""
        deadline = time.monotonic() + PATIENCE
        while self.json("/api/health")["unfinished"]:
            if time.monotonic() > deadline:
                raise TimeoutError("executions are still unfinished")
            time.sleep(0.01)

    def executions(self) -> Iterator[Any]:
        """All executions, newest first, by page."""
        page = self.json("/api/executions?limit=1000")
        yield from page["executions"]
        while page["next"] is not None:
            page = self.json(f"/api/executions?limit=1000&cursor={page['next']}")
            yield from page["executions"]


class Event(NamedTuple):
    """An execution received over the stream; `arrived` is a Unix time."""

    arrived: float
    execution: Any


class Listener:
    """An open stream; a thread records its events as they arrive."""

    def __init__(self, port: int, query: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", f"/stream{query}")
        self._answer = self._connection.getresponse()
        self._socket = self._connection.sock
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self.heard = 0  # events, including forgotten ones
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while line := self._answer.readline():
                if line.startswith(b"data: "):
                    event = Event(time.time(), json.loads(line[6:]))
                    with self._changed:
                        self._events.append(event)
                        self.heard += 1
                        self._changed.notify_all()
        except (OSError, ValueError, http.client.HTTPException):
            return  # closed

    def wait_for(self, met: Callable[[list[Event]], bool]) -> list[Event]:
        """Wait until the events so far meet a condition, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: met(self._events), timeout=PATIENCE):
                raise TimeoutError(f"not met by {len(self._events)} events")
            return list(self._events)

    def forget(self) -> None:
        """Drop the events so far."""
        with self._changed:
            self._events.clear()

    def wait_until_finished(self, id: str) -> Event:
        """Wait for the event of the execution's end, and return it."""

        def last(events: list[Event]) -> list[Event]:
            return [
                event
                for event in reversed(events[-100:])
                if event.execution["id"] == id and event.execution["finished"] is not None
            ]

        return last(self.wait_for(lambda events: bool(last(events))))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=PATIENCE)
        self._answer.close()
        self._connection.close()


# -- figures -----------------------------------------------------------------------


class Target(NamedTuple):
    """The target of a figure; printed, not enforced."""

    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:,g}"

    def met(self, value: float) -> bool:
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def at_least(limit: float) -> Target:
    return Target(">=", limit)


def at_most(limit: float) -> Target:
    return Target("<=", limit)


class Report:
    """Prints each figure as it is measured, compared with the one in `last`."""

    def __init__(self, last: Mapping[str, float] | None = None) -> None:
        self.figures: dict[str, float] = {}
        self._last = last or {}
        self._title = self._main = ""

    def title(self, text: str) -> None:
        self._title = text.partition(":")[0]
        print(f"\n{text}", flush=True)

    def say(self, text: str) -> None:
        """Print a line without a figure."""
        print(f"  {text}", flush=True)

    def row(self, what: str, value: float, unit: str = "", target: Target | None = None,
            bare: float | None = None) -> None:  # fmt: skip
        """`bare` is the figure of a program without goflow in the same run and unit. A row that
        begins with spaces belongs to the previous one."""
        line = f"  {what:<54}{_figure(value):>9} {unit:<8}"
        if target is not None:
            line += f" {'met   ' if target.met(value) else 'MISSED'} {target!s:<10}"
        elif bare is not None:
            line += f"{'':18}"
        if bare is not None:
            ratio = value / bare if bare else float("inf")
            line += f" bare {_figure(bare)}, ratio {ratio:.2f}"
        self._main = self._main if what.startswith(" ") else what
        name = f"{self._title}: {self._main}"
        if what.startswith(" "):
            name += f": {what.strip()}"
        self.figures[name] = value
        if before := self._last.get(name):
            line = f"{line:<72} last {_figure(before)}, {(value / before - 1) * 100:+.0f} %"
        print(line.rstrip(), flush=True)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(action: Callable[[], object], times: int) -> list[float]:
    """The duration of each of several calls, in ms."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        took.append((time.perf_counter() - begin) * 1000)
    return took


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def quantile(values: Iterable[float], share: float) -> float:
    """The quantile of `share` (0 to 1)."""
    ascending = sorted(values)
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]
