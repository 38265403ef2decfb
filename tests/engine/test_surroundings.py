"""Changes of process-wide state by a task are undone when it ends."""

import asyncio
import gc
import locale
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from goflow import Job, Task
from goflow.engine.surroundings import SETTINGS


class Sync:
    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work

    def run(self) -> None:
        self.work()


class Async(Sync):
    async def run(self) -> None:  # type: ignore[override]
        self.work()


class Policy(asyncio.DefaultEventLoopPolicy):  # type: ignore[valid-type, misc]
    """An event loop policy set by a task."""


HARM: list[Callable[[], object]] = [
    lambda: os.chdir("/"),
    lambda: os.environ.update({"PATH": "/nowhere", "GOFLOW_TEST_NEW": "1"}),
    lambda: os.environ.pop("PATH"),
    lambda: os.umask(0o777),
    lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    lambda: socket.setdefaulttimeout(0.001),
    lambda: asyncio.set_event_loop_policy(Policy()),
    lambda: sys.setrecursionlimit(5000),
    lambda: gc.disable(),
    lambda: threading.settrace(lambda *_: None),
    lambda: warnings.simplefilter("error"),
    lambda: warnings.resetwarnings(),
    lambda: warnings.catch_warnings().__enter__(),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", [Sync, Async])
def test_process_wide_changes_of_a_task_are_undone(
    kind: type[Sync], harm: Callable[[], object]
) -> None:
    before = {one.name: one.read() for one in SETTINGS}
    seen: list[dict[str, object]] = []
    job = Job("j", tasks=[Task("harm", kind(harm))])
    look = Sync(lambda: seen.append({one.name: one.read() for one in SETTINGS}))
    job.add(Task("look", look, after=["harm"]))
    assert job.run().state == "successful"
    after = {one.name: one.read() for one in SETTINGS}
    assert after == before
    for name in ("the switch interval", "signal handlers"):  # the engine's own, while it runs
        del seen[0][name], before[name]
    assert {name for name, value in before.items() if seen[0][name] != value} == set()


def test_a_signal_handler_set_by_an_async_task_is_undone() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    harm = Async(lambda: signal.signal(signal.SIGUSR1, lambda *_: None))
    done = Job("j", tasks=[Task("harm", harm)]).run()
    assert "signal handlers changed" in done.tasks["harm"].logs
    assert signal.getsignal(signal.SIGUSR1) == before


def test_the_log_of_the_task_reports_the_change() -> None:
    log = Job("j", tasks=[Task("t", Sync(lambda: os.chdir("/")))]).run().tasks["t"].logs
    assert "the working directory changed" in log
    assert 'isolation="process"' in log


def test_a_change_is_undone_by_the_last_task_that_may_have_made_it() -> None:
    before = os.getcwd()
    began, changed, over = threading.Event(), threading.Event(), threading.Event()

    def harm() -> None:
        assert began.wait(60)
        os.chdir("/")
        changed.set()

    def beside() -> None:
        began.set()
        assert over.wait(60)

    job = Job("j", tasks=[Task("beside", Sync(beside)), Task("harm", Sync(harm))])
    job.add(Task("then", Sync(over.set), after=["harm"]))
    assert job.run().state == "successful"
    assert changed.is_set()
    assert os.getcwd() == before


def test_a_change_by_a_known_task_is_undone_at_its_end_while_others_run() -> None:
    before = os.getcwd()
    changed, over, seen = threading.Event(), threading.Event(), []

    def harm() -> None:
        os.chdir("/")
        os.environ["GOFLOW_TEST_NEW"] = "1"
        changed.set()

    def look() -> None:
        seen.append((os.getcwd(), os.environ.get("GOFLOW_TEST_NEW")))
        over.set()

    job = Job("j", tasks=[Task("beside", Sync(lambda: over.wait(60))), Task("harm", Sync(harm))])
    job.add(Task("then", Sync(look), after=["harm"]))
    done = job.run()
    assert done.state == "successful"
    assert changed.is_set()
    assert seen == [(before, None)]
    assert "was restored" in done.tasks["harm"].logs
    assert done.tasks["beside"].logs == ""


def test_changes_of_the_program_during_a_task_stay(tmp_path: Path) -> None:
    before, began, changed = os.getcwd(), threading.Event(), threading.Event()

    def change() -> None:
        assert began.wait(60)
        os.chdir(tmp_path)
        changed.set()

    program = threading.Thread(target=change)
    program.start()

    def work() -> None:
        began.set()
        assert changed.wait(60)

    try:
        log = Job("j", tasks=[Task("t", Sync(work))]).run().tasks["t"].logs
        assert os.getcwd() == str(tmp_path)
        assert log == ""
    finally:
        program.join()
        os.chdir(before)


def test_changes_outside_tasks_stay(tmp_path: object) -> None:
    job = Job("j", tasks=[Task("t", Sync(lambda: None))])
    job.run()
    os.environ["GOFLOW_TEST_OUTSIDE"] = "1"
    try:
        assert job.run().tasks["t"].logs == ""
        assert os.environ["GOFLOW_TEST_OUTSIDE"] == "1"
    finally:
        del os.environ["GOFLOW_TEST_OUTSIDE"]
