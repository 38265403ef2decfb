"""One execution: what state it is in, and what may happen next.

Rules
- `apply` is the only door to the state, for facts as they happen and for facts replayed.
- A fact that `TRANSITIONS` or a trigger rule does not allow raises and changes nothing.
- Work per fact is proportional to the edges it touches; nothing here looks at all tasks,
  except what concerns all of them (cancel, interrupt, summary).

The shell asks (`advance`, `settle`, `interrupt`, `cancel`, `retry`); each answers with the
facts it has decided on and already applied, for the shell to commit before it acts.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    Retried,
    Submitted,
    TaskCancelled,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import FINISHED, State, Tally, Verdict, verdict
from goflow.core.summary import Summary, TaskSummary

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
    (State.SKIPPED, Retried): State.NOTSTARTED,
    (State.FAILED, Retried): State.NOTSTARTED,
    (State.CANCELLED, Retried): State.NOTSTARTED,
}


class IllegalTransition(RuntimeError):
    """A fact that cannot have happened in this state: a defect in goflow, or a damaged store."""


class Succeeded(msgspec.Struct, frozen=True):
    """How an attempt ended: well, with a result as JSON."""

    result: msgspec.Raw = msgspec.Raw(b"null")


class Failed(msgspec.Struct, frozen=True):
    """How an attempt ended: with an error. `final` failures are not tried again."""

    error: str
    final: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """How an attempt ended: stopped because the execution was cancelled."""


Outcome = Succeeded | Failed | Cancelled

INTERRUPTED = "interrupted: the server stopped while this attempt was running"


class TaskRun:
    """A task within one execution."""

    __slots__ = ("attempt", "planned", "result", "retries_left", "retry_at", "state", "tally")

    def __init__(self, planned: PlannedTask) -> None:
        self.planned = planned
        self.state = State.NOTSTARTED
        self.attempt = 0
        self.retries_left = planned.retries
        self.retry_at: datetime | None = None
        self.tally = Tally(len(planned.after))
        self.result: msgspec.Raw | None = None


class Execution:
    """The fold of an execution's facts, beginning with `Submitted`."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        self.plan = plan
        self.id = submitted.id
        self.job = submitted.job
        self.params: dict[str, Any] = submitted.params
        self.cause = submitted.cause
        self.scheduled_at = submitted.scheduled_at
        self.submitted_at = submitted.at
        self.modified_at = submitted.at
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.tasks = {planned.name: TaskRun(planned) for planned in plan.tasks}
        self._unfinished = len(self.tasks)
        self._failed = 0
        self._cancelled = 0
        self._running: dict[str, None] = {}
        # ordered: finding the first key of a dict that was emptied from the front is a scan
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._unmeetable: OrderedDict[str, None] = OrderedDict()
        self._retries: list[tuple[datetime, str]] = []
        for planned in plan.tasks:
            self._judge(planned.name)

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact]) -> "Execution":
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
        if self.finished and type(fact) is not Retried:
            raise IllegalTransition(f"{fact!r} after execution {self.id} finished")
        note = _APPLY.get(type(fact))
        if note is None:
            raise IllegalTransition(f"{fact!r} cannot follow another fact")
        note(self, fact)
        self.modified_at = fact.at

    def _move(self, name: str, fact: AnyFact, attempt: int | None = None) -> TaskRun:
        """Check a task's transition and make it; everything that can raise is in here."""
        task = self.tasks.get(name)
        if task is None:
            raise IllegalTransition(f"{fact!r}: the plan has no task {name!r}")
        after = TRANSITIONS.get((task.state, type(fact)))
        if after is None or (attempt is not None and attempt != task.attempt):
            raise IllegalTransition(f"{fact!r} while {task.state}, attempt {task.attempt}")
        task.state = after
        return task

    def _started(self, fact: TaskStarted) -> None:
        if self.cancelling:
            raise IllegalTransition(f"{fact!r} after the execution was cancelled")
        task = self.tasks.get(fact.task)
        if task is not None and fact.attempt != task.attempt + 1:
            raise IllegalTransition(f"{fact!r} follows attempt {task.attempt}")
        if task is not None and task.state is State.NOTSTARTED and fact.task not in self._ready:
            raise IllegalTransition(f"{fact!r}: {task.planned.rule} is not met")
        task = self._move(fact.task, fact)
        task.attempt = fact.attempt
        task.retry_at = None
        self._ready.pop(fact.task, None)
        self._running[fact.task] = None
        self.state = State.RUNNING
        self.started_at = self.started_at or fact.at

    def _succeeded(self, fact: TaskSucceeded) -> None:
        self._move(fact.task, fact, fact.attempt).result = fact.result
        self._ended(fact.task)

    def _attempt_failed(self, fact: AttemptFailed) -> None:
        task = self.tasks.get(fact.task)
        if task is not None and not task.retries_left:
            raise IllegalTransition(f"{fact!r}: no retries left")
        task = self._move(fact.task, fact, fact.attempt)
        task.retries_left -= 1
        task.retry_at = fact.retry_at
        del self._running[fact.task]
        heapq.heappush(self._retries, (fact.retry_at, fact.task))

    def _task_failed(self, fact: TaskFailed) -> None:
        self._move(fact.task, fact, fact.attempt)
        self._failed += 1
        self._ended(fact.task)

    def _skipped(self, fact: TaskSkipped) -> None:
        if fact.task not in self._unmeetable:
            raise IllegalTransition(f"{fact!r}: its trigger rule can still be met")
        self._move(fact.task, fact)
        self._ended(fact.task)

    def _task_cancelled(self, fact: TaskCancelled) -> None:
        task = self.tasks.get(fact.task)
        attempt = task.attempt if task is not None and task.state is State.RUNNING else 0
        if fact.attempt != attempt:
            raise IllegalTransition(f"{fact!r} while attempt {attempt} is running")
        self._move(fact.task, fact)
        self._cancelled += 1
        self._ended(fact.task)

    def _ended(self, name: str) -> None:
        """A task came to its end: tell those who wait for it."""
        state = self.tasks[name].state
        self._running.pop(name, None)
        self._ready.pop(name, None)
        self._unmeetable.pop(name, None)
        self._unfinished -= 1
        for waiting in self.plan.downstream[name]:
            task = self.tasks[waiting]
            task.tally = task.tally.counting(state)
            self._judge(waiting)

    def _judge(self, name: str) -> None:
        task = self.tasks[name]
        if task.state is not State.NOTSTARTED:
            return
        match verdict(task.planned.rule, task.tally):
            case Verdict.RUN:
                self._ready[name] = None
                self._unmeetable.pop(name, None)
            case Verdict.SKIP:
                self._unmeetable[name] = None

    def _cancel_requested(self, fact: CancelRequested) -> None:
        if self.cancelling:
            raise IllegalTransition(f"{fact!r} a second time")
        self.cancelling = True

    def _finished(self, fact: Finished) -> None:
        if self._unfinished:
            raise IllegalTransition(f"{fact!r} with {self._unfinished} tasks unfinished")
        if fact.state != self._final_state():
            raise IllegalTransition(f"{fact!r} of an execution that is {self._final_state()}")
        self.state = self._final_state()
        self.finished_at = fact.at

    def _retried(self, fact: Retried) -> None:
        if not self.finished or not fact.tasks or len(set(fact.tasks)) != len(fact.tasks):
            raise IllegalTransition(f"{fact!r} while {self.state}")
        for name in fact.tasks:
            if name not in self.tasks or (self.tasks[name].state, Retried) not in TRANSITIONS:
                raise IllegalTransition(f"{fact!r}: task {name!r} cannot be retried")
        for name in fact.tasks:
            task = self.tasks[name]
            self._failed -= task.state is State.FAILED
            self._cancelled -= task.state is State.CANCELLED
            task.state = State.NOTSTARTED
            task.retries_left = task.planned.retries
        self._unfinished = len(fact.tasks)
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.finished_at = None
        again = set(fact.tasks)
        waiting = {name for task in fact.tasks for name in self.plan.downstream[task]}
        for name in again | waiting:
            tally = Tally(len(self.tasks[name].planned.after))
            for upstream in self.tasks[name].planned.after:
                if (state := self.tasks[upstream].state) in FINISHED:
                    tally = tally.counting(state)
            self.tasks[name].tally = tally
        for name in fact.tasks:
            self._judge(name)

    # -- what may happen next ------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def running(self) -> list[str]:
        """The tasks with an attempt under way."""
        return list(self._running)

    def wants_slots(self, now: datetime) -> int:
        """How many tasks could start now, were there slots for all of them."""
        if self.cancelling:
            return 0
        self._wake(now)
        return len(self._ready)

    def next_retry(self) -> datetime | None:
        """When the next waiting retry is due, or None."""
        while self._retries:
            retry_at, name = self._retries[0]
            task = self.tasks[name]
            if task.state is State.UPFORRETRY and task.retry_at == retry_at:
                return retry_at
            heapq.heappop(self._retries)
        return None

    def _wake(self, now: datetime) -> None:
        """Move retries that are due to the ready ones."""
        while (due := self.next_retry()) is not None and due <= now:
            self._ready[heapq.heappop(self._retries)[1]] = None

    def advance(self, now: datetime, slots: int) -> list[AnyFact]:
        """Skip, cancel, start up to `slots` ready tasks, and finish, as the rules say."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if self.cancelling and self._unfinished > len(self._running):
            for name, task in self.tasks.items():
                if task.state in (State.NOTSTARTED, State.UPFORRETRY):
                    self._decide(facts, TaskCancelled(now, name))
        while self._unmeetable:
            name = next(iter(self._unmeetable))
            self._decide(facts, TaskSkipped(now, name))
        if not self.cancelling:
            self._wake(now)
            for name in list(islice(self._ready, max(slots, 0))):
                self._decide(facts, TaskStarted(now, name, self.tasks[name].attempt + 1))
        if not self._unfinished:
            self._decide(facts, Finished(now, self._final_state()))
        return facts

    def _final_state(self) -> State:
        if self._failed:
            return State.FAILED
        return State.CANCELLED if self.cancelling or self._cancelled else State.SUCCESSFUL

    def will_retry(self, name: str, outcome: Outcome) -> bool:
        """Whether this end of the running attempt leads to another one."""
        return (
            isinstance(outcome, Failed)
            and not outcome.final
            and not self.cancelling
            and self.tasks[name].retries_left > 0
        )

    def settle(self, name: str, outcome: Outcome, now: datetime, delay: float = 0.0) -> AnyFact:
        """How the running attempt of a task ended; `delay` is in seconds, before a retry."""
        attempt = self.tasks[name].attempt
        fact: AnyFact
        match outcome:
            case Succeeded():
                fact = TaskSucceeded(now, name, attempt, outcome.result)
            case Cancelled():
                fact = TaskCancelled(now, name, attempt)
            case Failed() if self.will_retry(name, outcome):
                fact = AttemptFailed(
                    now, name, attempt, outcome.error, now + timedelta(seconds=delay)
                )
            case Failed():
                fact = TaskFailed(now, name, attempt, outcome.error)
        self.apply(fact)
        return fact

    def interrupt(self, now: datetime) -> list[AnyFact]:
        """After a restart: what was running is not any more. It is tried again at once if
        it has retries left, and fails visibly if not."""
        outcome: Outcome = Cancelled() if self.cancelling else Failed(INTERRUPTED)
        return [self.settle(name, outcome, now) for name in self.running]

    def cancel(self, now: datetime) -> list[AnyFact]:
        """Ask for the end; empty if it was asked before or the execution has finished."""
        facts: list[AnyFact] = []
        if not self.cancelling and not self.finished:
            self._decide(facts, CancelRequested(now))
        return facts

    def retry(self, now: datetime) -> list[AnyFact]:
        """Send what did not succeed round again; empty if all succeeded or it is unfinished."""
        facts: list[AnyFact] = []
        if self.finished:
            again = tuple(
                name for name, task in self.tasks.items() if task.state is not State.SUCCESSFUL
            )
            if again:
                self._decide(facts, Retried(now, again))
        return facts

    def _decide(self, facts: list[AnyFact], fact: AnyFact) -> None:
        self.apply(fact)
        facts.append(fact)

    # -- what it looks like from outside -------------------------------------------

    def results_for(self, name: str) -> dict[str, msgspec.Raw]:
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
            tasks=[TaskSummary(name, task.state) for name, task in self.tasks.items()],
        )


_APPLY: dict[type, Callable[[Execution, Any], None]] = {
    TaskStarted: Execution._started,
    TaskSucceeded: Execution._succeeded,
    AttemptFailed: Execution._attempt_failed,
    TaskFailed: Execution._task_failed,
    TaskSkipped: Execution._skipped,
    TaskCancelled: Execution._task_cancelled,
    CancelRequested: Execution._cancel_requested,
    Finished: Execution._finished,
    Retried: Execution._retried,
}
