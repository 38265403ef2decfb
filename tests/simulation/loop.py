"""Simulated time: an event loop that never waits, and a clock and threads that run on it.

The rule that must not be broken: nothing here depends on the machine. The same seed takes the
same steps, so sets of tasks are ordered by number, not by memory address.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, TypeVar

from goflow.engine.threads import Threads, Writer
from goflow.operators.orphans import Orphan, Wanted

T = TypeVar("T")


class NumberedTask(asyncio.Task[Any]):
    """A task whose order in a set is the same in every run."""

    def __init__(self, number: int, coroutine: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class Loop(asyncio.BaseEventLoop):
    """Runs one callback per step; if there is none, it jumps to the next timer.

    Callbacks run in the order registered, as asyncio promises. Events from outside (threads,
    timers) arrive when the simulation decides.
    """

    def __init__(self, now: float, rng: random.Random) -> None:
        super().__init__()
        self._now = now
        self._helpers = SimulatedExecutor(self, rng)
        self._numbered = 0
        self.tasks: list[NumberedTask] = []
        self.set_task_factory(self._numbered_task)

    def _numbered_task(self, loop: object, coroutine: Any, **options: Any) -> NumberedTask:
        self._numbered += 1
        task = NumberedTask(self._numbered, coroutine, loop=self, **options)
        self.tasks.append(task)
        if len(self.tasks) > 1000:
            self.tasks = [task for task in self.tasks if not task.done()]
        return task

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        """Without an executor, such as for `asyncio.to_thread`, on this loop, too."""
        return super().run_in_executor(self._helpers if executor is None else executor, func, *args)

    def time(self) -> float:
        return self._now

    def skip(self, seconds: float) -> None:
        """Let time pass without running anything."""
        self._now += seconds

    def _write_to_self(self) -> None:
        pass  # there is no thread to wake

    def step(self, until: float) -> bool:
        """Run one callback. Returns False at the time `until` if there is none before."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while True:
            while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
                timer = heapq.heappop(timers)
                timer._scheduled = False  # type: ignore[attr-defined]
                if not timer.cancelled():
                    ready.append(timer)
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                    return True
            if not timers or timers[0].when() > until:
                self._now = max(self._now, until)
                return False
            self._now = timers[0].when()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this the running loop inside the block."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def abandon(self) -> None:
        """The process has died. Unwind its coroutines, so that the interpreter does not warn;
        their effects are discarded."""
        self.set_exception_handler(lambda loop, context: None)
        with self.running():
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _unwind(task)
        self.tasks.clear()
        self.close()


def _unwind(task: NumberedTask) -> None:
    coroutine: Any = task.get_coro()
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:  # it awaits while it is closed
            continue
        except BaseException:  # errors of a dead process are ignored
            return
        return


class Wall:
    """The wall clock, which may be changed."""

    def __init__(self, beginning: datetime) -> None:
        self._beginning = beginning
        self.offset = timedelta(0)

    def at(self, time: float) -> datetime:
        return self._beginning + timedelta(microseconds=round(time * 1e6)) + self.offset


class SimulatedClock:
    """The engine's clock."""

    def __init__(self, loop: Loop, wall: Wall) -> None:
        self._loop = loop
        self._wall = wall

    def now(self) -> datetime:
        return self._wall.at(self._loop.time())

    def thread_time(self) -> float:
        return 0.0

    def elapsed(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def work(self) -> AbstractContextManager[None]:
        return nullcontext()


class SimulatedExecutor(Executor):
    """Runs work on the loop after a random delay. After the work, `lasts` returns how many more
    seconds the thread is occupied, and a callback for the moment when it is free."""

    def __init__(
        self,
        loop: Loop,
        rng: random.Random,
        lasts: Callable[[], tuple[float, Callable[[], None]]] | None = None,
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._lasts = lasts

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                if self._lasts is None:
                    future.set_result(result)
                else:
                    seconds, free = self._lasts()
                    self._loop.call_later(seconds, finish, result, free)

        def finish(result: T, free: Callable[[], None]) -> None:
            free()
            future.set_result(result)

        self._loop.call_later(self._rng.choice((0, 0, 0.001, 0.02)), work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class SimulatedWriter:
    """Writes some of the queue after a random delay, like a busy or slow disk."""

    def __init__(
        self, loop: Loop, rng: random.Random, write: Callable[[list[Any]], None], limit: int
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._write = write
        self._limit = limit
        self._waiting: list[Any] = []
        self._busy = False
        self._stopped: asyncio.Future[None] | None = None

    def put(self, item: Any, /) -> None:
        self._waiting.append(item)
        self._begin()

    async def stop(self) -> None:
        if self._waiting:
            self._stopped = self._loop.create_future()
            await self._stopped

    def _begin(self) -> None:
        if not self._busy:
            self._busy = True
            self._loop.call_later(self._rng.choice((0, 0, 0.0005, 0.004, 0.05)), self._work)

    def _work(self) -> None:
        self._busy = False
        some = self._rng.randint(1, min(len(self._waiting), self._limit))
        batch, self._waiting = self._waiting[:some], self._waiting[some:]
        self._write(batch)
        if self._waiting:
            self._begin()
        elif self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)


class SimulatedThreads(Threads):
    """The engine's threads, on the loop."""

    def __init__(
        self,
        loop: Loop,
        rng: random.Random,
        lasts: Callable[[], tuple[float, Callable[[], None]]],
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._lasts = lasts

    def operators(self, size: int) -> Executor:
        return SimulatedExecutor(self._loop, self._rng, self._lasts)

    def readers(self, size: int) -> Executor:
        return SimulatedExecutor(self._loop, self._rng)

    def helpers(self, size: int) -> Executor:
        return SimulatedExecutor(self._loop, self._rng)

    def writer(
        self, write: Callable[[list[T]], None], limit: int, weigh: Callable[[T], int], load: int
    ) -> Writer[T]:
        return SimulatedWriter(self._loop, self._rng, write, limit)

    async def end_orphans(self, wanted: Wanted) -> list[Orphan]:
        return []  # nothing starts processes here
