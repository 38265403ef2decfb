"""`asyncio.run` that ends, whatever tasks have left on the event loop.

The rule that must not be broken: at the end each thing that is still going on is told to end, and
is waited for, but not for ever. A coroutine may swallow its cancellation, and a function that was
handed to a thread may never return; `asyncio.run` would wait for both until the end of time.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from goflow.engine.process import exits

T = TypeVar("T")

LOOK = 0.01  # seconds between two looks at threads
PATIENCE = 2.0  # seconds for what is cancelled, and as many for threads

# Kept for ever: to collect a coroutine is to end it once more, and to complain if it will not.
_stubborn: "list[asyncio.Task[Any]]" = []
_given_up: "weakref.WeakSet[asyncio.Task[Any]]" = weakref.WeakSet()
_threads_left = False


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop of its own, and close that."""
    runner = asyncio.Runner()
    try:
        return exits.run(runner, main)
    finally:
        with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
            runner.run(_settle())
        runner.close()


def is_anything_left() -> bool:
    """Whether something goes on that was told to end in this process, and never may."""
    return _threads_left or any(not task.done() for task in _stubborn)


def give_up(task: "asyncio.Task[Any]") -> None:
    """Take note of a task that does not heed its cancellation; it may do so yet."""
    _given_up.add(task)


def disown_given_up() -> None:
    """At a stop: let nobody wait for those any more, whoever runs the event loop."""
    loop = asyncio.get_running_loop()
    for task in [one for one in _given_up if one.get_loop() is loop]:
        _given_up.discard(task)
        disown(task)


def disown(task: "asyncio.Task[Any]") -> None:
    """Let nobody wait any more for a task that does not heed its cancellation."""
    if not task.done():
        _stubborn.append(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        asyncio._unregister_task(task)


async def _settle() -> None:
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        ended, stubborn = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in stubborn:
            disown(task)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception while the event loop was closed",
                        "exception": error,
                        "task": task,
                    }
                )
    await _settle_threads(loop)


async def _settle_threads(loop: Any) -> None:
    """Those of the loop's own executor, which `asyncio.to_thread` uses."""
    global _threads_left
    executor, loop._default_executor = loop._default_executor, None
    if executor is None:
        return
    executor.shutdown(wait=False, cancel_futures=True)
    threads = list(executor._threads)
    # Looked at rather than joined in one more thread, which may not be had.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(LOOK)
    _threads_left |= any(thread.is_alive() for thread in threads)
