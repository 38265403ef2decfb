"""A time limit that counts when the work ended, not when the event loop noticed.

The rule that must not be broken: time in which the event loop was blocked does not count. A thread
or a program that ended in time has not timed out, even if the notification arrives late.

`async with Deadline(seconds)` cancels its block like `asyncio.timeout`, and raises `TimeoutError`.
`with real_work(has_ended)` tells the surrounding deadlines how to check for the end.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType

_NOTHING = contextlib.nullcontext()

HELD_UP = 0.05  # seconds that a timer may be late although the loop was not blocked
GRACE = 5.0  # seconds at most that are added for that, or to wait for a notification
LOOK = 0.02  # seconds between two checks for a notification

_innermost: ContextVar["Deadline | None"] = ContextVar("goflow_deadline", default=None)


class Deadline:
    """A limit in seconds from the entry on; None for no limit. `expired` is true after it."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._given = 0.0
        self._works: list[Callable[[], bool]] = []
        self.expired = False

    async def __aenter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._outer = _innermost.get()
        self._token = _innermost.set(self)
        self._timer: asyncio.TimerHandle | None = None
        if self._seconds is not None:
            self._again(self._seconds)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        _innermost.reset(self._token)
        if not self.expired or self._task.uncancel() > self._cancelling:
            return  # or another caller cancels too
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _again(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._when = loop.time() + seconds
        self._timer = loop.call_at(self._when, self._judge)

    def _judge(self) -> None:
        late = asyncio.get_running_loop().time() - self._when
        if self._given < GRACE and late > HELD_UP:
            more = min(late, GRACE - self._given)
        elif self._given < GRACE and self._works and all(ended() for ended in self._works):
            more = LOOK
        else:
            self.expired = True
            self._task.cancel()
            return
        self._given += more
        self._again(more)

    @classmethod
    @contextlib.contextmanager
    def _around(cls, has_ended: Callable[[], bool]) -> Iterator[None]:
        around = []
        one = _innermost.get()
        while one is not None:
            one._works.append(has_ended)
            around.append(one)
            one = one._outer
        try:
            yield
        finally:
            for one in around:
                one._works.remove(has_ended)


def real_work(has_ended: Callable[[], bool]) -> contextlib.AbstractContextManager[None]:
    """The block waits for work outside of the event loop; `has_ended` says whether it ended."""
    return _NOTHING if _innermost.get() is None else Deadline._around(has_ended)
