"""The fold: an execution's state, computed from its facts.

`apply` is the only way to change the state, for new facts and for replayed ones. A fact that
`TABLE`, at the end of this file, does not allow raises `IllegalTransition` and changes nothing.
`apply` returns the changes of tasks it made. Everything that shows an execution is derived from
the state here, or from those changes; no other module interprets facts.

The work per fact is proportional to the edges it touches: nothing here looks at all tasks.
Tasks are keyed by name, never by position, so a fact may add tasks.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from goflow.core.states import FINISHED, State, Tally, Verdict, rule_for
from goflow.core.summary import TASKS_SHOWN, Summary, TaskSummary, shown_params
from goflow.core.transition import TaskChange

# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_NOTSTARTED, _RUNNING = State.NOTSTARTED, State.RUNNING
_WAIT, _RUN = Verdict.WAIT, Verdict.RUN

Changes = tuple[TaskChange, ...]
Heard = Callable[[AnyFact, Changes], None]


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
        "rule",
        "started_at",
        "state",
        "tally",
    )

    def __init__(self, planned: PlannedTask) -> None:
        self.planned = planned
        self.state = State.NOTSTARTED
        self.attempt = 0
        self.retries_left = planned.retries
        self.interruptions = 0  # since an attempt last ended without one
        self.retry_at: datetime | None = None
        self.due: datetime | None = None  # `retry_at` without the skew of the clock
        self.rule = rule_for(planned.rule, len(planned.after))
        self.tally = Tally(len(planned.after))
        self.result: msgspec.Raw | StoredResult | None = None
        self.started_at: datetime | None = None  # the last attempt
        self.finished_at: datetime | None = None

    def summary(self) -> TaskSummary:
        return TaskSummary(
            self.planned.name, self.state, self.attempt, self.started_at, self.finished_at
        )


Folded = TypeVar("Folded", bound="Progress")


class Salvaged(NamedTuple, Generic[Folded]):
    """The execution that damaged facts led to, the facts that count, and a description of the
    damage for people to read, None without any."""

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
        self.reason: str | None = None  # of a failure that no failed task explains
        # By how much the clock was set since this process took the execution up. Delays and
        # time limits do not count it. After a restart it is unknown, and counted as 0.
        self.skew = timedelta(0)
        self._began: datetime | None = None  # `started_at` without the skew
        self.tasks = {planned.name: TaskRun(planned) for planned in plan.tasks}
        self.result_bytes = 0  # of the current results of all tasks
        self.error_characters = 0  # of all failed attempts so far
        self._shown_params: msgspec.Raw | None = None
        self._count = dict.fromkeys(State, 0) | {State.NOTSTARTED: len(self.tasks)}
        self._running: dict[str, None] = {}
        self._cancel_requested: dict[str, None] = {}  # one by one, and not ended yet
        self._ready: set[str] = set()
        self._unannounced: dict[str, None] = {}  # ready, and not returned by `newly_ready` yet
        # Ordered, since finding the first key of a dict that was emptied from the front is a scan.
        self._to_cancel: OrderedDict[str, None] = OrderedDict()  # requested, and not running
        self._to_skip: OrderedDict[str, None] = OrderedDict()  # the rule can no longer be met
        # A heap of `due`. Retries that were cancelled, or have started, are removed lazily.
        self._retries: list[tuple[datetime, str]] = []
        for task in self.tasks.values():
            self._judge(task)

    @classmethod
    def salvage(
        cls, plan: Plan, facts: Sequence[AnyFact], heard: Heard | None = None
    ) -> "Salvaged[Self]":
        """`replay` for facts that may be damaged: facts that cannot have happened are left
        out. The first one must be `Submitted`."""
        opening = facts[0]
        assert isinstance(opening, Submitted)
        execution, damage = cls(plan, opening), None
        if heard is not None:
            heard(opening, ())
        kept: list[AnyFact] = [opening]
        for place, fact in enumerate(facts[1:], 2):
            try:
                changes = execution.apply(fact)
            except (IllegalTransition, ValueError) as error:  # also an unknown state
                damage = damage or f"fact {place} of {len(facts)} is impossible: {error}"
            else:
                kept.append(fact)
                if heard is not None:
                    heard(fact, changes)
        return Salvaged(execution, kept, damage)

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact], heard: Heard | None = None) -> Self:
        """The execution that these facts, in order, led to. `heard` receives each fact with the
        changes it made."""
        remaining = iter(facts)
        first = next(remaining, None)
        if not isinstance(first, Submitted):
            raise IllegalTransition("the facts of an execution begin with Submitted")
        execution = cls(plan, first)
        if heard is not None:
            heard(first, ())
        for fact in remaining:
            changes = execution.apply(fact)
            if heard is not None:
                heard(fact, changes)
        return execution

    # -- applying facts --------------------------------------------------------------

    def apply(self, fact: AnyFact) -> Changes:
        """Change the state as a fact says, or raise `IllegalTransition` and change nothing."""
        row = TABLE.get(type(fact))
        if row is None:
            _refuse(fact, "cannot follow another fact")
        if self.finished and not row.afterwards:
            _refuse(fact, f"after execution {self.id} finished")
        changes = row.apply(self, fact)
        self.modified_at = fact.at
        return changes

    # The functions that rows of the table name. Each checks everything that can be wrong with
    # its fact before it changes anything.

    def _started(self, fact: TaskStarted) -> Changes:
        task, after = self._subject(fact)
        if self.is_cancelling(fact.task):
            _refuse(fact, "after it was cancelled")
        if fact.attempt != task.attempt + 1:
            _refuse(fact, f"follows attempt {task.attempt}")
        if task.state is _NOTSTARTED and fact.task not in self._ready:
            _refuse(fact, f"while {task.planned.rule} is not met")
        before = self._move(task, after)
        task.attempt = fact.attempt
        task.started_at = fact.at
        task.finished_at = task.retry_at = task.due = None
        self._withdraw(fact.task)
        self._running[fact.task] = None
        self.state = _RUNNING
        if self.started_at is None:
            self.started_at = fact.at
            self._began = without_skew(fact.at, self.skew)
        return (TaskChange(before, task.summary()),)

    def _succeeded(self, fact: TaskSucceeded) -> Changes:
        task, after = self._subject_running(fact)
        task.result = fact.stored or fact.result
        self.result_bytes += _size(task.result)
        before = self._end(task, after, fact.at)
        return (TaskChange(before, task.summary(), result=task.result),)

    def _attempt_failed(self, fact: AttemptFailed) -> Changes:
        task, after = self._subject_running(fact)
        if fact.interrupted:
            if not task.planned.retries:
                _refuse(fact, "of a task without retries")
        elif not task.retries_left:
            _refuse(fact, "with no retries left")
        before = self._move(task, after)
        task.finished_at = fact.at
        if fact.interrupted:
            task.interruptions += 1
        else:
            task.interruptions = 0
            task.retries_left -= 1
        task.retry_at = fact.retry_at
        task.due = without_skew(fact.retry_at, self.skew)
        self.error_characters += len(fact.error)
        del self._running[fact.task]
        if fact.task in self._cancel_requested:
            self._to_cancel[fact.task] = None
        heapq.heappush(self._retries, (task.due, fact.task))
        return (TaskChange(before, task.summary(), fact.retry_at, fact.error, fact.interrupted),)

    def _task_failed(self, fact: TaskFailed) -> Changes:
        task, after = self._subject_running(fact)
        before = self._end(task, after, fact.at)
        self.error_characters += len(fact.error)
        return (TaskChange(before, task.summary(), error=fact.error, interrupted=fact.interrupted),)

    def _skipped(self, fact: TaskSkipped) -> Changes:
        task, after = self._subject(fact)
        if fact.task not in self._to_skip:
            _refuse(fact, f"while {task.planned.rule} can still be met")
        return (TaskChange(self._end(task, after, fact.at), task.summary()),)

    def _cancelled(self, fact: TaskCancelled) -> Changes:
        task, after = self._subject(fact)
        attempt = task.attempt if task.state is State.RUNNING else 0
        if fact.attempt != attempt:
            _refuse(fact, f"while attempt {attempt} is running")
        return (TaskChange(self._end(task, after, fact.at), task.summary()),)

    def _cancel(self, fact: CancelRequested) -> Changes:
        if self.cancelling:
            _refuse(fact, "a second time")
        self.cancelling = True
        if fact.timeout is not None:
            self.reason = f"timed out after {fact.timeout:g} s"
        elif fact.defect:
            self.reason = f"a defect in goflow: {fact.defect}"
        return ()

    def _cancel_task(self, fact: TaskCancelRequested) -> Changes:
        task, _ = self._subject(fact)
        if self.is_cancelling(fact.task):
            _refuse(fact, "a second time")
        self._cancel_requested[fact.task] = None
        if task.state is not State.RUNNING:
            self._to_cancel[fact.task] = None
        self._withdraw(fact.task)
        return ()

    def _marked(self, fact: MarkedSuccessful | MarkedSkipped) -> Changes:
        task, after = self._subject(fact)
        state = self._final_state(without=task.state) if self.finished else None
        if fact.finished != state:
            _refuse(fact, f"leaves the execution {state or 'unfinished'}")
        if state is None and self.is_cancelling(fact.task):
            _refuse(fact, "after it was cancelled")
        if task.state in FINISHED:
            before = self._move(task, after)
            task.finished_at = fact.at
            for waiting in self.plan.downstream[fact.task]:
                self._count_again(waiting)
        else:
            before = self._end(task, after, fact.at)
        self.state = state or self.state
        return (TaskChange(before, task.summary()),)

    def _finished(self, fact: Finished) -> Changes:
        if self._unfinished:
            _refuse(fact, f"with {self._unfinished} tasks unfinished")
        state = self._final_state()
        if fact.state != state:
            _refuse(fact, f"of an execution that is {state}")
        self.state = state
        self.finished_at = fact.at
        return ()

    def _retried(self, fact: Retried) -> Changes:
        if not self.finished or not fact.tasks or len(set(fact.tasks)) != len(fact.tasks):
            _refuse(fact, f"while {self.state}")
        if not self.tasks.keys() >= set(fact.tasks):
            _refuse(fact, "of tasks that are not in the plan")
        affected: dict[str, None] = {}
        changes = []
        for name in fact.tasks:
            task = self.tasks[name]
            before = self._move(task, State.NOTSTARTED)
            task.retries_left = task.planned.retries
            task.interruptions = 0
            self.result_bytes -= _size(task.result)
            task.started_at = task.finished_at = task.retry_at = task.due = task.result = None
            changes.append(TaskChange(before, task.summary()))
            affected |= dict.fromkeys([name, *self.plan.downstream[name]])
        for name in affected:
            self._count_again(name)
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.started_at = self.finished_at = self.reason = self._began = None
        if fact.params is not None:
            self.params = fact.params
            self._shown_params = None
        return tuple(changes)

    def _subject(self, fact: TaskFact) -> tuple[TaskRun, State]:
        """The task that a fact is about, and its state after the fact, if the table allows it."""
        task = self.tasks.get(fact.task)
        if task is None:
            _refuse(fact, f"while the plan has no task {fact.task!r}")
        after = TABLE[type(fact)].moves.get(task.state)
        if after is None:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task, after

    def _subject_running(
        self, fact: TaskSucceeded | AttemptFailed | TaskFailed
    ) -> tuple[TaskRun, State]:
        task, after = self._subject(fact)
        if fact.attempt != task.attempt:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task, after

    def _move(self, task: TaskRun, after: State) -> State:
        """Set the state of a task; returns the one before."""
        before = task.state
        self._count[before] -= 1
        self._count[after] += 1
        task.state = after
        return before

    def _end(self, task: TaskRun, after: State, at: datetime) -> State:
        """End a task, and evaluate the tasks that wait for it; returns the state before."""
        before = self._move(task, after)
        task.finished_at = at
        name = task.planned.name
        if before is _RUNNING:
            del self._running[name]
        else:
            self._to_cancel.pop(name, None)
            self._withdraw(name)
        self._cancel_requested.pop(name, None)
        tasks = self.tasks
        for waiting in self.plan.downstream[name]:
            other = tasks[waiting]
            other.tally.count(after)
            if other.state is _NOTSTARTED:
                self._judge(other)
        return before

    def _count_again(self, name: str) -> None:
        """Evaluate a task again after the end of an upstream task was changed or undone."""
        task = self.tasks[name]
        task.tally.reset()
        for upstream in task.planned.after:
            if (state := self.tasks[upstream].state) in FINISHED:
                task.tally.count(state)
        if task.state is State.NOTSTARTED:
            found = task.rule(task.tally)
            if found is not Verdict.RUN:
                self._ready.discard(name)
                self._unannounced.pop(name, None)
            if found is not Verdict.SKIP:
                self._to_skip.pop(name, None)
            self._judge(task)

    def _judge(self, task: TaskRun) -> None:
        """Let a task that waits become ready or be skipped, if its trigger rule has decided.

        The decision is final, except after `_count_again`.
        """
        found = task.rule(task.tally)
        if found is _WAIT or (name := task.planned.name) in self._cancel_requested:
            return
        if found is _RUN:
            self._make_ready(name)
        else:
            self._to_skip[name] = None

    def _make_ready(self, name: str) -> None:
        if name not in self._ready:
            self._ready.add(name)
            self._unannounced[name] = None

    def _withdraw(self, name: str) -> None:
        """Neither start nor skip a task."""
        self._ready.discard(name)
        self._unannounced.pop(name, None)
        self._to_skip.pop(name, None)

    # -- the state -------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def running(self) -> list[str]:
        """The tasks with a running attempt."""
        return list(self._running)

    @property
    def retries(self) -> dict[str, datetime]:
        """The tasks up for retry, with the times of their retries."""
        return {
            name: run.retry_at
            for name, run in self.tasks.items()
            if run.state is State.UPFORRETRY and run.retry_at is not None
        }

    @property
    def cancel_requested(self) -> list[str]:
        """The tasks that are being cancelled one by one."""
        return list(self._cancel_requested)

    def is_attempting(self, task: str, attempt: int) -> bool:
        """Whether this attempt of the task is under way; False for an unknown task."""
        run = self.tasks.get(task)
        return run is not None and run.state is State.RUNNING and run.attempt == attempt

    def is_cancelling(self, name: str) -> bool:
        """Whether a task is being cancelled, alone or with the whole execution."""
        return self.cancelling or name in self._cancel_requested

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
        """The final state that follows from the tasks; one that ended `without` does not count."""
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

    def brief(self) -> Summary:
        """The execution as `summary` has it, without its tasks."""
        if self._shown_params is None:
            self._shown_params = shown_params(self.params)
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
            params=self._shown_params,
            taskCounts={state: number for state, number in self._count.items() if number},
        )

    def summary(self) -> Summary:
        """The execution as `/api/executions` and `/stream` show it."""
        summary = self.brief()
        if len(self.tasks) <= TASKS_SHOWN:
            summary.tasks = [task.summary() for task in self.tasks.values()]
        return summary


def without_skew(at: datetime, skew: timedelta) -> datetime:
    """The instant minus the skew, as far as a datetime can represent it."""
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


class Row(NamedTuple):
    """A row of the table: how a fact is applied, the states of its task before and after it,
    and whether it may follow `Finished`."""

    apply: Callable[[Progress, Any], Changes]
    moves: Mapping[State, State] = {}
    afterwards: bool = False


_SAME = {state: state for state in (State.NOTSTARTED, State.UPFORRETRY, State.RUNNING)}

# The table of all facts but `Submitted`, which begins an execution.
#
# Rules:
# - A fact about a task is allowed only in the states on the left of its row, and leaves the task
#   in the state on the right. The function of the row checks what the table cannot say: trigger
#   rules, numbers of attempts, retries left.
# - Only a retry and the marks may follow `Finished`.
# - The end of a task, and only that, is counted for the tasks that wait for it.
# - A change of a task's state is returned as a `TaskChange`, whichever fact made it.
#
# To add a fact: write its class in events.py, and add it to `AnyFact`; add its row here, with the
# function that the row names; write its test. Then `python -m tests.core.render_states` draws
# docs/states.md anew. Tests fail for a fact without a row, without a fixed spelling in JSON
# (tests/core/test_events.py), or unknown to the model (tests/core/model.py).
TABLE: dict[type, Row] = {
    TaskStarted: Row(
        Progress._started,
        {State.NOTSTARTED: State.RUNNING, State.UPFORRETRY: State.RUNNING},
    ),
    TaskSucceeded: Row(Progress._succeeded, {State.RUNNING: State.SUCCESSFUL}),
    AttemptFailed: Row(Progress._attempt_failed, {State.RUNNING: State.UPFORRETRY}),
    TaskFailed: Row(Progress._task_failed, {State.RUNNING: State.FAILED}),
    TaskSkipped: Row(Progress._skipped, {State.NOTSTARTED: State.SKIPPED}),
    TaskCancelled: Row(
        Progress._cancelled,
        {
            State.RUNNING: State.CANCELLED,
            State.UPFORRETRY: State.CANCELLED,
            State.NOTSTARTED: State.CANCELLED,
        },
    ),
    TaskCancelRequested: Row(Progress._cancel_task, _SAME),
    CancelRequested: Row(Progress._cancel),
    MarkedSuccessful: Row(
        Progress._marked,
        {
            State.NOTSTARTED: State.SUCCESSFUL,
            State.UPFORRETRY: State.SUCCESSFUL,
            State.SKIPPED: State.SUCCESSFUL,
            State.FAILED: State.SUCCESSFUL,
            State.CANCELLED: State.SUCCESSFUL,
        },
        afterwards=True,
    ),
    MarkedSkipped: Row(
        Progress._marked,
        {
            State.NOTSTARTED: State.SKIPPED,
            State.UPFORRETRY: State.SKIPPED,
            State.FAILED: State.SKIPPED,
            State.CANCELLED: State.SKIPPED,
        },
        afterwards=True,
    ),
    Finished: Row(Progress._finished),
    Retried: Row(
        Progress._retried,
        {
            State.SKIPPED: State.NOTSTARTED,
            State.FAILED: State.NOTSTARTED,
            State.CANCELLED: State.NOTSTARTED,
            State.SUCCESSFUL: State.NOTSTARTED,
        },
        afterwards=True,
    ),
}
