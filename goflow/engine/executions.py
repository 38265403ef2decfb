"""Executions as operators ask for them, as committed, and those that they start.

The rule that must not be broken: an attempt starts one execution, whatever crashes. Attempts that
the end of the server interrupts are one with those that follow: they ask with the same idempotency
key.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from goflow.core.keys import Key, key_of
from goflow.core.states import State
from goflow.core.summary import Summary
from goflow.engine.live import LiveExecution, LiveState
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.errors import TaskFailed
from goflow.operators.base import Context, FoundExecution
from goflow.stores.base import Row, Store, TickOutcome

if TYPE_CHECKING:
    from goflow.engine.families import Families

MOMENT = timedelta(microseconds=1)


class KnownExecutions:
    """Implements `goflow.operators.base.Executions`."""

    def __init__(self, store: Store, reader: Reader, live: LiveState, registry: Registry) -> None:
        self._store = store
        self._reader = reader
        self._live = live
        self._registry = registry
        self._families: Families | None = None
        # The tasks and items to wake at the next end of an execution: by job, and by execution.
        self._watching: dict[str, dict[str, set[Key]]] = {}

    def connect(self, families: "Families") -> None:
        """Let operators start executions."""
        self._families = families

    async def start(self, job: str, params: Mapping[str, Any], context: Context) -> FoundExecution:
        assert self._families is not None
        id = await self._families.start(job, params, context)
        row = await self._reader.read(self._store.find, id)
        if row is None:
            raise TaskFailed(f"execution {id} of job {job!r} is not kept any more")
        return self._found(row)

    async def results(self, execution: FoundExecution) -> dict[str, Any]:
        found: dict[str, Any] = {}
        detail = await self._reader.execution(execution.id)
        for task in detail.tasks:
            if task.state is State.SUCCESSFUL:
                body = bytes(task.result)
                if task.result_bytes and body == b"null":  # it is too large for a detail
                    body = (await self._reader.result(execution.id, task.name)).body
                found[task.name] = msgspec.json.decode(body)
        return found

    def watch(self, job: str, context: Context) -> None:
        of_job = self._watching.setdefault(job, {})
        of_job.setdefault(context.execution_id, set()).add(key_of(context.task, context.index))

    def changed(self, live: LiveExecution) -> None:
        """Wake those that watch a job, of which an execution has ended; that is committed."""
        if not self._watching or not live.state.finished:
            return
        for of_job in self._watching.values():
            of_job.pop(live.id, None)
        found = self._watching.pop(live.job, None)
        if found and self._families is not None:
            asyncio.get_running_loop().call_soon(self._families.wake, found)

    def knows(self, job: str) -> bool:
        return job in self._registry.jobs

    async def due(self, job: str, due: datetime) -> FoundExecution | str:
        told = f"job {job!r} has no execution for {due:%Y-%m-%d %H:%M:%S} UTC"
        for tick in await self._reader.ticks(job, due + MOMENT, 1):
            if tick.due != due:
                continue
            if tick.execution is None:
                return told if tick.outcome is TickOutcome.FIRED else f"{told}: {tick.outcome}"
            if (row := await self._reader.read(self._store.find, tick.execution)) is None:
                return f"{told} any more"
            return self._found(row)
        return told

    async def newest(self, job: str, state: State | None = None) -> FoundExecution | None:
        rows = await self._reader.read(self._store.page, job=job, state=state, before=None, limit=1)
        return self._found(rows[0]) if rows else None

    def _found(self, row: Row) -> FoundExecution:
        if (live := self._live.get(row.id)) is not None:
            return FoundExecution(row.id, live.state, live.brief.finished)
        finished = None
        if row.summary is not None:
            finished = msgspec.json.decode(row.summary, type=Summary).finished
        return FoundExecution(row.id, row.state, finished)
