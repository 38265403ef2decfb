"""Now, and sleep: the only reader of the system's time.

Everyone else is handed a `Clock`, so a test can hand them another.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

# A sleep is broken up, so that a step of the wall clock or a suspended machine is
# noticed at most this much later.
LONGEST_NAP = timedelta(seconds=20)


class Clock(Protocol):
    """Time as the engine knows it."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    async def sleep_until(self, instant: datetime) -> None:
        """Return once `now()` is at or past the instant, never before."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, instant: datetime) -> None:
        # No event tells of the wall clock, so it is looked at again and again.
        while (remaining := instant - self.now()) > timedelta(0):  # noqa: ASYNC110
            await asyncio.sleep(min(remaining, LONGEST_NAP).total_seconds())


async def wait(event: asyncio.Event, clock: Clock, until: datetime | None) -> None:
    """Wait for the event, or at most until the instant if there is one; clear the event."""
    if until is None:
        await event.wait()
    elif not event.is_set():
        sleeper = asyncio.ensure_future(clock.sleep_until(until))
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({sleeper, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in (sleeper, waiter):
                future.cancel()
                with suppress(asyncio.CancelledError):
                    await future
    event.clear()
