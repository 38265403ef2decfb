"""Runs synchronous operators in threads.

The rule that must not be broken: Python cannot stop a thread, so `end` returns a future of the
thread's real end.

Ended runs return to the event loop in batches: the first one wakes the loop, which takes all that
have ended by then.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable
from concurrent import futures
from typing import Any

from goflow.core.execution import Outcome
from goflow.engine.executors.base import Run, Work
from goflow.engine.executors.outcomes import awaited, run_sync
from goflow.engine.process import forked
from goflow.engine.threads import NoThread
from goflow.errors import TaskFailed
from goflow.operators.deadline import real_work
from goflow.operators.process_tag import ProcessTag

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, *[2.0] * 6)  # seconds between two tries to get a thread
PATIENT = 1.0  # seconds for a generator to end that was told to
ABANDONED = (
    "the thread of this attempt cannot be stopped; it was abandoned and may still run. "
    'A task with isolation="process" can be stopped'
)

Thread = futures.Future[Outcome | Awaitable[Any]]  # the work in a thread


class ThreadExecutor:
    """Implements `Executor` for a `def run`. Created on the event loop. `pool` may be any executor
    of `concurrent.futures` whose workers share this process. If it is to be used `once`, it is shut
    down after that. After a crash, no run is left."""

    shares_process = True

    def __init__(self, pool: futures.Executor, *, once: bool = False) -> None:
        self._pool = pool
        self._once = once
        self._returns = Returns()

    async def start(self, work: Work, /) -> Run:
        try:
            thread = await self._submitted(work)
        finally:
            if self._once:
                self._pool.shutdown(wait=False)
        return ThreadRun(thread, work, self._returns)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return None

    async def _submitted(self, work: Work) -> Thread:
        """Submit the work. If the system refuses a thread, try again for a while."""
        run = contextvars.copy_context().run
        for number, pause in enumerate(PAUSES):
            try:
                return self._pool.submit(run, run_sync, work)
            except NoThread as error:
                if not number:
                    work.context.log.warning("waits for a thread: %s", error)
            await asyncio.sleep(pause)
        try:
            return self._pool.submit(run, run_sync, work)
        except NoThread as error:
            seconds = f"{sum(PAUSES):g} s"
            raise TaskFailed(f"no thread was available to run it for {seconds}: {error}") from None


class ThreadRun:
    """The work of a thread, running or queued."""

    __slots__ = ("_heard", "_returns", "_thread", "_work")

    def __init__(self, thread: Thread, work: Work, returns: "Returns") -> None:
        self._thread = thread
        self._work = work
        self._returns = returns
        self._heard = returns.expect(thread)

    async def hear(self) -> Outcome:
        try:
            with real_work(self._thread.done):
                value = await self._heard
        except asyncio.CancelledError:
            if (stream := self._work.context.stream) is not None:
                stream.close()  # so a generator ends that waits, or when it yields
                await asyncio.wait([self._returns.end_of(self._thread)], timeout=PATIENT)
            raise
        # An ordinary function may return an awaitable, which belongs on the event loop.
        return value if isinstance(value, Outcome) else await awaited(value, self._work)

    def end(self) -> "asyncio.Future[None] | None":
        if self._thread.cancel() or self._thread.done():
            return None
        log = self._work.context.log
        log.warning(ABANDONED)
        forked.abandon(log, self._thread)
        return self._returns.end_of(self._thread)


class Returns:
    """Passes the results of threads to futures of the event loop, in batches."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: deque[tuple[futures.Future[Any], asyncio.Future[Any]]] = deque()
        self._woken = False

    def expect(self, thread: "futures.Future[Any]") -> "asyncio.Future[Any]":
        """A future of the loop that gets the thread's result, error or cancellation."""
        heard: asyncio.Future[Any] = self._loop.create_future()
        thread.add_done_callback(lambda ended: self._put(ended, heard))
        return heard

    def end_of(self, thread: "futures.Future[Any]") -> "asyncio.Future[None]":
        """A future of the loop that is done once the thread has ended, whatever its result."""
        end: asyncio.Future[None] = self._loop.create_future()
        done: futures.Future[None] = futures.Future()
        done.set_result(None)
        thread.add_done_callback(lambda _: self._put(done, end))
        return end

    def _put(self, ended: "futures.Future[Any]", heard: "asyncio.Future[Any]") -> None:
        self._ended.append((ended, heard))
        # Set before the loop takes the batch, so a thread that finds it set is in that batch.
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop has closed, so nothing waits for it
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False
        for _ in range(len(self._ended)):
            ended, heard = self._ended.popleft()
            if heard.done():
                continue
            if ended.cancelled():
                heard.cancel()
            elif (error := ended.exception()) is not None:
                heard.set_exception(error)
            else:
                heard.set_result(ended.result())
