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
from typing import Any

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
from goflow.core.states import FINISHED, State, Tally, Verdict, verdict
from goflow.core.summary import Summary, TaskSummary, reason_of

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


class Succeeded(msgspec.Struct, frozen=True):
    """How an attempt ended: well, with a result as JSON."""

    result: msgspec.Raw = msgspec.Raw(b"null")


class Failed(msgspec.Struct, frozen=True):
    """How an attempt ended: with an error. `final` failures are not tried again."""

    error: str
    final: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """How an attempt ended: stopped because it, or its execution, was cancelled."""


Outcome = Succeeded | Failed | Cancelled

INTERRUPTED = "interrupted: the server stopped while this attempt was running"


class TaskRun:
    """A task within one execution."""

    __slots__ = (
        "attempt",
        "cancelling",
        "planned",
        "result",
        "retries_left",
        "retry_at",
        "state",
        "tally",
    )

    def __init__(self, planned: PlannedTask) -> None:
        self.planned = planned
        self.state = State.NOTSTARTED
        self.attempt = 0
        self.cancelling = False
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
        self.after = submitted.after
        self.timeout = submitted.timeout
        self.submitted_at = submitted.at
        self.modified_at = submitted.at
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.timed_out = False
        self.reason: str | None = None
        self.tasks = {planned.name: TaskRun(planned) for planned in plan.tasks}
        self._unfinished = len(self.tasks)
        self._failed = 0
        self._cancelled = 0
        self._running: dict[str, None] = {}
        # ordered: finding the first key of a dict that was emptied from the front is a scan
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._unmeetable: OrderedDict[str, None] = OrderedDict()
        self._doomed: dict[str, None] = {}
        self._retries: list[tuple[datetime, str]] = []
        self._newly_ready: list[str] = []
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
        if self.finished and type(fact) not in AFTERWARDS:
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
        if self.cancelling or fact.task in self._doomed:
            raise IllegalTransition(f"{fact!r} after it was cancelled")
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
        self._doomed.pop(name, None)
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
                if name not in self._ready:
                    self._ready[name] = None
                    self._newly_ready.append(name)
                self._unmeetable.pop(name, None)
            case Verdict.SKIP:
                self._unmeetable[name] = None

    def _count_again(self, names: Iterable[str]) -> None:
        """Judge tasks anew after an upstream task's end was taken back or changed."""
        for name in names:
            task = self.tasks[name]
            tally = Tally(len(task.planned.after))
            for upstream in task.planned.after:
                if (state := self.tasks[upstream].state) in FINISHED:
                    tally = tally.counting(state)
            task.tally = tally
            if task.state is State.NOTSTARTED:
                self._ready.pop(name, None)
                self._unmeetable.pop(name, None)
                self._judge(name)

    def _cancel_requested(self, fact: CancelRequested) -> None:
        if self.cancelling:
            raise IllegalTransition(f"{fact!r} a second time")
        self.cancelling = True
        self.timed_out = fact.timeout is not None
        self.reason = reason_of(fact)

    def _task_cancel_requested(self, fact: TaskCancelRequested) -> None:
        if fact.task in self._doomed:
            raise IllegalTransition(f"{fact!r} a second time")
        self._move(fact.task, fact).cancelling = True
        self._doomed[fact.task] = None
        self._ready.pop(fact.task, None)
        self._unmeetable.pop(fact.task, None)

    def _marked(self, fact: MarkedSuccessful | MarkedSkipped) -> None:
        task = self.tasks.get(fact.task)
        before = None if task is None else task.state
        if (fact.finished is None) is self.finished or fact.task in self._doomed:
            raise IllegalTransition(f"{fact!r} while the execution is {self.state}")
        if fact.finished is not None and before is not None:
            # Looked at before anything is moved: what does not fit changes nothing.
            failed = self._failed - (before is State.FAILED)
            cancelled = self._cancelled - (before is State.CANCELLED)
            if fact.finished != self._final_state(failed, cancelled):
                raise IllegalTransition(f"{fact!r} does not leave the execution in that state")
        task = self._move(fact.task, fact)
        task.result = None if task.state is State.SKIPPED else task.result
        self._failed -= before is State.FAILED
        self._cancelled -= before is State.CANCELLED
        if before in FINISHED:
            self._count_again(self.plan.downstream[fact.task])
        else:
            self._ended(fact.task)
        if fact.finished is not None:
            self.state = State(fact.finished)

    def _finished(self, fact: Finished) -> None:
        if self._unfinished:
            raise IllegalTransition(f"{fact!r} with {self._unfinished} tasks unfinished")
        state = self._final_state(self._failed, self._cancelled)
        if fact.state != state:
            raise IllegalTransition(f"{fact!r} of an execution that is {state}")
        self.state = state
        self.finished_at = fact.at

    def _retried(self, fact: Retried) -> None:
        if not self.finished or not fact.tasks or len(set(fact.tasks)) != len(fact.tasks):
            raise IllegalTransition(f"{fact!r} while {self.state}")
        for name in fact.tasks:
            if name not in self.tasks:
                raise IllegalTransition(f"{fact!r}: the plan has no task {name!r}")
        for name in fact.tasks:
            task = self.tasks[name]
            self._failed -= task.state is State.FAILED
            self._cancelled -= task.state is State.CANCELLED
            task.state = State.NOTSTARTED
            task.cancelling = False
            task.result = None
            task.retries_left = task.planned.retries
        self._unfinished = len(fact.tasks)
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = self.timed_out = False
        self.started_at = self.finished_at = None
        self.reason = None
        if fact.params is not None:
            self.params = fact.params
        again = dict.fromkeys(fact.tasks)
        for task_name in fact.tasks:
            again.update(dict.fromkeys(self.plan.downstream[task_name]))
        self._count_again(again)

    # -- what may happen next ------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def running(self) -> list[str]:
        """The tasks with an attempt under way."""
        return list(self._running)

    @property
    def doomed(self) -> list[str]:
        """The tasks that somebody asked to stop, and that have not stopped yet."""
        return list(self._doomed)

    def newly_ready(self, now: datetime) -> list[str]:
        """The tasks that may start and have not been told of before, each once."""
        if self.cancelling:
            return []
        self._wake(now)
        ready, self._newly_ready = self._newly_ready, []
        return [name for name in ready if name in self._ready]

    def is_ready(self, name: str) -> bool:
        """Whether a task may start now."""
        return name in self._ready and not self.cancelling

    def deadline(self) -> datetime | None:
        """When the execution's time is over, if it has begun and has a limit."""
        if self.timeout is None or self.started_at is None or self.cancelling:
            return None
        return self.started_at + timedelta(seconds=self.timeout)

    def next_retry(self) -> datetime | None:
        """When the next waiting retry is due, or None."""
        while self._retries:
            retry_at, name = self._retries[0]
            task = self.tasks[name]
            if (
                task.state is State.UPFORRETRY
                and task.retry_at == retry_at
                and not task.cancelling
                and name not in self._ready
            ):
                return retry_at
            heapq.heappop(self._retries)
        return None

    def _wake(self, now: datetime) -> None:
        """Move retries that are due to the ready ones."""
        while (due := self.next_retry()) is not None and due <= now:
            name = heapq.heappop(self._retries)[1]
            self._ready[name] = None
            self._newly_ready.append(name)

    def advance(self, now: datetime, granted: Iterable[str] = ()) -> list[AnyFact]:
        """Skip, cancel, start those of the `granted` tasks that are ready, and finish, as
        the rules say."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if (due := self.deadline()) is not None and due <= now:
            self._decide(facts, CancelRequested(now, timeout=self.timeout))
        if self.cancelling and self._unfinished > len(self._running):
            for name, task in self.tasks.items():
                if task.state in (State.NOTSTARTED, State.UPFORRETRY):
                    self._decide(facts, TaskCancelled(now, name))
        for name in self.doomed:
            if name not in self._running:
                self._decide(facts, TaskCancelled(now, name))
        while self._unmeetable:
            name = next(iter(self._unmeetable))
            self._decide(facts, TaskSkipped(now, name))
        if not self.cancelling:
            for name in granted:
                if name in self._ready:
                    self._decide(facts, TaskStarted(now, name, self.tasks[name].attempt + 1))
        if not self._unfinished:
            self._decide(facts, Finished(now, self._final_state(self._failed, self._cancelled)))
        return facts

    def _final_state(self, failed: int, cancelled: int) -> State:
        if failed or self.timed_out:
            return State.FAILED
        return State.CANCELLED if self.cancelling or cancelled else State.SUCCESSFUL

    def will_retry(self, name: str, outcome: Outcome) -> bool:
        """Whether this end of the running attempt leads to another one."""
        return (
            isinstance(outcome, Failed)
            and not outcome.final
            and not self.cancelling
            and not self.tasks[name].cancelling
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
        return [
            self.settle(
                name,
                Cancelled() if self.is_cancelling(name) else Failed(INTERRUPTED),
                now,
            )
            for name in self.running
        ]

    def is_attempting(self, place: int, attempt: int) -> bool:
        """Whether this attempt, of the task in that place of the plan, is under way."""
        if place >= len(self.plan.tasks):
            return False
        run = self.tasks[self.plan.tasks[place].name]
        return run.state is State.RUNNING and run.attempt == attempt

    def is_cancelling(self, name: str) -> bool:
        """Whether a task is to stop, by itself or with the whole execution."""
        return self.cancelling or self.tasks[name].cancelling

    def cancel(self, now: datetime, by: str = "") -> list[AnyFact]:
        """Ask for the end; empty if it was asked before or the execution has finished."""
        facts: list[AnyFact] = []
        if not self.cancelling and not self.finished:
            self._decide(facts, CancelRequested(now, by))
        return facts

    def cancel_task(self, name: str, now: datetime, by: str = "") -> list[AnyFact]:
        """Ask for the end of one task; empty if it has ended, or was asked before."""
        facts: list[AnyFact] = []
        if (
            not self.is_cancelling(name)
            and (self.tasks[name].state, TaskCancelRequested) in TRANSITIONS
        ):
            self._decide(facts, TaskCancelRequested(now, name, by))
        return facts

    def mark(self, name: str, state: State, now: datetime, by: str = "") -> list[AnyFact]:
        """Let a task count as successful or skipped; empty if it runs, or is that already."""
        kind = MarkedSuccessful if state is State.SUCCESSFUL else MarkedSkipped
        task = self.tasks[name]
        facts: list[AnyFact] = []
        ending = not self.finished and self.is_cancelling(name)
        if ending or (task.state, kind) not in TRANSITIONS:
            return facts
        finished = None
        if self.finished:
            finished = self._final_state(
                self._failed - (task.state is State.FAILED),
                self._cancelled - (task.state is State.CANCELLED),
            ).value
        self._decide(facts, kind(now, name, by, finished))
        return facts

    def retry(
        self,
        now: datetime,
        task: str | None = None,
        *,
        following: bool = True,
        params: dict[str, Any] | None = None,
        by: str = "",
    ) -> list[AnyFact]:
        """Send a finished execution round again: what did not succeed, or one task and, if
        `following`, all that come after it. Empty if there is nothing to do again."""
        facts: list[AnyFact] = []
        if not self.finished:
            return facts
        if task is None:
            again = [n for n, run in self.tasks.items() if run.state is not State.SUCCESSFUL]
        else:
            chosen = self.plan.following(task) if following else {task}
            again = [name for name in self.tasks if name in chosen]
        if again:
            self._decide(facts, Retried(now, tuple(again), by, params))
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
            after=self.after,
            reason=self.reason,
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
    TaskCancelRequested: Execution._task_cancel_requested,
    MarkedSuccessful: Execution._marked,
    MarkedSkipped: Execution._marked,
    Finished: Execution._finished,
    Retried: Execution._retried,
}
