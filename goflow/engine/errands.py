"""What somebody asked for is seen through to its end, whoever still waits for it.

The rule that must not be broken: who asks may go away at any moment (a browser that is
closed cancels its request), and nothing is left half done because of that. So the work
is done in a task of its own, and the one who asked only waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from goflow.errors import GoflowError, Stopping

P = ParamSpec("P")
T = TypeVar("T")


class Errands:
    """Work under way for those who asked for it. `on_defect` hears of what went wrong that
    never should, also when nobody waits any more."""

    def __init__(self, on_defect: Callable[[str, BaseException], None]) -> None:
        self._on_defect = on_defect
        self.under_way: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T], what: str) -> "asyncio.Task[T]":
        """Let the work be done; `outcome` waits for it."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self.under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    async def outcome(self, task: "asyncio.Task[T]") -> T:
        """What the work came to. To be cancelled here does not cancel it."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if task.cancelled() and waiting is not None and not waiting.cancelling():
                raise Stopping("the server is stopping") from None
            raise

    async def end(self) -> None:
        """Wait for all that is under way; to be called when no more can come."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, GoflowError):
            self._on_defect(task.get_name(), error)


class HasErrands(Protocol):
    errands: Errands


Self = TypeVar("Self", bound=HasErrands)


def seen_through(
    method: Callable[Concatenate[Self, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]:
    """Let a method go on to its end, though whoever called it may be cancelled meanwhile."""

    async def asked(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        errands = self.errands
        return await errands.outcome(errands.begin(method(self, *args, **kwargs), method.__name__))

    asked.__name__, asked.__doc__ = method.__name__, method.__doc__
    return asked
