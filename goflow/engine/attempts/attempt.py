"""One attempt of one task: runs the operator and tells how that ended.

The rule that must not be broken: whatever an operator returns, raises or does not do, what
comes out is an `Outcome`. No exception of an operator, be it a SystemExit, gets past here.
"""

import asyncio
import contextlib
import contextvars
import os
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from goflow import forks
from goflow.core.execution import Cancelled, Failed, Outcome, Succeeded
from goflow.engine.current import current_log
from goflow.engine.executors.outcomes import raised, run_sync, succeeded
from goflow.engine.executors.process import Isolated
from goflow.engine.output.carrying import carry_into_pools
from goflow.engine.output.tasklog import TaskLog
from goflow.engine.process import forked
from goflow.engine.surroundings import surroundings
from goflow.engine.threads import NoThread
from goflow.errors import TaskFailed
from goflow.operators import leftovers
from goflow.operators.base import Call, Context
from goflow.operators.command import Command
from goflow.operators.deadline import Deadline, real_work
from goflow.operators.http import Get, Post
from goflow.shown import reason

THREAD_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, *[2.0] * 6)  # seconds in which one may become free
ABANDONED = (
    "the thread of this attempt cannot be stopped; it was abandoned and may still run. "
    'A task with isolation="process" can be stopped'
)

_told: "weakref.WeakSet[asyncio.Task[Any]]" = weakref.WeakSet()

OnAbandoned = Callable[["asyncio.Future[None]"], object]
T = TypeVar("T")
Keep = Callable[[Succeeded], Awaitable[Outcome]]


async def attempt(
    operator: Any,
    call: Call,
    context: Context,
    *,
    executor: Executor,
    timeout: float | None,
    max_result: int,
    on_abandoned: OnAbandoned | None = None,
    on_over: Callable[[], None] = lambda: None,
    end_leftovers: leftovers.End = leftovers.end,
    keep: Keep | None = None,
) -> Outcome:
    """Run `operator` once; to be awaited in a task of its own, which `stop` tells to end.

    `timeout` is in seconds, `max_result` in bytes of JSON. A sync `run` runs in `executor`. A
    thread that is still running when the attempt was cancelled or timed out is abandoned:
    `on_abandoned` is called with a future that is done once the thread has ended. `on_over` is
    called when the operator is waited for no longer, by which time it should have ended. If
    `context.log` is a `TaskLog`, it is closed, with the error. What a cancelled or timed out
    attempt has left running is ended by `end_leftovers`. `keep` stores a result, and answers
    how the attempt ended thereby; it may be called again if it is cancelled.
    """
    expired = False
    carry_into_pools()
    log = context.log
    children = forked.Children(log, context.cookie) if isinstance(log, TaskLog) else None
    token = current_log.set(log)
    shares = not isinstance(operator, Isolated | Command | Get | Post)  # this process with others
    if shares:
        surroundings.enter(log)
    try:
        async with Deadline(timeout) as deadline:
            outcome = await _run(operator, call, context, executor, max_result, on_abandoned)
        expired = deadline.expired
    finally:
        on_over()
        current_log.reset(token)
        if shares:
            surroundings.leave(log)
    if keep is not None and isinstance(ended := outcome, Succeeded) and not expired:
        outcome = await _insist(lambda: keep(ended))
    # What was told to stop has not succeeded, whatever it returned or raised thereupon.
    stopped = _told_to_stop()
    if isinstance(outcome, Failed) and (stopped or expired):
        context.log.error("%s", outcome.error)
    if stopped:
        outcome = Cancelled()
    elif expired:
        outcome = Failed(f"timed out after {timeout:g} s")
    if stopped or expired:
        try:
            await _insist(
                lambda: leftovers.end_of(context.cookie, context.log.warning, end_leftovers)
            )
        except Exception as failure:  # that it could not be ended does not change the outcome
            context.log.warning("what it left running could not be ended: %s", reason(failure))
    if isinstance(log, TaskLog) and children is not None:
        children.close()
        error = outcome.error if isinstance(outcome, Failed) else None
        try:
            await _insist(lambda: log.close(error))
        except Exception as failure:  # a lost log does not change how the attempt ended
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the log of an attempt could not be written", "exception": failure}
            )
    return outcome


async def _run(
    operator: Any,
    call: Call,
    context: Context,
    executor: Executor,
    max_result: int,
    on_abandoned: OnAbandoned | None,
) -> Outcome:
    """The outcome, were there no deadline and no cancellation."""
    home = os.getpid()
    try:
        if isinstance(operator, Isolated):
            return await operator.run(context)
        if call.is_async:
            value = await (operator.run(context) if call.takes_context else operator.run())
        else:
            value = await _in_thread(operator, call, context, executor, max_result, on_abandoned)
            if isinstance(value, Outcome):
                return value
            value = await value
        forks.ends_here(home)
        return succeeded(value, max_result)
    except asyncio.CancelledError as error:
        return Cancelled() if _told_to_stop() else raised(error)
    except BaseException as error:
        forks.ends_here(home, error)
        return raised(error)


async def _in_thread(
    operator: Any,
    call: Call,
    context: Context,
    executor: Executor,
    max_result: int,
    on_abandoned: OnAbandoned | None,
) -> Outcome | Awaitable[Any]:
    work = contextvars.copy_context().run
    thread = await _submitted(
        executor, context, work, run_sync, operator, call, context, max_result
    )
    try:
        with real_work(thread.done):
            return await asyncio.wrap_future(thread)
    except asyncio.CancelledError:
        if not thread.cancel() and not thread.done():
            context.log.warning(ABANDONED)
            forked.abandon(context.log, thread)
            if on_abandoned is not None:
                on_abandoned(_end_of(thread))
        raise


async def _submitted(
    executor: Executor, context: Context, work: Callable[..., Any], *args: Any
) -> "Future[Any]":
    """The work in a thread; where there is none just now, the attempt waits for one a while."""
    for number, pause in enumerate(THREAD_PAUSES):
        try:
            return executor.submit(work, *args)
        except NoThread as error:
            if not number:
                context.log.warning("waits for a thread: %s", error)
        await asyncio.sleep(pause)
    try:
        return executor.submit(work, *args)
    except NoThread as error:
        seconds = f"{sum(THREAD_PAUSES):g} s"
        raise TaskFailed(f"no thread could be had to run it in for {seconds}: {error}") from None


def _end_of(thread: "Future[Any]") -> "asyncio.Future[None]":
    """A future of the loop, done when the thread has ended."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()

    def set_end() -> None:
        if not end.done():
            end.set_result(None)

    def tell(_: "Future[Any]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed, nobody waits any more
            loop.call_soon_threadsafe(set_end)

    thread.add_done_callback(tell)
    return end


def stop(task: "asyncio.Task[Any]") -> None:
    """Tell the attempt that a task makes to end."""
    _told.add(task)
    task.cancel()


def is_told_to_stop(task: "asyncio.Task[Any] | None") -> bool:
    # Not by its count of cancellations: a TaskGroup of the operator's cancels it as well, and
    # before Python 3.13 does not always take that back.
    return task is not None and task in _told


def _told_to_stop() -> bool:
    return is_told_to_stop(asyncio.current_task())


async def _insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do what may be done again from its beginning to its end, also when told to stop."""
    while True:
        try:
            return await work()
        except asyncio.CancelledError:
            continue
