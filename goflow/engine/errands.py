"""Errands: requests that run to their end, even if their client disconnects.

The rule that must not be broken: a client may disconnect at any moment (a closed browser cancels
its request), and that leaves nothing half done. So the work runs in a separate task, and the
request only waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from goflow.errors import GoflowError, Stopping

P = ParamSpec("P")
T = TypeVar("T")


class Errands:
    """Requests in progress. `on_defect` is called with unexpected errors, even if no client waits
    for the outcome."""

    def __init__(self, on_defect: Callable[[str, BaseException], None]) -> None:
        self._on_defect = on_defect
        self.under_way: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T], what: str) -> T:
        """Start the work and wait for its outcome."""
        return await self.outcome(self.begin(work, what))

    def begin(self, work: Coroutine[Any, Any, T], what: str) -> "asyncio.Task[T]":
        """Start the work; `outcome` waits for it."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self.under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    async def outcome(self, task: "asyncio.Task[T]") -> T:
        """The outcome of the work. Cancelling the wait does not cancel the work."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if task.cancelled() and waiting is not None and not waiting.cancelling():
                raise Stopping("the server is stopping") from None
            raise

    async def end(self) -> None:
        """Wait for all work in progress. Call it when no more can start."""
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
    """Run a method as an errand: it runs to its end even if its caller is cancelled."""

    async def asked(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.errands.run(method(self, *args, **kwargs), method.__name__)

    asked.__name__, asked.__doc__ = method.__name__, method.__doc__
    return asked
