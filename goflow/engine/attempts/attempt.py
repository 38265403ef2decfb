"""One attempt at one task: runs the operator and returns its outcome.

The rule that must not be broken: whatever an operator returns, raises or fails to do, an
`Outcome` comes out. No exception of an operator, not even a SystemExit, gets past here.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

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

OnAbandoned = Callable[["asyncio.Future[None]"], object]
T = TypeVar("T")
OUTCOMES = Succeeded, Failed, Skipped, Cancelled, Interrupted, Postponed
Keep = Callable[[Succeeded], Outcome | Awaitable[Outcome]]


async def attempt(
    executor: Executor,
    work: Work,
    *,
    timeout: float | None,
    spent: float = 0.0,
    on_abandoned: OnAbandoned | None = None,
    on_over: Callable[[], None] = lambda: None,
    end_orphans: orphans.End = orphans.end,
    keep: Keep | None = None,
    on_failed: Callable[[Failed], Awaitable[None]] | None = None,
    hint: Callable[[Outcome], object] = lambda outcome: None,
) -> Outcome:
    """Run an operator once, in a separate asyncio task, which `stop` ends.

    - `timeout`: in seconds, of which so many are `spent` already.
    - `on_abandoned`: called if the executor cannot stop the operator of a cancelled or timed
      out attempt, with a future that is done once it has ended.
    - `on_over`: called when the attempt no longer waits for the operator.
    - `end_orphans`: ends processes left by a cancelled or timed out attempt.
    - `keep`: stores a result, and returns the outcome, at once where it can. It is called
      again if it is cancelled.
    - `on_failed`: called with a failure, while the log is still open.
    - `hint`: called with the outcome as soon as it is certain, when the log has ended but is not
      written.

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
        if timeout is None:
            outcome = await _run(executor, work, on_abandoned)
        else:
            async with Deadline(max(timeout - spent, 0.0)) as deadline:
                outcome = await _run(executor, work, on_abandoned)
            expired = deadline.expired
    finally:
        on_over()
        current_log.reset(token)
        if is_watched:
            surroundings.leave(log)
    if keep is not None and isinstance(ended := outcome, Succeeded) and not expired:
        outcome = await _kept(keep, ended)
    # A stopped attempt has not succeeded, even if it returned a value afterwards.
    stopped = is_told_to_stop(me)
    if isinstance(outcome, Failed) and (stopped or expired):
        log.error("%s", outcome.error)
    if stopped:
        outcome = Cancelled()
    elif expired:
        outcome = Failed(f"timed out after {timeout:g} s")
    if stopped or expired:
        await _end_orphans(context, end_orphans)
    if isinstance(outcome, Skipped):
        log(f"skipped: {outcome.why}" if outcome.why else "skipped")
    if on_failed is not None and isinstance(outcome, Failed):
        await on_failed(outcome)
    if isinstance(log, TaskLog):
        forked.end(log)
        log.end(outcome.error if isinstance(outcome, Failed) else None)
    hint(outcome)
    if isinstance(log, TaskLog) and not log.is_stored:
        try:
            await _insist(log.close)
        except Exception as failure:  # a lost log does not change the outcome
            report_lost_log(failure)
    return outcome


async def _run(executor: Executor, work: Work, on_abandoned: OnAbandoned | None) -> Outcome:
    """The outcome, without regard to deadline and cancellation."""
    home = os.getpid()
    try:
        run = await executor.start(work)
        try:
            outcome = await run.hear()
            forks.ends_here(home)
            return outcome
        except asyncio.CancelledError:
            if (end := run.end()) is not None and on_abandoned is not None:
                on_abandoned(end)
            raise
    except asyncio.CancelledError as error:
        return Cancelled() if _told_to_stop() else raised(error)
    except BaseException as error:
        forks.ends_here(home, error)
        return raised(error)


async def _kept(keep: Keep, outcome: Succeeded) -> Outcome:
    while True:
        kept = keep(outcome)
        if isinstance(kept, OUTCOMES):
            return kept
        try:
            return await kept
        except asyncio.CancelledError:
            continue


async def _end_orphans(context: Context, end: orphans.End) -> None:
    try:
        await _insist(lambda: orphans.end_tagged(context.process_tag, context.log.warning, end))
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
