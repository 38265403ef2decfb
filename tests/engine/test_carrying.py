"""Output of a task's threads lands in the log of that task."""

import asyncio
import contextvars
import logging
import multiprocessing.pool
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from goflow.engine.output.capture import captured
from goflow.engine.output.carrying import POOL_METHODS, carry_into_pools
from tests.engine.test_capture import task

Say = Callable[[], None]


class Early(NamedTuple):
    """Pools created before any task, as in a module."""

    executor: ThreadPoolExecutor
    pool: multiprocessing.pool.ThreadPool


@pytest.fixture(scope="module")
def early() -> Iterator[Early]:
    with ThreadPoolExecutor(2) as executor, multiprocessing.pool.ThreadPool(2) as pool:
        executor.submit(print).result()
        yield Early(executor, pool)


def by_thread(say: Say, early: Early) -> None:
    thread = threading.Thread(target=say)
    thread.start()
    thread.join()


def by_timer(say: Say, early: Early) -> None:
    timer = threading.Timer(0, say)
    timer.start()
    timer.join()


def by_grandchild(say: Say, early: Early) -> None:
    by_thread(lambda: by_thread(say, early), early)


def by_subclass(say: Say, early: Early) -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            say()

    thread = Mine(daemon=True)
    thread.start()
    thread.join()


def by_own_pool(say: Say, early: Early) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(say).result()


def by_own_multiprocessing_pool(say: Say, early: Early) -> None:
    with multiprocessing.pool.ThreadPool(1) as pool:
        pool.apply(say)


def by_loop(say: Say, early: Early) -> None:
    async def main() -> None:
        await asyncio.to_thread(say)
        await asyncio.get_running_loop().run_in_executor(early.executor, say)

    asyncio.run(main())


@pytest.mark.parametrize(
    "way",
    [
        by_thread,
        by_timer,
        by_grandchild,
        by_subclass,
        by_own_pool,
        by_loop,
        lambda say, early: early.executor.submit(say).result(),
        lambda say, early: list(early.executor.map(lambda _: say(), range(4))),
        lambda say, early: early.pool.apply(say),
        lambda say, early: early.pool.map(lambda _: say(), range(4)),
        lambda say, early: early.pool.starmap(lambda *_: say(), [(1, 2)]),
        lambda say, early: list(early.pool.imap_unordered(lambda _: say(), range(4))),
        by_own_multiprocessing_pool,
    ],
)
def test_output_of_a_tasks_threads_lands_in_the_log_of_that_task(
    way: Callable[[Say, Early], object], early: Early, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(name: str) -> Say:
        def say() -> None:
            print(name)
            print(name, file=sys.stderr)
            logging.getLogger(name).info("logged")

        return say

    expected = {"a": ["a", "a", "INFO a: logged"], "b": ["b", "b", "INFO b: logged"]}
    with captured():
        carry_into_pools()
        for name, lines in expected.items():
            with task() as log:
                way(says(name), early)
            assert set(log.lines) == set(lines)
            assert len(log.lines) % len(lines) == 0
        way(lambda: print("outside"), early)
    assert set(capsys.readouterr().out.split()) == {"outside"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_traceback_of_a_thread_that_failed_lands_in_the_log(early: Early) -> None:
    def fail() -> None:
        raise ValueError("in the thread")

    hook = threading.excepthook
    threading.excepthook = threading.__excepthook__
    try:
        with captured(), task() as log:
            by_thread(fail, early)
    finally:
        threading.excepthook = hook
    assert log.lines[-1] == "ValueError: in the thread"


def test_threads_have_their_usual_context_and_patches_are_undone_afterwards(
    early: Early,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    before = threading.Thread.start, ThreadPoolExecutor.submit, type(sys), logging.Logger.__dict__
    with captured(), task():
        carry_into_pools()
        variable.set("mine")
        by_thread(lambda: seen.append(variable.get()), early)
        early.executor.submit(lambda: seen.append(variable.get())).result()
    assert seen == ["none", "none"]
    after = threading.Thread.start, ThreadPoolExecutor.submit, type(sys), logging.Logger.__dict__
    assert after == before
    assert not set(POOL_METHODS) & multiprocessing.pool.ThreadPool.__dict__.keys()
