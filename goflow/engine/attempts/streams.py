"""The streams of one execution: generators whose items are committed while they run.

The rule that must not be broken: an item is committed once, together with its chunk, before a task
runs on it. A generator that runs again has to yield the committed items again.

A generator runs ahead of the tasks that are mapped over it by a bounded number of items, and waits
then. It gives its slot back for that time, so that those tasks can go on. It waits only for tasks
that are running, since others may wait for its own end.
"""

import asyncio
import contextlib
import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from goflow.core.events import AnyFact
from goflow.core.execution import Execution, Failed, Outcome, Succeeded
from goflow.core.result import SMALL, Chunked
from goflow.core.runs import Stream as Yielded
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.requests import Requests
from goflow.errors import ResultLost, TaskFailed
from goflow.shown import reason
from goflow.stores.base import KeepChunk

BATCH = 500  # items that wait to be committed, at most
BATCH_BYTES = 1024 * 1024  # of them, and of one item more
AHEAD = 1000  # items that a task mapped over the generator has not ended
AHEAD_BYTES = 64 * 1024 * 1024  # of them
CACHED = 8  # chunks in memory

Command = Callable[[Execution, datetime], list[AnyFact]]

_SAME = "it must yield the same items in the same order whenever it runs"


class Streams:
    """The streams of an execution. `command` commits facts, and returns False if there were none.
    `reserved` is the number of bytes of results that are not in facts yet."""

    def __init__(
        self,
        execution: Execution,
        dependencies: Dependencies,
        requests: Requests,
        command: Callable[[Command], Awaitable[bool]],
        reserved: Callable[[], int],
    ) -> None:
        self._execution = execution
        self._dependencies = dependencies
        self._requests = requests
        self._command = command
        self._reserved = reserved
        self._running: dict[str, Stream] = {}
        self._chunks: list[KeepChunk] = []  # of facts that are applied, and not committed yet
        # By task, round and first index; the last used one is the last.
        self._cache: OrderedDict[tuple[str, int, int], list[msgspec.Raw]] = OrderedDict()
        self._loading = asyncio.Lock()
        self._stopping = False

    def begin(self, task: str, attempt: int) -> "Stream":
        """The stream of an attempt that begins."""
        if (other := self._running.get(task)) is not None:
            other.close()
        stream = self._running[task] = Stream(self, task, attempt)
        return stream

    def end(self, stream: "Stream") -> None:
        """An attempt has ended: keep no more of what it yields."""
        stream.close()
        if self._running.get(stream.task) is stream:
            del self._running[stream.task]

    def stop(self) -> None:
        """No more tasks start: let the generators that wait for some go on to their ends."""
        self._stopping = True
        self.go_on()

    def go_on(self) -> None:
        """Let the generators go on that may, since tasks have caught up or ended."""
        for stream in self._running.values():
            stream.look()

    def take_chunks(self) -> list[KeepChunk]:
        """The chunks to be committed with the facts that were decided since the last call."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def waiting(self, task: str) -> str | None:
        """Why a running generator waits, human-readable; None if it does not."""
        stream = self._running.get(task)
        return stream.waiting if stream is not None else None

    # -- for a stream ------------------------------------------------------------------

    @property
    def max_result(self) -> int:
        """Bytes of JSON that an item may have."""
        return self._dependencies.limits.result

    def known(self, task: str) -> Yielded:
        """What is committed of a generator."""
        known = self._execution.tasks[task].stream
        assert known is not None
        return known

    def limit(self, task: str) -> tuple[int, int]:
        """Up to which item a generator may yield now; and how far it may run ahead."""
        known = self.known(task)
        ahead = self._execution.items_ahead(task)
        if ahead is None or self._stopping:
            return sys.maxsize, AHEAD
        most = AHEAD
        if known.size:
            most = max(1, min(AHEAD, AHEAD_BYTES * known.items // known.size))
        return known.items - ahead + most, most

    async def commit(self, stream: "Stream", items: Sequence[bytes]) -> None:
        """Commit the next items of a generator. Raises `TaskFailed`."""
        task = stream.task
        body = b"[%b]" % b",".join(items)
        size = len(body) - 1
        together = self._execution.result_bytes + self._reserved() + size
        if together > (most := self._dependencies.limits.results):
            raise TaskFailed(
                f"with the items that the generator yields, the results of this execution would be "
                f"{together:,} bytes as JSON, more than the {most:,} that are kept (max_results); "
                "write large ones to files or a database, and yield where they are"
            )

        def decide(execution: Execution, now: datetime) -> list[AnyFact]:
            known = self.known(task)
            round, first = known.round, known.items
            facts = execution.extend(task, stream.attempt, first, len(items), size, now)
            if facts:
                self._chunks.append(KeepChunk(execution.id, task, round, first, len(items), body))
                self._remember((task, round, first), _split(body))
            return facts

        if not await self._command(decide):
            raise TaskFailed("the attempt has ended, so its items are not kept any more")

    async def chunk(self, task: str, index: int) -> tuple[int, list[msgspec.Raw]]:
        """The JSON of the items of the chunk with this index, and the first index in it. Raises
        `ResultLost`."""
        round = self.known(task).round
        if (found := self._cached(task, round, index)) is not None:
            return found
        async with self._loading:
            if (found := self._cached(task, round, index)) is not None:
                return found
            chunk = await self._dependencies.results.chunk(self._execution.id, task, round, index)
            items = _split(chunk.body)
            self._remember((task, round, chunk.first), items)
            return chunk.first, items

    async def item(self, task: str, index: int) -> msgspec.Raw:
        """The JSON of an item. Raises `ResultLost`."""
        first, items = await self.chunk(task, index)
        return items[index - first]

    def _cached(self, task: str, round: int, index: int) -> tuple[int, list[msgspec.Raw]] | None:
        for place in reversed(self._cache):
            if place[:2] == (task, round) and 0 <= index - place[2] < len(self._cache[place]):
                self._cache.move_to_end(place)
                return place[2], self._cache[place]
        return None

    def _remember(self, place: tuple[str, int, int], items: list[msgspec.Raw]) -> None:
        self._cache[place] = items
        self._cache.move_to_end(place)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    # -- slots ---------------------------------------------------------------------------

    def give_slot_back(self, task: str) -> None:
        self._requests.release(task)

    def ask_for_slot(self, task: str, granted: Callable[[], None]) -> None:
        now = self._dependencies.clock.now()
        self._requests.ask_to_look(task, now, lambda _: granted())

    def defect(self, task: str, error: BaseException) -> None:
        execution = self._execution
        where = f"task {task!r}, execution {execution.id} of job {execution.job!r}"
        self._dependencies.on_defect(f"the items that {where}, yields", error)


class Stream:
    """Implements `goflow.operators.base.Yields` for one attempt of a generator."""

    def __init__(self, streams: Streams, task: str, attempt: int) -> None:
        self.task = task
        self.attempt = attempt
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._space: asyncio.Future[None] | None = None  # of a generator on the loop that waits
        # Yielded, and not taken by `_keep` yet.
        self._items: list[bytes] = []
        self._bytes = 0
        self._number = 0  # yielded so far
        self._allowed, _ = streams.limit(task)
        self._kept = 0  # of them, compared or committed
        self._waits = False  # for the tasks that are mapped over it
        self._has_slot = True
        self._is_asking = False
        self._woken = False
        self._keeping: asyncio.Task[None] | None = None
        self._failure: TaskFailed | None = None
        # The list of all items as JSON: its hash, its size, and itself while it is small.
        self._hash = hashlib.sha256(b"[")
        self._size = 1
        self._small: list[bytes] | None = []

    @property
    def waiting(self) -> str | None:
        if not self._waits:
            return None
        return f"{self._kept:,} items: the tasks mapped over it have to catch up"

    # -- in the generator's thread, or on the loop -----------------------------------------

    def put(self, item: bytes) -> None:
        """Take an item, as JSON. Blocks while it is too far ahead. Raises `TaskFailed`."""
        with self._changed:
            while self._is_full:
                self._begin_to_wait()
                self._changed.wait()
            self._waits = False
            self._add(item)

    async def put_async(self, item: bytes) -> None:
        """As `put`, on the event loop."""
        while self._is_full:
            self._begin_to_wait()
            self._space = self._loop.create_future()
            try:
                await self._space
            finally:
                self._space = None
        self._waits = False
        self._add(item)

    @property
    def _is_full(self) -> bool:
        if self._failure is not None:
            return False
        if len(self._items) >= BATCH or self._bytes >= BATCH_BYTES:
            return True
        return self._number >= self._allowed

    def _begin_to_wait(self) -> None:
        if self._number >= self._allowed and not self._waits:
            self._waits = True
            self._call(self._make_way)

    def _add(self, item: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if len(item) > (most := self._streams.max_result):
            raise TaskFailed(
                f"item {self._number} that the generator yields is {len(item):,} bytes as JSON, "
                f"more than the {most:,} that a result may have (max_result); write large ones to "
                "files or a database, and yield where they are"
            )
        if self._number:
            self._hash.update(b",")
        self._hash.update(item)
        self._size += len(item) + 1
        if self._small is not None:
            self._small.append(item)
            if self._size > SMALL:
                self._small = None
        self._items.append(item)
        self._bytes += len(item)
        self._number += 1
        if not self._woken:
            self._woken = True
            self._call(self._keep_soon)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed, so nothing is kept
            self._loop.call_soon_threadsafe(function)

    # -- on the loop -----------------------------------------------------------------------

    def close(self) -> None:
        """Keep no more items: the generator ends when it yields the next one."""
        self._fail(TaskFailed("the attempt was stopped"))
        if self._keeping is not None:
            self._keeping.cancel()

    def _fail(self, failure: TaskFailed) -> None:
        with self._changed:
            if self._failure is None:
                self._failure = failure
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._space is not None and not self._space.done():
            self._space.set_result(None)

    def _keep_soon(self) -> None:
        if self._keeping is None and self._failure is None:
            self._keeping = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        """Compare or commit what has been yielded, until there is nothing left."""
        try:
            while batch := self._take():
                known = self._streams.known(self.task).items
                repeated = batch[: max(0, known - self._kept)]
                if repeated:
                    await self._compare(repeated)
                if len(repeated) < len(batch):
                    await self._streams.commit(self, batch[len(repeated) :])
                self._kept += len(batch)
                self.look()
        except ResultLost as lost:
            self._fail(TaskFailed(str(lost)))
        except TaskFailed as failure:
            self._fail(failure)
        except Exception as failure:
            self._streams.defect(self.task, failure)
            self._fail(TaskFailed(f"a defect in goflow: {reason(failure)}"))
        finally:
            self._keeping = None

    def _take(self) -> list[bytes]:
        with self._changed:
            batch, self._items, self._bytes = self._items, [], 0
            if batch:
                self._notify()
            else:
                self._woken = False
        return batch

    async def _compare(self, items: Sequence[bytes]) -> None:
        """Compare items with those that an attempt before has yielded. Raises `TaskFailed`."""
        index, end = self._kept, self._kept + len(items)
        while index < end:
            first, known = await self._streams.chunk(self.task, index)
            for item in known[index - first : end - first]:
                if not _equal(bytes(item), items[index - self._kept]):
                    raise TaskFailed(
                        f"item {index} that the generator yields is not the one that it yielded in "
                        f"an earlier attempt, on which tasks may have worked; {_SAME}",
                        final=True,
                    )
                index += 1

    async def settled(self) -> Failed | None:
        """Wait until all that was yielded is kept; the failure, if it cannot be."""
        while self._failure is None and (self._keeping is not None or self._items):
            self._keep_soon()
            if self._keeping is not None:
                await asyncio.wait([self._keeping])
        if (failure := self._failure) is not None:
            return Failed(str(failure), failure.final)
        return None

    def outcome(self, outcome: Succeeded) -> Outcome:
        """The outcome of a generator that has ended, and whose items are kept."""
        known = self._streams.known(self.task)
        if self._number < known.items:
            return Failed(
                f"the generator yields {self._number:,} items, and yielded {known.items:,} in an "
                f"earlier attempt, on which tasks may have worked; {_SAME}",
                final=True,
            )
        if self._small is not None:
            body = b"[%b]" % b",".join(self._small)
            return msgspec.structs.replace(outcome, result=msgspec.Raw(body))
        self._hash.update(b"]")
        return msgspec.structs.replace(
            outcome,
            result=msgspec.Raw(b"null"),
            size=self._size,
            sha256=self._hash.hexdigest(),
            chunked=Chunked(known.round, known.items),
        )

    # -- running ahead -----------------------------------------------------------------------

    def look(self) -> None:
        """Let the generator go on if it may. One that waited goes on once half of the room is
        free, not for each item."""
        allowed, most = self._streams.limit(self.task)
        if not self._waits:
            self._let_go_on(allowed)
        elif allowed - self._number < max(1, most // 2):
            return
        elif self._has_slot:
            self._let_go_on(allowed)
        elif not self._is_asking:
            self._is_asking = True
            self._streams.ask_for_slot(self.task, self._granted)

    def _make_way(self) -> None:
        """Give the slot back, since the generator waits."""
        if self._waits and self._failure is None:
            if self._has_slot:
                self._has_slot = False
                self._streams.give_slot_back(self.task)
            self.look()

    def _granted(self) -> None:
        self._has_slot, self._is_asking = True, False
        allowed, _ = self._streams.limit(self.task)
        self._let_go_on(max(allowed, self._number + 1))

    def _let_go_on(self, allowed: int) -> None:
        with self._changed:
            self._allowed = allowed
            self._notify()


def _split(body: bytes) -> list[msgspec.Raw]:
    return _decoder.decode(body)


_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def _equal(known: bytes, item: bytes) -> bool:
    """Whether two items are equal, whatever the order of keys."""
    return known == item or msgspec.json.decode(known) == msgspec.json.decode(item)
