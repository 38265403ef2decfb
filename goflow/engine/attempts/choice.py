"""The choice of a branch: its result names tasks directly downstream."""

from collections.abc import Sequence

import msgspec

from goflow.core.execution import Failed, Succeeded
from goflow.shown import shown

TOLD = 10  # names of tasks in a message

_decode = msgspec.json.Decoder().decode


def with_choice(outcome: Succeeded, downstream: Sequence[str]) -> Succeeded | Failed:
    """The outcome of a branch with the tasks it chose, or why its result is no choice."""
    value = _decode(outcome.result)
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        return Failed(
            "a branch must return the name of a task directly downstream of it, a list of names, "
            f"or None, not {shown(value)}"
        )
    known = set(downstream)
    for name in names:
        if not isinstance(name, str):
            return Failed(f"the branch chose {shown(name)}, which is not the name of a task")
        if name not in known:
            told = ", ".join(map(shown, downstream[:TOLD])) or "no tasks"
            more = " and others" if len(downstream) > TOLD else ""
            return Failed(
                f"the branch chose {shown(name)}, which is not directly downstream of it; "
                f"it can choose among {told}{more}"
            )
    return msgspec.structs.replace(outcome, chosen=tuple(dict.fromkeys(names)))
