"""What hooks are told: how their execution ended, or an attempt that is retried.

The rule: everything in the outcome of an execution is committed, so a hook that runs again after a
crash is told the same. Nothing that a hook does changes an outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from goflow.core.detail import cut_error
from goflow.core.events import AnyFact, AttemptFailed, TaskFailed
from goflow.core.execution import Execution
from goflow.core.keys import Key, item_of, task_of
from goflow.core.states import State
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.executors.base import Work
from goflow.engine.journal import PATIENCE
from goflow.engine.output.tasklog import Carried, Chunk, TaskLog
from goflow.errors import StoreUnavailable
from goflow.job.task import HOOK_TIMEOUT
from goflow.operators.base import Call, Context
from goflow.operators.function import FunctionOperator
from goflow.operators.outcome import Outcome
from goflow.stores.base import History

__all__ = ["HOOK_TIMEOUT", "of_retry", "outcome_of"]

Append = Callable[[Chunk], Awaitable[None]]

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


async def of_retry(
    execution: Execution,
    function: FunctionOperator,
    key: Key,
    error: str | None,
    append: Append,
    process_tag: str,
    dependencies: Dependencies,
) -> tuple[TaskLog, Work]:
    """The call of a task's `on_retry` after its failed attempt, and its log, which continues that
    of the attempt. If the `error` of the attempt is unknown, it is read from the store."""
    run, name = execution.run(key), task_of(key)
    if error is None:
        history = await _history(execution.id, dependencies)
        error = _error_of(key, run.attempt, () if history is None else history.facts)
    limit = dependencies.limits.log
    log = TaskLog(
        append,
        asyncio.get_running_loop(),
        clock=dependencies.clock,
        backlog=dependencies.backlog,
        limit=limit,
    )
    carried = await _measured(execution.id, key, run.attempt, limit, dependencies)
    if carried is not None:
        log.carry_on(carried)
    log.info("on_retry is called")
    told = Outcome(
        execution=execution.id,
        job=execution.job,
        state=State.UPFORRETRY,
        failed=[name],
        errors={name: error},
        reason=None,
        params=msgspec.json.decode(msgspec.json.encode(execution.params)),
        scheduled_at=execution.scheduled_at,
        submitted_at=execution.submitted_at,
        started_at=run.started_at,
        finished_at=run.finished_at or dependencies.clock.now(),
    )
    context = Context(
        job=execution.job,
        task=name,
        execution_id=execution.id,
        attempt=run.attempt,
        params=msgspec.json.decode(msgspec.json.encode(execution.params)),
        results={},
        scheduled_at=execution.scheduled_at,
        submitted_at=execution.submitted_at,
        log=log,
        process_tag=process_tag,
        index=item_of(key),
        outcome=told,
    )
    is_async = asyncio.iscoroutinefunction(function.function)
    call = Call(takes_context=True, is_async=is_async)
    return log, Work(function, call, context, dependencies.limits.result)


def _error_of(key: Key, attempt: int, facts: Iterable[AnyFact]) -> str:
    found = (
        fact.error
        for fact in facts
        if isinstance(fact, AttemptFailed) and fact.key == key and fact.attempt == attempt
    )
    return next(found, "")


async def _measured(
    id: str, key: Key, attempt: int, limit: int, dependencies: Dependencies
) -> Carried | None:
    while True:
        try:
            return await dependencies.measure_log(id, key, attempt, limit)
        except StoreUnavailable:
            await dependencies.clock.sleep(PATIENCE)
