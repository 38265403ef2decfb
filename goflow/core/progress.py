"""How far an execution has come: the fold of its facts.

Rules
- `apply` is the only door to the state, for facts as they happen and for facts replayed.
- A fact that `TRANSITIONS` or a trigger rule does not allow raises and changes nothing.
- Work per fact is proportional to the edges it touches; nothing here looks at all tasks.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, Never, Self, TypeVar

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
    TaskFact,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.result import StoredResult
from goflow.core.states import FINISHED, State, Tally, Verdict, verdict
from goflow.core.summary import Summary, TaskSummary, reason_of, shown_params

# (state of the task, fact) -> state of the task after it
TRANSITIONS: dict[tuple[State, type], State] = {
    (State.NOTSTARTED, TaskStarted): State.RUNNING,
    (State.UPFORRETRY, TaskStarted): State.RUNNING,
    (State.RUNNING, TaskSucceeded): State.SUCCESSFUL,
    (State.RUNNING, AttemptFailed): State.UPFORRETRY,
    (State.RUNNING, TaskFailed): State.FAILED,
    (State.RUNNING, TaskCancelled): State.CANCELLED,
    (State.UPFORRETRY, TaskCancelled): State.CANCELLED,
    (State.NOTSTARTED, TaskCancelled): State.CANCELLED,
    (State.NOTSTARTED, TaskSkipped): State.SKIPPED,
    (State.NOTSTARTED, TaskCancelRequested): State.NOTSTARTED,
    (State.UPFORRETRY, TaskCancelRequested): State.UPFORRETRY,
    (State.RUNNING, TaskCancelRequested): State.RUNNING,
    (State.NOTSTARTED, MarkedSuccessful): State.SUCCESSFUL,
    (State.UPFORRETRY, MarkedSuccessful): State.SUCCESSFUL,
    (State.SKIPPED, MarkedSuccessful): State.SUCCESSFUL,
    (State.FAILED, MarkedSuccessful): State.SUCCESSFUL,
    (State.CANCELLED, MarkedSuccessful): State.SUCCESSFUL,
    (State.NOTSTARTED, MarkedSkipped): State.SKIPPED,
    (State.UPFORRETRY, MarkedSkipped): State.SKIPPED,
    (State.FAILED, MarkedSkipped): State.SKIPPED,
    (State.CANCELLED, MarkedSkipped): State.SKIPPED,
    (State.SKIPPED, Retried): State.NOTSTARTED,
    (State.FAILED, Retried): State.NOTSTARTED,
    (State.CANCELLED, Retried): State.NOTSTARTED,
    (State.SUCCESSFUL, Retried): State.NOTSTARTED,
}

# what may be said of a finished execution
AFTERWARDS = (Retried, MarkedSuccessful, MarkedSkipped)


class IllegalTransition(RuntimeError):
    """A fact that cannot have happened in this state: a defect in goflow, or a damaged store."""


class TaskRun:
    """A task within one execution."""

    __slots__ = (
        "attempt",
        "due",
        "finished_at",
        "interruptions",
        "planned",
        "result",
        "retries_left",
        "retry_at",
        "started_at",
        "state",
        "tally",
    )

    def __init__(self, planned: PlannedTask) -> None:
        self.planned = planned
        self.state = State.NOTSTARTED
        self.attempt = 0
        self.retries_left = planned.retries
        self.interruptions = 0  # since an attempt last came to an end of its own
        self.retry_at: datetime | None = None
        self.due: datetime | None = None  # the same, had the clock not been set; see `skew`
        self.tally = Tally(len(planned.after))
        self.result: msgspec.Raw | StoredResult | None = None
        self.started_at: datetime | None = None  # the last attempt
        self.finished_at: datetime | None = None


Folded = TypeVar("Folded", bound="Progress")


class Salvaged(NamedTuple, Generic[Folded]):
    """What damaged facts led to, those of them that count, and which did not, for people."""

    execution: Folded
    facts: list[AnyFact]
    damage: str | None


class Progress:
    """The fold of an execution's facts, beginning with `Submitted`."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        self.plan = plan
        self.id = submitted.id
        self.job = submitted.job
        self.params: dict[str, Any] = submitted.params
        self.cause = submitted.cause
        self.scheduled_at = submitted.scheduled_at
        self.after = submitted.after
        self.timeout = submitted.timeout
        self.submitted_at = submitted.at
        self.modified_at = submitted.at
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.reason: str | None = None  # why it fails though no task of it may have
        # How far the clock was set since this process took the execution up. Delays and time
        # limits are counted without it; for a replay there is nobody left who would know.
        self.skew = timedelta(0)
        self._began: datetime | None = None  # `started_at`, less the skew
        self.tasks = {planned.name: TaskRun(planned) for planned in plan.tasks}
        self.result_bytes = 0  # of all the results that tasks have
        self.error_characters = 0  # of all attempts that have failed so far
        self._count = dict.fromkeys(State, 0) | {State.NOTSTARTED: len(self.tasks)}
        self._running: dict[str, None] = {}
        self._doomed: dict[str, None] = {}
        self._ready: set[str] = set()
        self._untold: dict[str, None] = {}  # those of the ready that nobody was told of
        # ordered: finding the first key of a dict that was emptied from the front is a scan
        self._forsaken: OrderedDict[str, None] = OrderedDict()  # doomed ones without an attempt
        self._unmeetable: OrderedDict[str, None] = OrderedDict()
        # A heap of `due`; what no longer holds is in it too.
        self._retries: list[tuple[datetime, str]] = []
        for planned in plan.tasks:
            self._judge(planned.name)

    @classmethod
    def salvage(cls, plan: Plan, facts: Sequence[AnyFact]) -> "Salvaged[Self]":
        """`replay` for facts that may be damaged: those that cannot have happened are left
        out. The first one of all must be `Submitted`."""
        opening = facts[0]
        assert isinstance(opening, Submitted)
        execution, damage = cls(plan, opening), None
        kept: list[AnyFact] = [opening]
        for place, fact in enumerate(facts[1:], 2):
            try:
                execution.apply(fact)
            except (IllegalTransition, ValueError) as error:  # a state that there is not
                damage = damage or f"fact {place} of {len(facts)} cannot be so: {error}"
            else:
                kept.append(fact)
        return Salvaged(execution, kept, damage)

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact]) -> Self:
        """The execution that these facts, in order, led to."""
        remaining = iter(facts)
        first = next(remaining, None)
        if not isinstance(first, Submitted):
            raise IllegalTransition("the facts of an execution begin with Submitted")
        execution = cls(plan, first)
        for fact in remaining:
            execution.apply(fact)
        return execution

    # -- what happened -------------------------------------------------------------

    def apply(self, fact: AnyFact) -> None:
        """Take note of a fact, or raise `IllegalTransition` and change nothing."""
        if self.finished and type(fact) not in AFTERWARDS:
            _refuse(fact, f"after execution {self.id} finished")
        note = _NOTE.get(type(fact))
        if note is None:
            _refuse(fact, "cannot follow another fact")
        note(self, fact)
        self.modified_at = fact.at

    # Each of these looks at all that can be wrong with its fact before it changes anything.

    def _started(self, fact: TaskStarted) -> None:
        task = self._subject(fact)
        if self.is_cancelling(fact.task):
            _refuse(fact, "after it was cancelled")
        if fact.attempt != task.attempt + 1:
            _refuse(fact, f"follows attempt {task.attempt}")
        if task.state is State.NOTSTARTED and fact.task not in self._ready:
            _refuse(fact, f"while {task.planned.rule} is not met")
        self._move(task, fact)
        task.attempt = fact.attempt
        task.started_at = fact.at
        task.finished_at = task.retry_at = task.due = None
        self._withdraw(fact.task)
        self._running[fact.task] = None
        self.state = State.RUNNING
        if self.started_at is None:
            self.started_at = fact.at
            self._began = without_skew(fact.at, self.skew)

    def _succeeded(self, fact: TaskSucceeded) -> None:
        task = self._subject_running(fact)
        task.result = fact.stored or fact.result
        self.result_bytes += _size(task.result)
        self._end(task, fact)

    def _attempt_failed(self, fact: AttemptFailed) -> None:
        task = self._subject_running(fact)
        if fact.interrupted:
            if not task.planned.retries:
                _refuse(fact, "of a task that is not to be tried again")
        elif not task.retries_left:
            _refuse(fact, "with no retries left")
        self._move(task, fact)
        if fact.interrupted:
            task.interruptions += 1
        else:
            task.interruptions = 0
            task.retries_left -= 1
        task.retry_at = fact.retry_at
        task.due = without_skew(fact.retry_at, self.skew)
        self.error_characters += len(fact.error)
        del self._running[fact.task]
        if fact.task in self._doomed:
            self._forsaken[fact.task] = None
        heapq.heappush(self._retries, (task.due, fact.task))

    def _task_failed(self, fact: TaskFailed) -> None:
        self._end(self._subject_running(fact), fact)
        self.error_characters += len(fact.error)

    def _skipped(self, fact: TaskSkipped) -> None:
        task = self._subject(fact)
        if fact.task not in self._unmeetable:
            _refuse(fact, f"while {task.planned.rule} can still be met")
        self._end(task, fact)

    def _cancelled(self, fact: TaskCancelled) -> None:
        task = self._subject(fact)
        attempt = task.attempt if task.state is State.RUNNING else 0
        if fact.attempt != attempt:
            _refuse(fact, f"while attempt {attempt} is running")
        self._end(task, fact)

    def _cancel_requested(self, fact: CancelRequested) -> None:
        if self.cancelling:
            _refuse(fact, "a second time")
        self.cancelling = True
        self.reason = reason_of(fact)

    def _task_cancel_requested(self, fact: TaskCancelRequested) -> None:
        task = self._subject(fact)
        if self.is_cancelling(fact.task):
            _refuse(fact, "a second time")
        self._doomed[fact.task] = None
        if task.state is not State.RUNNING:
            self._forsaken[fact.task] = None
        self._withdraw(fact.task)

    def _marked(self, fact: MarkedSuccessful | MarkedSkipped) -> None:
        task = self._subject(fact)
        state = self._final_state(without=task.state) if self.finished else None
        if fact.finished != state:
            _refuse(fact, f"leaves the execution {state or 'unfinished'}")
        if state is None and self.is_cancelling(fact.task):
            _refuse(fact, "after it was cancelled")
        if task.state in FINISHED:
            self._move(task, fact)
            for waiting in self.plan.downstream[fact.task]:
                self._count_again(waiting)
        else:
            self._end(task, fact)
        self.state = state or self.state

    def _finished(self, fact: Finished) -> None:
        if self._unfinished:
            _refuse(fact, f"with {self._unfinished} tasks unfinished")
        state = self._final_state()
        if fact.state != state:
            _refuse(fact, f"of an execution that is {state}")
        self.state = state
        self.finished_at = fact.at

    def _retried(self, fact: Retried) -> None:
        if not self.finished or not fact.tasks or len(set(fact.tasks)) != len(fact.tasks):
            _refuse(fact, f"while {self.state}")
        if not self.tasks.keys() >= set(fact.tasks):
            _refuse(fact, "of tasks that the plan has not")
        affected: dict[str, None] = {}
        for name in fact.tasks:
            task = self.tasks[name]
            self._move(task, fact)
            task.retries_left = task.planned.retries
            task.interruptions = 0
            self.result_bytes -= _size(task.result)
            task.started_at = task.finished_at = task.retry_at = task.due = task.result = None
            affected |= dict.fromkeys([name, *self.plan.downstream[name]])
        for name in affected:
            self._count_again(name)
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.started_at = self.finished_at = self.reason = self._began = None
        if fact.params is not None:
            self.params = fact.params

    def _subject(self, fact: TaskFact) -> TaskRun:
        """The task that a fact is about, if the table allows the fact."""
        task = self.tasks.get(fact.task)
        if task is None:
            _refuse(fact, f"while the plan has no task {fact.task!r}")
        if (task.state, type(fact)) not in TRANSITIONS:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task

    def _subject_running(self, fact: TaskSucceeded | AttemptFailed | TaskFailed) -> TaskRun:
        task = self._subject(fact)
        if fact.attempt != task.attempt:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task

    def _move(self, task: TaskRun, fact: AnyFact) -> None:
        after = TRANSITIONS[task.state, type(fact)]
        self._count[task.state] -= 1
        self._count[after] += 1
        task.state = after
        task.finished_at = fact.at

    def _end(self, task: TaskRun, fact: AnyFact) -> None:
        """A task comes to its end: tell those who wait for it."""
        self._move(task, fact)
        name = task.planned.name
        self._running.pop(name, None)
        self._doomed.pop(name, None)
        self._forsaken.pop(name, None)
        self._withdraw(name)
        for waiting in self.plan.downstream[name]:
            self.tasks[waiting].tally = self.tasks[waiting].tally.counting(task.state)
            self._judge(waiting)

    def _count_again(self, name: str) -> None:
        """Judge a task anew after an upstream task's end was changed or taken back."""
        task = self.tasks[name]
        task.tally = Tally(len(task.planned.after))
        for upstream in task.planned.after:
            if (state := self.tasks[upstream].state) in FINISHED:
                task.tally = task.tally.counting(state)
        self._judge(name)

    def _judge(self, name: str) -> None:
        task = self.tasks[name]
        if task.state is not State.NOTSTARTED or name in self._doomed:
            return
        match verdict(task.planned.rule, task.tally):
            case Verdict.RUN:
                self._unmeetable.pop(name, None)
                self._make_ready(name)
            case Verdict.SKIP:
                self._withdraw(name)
                self._unmeetable[name] = None
            case Verdict.WAIT:
                self._withdraw(name)

    def _make_ready(self, name: str) -> None:
        if name not in self._ready:
            self._ready.add(name)
            self._untold[name] = None

    def _withdraw(self, name: str) -> None:
        """Neither start nor skip a task."""
        self._ready.discard(name)
        self._untold.pop(name, None)
        self._unmeetable.pop(name, None)

    # -- how it stands -------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def running(self) -> list[str]:
        """The tasks with an attempt under way."""
        return list(self._running)

    @property
    def retries(self) -> dict[str, datetime]:
        """The tasks up for retry, and when each is tried again."""
        return {
            name: run.retry_at
            for name, run in self.tasks.items()
            if run.state is State.UPFORRETRY and run.retry_at is not None
        }

    @property
    def doomed(self) -> list[str]:
        """The tasks that somebody asked to stop, and that have not stopped yet."""
        return list(self._doomed)

    def is_attempting(self, task: str, attempt: int) -> bool:
        """Whether this attempt of the task is under way; False for an unknown task."""
        run = self.tasks.get(task)
        return run is not None and run.state is State.RUNNING and run.attempt == attempt

    def is_cancelling(self, name: str) -> bool:
        """Whether a task is to stop, by itself or with the whole execution."""
        return self.cancelling or name in self._doomed

    def is_ready(self, name: str) -> bool:
        """Whether a task may start now."""
        return name in self._ready and not self.cancelling

    @property
    def _waiting(self) -> int:
        return self._count[State.NOTSTARTED] + self._count[State.UPFORRETRY]

    @property
    def _unfinished(self) -> int:
        return self._waiting + self._count[State.RUNNING]

    def _final_state(self, without: State | None = None) -> State:
        """How the execution ends as its tasks did; one that ended `without` does not count."""
        if self.reason is not None or self._count[State.FAILED] > (without is State.FAILED):
            return State.FAILED
        if self.cancelling or self._count[State.CANCELLED] > (without is State.CANCELLED):
            return State.CANCELLED
        return State.SUCCESSFUL

    def results_for(self, name: str) -> dict[str, msgspec.Raw | StoredResult]:
        """The results of a task's upstream tasks that have one, by name."""
        results = {}
        for upstream in self.tasks[name].planned.after:
            if (result := self.tasks[upstream].result) is not None:
                results[upstream] = result
        return results

    def summary(self) -> Summary:
        """The execution as `/api/executions` and `/stream` show it."""
        return Summary(
            id=self.id,
            job=self.job,
            submitted=self.submitted_at,
            modifiedTimestamp=self.modified_at,
            state=self.state,
            started=self.started_at,
            finished=self.finished_at,
            scheduled_at=self.scheduled_at,
            cause=self.cause,
            after=self.after,
            reason=self.reason,
            params=shown_params(self.params),
            tasks=[
                TaskSummary(name, task.state, task.attempt, task.started_at, task.finished_at)
                for name, task in self.tasks.items()
            ],
        )


def without_skew(at: datetime, skew: timedelta) -> datetime:
    """The instant less the skew, as near as a datetime comes to it."""
    try:
        return at - skew
    except OverflowError:
        return datetime.max.replace(tzinfo=at.tzinfo)  # a retry in a century, or never


def _size(result: msgspec.Raw | StoredResult | None) -> int:
    match result:
        case None:
            return 0
        case StoredResult():
            return result.size
        case _:
            return len(result)


def _refuse(fact: AnyFact, reason: str) -> Never:
    raise IllegalTransition(f"{fact!r} {reason}")


_NOTE: dict[type, Callable[[Progress, Any], None]] = {
    TaskStarted: Progress._started,
    TaskSucceeded: Progress._succeeded,
    AttemptFailed: Progress._attempt_failed,
    TaskFailed: Progress._task_failed,
    TaskSkipped: Progress._skipped,
    TaskCancelled: Progress._cancelled,
    CancelRequested: Progress._cancel_requested,
    TaskCancelRequested: Progress._task_cancel_requested,
    MarkedSuccessful: Progress._marked,
    MarkedSkipped: Progress._marked,
    Finished: Progress._finished,
    Retried: Progress._retried,
}
