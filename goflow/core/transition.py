"""The changes that facts make to an execution.

The fold emits it (`goflow.core.progress`). Everything that shows an execution assigns what it
says, and needs no knowledge of facts.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from goflow.core.cost import Cost
from goflow.core.result import Artifact, StoredResult
from goflow.core.states import State
from goflow.core.summary import Summary, TaskSummary


# gc=False: one is made for each fact, and none can be part of a cycle.
class TaskChange(msgspec.Struct, frozen=True, gc=False):
    """A task that moved from the state `before`, and the task as it is now. With `item`, it is
    the item of that index that moved, and `task` describes the item.

    `error`, `interrupted`, `result`, the tasks `chosen` by a branch, `artifacts` and `cost` belong
    to the attempt that ended with the change, if one did. `retry_at` is the time of the next
    attempt of a task that is up for retry. `told` is set if its `on_retry` ended, to the error
    or "".
    """

    before: State
    task: TaskSummary
    retry_at: datetime | None = None
    error: str | None = None
    interrupted: bool = False
    result: msgspec.Raw | StoredResult | None = None
    item: int | None = None
    chosen: tuple[str, ...] | None = None
    artifacts: tuple[Artifact, ...] = ()
    cost: Cost | None = None
    told: str | None = None


class Transition(msgspec.Struct, frozen=True):
    """The changes of tasks, in order, and the execution in brief after them, without its
    tasks. `mapped` has the mapped tasks whose items changed, as they are after it; the changes
    of items are not in it, since they may be many. `hooks` has the changes of hooks. If the
    execution goes on by another plan, `replanned` has all its tasks, as they are afterwards.
    `costs` has the sums of the tasks whose attempts ended, by name."""

    brief: Summary
    tasks: list[TaskChange]
    mapped: Sequence[TaskSummary] = ()
    hooks: Sequence[TaskChange] = ()
    replanned: Sequence[TaskSummary] | None = None
    costs: Mapping[str, Cost] = {}


class ChangedTasks:
    """Which tasks changed last, and at which versions."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()  # in ascending order

    def note(self, task: str, version: int) -> None:
        """Note that a task changed at a version, which is the newest one."""
        self._versions[task] = version
        self._versions.move_to_end(task)

    def since(self, version: int) -> list[str]:
        """The tasks that changed after a version, the one that changed last first. The work is
        proportional to their number."""
        found = []
        for task in reversed(self._versions):
            if self._versions[task] <= version:
                break
            found.append(task)
        return found
