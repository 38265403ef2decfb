"""The one writer: a thread that commits the changes queued during the last commit.

After a commit, `on_commit` is called on the event loop for each change, in order, before the
futures of these changes are done.

The rule that must not be broken: every future is done in the end, whatever the store or `on_commit`
raise.
"""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from goflow.engine.clock import Clock
from goflow.engine.max_gauge import MaxGauge
from goflow.engine.threads import Threads, Writer
from goflow.errors import Stopping, StoreUnavailable
from goflow.shown import reason
from goflow.stores.base import (
    Change,
    KeepChunk,
    KeepResult,
    Outcome,
    Record,
    Store,
    Submit,
    Touch,
)
from goflow.stores.logs import AppendLog

BATCH_LIMIT = 1000  # entries in one transaction
BATCH_BYTES = 8 * 1024 * 1024  # a transaction of more takes no further entry
PER_CHUNK = 256  # bytes that a chunk of a log weighs besides its text
PROBE = 1.0  # seconds between two probes of a store that refused a write
PATIENCE = 0.25  # seconds between two attempts to write a change that must be written

Entry = tuple[tuple[Change, ...], "asyncio.Future[Outcome]"]
OnDefect = Callable[[str, Exception], None]


class UnknownOutcome(RuntimeError):
    """The store did not say what it has written, so nothing is tried again."""


class Journal:
    """`await commit(change)` returns the outcome once the change is durable.

    If `on_commit` raises, the journal calls `on_defect(what, error)`. The change is durable all the
    same, and `on_commit` is still called for the rest of the batch.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        on_commit: Callable[[Change, Outcome], None],
        threads: Threads,
        on_defect: OnDefect | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_commit = on_commit
        self._on_defect = on_defect or self._tell_the_loop
        self._threads = threads
        self._writer: Writer[Entry] | None = None
        self._hurried = False
        self.trouble: StoreUnavailable | None = None  # why the last commit failed, if it did
        self._healing: asyncio.Task[None] | None = None
        self.commits = MaxGauge()  # the seconds each took

    def start(self) -> None:
        """Start the thread. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._writer = self._threads.writer(self._commit, BATCH_LIMIT, _weigh, BATCH_BYTES)

    async def stop(self) -> None:
        """Write the queued changes, then end the thread."""
        if self._healing is not None:
            self._healing.cancel()
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None

    def hurry(self) -> None:
        """Give up a change after its first refusal from now on: the process is about to end."""
        self._hurried = True

    def commit(self, *changes: Change) -> "asyncio.Future[Outcome]":
        """Queue an entry: changes that are written in this order, all of them or none. The future
        has the outcome of the last one. It raises `StoreUnavailable` if they were not written."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if self._writer is None:
            future.set_exception(Stopping("the server is stopping"))
        else:
            self._writer.put((changes, future))
        return future

    async def insist(self, *changes: Change) -> Outcome:
        """Commit something that has happened already: try until it is written."""
        while True:
            try:
                return await self.commit(*changes)
            except StoreUnavailable:
                if self._hurried:
                    raise
                await self._clock.sleep(PATIENCE)

    def doubt(self, error: StoreUnavailable) -> None:
        """Report trouble with the store that was found without a write."""
        self._refused([], error)

    async def _heal(self) -> None:
        """Probe the store until it can be written again, also while there are no requests."""
        try:
            while self.trouble is not None:
                await self._clock.sleep(PROBE)
                with contextlib.suppress(StoreUnavailable):
                    await self.commit(Touch(self._clock.now()))
        except Stopping:
            return
        finally:
            self._healing = None

    def _commit(self, batch: list[Entry]) -> None:
        begun = self._clock.elapsed()
        try:
            changes = [change for changes, _ in batch for change in changes]
            outcomes = self._store.commit(changes)
        except StoreUnavailable as error:
            self._tell(self._refused, batch, error)
        except BaseException as error:  # a store may be the user's own, and raise anything
            # One of the entries is a defect. Write each by itself, so that only that one fails.
            if len(batch) == 1:
                self._tell(self._refused, batch, _awaitable(error))
            else:
                for entry in batch:
                    self._commit([entry])
        else:
            if len(outcomes) == len(changes):
                self._tell(self._committed, batch, outcomes, self._clock.elapsed() - begun)
            else:
                counts = f"{len(changes)} changes with {len(outcomes)} outcomes"
                self._tell(self._refused, batch, UnknownOutcome(f"the store answered {counts}"))

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        self._loop.call_soon_threadsafe(callback, *args)

    def _committed(self, batch: list[Entry], outcomes: list[Outcome], seconds: float) -> None:
        self.trouble = None
        self.commits.note(seconds)
        place = 0
        for changes, _ in batch:
            for change in changes:
                try:
                    self._on_commit(change, outcomes[place])
                except Exception as error:  # a defect, which must not keep the others waiting
                    self._on_defect(f"a listener of {type(change).__name__}", error)
                place += 1
        place = -1
        for changes, future in batch:
            place += len(changes)
            if not future.done():
                future.set_result(outcomes[place])

    def _refused(self, batch: list[Entry], error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            self.trouble = error
            if self._healing is None:
                self._healing = self._loop.create_task(self._heal())
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    def _tell_the_loop(self, what: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": what, "exception": error})


def _awaitable(error: BaseException) -> Exception:
    """The error, or a stand-in that a future can carry: a SystemExit would end the event loop, and
    a StopIteration cannot be awaited."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the store raised {reason(error)}")


def _weigh(entry: Entry) -> int:
    """Roughly the number of bytes that an entry writes."""
    return sum(map(_size, entry[0]))


def _size(change: Change) -> int:
    match change:
        case AppendLog(text=text, times=times):
            return PER_CHUNK + len(text) + len(times)
        case KeepResult(body=body) | KeepChunk(body=body):
            return len(body)
        case Record(facts=facts, summary=summary):
            texts = [getattr(f, "error", "") or getattr(f, "result", b"") for f in facts]
            return sum(map(len, texts)) + len(summary or b"")
        case Submit(fact=fact) if fact.params:
            return len(msgspec.json.encode(fact.params))
        case _:
            return 0
