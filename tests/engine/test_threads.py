import subprocess
import sys
import threading
from concurrent.futures import Future, wait

import pytest

from goflow.engine.threads import DaemonThreads


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


def test_as_many_run_at_once_as_there_are_workers() -> None:
    threads = DaemonThreads(4)
    meeting = threading.Barrier(4)
    futures = [threads.submit(meeting.wait, 20) for _ in range(4)]
    assert sorted(future.result(20) for future in futures) == [0, 1, 2, 3]
    threads.shutdown()


def test_an_idle_thread_is_used_again() -> None:
    threads = DaemonThreads(100)
    names = set()
    for _ in range(50):
        names.add(threads.submit(lambda: threading.current_thread().name).result(20))
    assert len(names) < 50
    threads.shutdown()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_ends_the_work_and_not_the_thread(error: type[BaseException]) -> None:
    threads = DaemonThreads(1)

    def work() -> None:
        raise error

    with pytest.raises(error):
        threads.submit(work).result(20)
    assert threads.submit(lambda: 1).result(20) == 1
    threads.shutdown()


def test_shutdown_finishes_what_was_taken_and_takes_no_more() -> None:
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


def test_shutdown_may_cancel_what_has_not_begun() -> None:
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


def test_work_that_never_returns_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import threading\n"
        "from goflow.engine.threads import DaemonThreads\n"
        "begun = threading.Event()\n"
        "DaemonThreads(2).submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "begun.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
