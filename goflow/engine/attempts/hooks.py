"""What hooks are told: how their execution ended.

The rule: everything in it is committed, so a hook that runs again after a crash is told the same.
"""

from collections.abc import Iterable, Mapping

import msgspec

from goflow.core.detail import cut_error
from goflow.core.events import AnyFact, TaskFailed
from goflow.core.execution import Execution
from goflow.core.states import State
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.journal import PATIENCE
from goflow.errors import StoreUnavailable
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
