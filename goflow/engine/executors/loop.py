"""Runs asynchronous operators on the engine's event loop."""

import asyncio

from goflow.core.execution import Outcome
from goflow.engine.executors import objects
from goflow.engine.executors.base import Run, Work
from goflow.engine.executors.outcomes import as_json, succeeded_async
from goflow.operators.base import Executions
from goflow.operators.process_tag import ProcessTag


class LoopExecutor:
    """Implements `Executor` for an `async def run`. After a crash, no run is left."""

    shares_process = True

    async def start(self, work: Work, /) -> Run:
        return LoopRun(work)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return None


class AskingExecutor:
    """Implements `Executor` for operators that ask for executions. After a crash, no run is
    left."""

    shares_process = False  # they are goflow's own, and change no settings of the process

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def start(self, work: Work, /) -> Run:
        return AskingRun(work, self._executions)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return None


class AskingRun:
    """The question of an operator, as a coroutine."""

    def __init__(self, work: Work, executions: Executions) -> None:
        self._work = work
        self._executions = executions

    async def hear(self) -> Outcome:
        work = self._work
        answer = await work.operator.ask(work.context, self._executions)
        return await succeeded_async(answer, work)

    def end(self) -> "asyncio.Future[None] | None":
        return None


class LoopRun:
    """A coroutine. It is part of the asyncio task that awaits `hear`."""

    __slots__ = ("_work",)

    def __init__(self, work: Work) -> None:
        self._work = work

    async def hear(self) -> Outcome:
        work = self._work
        if work.objects:
            await asyncio.to_thread(objects.unpack, work)
        run = work.operator.run
        result = await (run(work.context) if work.call.takes_context else run())
        if objects.takes_long(work):
            return await succeeded_async(result, work)
        return as_json(result, work.max_result)

    def end(self) -> "asyncio.Future[None] | None":
        return None
