"""Converts the store's facts to an execution, and back."""

from collections.abc import Sequence

import msgspec

from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.progress import Heard, Salvaged
from goflow.stores.base import History, Record


def salvage(history: History, heard: Heard | None = None) -> Salvaged[Execution]:
    """Replay a history without its damaged parts."""
    found = Execution.salvage(history.plan, history.facts, heard)
    return found if history.damage is None else found._replace(damage=history.damage)


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
    )
