"""Converts the store's facts to an execution, and back."""

from collections.abc import Sequence

import msgspec

from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.keys import Asked, Key, NamedItem, described, task_of
from goflow.core.progress import Heard, Salvaged
from goflow.core.runs import Run
from goflow.errors import NotFound
from goflow.stores.base import History, Record


def salvage(history: History, heard: Heard | None = None) -> Salvaged[Execution]:
    """Replay a history without its damaged parts."""
    found = Execution.salvage(history.plan, history.facts, heard)
    return found if history.damage is None else found._replace(damage=history.damage)


def no_execution(id: str) -> NotFound:
    """The error for an execution that the store does not have."""
    return NotFound(f"there is no execution {id!r}", field="id")


def find_key(execution: Execution, asked: Asked) -> Key:
    """The key of a task, hook or item that a request names. Raises `NotFound`."""
    if task_of(asked) not in execution.named:
        raise NotFound(f"execution {execution.id!r} has no task {task_of(asked)!r}", field="task")
    try:
        return execution.find(asked)
    except LookupError:
        field = "key" if isinstance(asked, NamedItem) else "item"
        raise NotFound(
            f"execution {execution.id!r} has no {described(asked)}", field=field
        ) from None


def find_run(execution: Execution, asked: Asked) -> Run:
    """As `find_key`, the run itself, which may be of a task that a retry has dropped."""
    if task_of(asked) in execution.dropped:
        try:
            return execution.find_run(asked)
        except LookupError:
            raise NotFound(
                f"execution {execution.id!r} has no {described(asked)}", field="item"
            ) from None
    return execution.run(find_key(execution, asked))


def record_of(execution: Execution, facts: Sequence[AnyFact]) -> Record:
    """The change that writes facts that the execution has applied."""
    return Record(
        execution.id,
        list(facts),
        execution.state,
        execution.modified_at,
        msgspec.json.encode(execution.summary()) if execution.finished else None,
        execution.started_at,
        execution.finished_at,
        execution.transition(),
        execution.cost if execution.finished else None,
    )
