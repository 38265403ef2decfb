"""The record of what facts changed in an execution.

The fold emits it (`goflow.core.progress`). Everything that shows an execution assigns what it
says, and needs no knowledge of facts.
"""

from datetime import datetime

import msgspec

from goflow.core.result import StoredResult
from goflow.core.states import State
from goflow.core.summary import Summary, TaskSummary


# gc=False: one is made for each fact, and none can be part of a cycle.
class TaskChange(msgspec.Struct, frozen=True, gc=False):
    """A task that moved from the state `before`, and the task as it is now.

    `error`, `interrupted` and `result` belong to the attempt that ended with the change, if one
    did. `retry_at` is the time of the next attempt of a task that is up for retry.
    """

    before: State
    task: TaskSummary
    retry_at: datetime | None = None
    error: str | None = None
    interrupted: bool = False
    result: msgspec.Raw | StoredResult | None = None


class Transition(msgspec.Struct, frozen=True):
    """The changes of tasks, in order, and the execution in brief after them, without its
    tasks."""

    brief: Summary
    tasks: list[TaskChange]
