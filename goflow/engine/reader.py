"""What was and what is: the store's history, overlaid with the board where it goes on.

Reads run in an executor of their own, so that the event loop never waits for a disk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from datetime import datetime
from typing import NamedTuple, ParamSpec, TypeVar

from goflow.core.states import State
from goflow.core.summary import Detail
from goflow.engine.board import Board
from goflow.engine.marks import Marks
from goflow.errors import InvalidRequest, NotFound
from goflow.stores.base import LogChunk, Row, Store, Tick

P = ParamSpec("P")
T = TypeVar("T")

PAGE_LIMIT = 1000  # executions on a page
LOG_PAGE = 256 * 1024  # characters of a log read at once


class Page(NamedTuple):
    """Executions as JSON, newest first, and the cursor of the following page or None."""

    executions: list[bytes]
    next: str | None


class Log(NamedTuple):
    """The log of attempt number `attempt` (0: none begun) up to line number `end`, from 0.

    Chunks that do not join have lines between them that were not kept.
    """

    attempt: int
    end: int
    chunks: AsyncIterator[LogChunk]


class Reader:
    """Questions about executions and their logs."""

    def __init__(self, store: Store, board: Board, executor: Executor) -> None:
        self._store = store
        self._board = board
        self._executor = executor
        self.marks = Marks(store, self.read)

    async def read(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the store something beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: question(*args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown()

    async def page(
        self, job: str | None, state: State | None, limit: int, cursor: str | None
    ) -> Page:
        """One page of executions. Raises `InvalidRequest` for a limit or cursor that is none."""
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidRequest(
                f"limit must be 1 to {PAGE_LIMIT}, not {limit}",
                code="invalid-limit",
                field="limit",
            )
        before = None if cursor is None else _parse_cursor(cursor)
        rows = await self.read(
            self._store.page, job=job, state=state, before=before, limit=limit + 1
        )
        executions = [await self._encoded(row) for row in rows[:limit]]
        return Page(executions, str(rows[limit - 1].number) if len(rows) > limit else None)

    async def _encoded(self, row: Row) -> bytes:
        """The execution as listed. One that finished between two looks is looked up again."""
        while True:
            if row.summary is not None:
                return row.summary
            if (entry := self._board.get(row.id)) is not None:
                return entry.encoded()
            found = await self.read(self._store.find, row.id)
            if found is None:
                raise NotFound(f"there is no execution {row.id!r}", field="id")
            row = found

    async def execution(self, id: str) -> Detail:
        """One execution with every attempt. Raises `NotFound`."""

        def fold() -> Detail | None:
            history = self._store.history(id)
            return None if history is None else Detail.replay(history.plan, history.facts)

        if (detail := await self.read(fold)) is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        return detail

    async def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ledger, newest first, from due times before `before` on."""
        return await self.read(self._store.ticks, job, before, limit)

    async def log(self, id: str, task: str, attempt: int | None, after: int) -> Log:
        """An attempt's log from line number `after` (from 0) on; the last attempt by default.

        Raises `NotFound` for an unknown execution, task or attempt before anything is read.
        """
        found = next((t for t in (await self.execution(id)).tasks if t.name == task), None)
        if found is None:
            raise NotFound(f"execution {id!r} has no task {task!r}", field="task")
        begun = [one.attempt for one in found.attempts]
        if attempt is not None and attempt not in begun:
            raise NotFound(
                f"task {task!r} of execution {id!r} has no attempt {attempt}; it has {len(begun)}",
                field="attempt",
            )
        return await self.log_of(id, task, attempt or max(begun, default=0), after)

    async def log_of(self, id: str, task: str, attempt: int, after: int = 0) -> Log:
        """The log of an attempt that is known to have been begun."""
        end = await self.read(self._store.log_end, id, task, attempt)
        return Log(attempt, end, self._chunks(id, task, attempt, after, end))

    async def _chunks(
        self, id: str, task: str, attempt: int, after: int, end: int
    ) -> AsyncIterator[LogChunk]:
        while after < end:
            chunks = await self.read(self._store.log, id, task, attempt, after, LOG_PAGE)
            for chunk in chunks:
                if chunk.first >= end:
                    return
                if chunk.first < after:
                    known = after - chunk.first
                    rest = chunk.text.split("\n", known)[known]
                    chunk = LogChunk(after, chunk.lines - known, rest)
                yield chunk
            if not chunks:
                return
            after = chunks[-1].first + chunks[-1].lines


def _parse_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and 1 <= len(cursor) <= 18):
        raise InvalidRequest(
            f"cursor {cursor[:80]!r} is not one this server gave",
            code="invalid-cursor",
            field="cursor",
        )
    return int(cursor)
