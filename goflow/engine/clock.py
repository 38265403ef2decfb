"""Now, and sleep: the only reader of the system's time.

Everyone else is handed a `Clock`, so a test can hand them another.
"""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Protocol

# A sleep is broken up, so that a step of the wall clock or a suspended machine is
# noticed at most this much later.
LONGEST_NAP = timedelta(seconds=20)


class Clock(Protocol):
    """Time as the engine knows it."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC; it may be set forward or back at any time."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed instant, which go on evenly however the clock is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds, however the clock is set meanwhile."""
        ...

    def work(self) -> AbstractContextManager[None]:
        """Inside, something goes on that takes its time: a thread, a program, a request. A clock
        that is made up must not run ahead of it."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def work(self) -> AbstractContextManager[None]:
        return nullcontext()


def processor_time() -> float:
    """Seconds of a processor that this process has used, over all its threads."""
    return time.process_time()


async def wait(event: asyncio.Event, clock: Clock, until: datetime | None) -> None:
    """Wait for the event, and clear it; or until the instant, if there is one.

    It may return earlier, for no event tells that the clock was set or the machine was
    suspended: whoever waits has to look again.
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
            # Not by awaiting each: whoever is cancelled just now would take it for theirs.
            await asyncio.wait({sleeper, waiter})
    event.clear()
