"""goflow.testing: its clock jumps only while no real work runs."""

import asyncio
import itertools
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from goflow import Command, ConstantDelay, Context, Get, Job, Task
from goflow.testing import BEGINNING, run

DAY = 86_400.0


class Slow:
    """Sleeps in a thread."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds

    def run(self) -> str:
        time.sleep(self.seconds)
        return "done"


class SlowAsync(Slow):
    async def run(self) -> str:  # type: ignore[override]
        await asyncio.sleep(self.seconds)
        return "done"


@pytest.fixture
def url() -> Any:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.3)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"done")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", ["thread", "async", "program", "process", "request", "many"])
def test_real_work_gets_real_time_with_any_timeouts(kind: str, url: str) -> None:
    operators: dict[str, Any] = {
        "thread": Slow(),
        "async": SlowAsync(),
        "program": Command.shell("sleep 0.3; echo done", timeout=60),
        "process": Slow(),
        "request": Get(url, timeout=60),
        "many": Slow(),
    }
    job = Job("j", timeout=600)
    for n in range(5 if kind == "many" else 1):
        isolation = "process" if kind == "process" else None
        job.add(Task(f"t{n}", operators[kind], timeout=300, isolation=isolation))
    execution = run(job)
    assert execution.state == "successful", [task.error for task in execution.tasks.values()]
    assert {str(task.result).strip() for task in execution.tasks.values()} == {"done"}
    assert execution.finished is not None
    assert execution.finished - BEGINNING < timedelta(seconds=300)


def test_retry_delays_take_no_time_even_with_timeouts_and_real_work() -> None:
    job = Job("j", timeout=10 * DAY)
    runs: list[int] = []

    @job.task(retries=3, retry_delay=ConstantDelay(DAY), timeout=60)
    def flaky(context: Context) -> str:
        runs.append(context.attempt)
        time.sleep(0.05)
        if context.attempt < 4:
            raise ConnectionError
        return "there"

    job.add(Task("slow", Slow()))
    begun = time.monotonic()
    execution = run(job)
    assert execution.state == "successful"
    assert runs == [1, 2, 3, 4]
    assert time.monotonic() - begun < DAY / 24
    attempts = execution.tasks["flaky"].attempts
    for before, after in itertools.pairwise(attempts):
        assert before.finished is not None
        waited = (after.started - before.finished).total_seconds()
        assert DAY <= waited < DAY + 60


def test_a_retry_delay_beyond_the_timeout_is_ended_by_it() -> None:
    job = Job("j", timeout=DAY / 2)

    @job.task(retries=1, retry_delay=ConstantDelay(DAY))
    def fail() -> None:
        raise ConnectionError

    execution = run(job)
    assert execution.state == "failed"
    assert execution.tasks["fail"].state == "cancelled"
    assert len(execution.tasks["fail"].attempts) == 1


@pytest.mark.parametrize("where", ["task", "job", "command"])
def test_work_that_really_takes_too_long_times_out(where: str) -> None:
    limit = 0.3
    operator = Command("sleep", ["60"], timeout=limit if where == "command" else None)
    task = Task("t", operator, timeout=limit if where == "task" else None)
    execution = run(Job("j", tasks=[task], timeout=limit if where == "job" else None))
    assert execution.state == "failed"
    assert where == "job" or execution.tasks["t"].error == "timed out after 0.3 s"


def test_an_abandoned_thread_does_not_stop_the_clock() -> None:
    gone = threading.Event()
    job = Job("j")

    class Hangs:
        def run(self, context: Context) -> str:
            if context.attempt == 1:
                gone.wait(60)
            return "again"

    job.add(Task("t", Hangs(), timeout=2, retries=1, retry_delay=ConstantDelay(DAY)))
    try:
        execution = run(job)
    finally:
        gone.set()
    assert (execution.state, execution.tasks["t"].result) == ("successful", "again")


def test_it_works_inside_a_running_event_loop() -> None:
    async def inside() -> str:
        return run(Job("j", tasks=[Task("t", Command("true"))])).state

    assert asyncio.run(inside()) == "successful"
