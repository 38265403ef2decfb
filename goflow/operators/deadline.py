"""A time limit that judges by when the work ended, not by when somebody got to look.

The rule that must not be broken: the time in which the event loop was held up is nobody's. What
had ended in time, a thread or a program, has not timed out because the news of it came late.

`async with Deadline(seconds)` cancels what is inside as `asyncio.timeout` does, and raises
`TimeoutError`. `with real_work(has_ended)` tells those around it how to look.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType

HELD_UP = 0.05  # seconds that a timer may come late without the loop having been held up
GRACE = 5.0  # seconds at most that are given because of that, or until news of an end arrive
LOOK = 0.02  # seconds between two looks for such news

_innermost: ContextVar["Deadline | None"] = ContextVar("goflow_deadline", default=None)


class Deadline:
    """Of so many seconds from the entry on; None for none. `expired` tells whether it came."""

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
            return  # or it is somebody else who cancels, too
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
    """Inside, something goes on beside the event loop; `has_ended` tells whether it still does."""
    return Deadline._around(has_ended)
