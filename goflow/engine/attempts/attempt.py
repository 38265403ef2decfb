"""One attempt at one task: runs the operator and returns its outcome.

The rule that must not be broken: whatever an operator returns, raises or fails to do, an
`Outcome` comes out. No exception of an operator, not even a SystemExit, gets past here.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from goflow import forks
from goflow.core.execution import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Postponed,
    Skipped,
    Succeeded,
)
from goflow.engine.attempts.settling import report_lost_log
from goflow.engine.current import current_log
from goflow.engine.executors.base import Executor, Work
from goflow.engine.executors.outcomes import raised
from goflow.engine.output.carrying import carry_into_pools
from goflow.engine.output.tasklog import TaskLog
from goflow.engine.process import forked
from goflow.engine.surroundings import surroundings
from goflow.operators import orphans
from goflow.operators.base import Confined, Context
from goflow.operators.deadline import Deadline
from goflow.shown import reason

_told: set[asyncio.Task[Any]] = set()  # to stop, until they have ended

T = TypeVar("T")
OUTCOMES = Succeeded, Failed, Skipped, Cancelled, Interrupted, Postponed


class Attempt:
    """One run of an operator, in the asyncio task that awaits `perform` and that `stop` ends. A
    subclass does what else belongs to an attempt.

    - `timeout`: in seconds.
    - `end_orphans`: ends processes left by a cancelled or timed out attempt.
    """

    def __init__(
        self, timeout: float | None = None, end_orphans: orphans.End = orphans.end
    ) -> None:
        self.timeout = timeout
        self._end_orphans = end_orphans

    def abandoned(self, end: "asyncio.Future[None]") -> None:
        """The executor cannot stop the operator of a cancelled or timed out attempt. `end` is done
        once it has ended."""

    def is_over(self) -> None:
        """The attempt no longer waits for the operator."""

    def keep(self, outcome: Succeeded) -> Outcome | Awaitable[Outcome]:
        """Store a result, and return the outcome, at once where it can. It is called again if it
        is cancelled."""
        return outcome

    def hint(self, outcome: Outcome) -> None:
        """The outcome is certain. The log has ended but is not written."""

    async def perform(self, executor: Executor, work: Work, spent: float = 0.0) -> Outcome:
        """Run the operator; of the timeout so many seconds are `spent` already.

        If `work.context.log` is a `TaskLog`, it is closed, with the error. Its `rest` is left to be
        stored with the outcome.
        """
        expired = False
        me = asyncio.current_task()
        carry_into_pools()
        context = work.context
        log = context.log
        if isinstance(log, TaskLog):
            forked.begin(log, context.process_tag)
        token = current_log.set(log)
        is_watched = executor.shares_process and not isinstance(work.operator, Confined)
        if is_watched:
            surroundings.enter(log)
        try:
            if self.timeout is None:
                outcome = await self._run(executor, work)
            else:
                async with Deadline(max(self.timeout - spent, 0.0)) as deadline:
                    outcome = await self._run(executor, work)
                expired = deadline.expired
        finally:
            self.is_over()
            current_log.reset(token)
            if is_watched:
                surroundings.leave(log)
        if isinstance(outcome, Succeeded) and not expired:
            kept = self.keep(outcome)
            outcome = kept if isinstance(kept, OUTCOMES) else await self._kept(kept, outcome)
        # A stopped attempt has not succeeded, even if it returned a value afterwards.
        stopped = is_told_to_stop(me)
        if stopped or expired:
            if isinstance(outcome, Failed):
                log.error("%s", outcome.error)
            outcome = Cancelled() if stopped else Failed(f"timed out after {self.timeout:g} s")
            await self._end_processes(context)
        if isinstance(outcome, Skipped):
            log(f"skipped: {outcome.why}" if outcome.why else "skipped")
        if isinstance(log, TaskLog):
            forked.end(log)
            log.end(outcome.error if isinstance(outcome, Failed) else None)
            meter = context.meter
            if meter is not None and (cost := meter.cost(log.size)) is not None:
                outcome = msgspec.structs.replace(outcome, cost=cost)
        self.hint(outcome)
        if isinstance(log, TaskLog) and not log.is_stored:
            try:
                await _insist(log.close)
            except Exception as failure:  # a lost log does not change the outcome
                report_lost_log(failure)
        return outcome

    async def _run(self, executor: Executor, work: Work) -> Outcome:
        """The outcome, without regard to deadline and cancellation."""
        home = os.getpid()
        try:
            run = await executor.start(work)
            try:
                outcome = await run.hear()
                forks.ends_here(home)
                return outcome
            except asyncio.CancelledError:
                if (end := run.end()) is not None:
                    self.abandoned(end)
                raise
        except asyncio.CancelledError as error:
            return Cancelled() if _told_to_stop() else raised(error)
        except BaseException as error:
            forks.ends_here(home, error)
            return raised(error)

    async def _kept(self, keeping: Awaitable[Outcome], outcome: Succeeded) -> Outcome:
        while True:
            try:
                return await keeping
            except asyncio.CancelledError:
                again = self.keep(outcome)
                if isinstance(again, OUTCOMES):
                    return again
                keeping = again

    async def _end_processes(self, context: Context) -> None:
        warn, end = context.log.warning, self._end_orphans
        try:
            await _insist(lambda: orphans.end_tagged(context.process_tag, warn, end))
        except Exception as failure:  # it does not change the outcome
            context.log.warning("its remaining processes could not be ended: %s", reason(failure))


def stop(task: "asyncio.Task[Any]") -> None:
    """Tell the attempt that a task makes to end."""
    if not task.done():
        _told.add(task)
        task.add_done_callback(_told.discard)
        task.cancel()


def is_told_to_stop(task: "asyncio.Task[Any] | None") -> bool:
    # Not by its count of cancellations: a TaskGroup of the operator's cancels it as well, and
    # before Python 3.13 does not always take that back.
    return task is not None and task in _told


def _told_to_stop() -> bool:
    return is_told_to_stop(asyncio.current_task())


async def _insist(work: Callable[[], Awaitable[T]]) -> T:
    """Run repeatable work to its end, even if the attempt is stopped."""
    while True:
        try:
            return await work()
        except asyncio.CancelledError:
            continue
