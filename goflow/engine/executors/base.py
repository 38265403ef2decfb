"""The contract of executors: start an operator, hear its outcome, end it, find it again.

The engine chooses the executor by the task, and handles deadlines, logs, retries and slots. An
executor only runs the code of the operator.
"""

import asyncio
from typing import Any, NamedTuple, Protocol

from goflow.core.execution import Outcome
from goflow.operators.base import Call, Context


class Work(NamedTuple):
    """An attempt to run. `max_result` is in bytes of JSON."""

    operator: Any
    call: Call
    context: Context
    max_result: int


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

    def find(self, tag: str, /) -> Run | None:
        """The run of the attempt with this process tag, started before a crash of the server;
        None if it is gone, and the engine settles the attempt as interrupted."""
        ...
