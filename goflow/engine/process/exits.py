"""A SystemExit or KeyboardInterrupt in a task's code fails the task, not the event loop.

asyncio raises both out of the event loop, from any task or callback. So a `sys.exit()` in a helper
that an operator awaits by `gather` would end the server. An attempt catches its own exceptions;
this module covers the asyncio tasks that it starts. It also keeps a task's code from stopping the
loop, and from cancelling tasks of others through `asyncio.all_tasks()`.
"""

import asyncio
import signal
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from goflow.engine.current import current_log
from goflow.operators.base import Log
from goflow.shown import reason

T = TypeVar("T")

STOPPED = (
    "Event loop stopped before Future completed."  # asyncio's message; it has no class for this
)


class Exited(RuntimeError):
    """A task's code raised a SystemExit or a KeyboardInterrupt; the message says which."""


_plain_all_tasks = asyncio.all_tasks
_homes: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # the loops that attempts run on
_begun_by: WeakKeyDictionary[Any, Log] = WeakKeyDictionary()


def _all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> "set[asyncio.Task[Any]]":
    """In an attempt, only its own tasks: `for task in all_tasks(): task.cancel()` is common."""
    found = _plain_all_tasks(loop)
    log = current_log.get()
    if log is None or (loop or asyncio.get_running_loop()) not in _homes:
        return found
    return {task for task in found if _begun_by.get(task) is log}


@contextmanager
def contained(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Contain what asyncio tasks of attempts raise, while inside."""
    before: Any = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        log = current_log.get()
        if log is not None and not isinstance(coroutine, Contained):
            coroutine = Contained(coroutine)
        if before is None:
            task: Any = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = before(loop, coroutine, **options)
        if log is not None:
            _begun_by[task] = log
        return task

    loop.set_task_factory(make)
    _homes.add(loop)
    asyncio.all_tasks = asyncio.tasks.all_tasks = _all_tasks
    try:
        yield
    finally:
        _homes.discard(loop)
        if loop.get_task_factory() is make:  # other code may have replaced it since
            loop.set_task_factory(before)


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises `Exited` instead of an exception that would end the event loop."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise Exited(reason(error)) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._coroutine.throw(*error)
        except (SystemExit, KeyboardInterrupt) as another:
            raise Exited(reason(another)) from another

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        result: Any = yield from self._coroutine.__await__()
        return result

    def __getattr__(self, name: str) -> Any:  # its name and frame, for tools that show tasks
        return getattr(self._coroutine, name)


def run(runner: asyncio.Runner, main: Coroutine[Any, Any, T]) -> T:
    """`runner.run(main)`, which continues when a callback raises one of the two, or stops the
    loop. Ctrl-C still ends it unless a handler for SIGINT is set."""
    loop = runner.get_loop()
    task = loop.create_task(main)
    while True:
        try:
            runner.run(_end_of(task))
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or _is_ctrl_c(error):
                raise
            message = (
                "a callback raised an exception that would end the event loop; the loop continues"
            )
            loop.call_exception_handler({"message": message, "exception": error})
        except RuntimeError as error:
            if task.done() or str(error) != STOPPED:
                raise
            message = "a task stopped the event loop; the loop continues"
            loop.call_exception_handler({"message": message, "exception": error})
        else:
            return task.result()


async def _end_of(task: "asyncio.Task[Any]") -> None:
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            raise


def _is_ctrl_c(error: BaseException) -> bool:
    return (
        isinstance(error, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
