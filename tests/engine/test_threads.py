import json
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, wait
from pathlib import Path

import pytest

from goflow import Context, Task
from goflow.engine.executors import thread as thread_module
from goflow.engine.threads import DaemonThreads, NoThread, Threads, Writer
from goflow.errors import StoreError
from tests.engine.scripted import job_of, running, states, until


def test_never_more_than_max_workers_run_and_all_work_is_done() -> None:
    threads = DaemonThreads(3)
    lock = threading.Lock()
    running, most = 0, 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return number

    futures = [threads.submit(work, number) for number in range(500)]
    assert [future.result(20) for future in futures] == list(range(500))
    assert most <= 3
    threads.shutdown()


def test_all_workers_run_at_once() -> None:
    threads = DaemonThreads(4)
    meeting = threading.Barrier(4)
    futures = [threads.submit(meeting.wait, 20) for _ in range(4)]
    assert sorted(future.result(20) for future in futures) == [0, 1, 2, 3]
    threads.shutdown()


def test_idle_threads_wake_one_another_until_all_work_runs() -> None:
    threads = DaemonThreads(8, ready=True)
    for _ in range(50):
        meeting = threading.Barrier(8)
        futures = [threads.submit(meeting.wait, 20) for _ in range(8)]
        assert sorted(future.result(20) for future in futures) == list(range(8))
    threads.shutdown()


def test_an_idle_thread_is_reused() -> None:
    threads = DaemonThreads(100)
    names = set()
    for _ in range(50):
        names.add(threads.submit(lambda: threading.current_thread().name).result(20))
    assert len(names) < 50
    threads.shutdown()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_any_exception_ends_the_work_but_not_the_thread(error: type[BaseException]) -> None:
    threads = DaemonThreads(1)

    def work() -> None:
        raise error

    with pytest.raises(error):
        threads.submit(work).result(20)
    assert threads.submit(lambda: 1).result(20) == 1
    threads.shutdown()


def test_shutdown_finishes_accepted_work_and_refuses_more() -> None:
    threads = DaemonThreads(1)
    hold = threading.Event()
    futures: list[Future[object]] = [threads.submit(hold.wait, 20)]
    futures += [threads.submit(lambda: "done") for _ in range(5)]
    threads.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shutdown"):
        threads.submit(print)
    hold.set()
    threads.shutdown()
    assert [future.result() for future in futures] == [True] + ["done"] * 5


def test_shutdown_may_cancel_work_that_has_not_begun() -> None:
    threads = DaemonThreads(1)
    hold, begun = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        hold.wait(20)

    running = threads.submit(first)
    queued = [threads.submit(print) for _ in range(5)]
    begun.wait(20)
    threads.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    hold.set()
    wait([running], 20)
    threads.shutdown()


def test_work_that_never_returns_does_not_prevent_the_exit() -> None:
    code = (
        "import threading\n"
        "from goflow.engine.threads import DaemonThreads\n"
        "begun = threading.Event()\n"
        "DaemonThreads(2).submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "begun.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# -- when the system refuses threads -----------------------------------------------------


class Refusing:
    """Allows `left` more threads, then refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int = 0, error: type = RuntimeError):
        self.left = left
        begin = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self.left <= 0:
                raise error("can't start new thread")
            self.left -= 1
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_work_without_a_thread_is_refused_and_never_runs(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    refusing = Refusing(monkeypatch, error=error)
    threads = DaemonThreads(3)
    ran: list[str] = []
    for _ in range(5):
        with pytest.raises(NoThread, match="can't start new thread; see ulimit -u"):
            threads.submit(ran.append, "refused")
    refusing.left = 1
    threads.submit(ran.append, "taken").result(20)
    hold = threading.Event()
    busy = threads.submit(hold.wait, 20)
    with pytest.raises(NoThread):
        threads.submit(ran.append, "refused")
    hold.set()
    assert busy.result(20)
    threads.shutdown()
    assert ran == ["taken"]


def test_as_many_threads_are_started_as_the_system_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Refusing(monkeypatch, left=2)
    threads = DaemonThreads(4, ready=True)
    hold = threading.Event()
    futures: list[Future[object]] = [threads.submit(hold.wait, 20) for _ in range(2)]
    futures.append(threads.submit(lambda: "waited"))
    hold.set()
    assert [future.result(20) for future in futures] == [True, True, "waited"]
    threads.shutdown()


def test_a_server_without_any_thread_fails_to_start_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Refusing(monkeypatch)
    with pytest.raises(StoreError, match="no thread to read the store in: can't start new thread"):
        Threads().readers(4)
    with pytest.raises(StoreError, match="no thread to write the store in"):
        Threads().writer(lambda batch: None, 1, lambda item: 1, 1)


@pytest.mark.anyio
async def test_a_writer_stops_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[int]] = []
    writer: Writer[int] = Threads().writer(written.append, 10, lambda item: 1, 100)
    Refusing(monkeypatch)
    for number in range(30):
        writer.put(number)
    await writer.stop()
    assert [number for batch in written for number in batch] == list(range(30))


@pytest.mark.anyio
async def test_an_attempt_waits_for_a_thread_and_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    class Sync:
        def run(self, context: Context) -> None:
            runs.append(context.attempt)

    monkeypatch.setattr(thread_module, "PAUSES", (0.01,) * 1000)
    async with running(job_of("j", Task("t", Sync()))) as engine:
        refusing = Refusing(monkeypatch)
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.slots.usage()[0].taken == 1)
        await until(lambda: engine.live.get(id))
        refusing.left = 1
        await engine.runners.finished(id)
        log = await engine.reader.log_of(id, "t", 1)
        text = "".join([text async for text in log.texts])
        assert (await states(engine, id))["t"] == "successful"
    assert runs == [1]
    assert text.count("waits for a thread: can't start new thread") <= 1


def test_a_server_refused_further_threads_answers_fails_attempts_and_stops() -> None:
    # Not in tmp_path, since only its owner may enter that folder.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        child = subprocess.run(
            [sys.executable, "-m", "tests.engine.scarce", folder],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert child.returncode == 0, child.stderr
    seen = json.loads(child.stdout)
    assert seen["refuses"]
    assert seen["answers"] == [200] * 7
    assert seen["file"] == "let one = 1"
    assert seen["get"].startswith("failed GET http://127.0.0.1:9/")
    assert seen["async"] == "successful None"
    assert seen["sync"].startswith("failed no thread was available to run it for 1 s: can't start")
    assert seen["program"].startswith("failed ")
    assert "Resource temporarily unavailable" in seen["program"]
    assert seen["later"] == "successful None"
    assert seen["ran"] == ["later"]
    assert seen["defect"] is None
