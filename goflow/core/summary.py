"""An execution as others see it: in brief for lists and the stream, whole for its page.

Both are folds of facts that were checked when they were decided, so nothing is checked
again here. `Summary` costs the same for every fact, however many tasks there are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    Submitted,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.result import SMALL
from goflow.core.states import State, TriggerRule

# the state of a task after a fact that names it
_TASK_STATE: dict[type, State] = {
    TaskStarted: State.RUNNING,
    TaskSucceeded: State.SUCCESSFUL,
    AttemptFailed: State.UPFORRETRY,
    TaskFailed: State.FAILED,
    TaskSkipped: State.SKIPPED,
    TaskCancelled: State.CANCELLED,
    MarkedSuccessful: State.SUCCESSFUL,
    MarkedSkipped: State.SKIPPED,
}

# what somebody asked for, as `Detail.actions` calls it
_ACTION: dict[type, str] = {
    Submitted: "submit",
    CancelRequested: "cancel",
    TaskCancelRequested: "cancel task",
    MarkedSuccessful: "mark successful",
    MarkedSkipped: "mark skipped",
    Retried: "retry",
}


PARAMS_SHOWN = 4096  # bytes of JSON
RESULTS_SHOWN = 4 * 1024 * 1024  # bytes of JSON of all the results in a `Detail`
ERRORS_SHOWN = 4 * 1024 * 1024  # characters of all the errors in a `Detail`
ASKED_SHOWN = 1024 * 1024  # bytes of JSON of all the params in a `Detail`'s actions
ERROR_PART = 300  # characters left at both ends of an error that is beyond that
CUT = "\n… the rest is in the log of the attempt …\n"

_NULL = msgspec.Raw(b"null")
_OBJECT = msgspec.Meta(extra_json_schema={"type": ["object", "null"]})

# Aware, so that a schema made from these types says it is a point in time.
Time = Annotated[datetime, msgspec.Meta(tz=True)]


# gc=False: there are many at once, and none can be part of a cycle.
class Mark(msgspec.Struct, frozen=True, gc=False):
    """An execution as one mark in a row of them, spelled as `Listed` spells it."""

    id: str
    state: State
    submitted: Time
    modifiedTimestamp: Time
    started: Time | None
    finished: Time | None
    version: int


class TaskSummary(msgspec.Struct):
    """One task of a `Summary`; `attempts` counts those begun. `started` and `finished` are of
    the last one, and empty once the task was sent round again."""

    name: str
    state: State = State.NOTSTARTED
    attempts: int = 0
    started: Time | None = None
    finished: Time | None = None


class Summary(msgspec.Struct, kw_only=True):
    """An execution in brief, spelled as on the wire (the API of Go's goflow, and more).

    It waits for the executions in `after` to end. `reason` says why it failed, where that
    is not because of a task. `params` is null where they take more than `PARAMS_SHOWN` bytes,
    since an execution is sent whole at each change; `Detail` has them.
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
    reason: str | None = None
    # A factory, since a schema cannot state a default that is encoded already.
    params: Annotated[msgspec.Raw, _OBJECT] = msgspec.field(default_factory=lambda: _NULL)
    tasks: list[TaskSummary]

    @classmethod
    def begin(cls, plan: Plan, submitted: Submitted) -> "Summary":
        """The execution just submitted."""
        return cls(
            id=submitted.id,
            job=submitted.job,
            submitted=submitted.at,
            modifiedTimestamp=submitted.at,
            scheduled_at=submitted.scheduled_at,
            cause=submitted.cause,
            after=submitted.after,
            params=shown_params(submitted.params),
            tasks=[TaskSummary(planned.name) for planned in plan.tasks],
        )

    def apply(self, plan: Plan, fact: AnyFact) -> None:
        """Take note of a committed fact."""
        self.modifiedTimestamp = fact.at
        state = _TASK_STATE.get(type(fact))
        if state is not None:
            task = self.tasks[plan.position[fact.task]]  # type: ignore[union-attr]
            task.state = state
            task.finished = fact.at
            if isinstance(fact, TaskStarted):
                task.attempts, task.started, task.finished = fact.attempt, fact.at, None
                self.state = State.RUNNING
                self.started = self.started or fact.at
            elif isinstance(fact, MarkedSuccessful | MarkedSkipped) and fact.finished is not None:
                self.state = State(fact.finished)
        elif isinstance(fact, CancelRequested):
            self.reason = reason_of(fact)
        elif isinstance(fact, Finished):
            self.state = State(fact.state)
            self.finished = fact.at
        elif isinstance(fact, Retried):
            for name in fact.tasks:
                task = self.tasks[plan.position[name]]
                task.state = State.NOTSTARTED
                task.started = task.finished = None
            self.state = State.NOTSTARTED
            self.started = self.finished = self.reason = None
            if fact.params is not None:
                self.params = shown_params(fact.params)


class Listed(Summary, kw_only=True):
    """A `Summary` and its version: of two that tell of the same execution, the one with the
    higher version is newer. Times do not tell, since clocks are set back."""

    version: int


def listed(summary: bytes, version: int) -> bytes:
    """An encoded `Summary` as an encoded `Listed`.

    The version is not encoded with the rest, because a summary is frozen before the commit
    that gives it its version.
    """
    return b'%b,"version":%d}' % (summary[:-1], version)


def shown_params(params: dict[str, Any]) -> msgspec.Raw:
    """The parameters as a summary has them."""
    encoded = msgspec.json.encode(params)
    return msgspec.Raw(encoded) if len(encoded) <= PARAMS_SHOWN else _NULL


class Standing:
    """How the tasks of an unfinished execution stand: how many are in each state, since when
    those that run do, and when those up for retry are tried again.

    It follows a `Summary`, which must not have taken note of the fact yet; each costs the same.
    """

    __slots__ = ("counts", "retry_at", "running")

    def __init__(self, summary: Summary, retry_at: Mapping[str, datetime]) -> None:
        self.counts = Counter(task.state for task in summary.tasks)
        self.running: dict[str, datetime] = {}
        self.retry_at = dict(retry_at)

    def apply(self, plan: Plan, summary: Summary, fact: AnyFact) -> None:
        """Take note of a committed fact."""
        state = _TASK_STATE.get(type(fact))
        if state is not None:
            name: str = fact.task  # type: ignore[union-attr]
            self._move(summary.tasks[plan.position[name]].state, state)
            self.running.pop(name, None)
            self.retry_at.pop(name, None)
            if isinstance(fact, TaskStarted):
                self.running[name] = fact.at
            elif isinstance(fact, AttemptFailed):
                self.retry_at[name] = fact.retry_at
        elif isinstance(fact, Retried):
            for name in fact.tasks:
                self._move(summary.tasks[plan.position[name]].state, State.NOTSTARTED)

    def _move(self, before: State, after: State) -> None:
        self.counts[before] -= 1
        self.counts[after] += 1


def reason_of(fact: CancelRequested) -> str | None:
    """Why an execution fails by this fact alone, if it does."""
    if fact.timeout is not None:
        return f"timed out after {fact.timeout:g} s"
    return f"a defect in goflow: {fact.defect}" if fact.defect else None


class AttemptDetail(msgspec.Struct):
    """One attempt of a task. `error` holds the traceback too, for Python operators. One that
    was `interrupted` by the end of the server is a failed one that took no retry."""

    attempt: int
    state: State
    started: Time
    finished: Time | None = None
    error: str | None = None
    retry_at: Time | None = None
    interrupted: bool = False


class TaskDetail(msgspec.Struct):
    """One task of a `Detail`; `started`, `finished` and `error` are of its last attempt, and
    empty once it was sent round again. `retries` and `trigger_rule` are those it was submitted
    with, `operator` is that of the job as it is now, null if it has no such task any more.
    `interruptions` counts the attempts that the end of the server interrupted, of all rounds.

    `result_bytes` is the size of the result as JSON, 0 for none. A result of more than `SMALL`
    bytes is left out: then `result` is null, and the route of results has it. So are
    results once those before them take `RESULTS_SHOWN` bytes."""

    name: str
    state: State = State.NOTSTARTED
    started: Time | None = None
    finished: Time | None = None
    error: str | None = None
    result: msgspec.Raw = msgspec.field(default_factory=lambda: _NULL)
    result_bytes: int = 0
    attempts: list[AttemptDetail] = []
    waiting: str | None = None  # why it does not run though it could, for people
    retries: int = 0
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESSFUL
    operator: str | None = None
    interruptions: int = 0

    @classmethod
    def planned(cls, task: PlannedTask) -> "TaskDetail":
        """A task before anything has happened."""
        return cls(task.name, retries=task.retries, trigger_rule=task.rule)

    @classmethod
    def replay(cls, plan: Plan, name: str, facts: Iterable[AnyFact]) -> "TaskDetail":
        """The task of that name, of the execution of `plan` that these facts led to."""
        task = cls.planned(plan.tasks[plan.position[name]])
        for fact in facts:
            if (state := _TASK_STATE.get(type(fact))) is not None:
                if fact.task == name:  # type: ignore[union-attr]
                    _note(task, fact)
                    task.state = state
            elif isinstance(fact, Retried) and name in fact.tasks:
                _begin_again(task)
                task.state = State.NOTSTARTED
        return task


class Action(msgspec.Struct):
    """What somebody asked for, and who; `task` if it was about one, `params` if it set them. Once
    the params of the actions before take `ASKED_SHOWN` bytes, further ones are left out."""

    at: Time
    action: str
    by: str
    task: str | None = None
    params: dict[str, Any] | None = None


class Detail(msgspec.Struct, kw_only=True):
    """An execution with all that is kept of it, but the logs and the large results. `version`
    is that of `Listed`. `damage` says what of it could not be read or cannot have happened,
    and was left out; null if nothing.

    Once errors take `ERRORS_SHOWN` characters, only the beginning of further ones is here.
    """

    id: str
    job: str
    submitted: Time
    modifiedTimestamp: Time
    state: State
    started: Time | None = None
    finished: Time | None = None
    scheduled_at: Time | None = None
    cause: str
    after: tuple[str, ...] = ()
    reason: str | None = None
    params: dict[str, Any]
    actions: list[Action]
    tasks: list[TaskDetail]
    dag: dict[str, list[str]]
    version: int = 0
    damage: str | None = None

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact]) -> "Detail":
        """The execution that these facts, beginning with `Submitted`, led to."""
        remaining = iter(facts)
        first = next(remaining)
        assert isinstance(first, Submitted)
        summary = Summary.begin(plan, first)
        tasks = [TaskDetail.planned(planned) for planned in plan.tasks]
        params = first.params
        actions = [Action(first.at, "submit", first.by, params=params)]
        for fact in remaining:
            summary.apply(plan, fact)
            if (action := _ACTION.get(type(fact))) is not None:
                task = getattr(fact, "asked" if isinstance(fact, Retried) else "task", None)
                given = getattr(fact, "params", None)
                actions.append(Action(fact.at, action, getattr(fact, "by", ""), task, given))
            if type(fact) in _TASK_STATE:
                _note(tasks[plan.position[fact.task]], fact)  # type: ignore[union-attr]
            elif isinstance(fact, Retried):
                params = params if fact.params is None else fact.params
                for name in fact.tasks:
                    _begin_again(tasks[plan.position[name]])
        for task, brief in zip(tasks, summary.tasks, strict=True):
            task.state = brief.state
        _bound(tasks)
        _bound_params(actions)
        return cls(
            id=summary.id,
            job=summary.job,
            submitted=summary.submitted,
            modifiedTimestamp=summary.modifiedTimestamp,
            state=summary.state,
            started=summary.started,
            finished=summary.finished,
            scheduled_at=summary.scheduled_at,
            cause=summary.cause,
            after=summary.after,
            reason=summary.reason,
            params=params,
            actions=actions,
            tasks=tasks,
            dag=plan.downstream,
        )


