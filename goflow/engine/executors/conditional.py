"""Runs an operator only if the condition of its task holds."""

import asyncio
from typing import Protocol

from goflow.core.execution import Outcome, Skipped
from goflow.core.states import SkipReason
from goflow.engine.executors.base import Executor, Run, Work
from goflow.operators.base import Context
from goflow.operators.process_tag import ProcessTag


class Condition(Protocol):
    """The condition of a task; `goflow.templates.condition` implements it."""

    @property
    def shown(self) -> str:
        """Its text, in bounded length."""
        ...

    async def holds(self, context: Context) -> bool:
        """Whether it is true for an attempt. Raises `TaskFailed`."""
        ...


class Conditional:
    """Implements `Executor`: evaluates the condition in the server, before the operator starts
    wherever it runs."""

    def __init__(self, executor: Executor, condition: Condition) -> None:
        self.shares_process = executor.shares_process
        self._executor = executor
        self._condition = condition

    async def start(self, work: Work, /) -> Run:
        if await self._condition.holds(work.context):
            return await self._executor.start(work)
        why = f"the condition is false: {self._condition.shown}"
        return Ended(Skipped(why, SkipReason.CONDITION))

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return await self._executor.find(tag)


class Ended:
    """Implements `Run` for an operator that was not started."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    async def hear(self) -> Outcome:
        return self._outcome

    def end(self) -> "asyncio.Future[None] | None":
        return None
