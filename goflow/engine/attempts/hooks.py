"""What hooks are told: how their execution ended, or an attempt that is retried.

The rule: everything in the outcome of an execution is committed, so a hook that runs again after a
crash is told the same. Nothing that a hook does changes an outcome.
"""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from goflow.core.detail import cut_error
from goflow.core.events import AnyFact, TaskFailed
from goflow.core.execution import Execution, Failed
from goflow.core.keys import Key
from goflow.core.states import State
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.current import current_log
from goflow.engine.executors.base import Work
from goflow.engine.executors.outcomes import raised
from goflow.engine.journal import PATIENCE
from goflow.errors import StoreUnavailable
from goflow.job.task import HOOK_TIMEOUT, Task
from goflow.operators.base import Call, Context
from goflow.operators.outcome import Outcome
from goflow.stores.base import History

ERRORS_TOLD = 256 * 1024  # characters of all errors; further ones are cut


async def outcome_of(execution: Execution, dependencies: Dependencies) -> Outcome:
    """The outcome of an execution whose tasks have all ended. The errors are read from the store,
    since executions do not hold them."""
    tasks = execution.tasks.values()
    failed = [task.planned.name for task in tasks if task.state is State.FAILED]
    errors: Mapping[str, str] = {}
    if failed:
        history = await _history(execution.id, dependencies)
        errors = last_errors(failed, () if history is None else history.facts)
    ends = [task.finished_at for task in tasks if task.finished_at is not None]
    return Outcome(
        execution=execution.id,
        job=execution.job,
        state=execution.final_state,
        failed=failed,
        errors=dict(errors),
        reason=execution.reason,
        params=msgspec.json.decode(msgspec.json.encode(execution.params)),
        scheduled_at=execution.scheduled_at,
        submitted_at=execution.submitted_at,
        started_at=execution.started_at,
        finished_at=max(ends, default=execution.submitted_at),
    )


async def _history(id: str, dependencies: Dependencies) -> History | None:
    while True:
        try:
            return await dependencies.history(id)
        except StoreUnavailable:
            await dependencies.clock.sleep(PATIENCE)


def last_errors(failed: Iterable[str], facts: Iterable[AnyFact]) -> Mapping[str, str]:
    """The last error of each of the failed tasks, in their order."""
    last = {
        fact.task: fact.error
        for fact in facts
        if isinstance(fact, TaskFailed) and fact.item is None
    }
    room = ERRORS_TOLD
    errors: dict[str, str] = {}
    for name in failed:
        error = last.get(name, "")
        room -= len(error)
        errors[name] = error if room >= 0 else cut_error(error)
    return errors


async def tell_of_retry(
    execution: Execution,
    task: Task,
    key: Key,
    context: Context,
    dependencies: Dependencies,
    failed: Failed,
) -> None:
    """Call a task's `on_retry` if this failure of its running attempt will be followed by another
    attempt. Its errors and its output go to the log of the attempt."""
    if task.on_retry is None or not execution.will_retry(key, failed):
        return
    told = Outcome(
        execution=execution.id,
        job=execution.job,
        state=State.UPFORRETRY,
        failed=[task.name],
        errors={task.name: failed.error},
        reason=None,
        params=msgspec.json.decode(msgspec.json.encode(execution.params)),
        scheduled_at=execution.scheduled_at,
        submitted_at=execution.submitted_at,
        started_at=execution.run(key).started_at,
        finished_at=dependencies.clock.now(),
    )
    is_async = asyncio.iscoroutinefunction(task.on_retry.function)
    work = Work(
        task.on_retry,
        Call(takes_context=True, is_async=is_async),
        msgspec.structs.replace(context, outcome=told),
        dependencies.limits.result,
    )
    token = current_log.set(context.log)
    calling = asyncio.get_running_loop().create_task(_call(dependencies, work))
    current_log.reset(token)
    try:
        await asyncio.wait([calling], timeout=HOOK_TIMEOUT)
    except asyncio.CancelledError:  # the attempt is told to stop, and has ended
        calling.cancel()
        return
    if not calling.done():
        calling.cancel()
        context.log.warning("on_retry did not return within %g s, and was given up", HOOK_TIMEOUT)
    elif (error := calling.result()) is not None:
        context.log.warning("on_retry failed: %s", error)


async def _call(dependencies: Dependencies, work: Work) -> str | None:
    """Run the function in the server's process; returns its error, or None."""
    try:
        run = await dependencies.executors.here(is_async=work.call.is_async).start(work)
        try:
            outcome = await run.hear()
        except asyncio.CancelledError:
            run.end()
            raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        outcome = raised(error)
    except BaseException as error:
        outcome = raised(error)
    return outcome.error if isinstance(outcome, Failed) else None
