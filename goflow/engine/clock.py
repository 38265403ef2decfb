"""Now, and sleep: the only reader of the system's time.

Other modules receive a `Clock`, so that a test can pass another one.
"""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Protocol

# A long sleep is split, so that a step of the wall clock or a suspended machine is noticed at
# most this much later.
LONGEST_NAP = timedelta(seconds=20)


class Clock(Protocol):
    """Time as the engine knows it."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC. The clock may be set forward or back at any time."""
        ...

    def elapsed(self) -> float:
        """Seconds since a fixed instant, independent of changes of the wall clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, independent of changes of the wall clock."""
        ...

    def thread_time(self) -> float:
        """Seconds of processor time that the current thread has used."""
        ...

    def work(self) -> AbstractContextManager[None]:
        """Real work runs while the block does: a thread, a program, a request. A simulated clock
        must not run ahead of it."""
        ...


_NOTHING = nullcontext()


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def thread_time(self) -> float:
        return time.thread_time()

    def work(self) -> AbstractContextManager[None]:
        return _NOTHING


def processor_time() -> float:
    """Seconds of processor time that this process has used, over all its threads."""
    return time.process_time()


async def wait(event: asyncio.Event, clock: Clock, until: datetime | None) -> None:
    """Wait for the event and clear it, or until the instant if there is one.

    It may return earlier, because nothing reports a changed clock or a suspended machine. So the
    caller must check again.
    """
    if until is None:
        await event.wait()
    elif not event.is_set():
        nap = max(min(until - clock.now(), LONGEST_NAP), timedelta(0))
        sleeper = asyncio.ensure_future(clock.sleep(nap.total_seconds()))
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({sleeper, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waiter.cancel()
            # Not by awaiting each: a caller that is being cancelled would swallow its own
            # cancellation.
            await asyncio.wait({sleeper, waiter})
    event.clear()
