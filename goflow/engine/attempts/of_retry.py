"""A call of a task's `on_retry`, after a failed attempt that is retried.

The rule: that the call follows is committed before it begins, and its end is committed too. So a
call that the end of the server interrupts is made again.
"""

import asyncio
from typing import TYPE_CHECKING

from goflow.core.execution import Failed
from goflow.core.keys import Key, described
from goflow.engine.attempts import hooks
from goflow.engine.attempts.attempt import Attempt
from goflow.engine.attempts.of_task import Ended
from goflow.engine.executors.outcomes import failed
from goflow.engine.output.tasklog import Chunk
from goflow.operators.function import FunctionOperator

if TYPE_CHECKING:
    from goflow.engine.attempts.under_way import Attempts

CALL = 0  # the number of the attempt in its process tag


class RetryCall(Attempt):
    """The call after attempt `number`, which failed with `error`; None if the store has to be
    asked for that."""

    running: "asyncio.Task[None]"
    _overdue: asyncio.TimerHandle | None = None  # abandons it

    def __init__(
        self,
        attempts: "Attempts",
        function: FunctionOperator,
        key: Key,
        number: int,
        error: str | None,
    ) -> None:
        super().__init__(hooks.HOOK_TIMEOUT, attempts.dependencies.end_orphans)
        self._attempts = attempts
        self._function = function
        self._key = key
        self._number = number
        self._error = error

    def begin(self) -> "asyncio.Task[None]":
        """Run it in an asyncio task of its own."""
        self.running = asyncio.get_running_loop().create_task(self._run_to_its_end())
        return self.running

    async def _run_to_its_end(self) -> None:
        try:
            ended = await self._call()
        except Exception as error:  # a defect: the function raises nothing here
            where = f"on_retry of {described(self._key)}"
            self._attempts.dependencies.on_defect(where, error)
            ended = Ended(self._key, failed(error), self._number)
        if not self._attempts.done(self.running, ended):
            await self._attempts.store_rest(ended)

    async def _call(self) -> Ended:
        attempts, key = self._attempts, self._key
        given = attempts.dependencies
        tag = attempts.tag(key, CALL)
        log, work = await hooks.of_retry(
            attempts.execution, self._function, key, self._error, self._append, tag, given
        )
        timeout = hooks.HOOK_TIMEOUT
        self._overdue = asyncio.get_running_loop().call_later(timeout, self._expired, timeout)
        with given.clock.work():
            executor = given.executors.here(is_async=work.call.is_async)
            outcome = await self.perform(executor, work)
        return Ended(key, outcome, self._number, log)

    async def _append(self, chunk: Chunk) -> None:
        """Commit a chunk of the log."""
        change = self._attempts.change(self._key, self._number, chunk)
        await self._attempts.dependencies.journal.insist(change)

    def _expired(self, timeout: float) -> None:
        self._overdue = self._attempts.give_up_overdue(self._key, self.running, timeout)

    def abandoned(self, end: "asyncio.Future[None]") -> None:
        self._attempts.abandon(self._key, end)

    def is_over(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def error_of(ended: Ended) -> str:
    """The error of a call that has ended, or ""."""
    return ended.outcome.error if isinstance(ended.outcome, Failed) else ""
