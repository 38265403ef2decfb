"""A goflow under test, with in-process clients or a real socket."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import pytest
from starlette.testclient import TestClient

from goflow import Context, Goflow, Job, MemoryStore, Task
from goflow.web.server import listen, serve

T = TypeVar("T")

DEADLINE = 60  # seconds for operations that take milliseconds


@dataclass(frozen=True)
class Say:
    """Writes lines to its log and returns them."""

    lines: tuple[str, ...] = ("hello",)

    async def run(self, context: Context) -> list[str]:
        for line in self.lines:
            context.log(line)
        return list(self.lines)


class Fail:
    def run(self) -> None:
        raise ValueError("as <b>scripted</b>")


class Hang:
    """Runs until it is cancelled."""

    async def run(self) -> None:
        await asyncio.Event().wait()


def simple(name: str = "simple", **options: Any) -> Job:
    """Two tasks that succeed in sequence."""
    job = Job(name, **options)
    job.add(Task("first", Say()))
    job.add(Task("second", Say(("one", "two")), after=["first"]))
    return job


def failing(name: str = "failing") -> Job:
    return Job(name, tasks=[Task("good", Say()), Task("bad", Fail(), after=["good"])])


def hanging(name: str = "hanging") -> Job:
    return Job(name, tasks=[Task("wait", Hang())])


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a truthy value of the condition and return it; fails after the deadline."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)
    return value


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


class Asker:
    """Common requests, over any client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def submit(self, job: str, **options: Any) -> str:
        answer = self.client.post(f"/api/jobs/{segment(job)}/submit", **options)
        assert answer.status_code == 200, answer.text
        id: str = answer.json()["id"]
        return id

    def execution(self, id: str) -> Any:
        return self.client.get(f"/api/executions/{id}").json()

    def finished(self, id: str) -> Any:
        """Wait until the execution has finished, and return it."""
        return until(lambda: (e := self.execution(id))["finished"] and e)

    def run(self, job: str, **options: Any) -> Any:
        return self.finished(self.submit(job, **options))


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    """A minimal dashboard build."""
    folder = tmp_path / "ui"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text('<html><head><base href="./" /></head>page</html>')
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "app-0123abcd.js").write_text("let page")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def gf(ui: Path) -> Goflow:
    goflow = Goflow(MemoryStore(), ui_path=ui, stop_timeout=0.1)
    for job in (simple(schedule="0 0 1 1 *", active=True), failing(), hanging()):
        goflow.add_job(job)
    return goflow


@pytest.fixture
def client(gf: Goflow) -> Iterator[TestClient]:
    with TestClient(gf, base_url="http://localhost", follow_redirects=False) as client:
        yield client


@pytest.fixture
def ask(client: TestClient) -> Asker:
    return Asker(client)


class Served:
    """A server on a real socket, in its own thread; `options` are those of `serve`."""

    def __init__(self, app: Goflow, **options: Any) -> None:
        self.app = app
        self._options = options
        self._listening = listen("127.0.0.1", 0)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._ready = threading.Event()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = self.app._closing
        async with self.app.lifespan():
            self._ready.set()
            await serve(
                self.app, self._listening, root_path="", closing=self._closing, **self._options
            )

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def stop(self) -> None:
        """Stop it like a signal does, and wait for the end."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self._listening.close()


@pytest.fixture
def served(gf: Goflow) -> Iterator[Served]:
    server = Served(gf)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def http(served: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.url, timeout=DEADLINE) as client:
        yield client
