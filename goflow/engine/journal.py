"""The one writer: beside the event loop, it commits whatever queued up during the last commit.

What was committed is told to `on_commit` on the event loop, in the order of the commits,
before anybody who awaits a change goes on.

The rule that must not be broken: whoever awaits a change is answered, whatever the store or
`on_commit` raise.
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
from goflow.stores.base import Change, KeepResult, Outcome, Record, Store, Submit, Touch
from goflow.stores.logs import AppendLog

BATCH_LIMIT = 1000  # changes in one transaction
BATCH_BYTES = 8 * 1024 * 1024  # after which a transaction takes no further change
PROBE = 1.0  # seconds between two looks at whether the store can be written again
PATIENCE = 0.25  # seconds between two tries of a change that must be written

Entry = tuple[Change, "asyncio.Future[Outcome]"]
OnDefect = Callable[[str, Exception], None]


class Journal:
    """`await commit(change)` returns the outcome once the change is durable.

    `on_defect(what, error)` hears of an `on_commit` that raises; the change is durable all the
    same, and those in its batch are told as if nothing had happened.
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
        """Begin to write; from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._writer = self._threads.writer(self._commit, BATCH_LIMIT, _weigh, BATCH_BYTES)

    async def stop(self) -> None:
        """Write what is queued, then end."""
        if self._healing is not None:
            self._healing.cancel()
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None

    def hurry(self) -> None:
        """From now on a change that is refused once is given up: the process is to end."""
        self._hurried = True

    def commit(self, change: Change) -> "asyncio.Future[Outcome]":
        """Queue a change. The future raises `StoreUnavailable` if it was not written."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if self._writer is None:
            future.set_exception(Stopping("the server is stopping"))
        else:
            self._writer.put((change, future))
        return future

    async def insist(self, change: Change) -> Outcome:
        """Commit what has happened already, so cannot be refused: try until it is written."""
        while True:
            try:
                return await self.commit(change)
            except StoreUnavailable:
                if self._hurried:
                    raise
                await self._clock.sleep(PATIENCE)

    def doubt(self, error: StoreUnavailable) -> None:
        """Take note that the store is not what it was, though nobody may write."""
        self._refused([], error)

    async def _heal(self) -> None:
        """Try until the store can be written again, though nobody may ask for anything."""
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
            outcomes = self._store.commit([change for change, _ in batch])
        except StoreUnavailable as error:
            self._tell(self._refused, batch, error)
        except BaseException as error:  # a store may be the user's own, and raise anything
            # A change that cannot be written is a defect; it must not take others with it.
            if len(batch) == 1:
                self._tell(self._refused, batch, _awaitable(error))
            else:
                for entry in batch:
                    self._commit([entry])
        else:
            if len(outcomes) == len(batch):
                self._tell(self._committed, batch, outcomes, self._clock.elapsed() - begun)
            else:  # what was committed is not known, so nothing may be tried again
                counts = f"{len(batch)} changes with {len(outcomes)} outcomes"
                self._tell(self._refused, batch, RuntimeError(f"the store answered {counts}"))

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        self._loop.call_soon_threadsafe(callback, *args)

    def _committed(self, batch: list[Entry], outcomes: list[Outcome], seconds: float) -> None:
        self.trouble = None
        self.commits.note(seconds)
        for (change, _), outcome in zip(batch, outcomes, strict=True):
            try:
                self._on_commit(change, outcome)
            except Exception as error:  # a defect, contained: the others are told, all answered
                self._on_defect(f"what follows from a {type(change).__name__}", error)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

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
    """The error as a future can carry it. A SystemExit would end the loop of who awaits it, and
    a StopIteration cannot be awaited."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the store raised {reason(error)}")


def _weigh(entry: Entry) -> int:
    """About how many bytes a change writes."""
    match entry[0]:
        case AppendLog(text=text):
            return len(text)
        case KeepResult(body=body):
            return len(body)
        case Record(facts=facts, summary=summary):
            texts = [getattr(f, "error", "") or getattr(f, "result", b"") for f in facts]
            return sum(map(len, texts)) + len(summary or b"")
        case Submit(fact=fact) if fact.params:
            return len(msgspec.json.encode(fact.params))
        case _:
            return 0
