"""Moves results between attempts and the store.

The rule: a large result is committed in the transaction of the fact that refers to it, and a
result read from the store is checked against that fact.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import msgspec

from goflow.artifacts.base import Artifacts
from goflow.core.execution import Outcome, Succeeded
from goflow.core.keys import Key, described
from goflow.core.result import SMALL, Chunked, StoredResult, digest
from goflow.engine.clock import Clock
from goflow.engine.journal import PATIENCE
from goflow.errors import ResultLost, StoreUnavailable, TaskFailed
from goflow.stores.base import Chunk, Store

_NULL = msgspec.Raw(b"null")
FRESH = 8 * 1024 * 1024  # bytes of results in memory, which need not be read back


class Read(Protocol):
    """Runs a function in a reader thread."""

    def __call__(self, question: Any, /, *args: Any) -> Awaitable[Any]: ...


class Results:
    """Keeps the large results of attempts, and loads them for downstream tasks."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        read: Read,
        artifacts: Artifacts,
        most: int,
    ) -> None:
        """`most` is the number of bytes that a result may have that is loaded as a whole."""
        self._most = most
        self._store = store
        self._clock = clock
        self.read = read
        self.artifacts = artifacts
        self._discarding: set[asyncio.Future[Any]] = set()
        # The newest results, oldest first: the next tasks need them at once.
        self._fresh: dict[tuple[str, Key, int], bytes] = {}
        self._room = FRESH

    def keep(
        self, execution: str, key: Key, attempt: int, outcome: Succeeded
    ) -> Outcome | Awaitable[Outcome]:
        """Take the result out of the outcome if it is too large for a fact; returns the outcome
        that results, with the `body` to be stored."""
        if len(outcome.result) <= SMALL:
            return outcome
        return self._keep(execution, key, attempt, outcome)

    async def _keep(self, execution: str, key: Key, attempt: int, outcome: Succeeded) -> Outcome:
        body = bytes(outcome.result)
        sha256 = await self.read(digest, body)
        self._remember((execution, key, attempt), body)
        size = len(body)
        return msgspec.structs.replace(outcome, result=_NULL, size=size, sha256=sha256, body=body)

    def _remember(self, place: tuple[str, Key, int], body: bytes) -> None:
        if (before := self._fresh.pop(place, None)) is not None:
            self._room += len(before)
        self._fresh[place] = body
        self._room -= len(body)
        while self._room < 0:
            self._room += len(self._fresh.pop(next(iter(self._fresh))))

    async def load(
        self, execution: str, results: Mapping[str, msgspec.Raw | StoredResult]
    ) -> tuple[dict[str, Any], dict[str, StoredResult]]:
        """The values of results by name, and those that are no JSON. Raises `ResultLost`, and
        `TaskFailed` for a list that is too large as a whole."""
        values: dict[str, Any] = {}
        objects: dict[str, StoredResult] = {}
        for name, result in results.items():
            if not isinstance(result, StoredResult):
                values[name] = msgspec.json.decode(result)
            elif result.format:
                objects[name] = result
            else:
                values[name] = msgspec.json.decode(await self.body(execution, result))
        return values, objects

    def discard_files(self, execution: str, key: Key, attempt: int) -> None:
        """Remove the folder for the files of an attempt that has ended, in the background."""
        work = self.read(self.artifacts.discard, execution, key, attempt)
        task = asyncio.ensure_future(work)
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def body(self, execution: str, stored: StoredResult) -> bytes:
        """The JSON of a stored result. Raises as `load`."""
        if (told := too_large(stored, self._most)) is not None:
            raise TaskFailed(told, final=True)
        fresh = self._fresh.get((execution, stored.key, stored.attempt))
        if fresh is not None and len(fresh) == stored.size:
            return fresh
        body: bytes = await self._patiently(read_result, self._store, execution, stored)
        return body

    async def chunk(self, execution: str, task: str, round: int, index: int) -> Chunk:
        """The chunk with this item of a generator. Raises `ResultLost`."""
        found: Chunk | None
        found = await self._patiently(self._store.chunk, execution, task, round, index)
        if found is None:
            raise ResultLost(
                f"item {index} that task {task!r} has yielded is not in the store any more; retry "
                "from that task on"
            )
        return found

    async def _patiently(self, question: Any, *args: Any) -> Any:
        while True:
            try:
                return await self.read(question, *args)
            except StoreUnavailable:
                await self._clock.sleep(PATIENCE)


def too_large(stored: StoredResult, most: int) -> str | None:
    """Why a list that is kept in parts cannot be loaded as a whole; None if it can."""
    if stored.chunked is None or (stored.size <= most and not stored.is_apart):
        return None
    if stored.is_apart:
        return (
            f"the result of task {stored.task!r} are {stored.chunked.items:,} results of items "
            f"with {stored.size:,} bytes as JSON, more than can be loaded as a whole "
            "(max_result); map a task over it"
        )
    return (
        f"the result of task {stored.task!r} is a list of {stored.chunked.items:,} items with "
        f"{stored.size:,} bytes as JSON, more than the {most:,} that can be loaded as a whole "
        "(max_result); map a task over it"
    )


def read_result(store: Store, execution: str, stored: StoredResult) -> bytes:
    """The JSON of a result that is stored separately. Raises `ResultLost`."""
    body: bytes | None
    if stored.is_apart:
        body = None
    elif stored.chunked is not None:
        body = _joined(store, execution, stored.task, stored.chunked)
    else:
        body = store.result(execution, stored.task, stored.attempt, stored.item)
    if body is None or not stored.is_intact(body):
        raise ResultLost(
            f"the result of {described(stored.key)}, attempt {stored.attempt}, is damaged or not "
            "in the store any more; retry from that task on"
        )
    return body


def _joined(store: Store, execution: str, task: str, chunked: Chunked) -> bytes | None:
    """The list of all items of a generator as JSON; None if some are lost."""
    parts = []
    index = 0
    assert chunked.round is not None
    while index < chunked.items:
        chunk = store.chunk(execution, task, chunked.round, index)
        if chunk is None:
            return None
        parts.append(chunk.body[1:-1])
        index = chunk.first + chunk.items
    return b"[%b]" % b",".join(parts)
