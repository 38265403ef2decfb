"""`asyncio.run`, but it always returns, even if tasks leave work on the event loop.

The rule that must not be broken: at the end everything that still runs is cancelled and awaited for
a limited time. A coroutine may swallow its cancellation, and a function in a thread may never
return; `asyncio.run` would wait for both indefinitely.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from goflow.engine.process import exits

T = TypeVar("T")

LOOK = 0.01  # seconds between two looks at threads
PATIENCE = 2.0  # seconds to wait for cancelled tasks, and as many for threads

# Never collected, since collecting a coroutine closes it, which logs an error if it refuses.
_stubborn: "list[asyncio.Task[Any]]" = []
_given_up: "weakref.WeakSet[asyncio.Task[Any]]" = weakref.WeakSet()
_threads_left = False


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new event loop, and close the loop."""
    runner = asyncio.Runner()
    try:
        return exits.run(runner, main)
    finally:
        with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
            runner.run(_settle())
        runner.close()


def is_anything_left() -> bool:
    """Whether a cancelled task or thread still runs in this process."""
    return _threads_left or any(not task.done() for task in _stubborn)


def give_up(task: "asyncio.Task[Any]") -> None:
    """Note a task that ignores its cancellation; it may still end."""
    _given_up.add(task)


def disown_given_up() -> None:
    """At a stop: exempt the noted tasks from being awaited by any runner of the event loop."""
    loop = asyncio.get_running_loop()
    for task in [one for one in _given_up if one.get_loop() is loop]:
        _given_up.discard(task)
        disown(task)


def disown(task: "asyncio.Task[Any]") -> None:
    """Exempt a task that ignores its cancellation from being awaited at the end."""
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
    """Wait for the threads of the loop's default executor, which `asyncio.to_thread` uses."""
    global _threads_left
    executor, loop._default_executor = loop._default_executor, None
    if executor is None:
        return
    executor.shutdown(wait=False, cancel_futures=True)
    threads = list(executor._threads)
    # Polled: joining them would need another thread, which the system may refuse.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110  there is no event
                await asyncio.sleep(LOOK)
    _threads_left |= any(thread.is_alive() for thread in threads)
