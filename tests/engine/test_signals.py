"""A signal always ends a server, with real processes and signals."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

SCRIPT = str(Path(__file__).with_name("stubborn_server.py"))
ENOUGH = 60  # seconds


class Stubborn:
    """A server with a running task."""

    def __init__(self, folder: Path, job: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(folder / "store.db"), job, "serve"],
            stderr=subprocess.PIPE,
            text=True,
        )
        address = self._line("goflow serves ").removeprefix("goflow serves http://")
        host, _, port = address.partition(":")
        # Nobody waits for the answer, since a task that blocks the event loop may precede it.
        self._connection = socket.create_connection((host, int(port)), ENOUGH)
        request = f"POST /api/jobs/{job}/submit HTTP/1.1\r\nHost: {address}\r\n\r\n"
        self._connection.sendall(request.encode())
        self._line("begun")

    def _line(self, begin: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith(begin):
                return line.strip()
        raise AssertionError("it ended")

    def close(self) -> None:
        self._connection.close()
        self.process.kill()
        self.process.communicate()

    def ends(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The exit code after a signal, and the output since."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=ENOUGH)[1]
        return self.process.returncode, said


@contextmanager
def stubborn(folder: Path, job: str) -> Iterator[Stubborn]:
    server = Stubborn(folder, job)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize(
    "job",
    [
        "swallow", "loop", "to_thread", "fill_the_executor", "background", "thread", "at_exit",
        "child", "spawned", "pool", "log_much",
    ],
)  # fmt: skip
def test_a_signal_ends_the_server_cleanly_whatever_tasks_leave_running(
    tmp_path: Path, job: str
) -> None:
    with stubborn(tmp_path, job) as server:
        assert server.ends() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("job", ["block", "hold_a_lock"])
def test_a_task_that_blocks_the_event_loop_does_not_prevent_the_exit(
    tmp_path: Path, job: str, number: signal.Signals
) -> None:
    with stubborn(tmp_path, job) as server:
        code, said = server.ends(number)
        assert code == 128 + number
        assert re.search(rf"goflow: not stopped .* after {number.name}", said)
        assert f"in {job}\n" in said  # where it is blocked


@pytest.mark.parametrize("job", ["swallow", "block"])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, job: str) -> None:
    with stubborn(tmp_path, job) as server:
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = None
        while code is None and time.monotonic() < begun + ENOUGH:
            server.process.send_signal(signal.SIGHUP)
            code = server.process.poll()
        # of two simultaneous signals, either may be the second
        assert code in (128 + signal.SIGHUP, 128 + signal.SIGTERM)


@pytest.mark.parametrize(
    ("job", "error"),
    [
        ("swallow", "timed out after 0.3 s, and did not end when told to"),
        ("loop", "timed out after 0.3 s"),
        ("to_thread", "timed out after 0.3 s"),
        ("fill_the_executor", "None"),
        ("background", "None"),
        ("thread", "None"),
        ("child", "None"),
    ],
)
def test_a_run_without_a_server_returns_whatever_tasks_leave_running(
    tmp_path: Path, job: str, error: str
) -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / "store.db"), job, "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=ENOUGH,
    )
    assert ended.stdout.startswith(error)


def test_a_run_in_the_terminal_ends_by_the_signal_it_received(tmp_path: Path) -> None:
    file = tmp_path / "main.py"
    file.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "goflow", "run", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "begun\n":
            break
    process.terminate()
    said = process.communicate(timeout=ENOUGH)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said


PROGRAM = """
import asyncio, os
from goflow import Job
from goflow.engine.attempts import under_way

under_way.CLEANUP = 0.5
job = Job("stubborn")

@job.task
async def swallow():
    os.write(2, b"begun\\n")
    while True:
        try:
            await asyncio.sleep(600)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("how", ["blocked", "closed", "nobody reads", "/dev/full"])
def test_a_blocked_standard_error_stops_nothing(tmp_path: Path, how: str) -> None:
    """uvicorn logs a warning for each refused request, more than a pipe holds."""
    ours, theirs = os.pipe()
    try:
        if how == "nobody reads":
            os.close(ours)
        if how == "/dev/full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), theirs)
        close = "exec 2>&-; " if how == "closed" else ""
        port = free_port()
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'{close}exec "$0" "$@"', sys.executable, "-c", NOISY, str(port)],
            stderr=theirs,
            cwd=tmp_path,
        )
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=ENOUGH) as client:
                deadline = time.monotonic() + ENOUGH
                while time.monotonic() < deadline:
                    try:
                        client.get("/api/health")
                        break
                    except httpx2.TransportError:
                        time.sleep(0.05)
                assert client.get("/api/health").status_code == 200
                id = client.post("/api/jobs/noisy/submit").raise_for_status().json()["id"]
                while client.get(f"/api/executions/{id}").json()["state"] != "successful":
                    assert time.monotonic() < deadline
            process.terminate()
            assert process.wait(ENOUGH) == 0
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(theirs)
        if how != "nobody reads":
            os.close(ours)


NOISY = """
import asyncio, logging, sys
from goflow import Goflow, Job
from goflow.web.access_log import AccessLog

job = Job("noisy")

@job.task
async def tell():
    def outside():
        for number in range(2000):
            for name in ("goflow.engine.engine", "uvicorn.error", "asyncio", "of a user"):
                logging.getLogger(name).warning("%d %s", number, "x" * 100)
    import contextvars
    contextvars.Context().run(outside)

gf = Goflow("store.db", ui_path=None)
gf.use(AccessLog)
gf.add_job(job)
gf.run(f"127.0.0.1:{sys.argv[1]}")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
