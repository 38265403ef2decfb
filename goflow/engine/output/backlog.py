"""Bounds the log text that is not stored yet, per attempt and in total.

The rule that must not be broken: a thread that writes waits while there is too much text, or while
the event loop is starved. The event loop itself never waits, since then nothing would be stored.

The loop does not wait for a lock that such a thread may hold, either: with many threads, each waits
for its turn to run before it can release the lock.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from goflow.engine.clock import Clock

LIMIT = 64 * 1024 * 1024  # bytes
SHARED = 4 * 1024 * 1024  # bytes that all logs may hold before threads wait
SHARE = 16 * 1024, 1024 * 1024  # the minimum and maximum for one log
# Seconds between waking two threads: about the time in which one writes its share. Together they
# would compete with each other and with the event loop.
PACE = 0.002
# Seconds between two ticks on the event loop while threads write, and until it counts as starved.
TICK = 0.02
STARVED = 0.05
# A woken thread may write nothing more, so the others check again.
AGAIN = 0.1  # seconds
LOOK = 1.0  # seconds until a thread checks by itself, in case the loop has ended


class Waiting(NamedTuple):
    """A waiting thread: the lock it waits for, and whether it may continue."""

    bell: threading.Lock
    may_go_on: Callable[[], bool]


class Backlog:
    """Counts bytes. Created on the event loop. Each writer may exceed the limit by one write."""

    def __init__(self, clock: Clock, limit: int = LIMIT) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._ticking = False
        self._ticked = 0.0
        self._used = False  # since the last tick
        self._logs = 0
        self._home = threading.get_ident()
        self._by_loop = 0
        self._by_threads = 0
        self._lock = threading.Lock()  # guards `_by_threads`
        self._threads: deque[Waiting] = deque()
        self._waking: asyncio.TimerHandle | None = None
        self._futures: deque[asyncio.Future[None]] = deque()

    @property
    def size(self) -> int:
        return self._by_loop + self._by_threads

    @property
    def full(self) -> bool:
        return self.size >= self._limit

    @property
    def share(self) -> int:
        """The bytes of one log at which its threads wait."""
        least, most = SHARE
        return min(max(SHARED // max(self._logs, 1), least), most)

    def opened(self, logs: int) -> None:
        """Count logs that were opened, or closed if negative; from the event loop."""
        self._logs += logs

    def count(self, size: int) -> None:
        """Add bytes to be stored, or subtract dropped ones; from any thread."""
        if threading.get_ident() == self._home:
            self._by_loop += size
        else:
            with self._lock:
                self._by_threads += size

    def landed(self, size: int) -> None:
        """Subtract stored bytes; from the event loop."""
        self._by_loop -= size
        self.wake()
        while self._futures and not self.full:
            waiting = self._futures.popleft()
            if not waiting.done():
                waiting.set_result(None)
                break

    def wake(self) -> None:
        """Wake the threads that may continue, one after another; from the event loop."""
        if self._threads and self._waking is None:
            self._wake_one()

    def _wake_one(self) -> None:
        self._waking = None
        for _ in range(len(self._threads)):
            waiting = self._threads.popleft()
            if waiting.may_go_on():
                waiting.bell.release()
                self._waking = self._loop.call_later(PACE, self._wake_one)
                return
            self._threads.append(waiting)

    def may_write(self) -> bool:
        """Whether a thread may write to any log now."""
        now = self._clock.elapsed()
        self._used = True
        if not self._ticking:
            self._ticking, self._ticked = True, now
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody reads on
                self._loop.call_soon_threadsafe(self._tick)
        return now - self._ticked < STARVED and not self.full

    def _tick(self) -> None:
        self._ticked = self._clock.elapsed()
        self._ticking, self._used = self._used, False
        if self._ticking:
            self._loop.call_later(TICK, self._tick)
        self.wake()

    def wait(self, may_go_on: Callable[[], bool]) -> None:
        """Block until the thread may continue, in its turn; never from the event loop."""
        while not may_go_on():
            waiting = Waiting(threading.Lock(), may_go_on)
            waiting.bell.acquire()
            self._threads.append(waiting)
            if not waiting.bell.acquire(timeout=LOOK):
                with contextlib.suppress(ValueError):  # it is being woken just now
                    self._threads.remove(waiting)

    async def drained(self) -> None:
        """Return when there is room; from the event loop."""
        while self.full:
            given = self._loop.create_future()
            self._futures.append(given)
            await asyncio.wait([given], timeout=AGAIN)
            if not given.done():
                given.cancel()
