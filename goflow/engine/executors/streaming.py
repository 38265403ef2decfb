"""Runs a generator whose items are kept while it runs."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.engine.executors.base import Executor, Run, Work
from goflow.errors import TaskFailed
from goflow.operators.base import Yields
from goflow.operators.process_tag import ProcessTag

_NULL = b"null"
_lists = msgspec.json.Decoder(list[msgspec.Raw])


class Kept(Yields, Protocol):
    """What an attempt yields; `goflow.engine.attempts.streams` implements it."""

    def settled(self) -> Awaitable[Failed | None]:
        """Wait until all that was yielded is kept; the failure, if it cannot be."""
        ...

    def outcome(self, outcome: Succeeded, /) -> Outcome:
        """The outcome of a generator that has ended, and whose items are kept."""
        ...


class Streaming:
    """Implements `Executor`: keeps what an operator has yielded before its outcome counts."""

    def __init__(self, executor: Executor, stream: Kept) -> None:
        self.shares_process = executor.shares_process
        self._executor = executor
        self._stream = stream

    async def start(self, work: Work, /) -> Run:
        return StreamingRun(await self._executor.start(work), self._stream)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return await self._executor.find(tag)


class StreamingRun:
    """A generator that runs."""

    def __init__(self, run: Run, stream: Kept) -> None:
        self._run = run
        self._stream = stream

    async def hear(self) -> Outcome:
        try:
            outcome = await self._run.hear()
            if isinstance(outcome, Succeeded) and bytes(outcome.result) != _NULL:
                await self._put_all(outcome)
        except asyncio.CancelledError:
            self._stream.close()
            raise
        except BaseException:
            await self._stream.settled()
            raise
        failure = await self._stream.settled()
        if isinstance(outcome, Succeeded):
            return failure or self._stream.outcome(outcome)
        return outcome

    async def _put_all(self, outcome: Succeeded) -> None:
        """Keep a list that an operator has returned: it is no generator any more, or another
        executor ran it."""
        from goflow.operators.generator import ITEMS

        try:
            items = _lists.decode(outcome.result)
        except msgspec.MsgspecError:
            raise TaskFailed(
                "the result must be a list, since tasks run on each item of it"
            ) from None
        if len(items) > ITEMS:
            raise TaskFailed(f"the result has more than {ITEMS:,} items, which is the limit")
        for item in items:
            await self._stream.put_async(bytes(item))

    def end(self) -> "asyncio.Future[None] | None":
        return self._run.end()
