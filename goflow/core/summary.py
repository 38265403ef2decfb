"""An execution in brief, as lists and the stream show it.

The size of a summary is bounded: large parameters are left out, and so are the tasks of an
execution that has many.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from goflow.core.cost import Bar, Cost
from goflow.core.events import Parent, Submitted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import SkipReason, State

PARAMS_SHOWN = 4096  # bytes of JSON
TASKS_SHOWN = 500
WHY = 300  # characters of the explanation of a skip

_NULL = msgspec.Raw(b"null")
_OBJECT = msgspec.Meta(extra_json_schema={"type": ["object", "null"]})

# Aware, so that a schema made from these types says it is a point in time.
Time = Annotated[datetime, msgspec.Meta(tz=True)]


# gc=False: there are many at once, and none can be part of a cycle.
class RecentExecution(msgspec.Struct, frozen=True, gc=False):
    """An execution in the overview of jobs; the fields are spelled as in `Listed`."""

    id: str
    state: State
    submitted: Time
    modifiedTimestamp: Time
    started: Time | None
    finished: Time | None
    version: int


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Why a running task waits without a slot, and when its operator looks `again`, `every`
    seconds after the last look."""

    why: str
    again: Time
    every: float


class WhySkipped(msgspec.Struct, frozen=True, gc=False):
    """Why a task was skipped; `why` explains it to people, and may be empty."""

    reason: SkipReason
    why: str = ""


class TaskSummary(msgspec.Struct, frozen=True, gc=False):
    """One task of a `Summary`; `attempts` counts those begun. `started` and `finished` are of
    the last one, and null after the task was reset by a retry of the execution. Only a running
    task that waits without a slot has `waiting`.

    Only a mapped task has `items`: their number, as `total`, and how many are in each state,
    without zeros. Only a skipped task has `skip`, unless an older version skipped it. Only a
    running task that has reported its progress has `progress`. `yielded` is the number of
    items so far of a generator whose items run as soon as they are yielded."""

    name: str
    state: State = State.NOTSTARTED
    attempts: int = 0
    started: Time | None = None
    finished: Time | None = None
    items: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    waiting: Waiting | msgspec.UnsetType = msgspec.UNSET
    skip: WhySkipped | msgspec.UnsetType = msgspec.UNSET
    progress: Bar | msgspec.UnsetType = msgspec.UNSET
    yielded: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def planned(cls, task: PlannedTask) -> "TaskSummary":
        """A task before its first change."""
        if task.stream:
            return cls(task.name, yielded=0)
        if task.map_over is None:
            return cls(task.name)
        return cls(task.name, items={"total": 0})


class ParentTask(msgspec.Struct, frozen=True):
    """The execution and the task in it that started another execution."""

    execution: str
    task: str

    @classmethod
    def of(cls, parent: Parent) -> "ParentTask":
        return cls(parent.execution, parent.task)


class Summary(msgspec.Struct, kw_only=True):
    """An execution in brief, spelled as on the wire (the API of Go's goflow, and more).

    It waits for the executions in `after` to end. `parent` is the task that has started it, if
    any. `reason` says why it failed, if no failed task is the reason. `params` is null where they
    take more than `PARAMS_SHOWN` bytes. `tasks` is empty if there are more than `TASKS_SHOWN`.
    `taskCounts` has the number of tasks in each state, without zeros. `cost` is the sum of all
    attempts so far, left out while there is nothing to say. `Detail` has everything.
    """

    id: str
    job: str
    submitted: Time
    modifiedTimestamp: Time
    state: State = State.NOTSTARTED
    started: Time | None = None
    finished: Time | None = None
    scheduled_at: Time | None = None
    cause: str = "api"
    after: tuple[str, ...] = ()
    parent: ParentTask | None = None
    reason: str | None = None
    # A factory, since a schema cannot state a default that is encoded already.
    params: Annotated[msgspec.Raw, _OBJECT] = msgspec.field(default_factory=lambda: _NULL)
    taskCounts: dict[State, int] = {}
    cost: Cost | msgspec.UnsetType = msgspec.UNSET
    tasks: list[TaskSummary] = []

    @classmethod
    def created(cls, plan: Plan, fact: Submitted) -> "Summary":
        """A newly created execution, without its tasks."""
        return cls(
            id=fact.id,
            job=fact.job,
            submitted=fact.at,
            modifiedTimestamp=fact.at,
            scheduled_at=fact.scheduled_at,
            cause=fact.cause,
            after=fact.after,
            parent=None if fact.parent is None else ParentTask.of(fact.parent),
            params=shown_params(fact.params),
            taskCounts={State.NOTSTARTED: len(plan.tasks)},
        )


class Listed(Summary, kw_only=True):
    """A `Summary` and its version. Of two summaries of one execution, the one with the higher
    version is newer. Times do not tell, since a clock may be set back."""

    version: int


_COUNTED = b'"taskCounts":{'


def listed(summary: bytes, version: int) -> bytes:
    """An encoded `Summary` as an encoded `Listed`.

    The version is added here because a summary is encoded before the commit that gives the
    version. A summary stored by an older version gets its counts, and loses too many tasks.
    """
    if _COUNTED not in summary:
        summary = _count(summary)
    return b'%b,"version":%d}' % (summary[:-1], version)


def _count(encoded: bytes) -> bytes:
    try:
        summary = msgspec.json.decode(encoded, type=Summary)
    except msgspec.DecodeError:  # damaged; it is shown as far as a client can read it
        return encoded
    counts = Counter(task.state for task in summary.tasks)
    summary.taskCounts = {state: counts[state] for state in State if counts[state]}
    if len(summary.tasks) > TASKS_SHOWN:
        summary.tasks = []
    return msgspec.json.encode(summary)


def shown_params(params: Mapping[str, Any]) -> msgspec.Raw:
    """The parameters as a summary has them."""
    encoded = msgspec.json.encode(params)
    return msgspec.Raw(encoded) if len(encoded) <= PARAMS_SHOWN else _NULL