def result_of(facts: Iterable[AnyFact], task: str, attempt: int) -> TaskSucceeded | None:
    """The fact that has, or tells of, the result of an attempt; None if there is none."""
    for fact in facts:
        if isinstance(fact, TaskSucceeded) and fact.task == task and fact.attempt == attempt:
            return fact
    return None


def _begin_again(task: TaskDetail) -> None:
    task.started = task.finished = task.error = None
    task.result, task.result_bytes = _NULL, 0


def cut_error(error: str) -> str:
    """The beginning and the end of an error; the log of its attempt has all of it."""
    if len(error) <= 2 * ERROR_PART + len(CUT):
        return error
    return error[:ERROR_PART] + CUT + error[-ERROR_PART:]


def _bound_params(actions: list[Action]) -> None:
    room = ASKED_SHOWN
    for action in actions:
        if action.params:
            room -= len(msgspec.json.encode(action.params))
            if room < 0:
                action.params = None


def _bound(tasks: list[TaskDetail]) -> None:
    """Leave out what would make a detail of many tasks or attempts too large."""
    results, errors = RESULTS_SHOWN, ERRORS_SHOWN

    def bounded(error: str | None) -> str | None:
        nonlocal errors
        if error is None:
            return None
        errors -= len(error)
        return error if errors >= 0 else cut_error(error)

    for task in tasks:
        results -= len(task.result)
        if results < 0:
            task.result = _NULL
        task.error = bounded(task.error)
    # What the tasks say now comes first: it is what people look for.
    for task in tasks:
        for attempt in task.attempts:
            attempt.error = bounded(attempt.error)


def _note(task: TaskDetail, fact: AnyFact) -> None:
    """Write a fact about a task into its row and into its last attempt's."""
    task.finished = fact.at
    if isinstance(fact, TaskStarted):
        task.started, task.finished = fact.at, None
        task.attempts.append(AttemptDetail(fact.attempt, State.RUNNING, fact.at))
        task.error = None
        return
    if isinstance(fact, MarkedSuccessful | MarkedSkipped):
        task.error = None
        return
    if not task.attempts or task.attempts[-1].finished is not None:
        return  # skipped, or cancelled, between attempts
    last = task.attempts[-1]
    last.finished = fact.at
    last.state = _TASK_STATE[type(fact)]
    match fact:
        case TaskSucceeded():
            size = fact.size or len(fact.result)
            if fact.result != _NULL or fact.size:
                task.result_bytes = size
            task.result = fact.result if size <= SMALL else _NULL
        case AttemptFailed():
            last.state, last.error, last.retry_at = State.FAILED, fact.error, fact.retry_at
            task.error = fact.error
            last.interrupted = fact.interrupted
            task.interruptions += fact.interrupted
        case TaskFailed():
            last.error = task.error = fact.error
            last.interrupted = fact.interrupted
            task.interruptions += fact.interrupted
