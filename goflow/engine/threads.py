"""Threads for work that would block the event loop: synchronous operators, and the store.

The rule that must not be broken: an operator that never returns must not prevent the process from
exiting. The standard ThreadPoolExecutor joins its threads at interpreter exit, so these are daemon
threads.

The system may refuse a thread (`ulimit -u`, memory). Threads for the store start with the engine.
An attempt without a thread raises, and none of its work stays queued.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from goflow.errors import StoreError
from goflow.operators import orphans
from goflow.operators.orphans import Orphan, Wanted

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)

Work = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """Runs the engine's work outside the event loop. Tests pass a replacement that decides when
    work is done."""

    def operators(self, size: int) -> Executor:
        """An executor of synchronous operators, at most `size` at once."""
        return DaemonThreads(size)

    def readers(self, size: int) -> Executor:
        """An executor of reads of the store."""
        try:
            return DaemonThreads(size, name="goflow-reader", ready=True)
        except NoThread as error:
            raise StoreError(f"there is no thread to read the store in: {error}") from error

    def helpers(self, size: int) -> Executor:
        """An executor of users' functions that are no operators."""
        return DaemonThreads(size, name="goflow-helper")

    def writer(
        self, write: Callable[[list[T]], None], limit: int, weigh: Callable[[T], int], load: int
    ) -> "Writer[T]":
        """A writer of the store. It calls `write` with a batch of items in order, one call at a
        time. A batch is full at `limit` items, or when they weigh `load` together."""
        try:
            return WriterThread(write, limit, weigh, load)
        except NoThread as error:
            raise StoreError(f"there is no thread to write the store in: {error}") from error

    async def end_orphans(self, wanted: Wanted) -> list[Orphan]:
        """Find and end orphans: processes that attempts have left running."""
        return await orphans.end(wanted)


class NoThread(RuntimeError):
    """The system refuses another thread. The message is the system's."""


def start(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread. Raises `NoThread`."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        told = str(error) or type(error).__name__
        raise NoThread(f"{told}; see ulimit -u and the free memory") from error
    return thread


class Writer(Protocol[Item]):
    """Accepts items to be written."""

    def put(self, item: Item, /) -> None: ...

    async def stop(self) -> None:
        """Wait until all accepted items are written. Called once, at the end."""
        ...


class WriterThread(Generic[T]):
    """Writes all items queued during the previous write as one batch. There is no timer: a single
    item is written at once, and batches grow with the load."""

    def __init__(
        self, write: Callable[[list[T]], None], limit: int, weigh: Callable[[T], int], load: int
    ) -> None:
        self._write = write
        self._limit = limit
        self._weigh = weigh
        self._load = load
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._stopped: Future[None] = Future()
        start(self._work, "goflow-writer")

    def put(self, item: T, /) -> None:
        self._queue.put(item)

    async def stop(self) -> None:
        self._queue.put(None)
        # Not in asyncio's thread pool, since tasks may block all of its threads, and the system may
        # refuse another one.
        await asyncio.wrap_future(self._stopped)

    def _work(self) -> None:
        stopping = False
        while not stopping:
            batch: list[T] = []
            weight = 0
            item = self._queue.get()
            while True:
                if item is None:
                    stopping = True
                    break
                batch.append(item)
                weight += self._weigh(item)
                if len(batch) == self._limit or weight >= self._load:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write(batch)
        self._stopped.set_result(None)


class DaemonThreads(Executor):
    """A pool of at most `max_workers` daemon threads.

    A thread starts when work finds no idle one. With `ready` all start at once, or as many as
    the system permits; raises `NoThread` if it permits none.

    Idle threads are woken one by one: each wakes the next one when it takes work and finds more.
    Short work is then done by a few threads, where waking one for each piece would switch threads
    for each.
    """

    def __init__(
        self, max_workers: int, *, name: str = "goflow-operator", ready: bool = False
    ) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {max_workers!r}")
        self._max_workers = max_workers
        self._name = name
        self._queue: deque[Work] = deque()
        self._idle = 0  # idle threads, less the queued work
        self._asleep = 0
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # each ring wakes one thread
        self._ringing = False  # a ring that no thread has answered yet
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._shutdown = False
        if ready:
            with self._lock:
                self._start_all()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `fn(*args, **kwargs)` in a thread. Raises `RuntimeError` after `shutdown`, and
        `NoThread` if it needs another thread and the system refuses it: then it is not run."""
        future: Future[T] = Future()
        with self._lock:
            if self._shutdown:
                raise RuntimeError("no new work after shutdown")
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._max_workers:
                self._start_one()
            self._queue.append((future, lambda: fn(*args, **kwargs)))
            self._wake_next()
        return future

    def _start_one(self) -> None:
        self._threads.append(start(self._work, f"{self._name}-{len(self._threads)}"))

    def _start_all(self) -> None:
        while len(self._threads) < self._max_workers:
            try:
                self._start_one()
            except NoThread:
                if not self._threads:
                    raise
                self._max_workers = len(self._threads)  # further work waits for one of these
            else:
                self._idle += 1

    def _wake_next(self) -> None:
        """Wake a thread if there is something to do; the lock is held."""
        if self._asleep and not self._ringing and (self._queue or self._shutdown):
            self._asleep -= 1
            self._ringing = True
            self._bell.put(None)

    def _take(self, was_busy: bool) -> Work | None:
        """Wait for work. Returns None after the shutdown."""
        with self._lock:
            self._idle += was_busy
            while not (self._queue or self._shutdown):
                self._asleep += 1
                self._lock.release()
                try:
                    self._bell.get()
                finally:
                    self._lock.acquire()
                self._ringing = False
            work = self._queue.popleft() if self._queue else None
            self._wake_next()
        return work

    def _work(self) -> None:
        was_busy = False
        while (work := self._take(was_busy)) is not None:
            was_busy = True
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del work, future, call  # an idle thread keeps nothing alive

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more work; with `wait`, return when all accepted work has ended."""
        with self._lock:
            self._shutdown = True
            if cancel_futures:
                while self._queue:
                    self._queue.popleft()[0].cancel()
            self._wake_next()
        if wait:
            for thread in self._threads:
                thread.join()
