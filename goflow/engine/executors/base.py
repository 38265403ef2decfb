"""The contract of executors: start an operator, hear its outcome, end it, find it again.

The engine chooses the executor by the task, and handles deadlines, logs, retries and slots. An
executor only runs the code of the operator.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from goflow.core.execution import Outcome
from goflow.core.result import Format, StoredResult
from goflow.operators.base import Call, Context
from goflow.operators.process_tag import ProcessTag


class Work(msgspec.Struct, frozen=True):
    """An attempt to run. `max_result` is in bytes of JSON, and `format` that of the result.
    `objects` are the upstream results that are no JSON; they are read where the operator runs."""

    operator: Any
    call: Call
    context: Context
    max_result: int
    format: Format = Format.JSON
    objects: Mapping[str, StoredResult] = {}


class Run(Protocol):
    """An operator that was started."""

    async def hear(self) -> Outcome:
        """Wait for the end of the operator, and return its outcome. Awaited once.

        Raises what the operator raised, if it ran on the event loop. Cancelling this tells
        the operator to end.
        """
        ...

    def end(self) -> "asyncio.Future[None] | None":
        """Called after `hear` was cancelled: stop the operator if possible.

        Returns None if it has ended. Otherwise it cannot be stopped, and the future is done
        once it has ended.
        """
        ...


class Executor(Protocol):
    """A place where operators run."""

    shares_process: bool  # whether operators can change the server's process

    async def start(self, work: Work, /) -> Run:
        """Start an operator. Raises `TaskFailed` if that is impossible."""
        ...

    async def find(self, tag: ProcessTag, /) -> Run | None:
        """The run of an attempt that an earlier server started and did not settle, still going on
        or with its outcome; None if it has gone, and the engine settles it as interrupted.

        Called once for each such attempt, at the start of a server. `tag.server` is the server
        that asks, so find the run by the other fields. What it prints from now on is lost unless
        the executor keeps it.
        """
        ...


class Again:
    """Implements `Executor` for one run that was found: to start it, it goes on."""

    def __init__(self, run: Run, *, shares_process: bool) -> None:
        self.shares_process = shares_process
        self._run = run

    async def start(self, work: Work, /) -> Run:
        return self._run

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return self._run
