"""One execution: the decisions about its next steps.

Every decision follows from the applied facts, so it is the same after a crash. The shell calls
`advance`, `settle`, `interrupt`, `cancel`, `cancel_task`, `mark` or `retry`. Each returns the
facts it decided on, already applied, and the shell commits them before it acts. `transition`
returns what those facts changed, for everything that shows the execution.
"""

import heapq
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from goflow.core.detail import cut_error
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
from goflow.core.graph import Plan
from goflow.core.progress import TABLE, Progress, without_skew
from goflow.core.states import State
from goflow.core.transition import TaskChange, Transition

_MARKS: dict[State, type[MarkedSuccessful | MarkedSkipped]] = {
    State.SUCCESSFUL: MarkedSuccessful,
    State.SKIPPED: MarkedSkipped,
}

INTERRUPTED = "interrupted: the server stopped while this attempt was running"
# A task is retried after so many interruptions in a row. The number is bounded, since a task may
# be what kills the server, and generous, since it rarely is.
INTERRUPTIONS = 100
ERRORS_KEPT = 16 * 1024 * 1024  # characters of all errors; further ones are cut in the facts


class Succeeded(msgspec.Struct, frozen=True):
    """Outcome of an attempt that returned; `result`, `size` and `sha256` are as in the fact
    `TaskSucceeded`."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""


class Failed(msgspec.Struct, frozen=True):
    """Outcome of an attempt that raised. A `final` failure is not retried."""

    error: str
    final: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """Outcome of an attempt that was stopped because its task or execution was cancelled."""


class Interrupted(msgspec.Struct, frozen=True):
    """Outcome of an attempt that ended with the server it ran in."""

    error: str = INTERRUPTED


Outcome = Succeeded | Failed | Cancelled | Interrupted


class Execution(Progress):
    """One run of a job: its state, and the decisions that follow from it."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        super().__init__(plan, submitted)
        self._decided: list[TaskChange] = []

    def transition(self) -> Transition:
        """The changes made by the facts decided since the last call; one change commits both."""
        changes, self._decided = self._decided, []
        return Transition(self.brief(), changes)

    # -- when to look again --------------------------------------------------------

    def newly_ready(self, now: datetime) -> list[str]:
        """The tasks that have become ready since the last call, in the order in which they did.
        After a replay, all ready tasks are returned again."""
        if self.cancelling or self.finished:
            return []
        while (due := self._next_due()) is not None and due <= without_skew(now, self.skew):
            self._make_ready(heapq.heappop(self._retries)[1])
        ready, self._unannounced = self._unannounced, {}
        return list(ready)

    def next_retry(self) -> datetime | None:
        """When the next task becomes ready for a retry, by the clock as it is set now; or None."""
        due = self._next_due()
        return None if due is None else without_skew(due, -self.skew)

    def _next_due(self) -> datetime | None:
        while self._retries:
            due, name = self._retries[0]
            task = self.tasks[name]
            if task.state is State.UPFORRETRY and task.due == due and not self.is_cancelling(name):
                return due
            heapq.heappop(self._retries)
        return None

    def deadline(self) -> datetime | None:
        """When the execution times out, by the clock as it is set now. None if it has no limit,
        has not started, or is ending."""
        ending = self.cancelling or not self._unfinished
        if self.timeout is None or self._began is None or ending:
            return None
        try:
            return self._began + timedelta(seconds=self.timeout) + self.skew
        except OverflowError:
            return None

    # -- what follows by the rules -------------------------------------------------

    def advance(self, now: datetime, granted: Iterable[str] = ()) -> list[AnyFact]:
        """Time out, cancel and skip tasks, start the `granted` tasks that are ready, and finish
        the execution, as the rules say."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if (due := self.deadline()) is not None and due <= now:
            self._decide(facts, CancelRequested(now, timeout=self.timeout))
        if self.cancelling and self._waiting:
            for name, task in self.tasks.items():
                if task.state in (State.NOTSTARTED, State.UPFORRETRY):
                    self._decide(facts, TaskCancelled(now, name))
        while self._to_cancel:
            self._decide(facts, TaskCancelled(now, next(iter(self._to_cancel))))
        while self._to_skip:
            self._decide(facts, TaskSkipped(now, next(iter(self._to_skip))))
        for name in granted:
            if self.is_ready(name):
                self._decide(facts, TaskStarted(now, name, self.tasks[name].attempt + 1))
        if not self._unfinished:
            self._decide(facts, Finished(now, self._final_state()))
        return facts

    def will_retry(self, name: str, outcome: Outcome) -> bool:
        """Whether the task is retried after this outcome of its running attempt."""
        return (
            isinstance(outcome, Failed)
            and not outcome.final
            and not self.is_cancelling(name)
            and self.tasks[name].retries_left > 0
        )

    def goes_on(self, name: str) -> bool:
        """Whether a task is retried if its running attempt is interrupted. That takes none of
        its retries, but a task without retries must not run twice."""
        task = self.tasks[name]
        return task.planned.retries > 0 and task.interruptions < INTERRUPTIONS

    def settle(self, name: str, outcome: Outcome, now: datetime, delay: float = 0.0) -> AnyFact:
        """Record the outcome of a task's running attempt; `delay` is in seconds, before a retry."""
        attempt = self.tasks[name].attempt
        if isinstance(outcome, Failed) and self.error_characters > ERRORS_KEPT:
            outcome = Failed(cut_error(outcome.error), outcome.final)
        fact: AnyFact
        match outcome:
            case Succeeded():
                fact = TaskSucceeded(
                    now, name, attempt, outcome.result, outcome.size, outcome.sha256
                )
            case Cancelled():
                fact = TaskCancelled(now, name, attempt)
            case Interrupted() if self.is_cancelling(name):
                fact = TaskCancelled(now, name, attempt)
            case Interrupted(error) if self.goes_on(name):
                fact = AttemptFailed(now, name, attempt, error, now, interrupted=True)
            case Interrupted(error):
                if times := self.tasks[name].interruptions:
                    error += f"; this is interruption {times + 1} in a row, so it is not retried"
                fact = TaskFailed(now, name, attempt, error, interrupted=True)
            case Failed() if self.will_retry(name, outcome):
                fact = AttemptFailed(
                    now, name, attempt, outcome.error, now + timedelta(seconds=delay)
                )
            case Failed():
                fact = TaskFailed(now, name, attempt, outcome.error)
        self._decided += self.apply(fact)
        return fact

    def interrupt(self, now: datetime, found: Collection[str] = ()) -> list[AnyFact]:
        """Settle the attempts that were running when the server stopped, except those of tasks
        that were `found` running. A task that may be retried is retried at once; any other fails
        visibly."""
        lost = [name for name in self.running if name not in found]
        return [self.settle(name, Interrupted(), now) for name in lost]

    def abort(self, now: datetime, defect: str) -> list[AnyFact]:
        """Fail the execution at once because of an error in goflow itself; empty if it has
        finished."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if not self.cancelling:
            self._decide(facts, CancelRequested(now, defect=defect))
        for name in self.running:
            told = f"the outcome was not recorded, because of a defect in goflow: {defect}"
            facts.append(self.settle(name, Failed(told, final=True), now))
        return facts + self.advance(now)

    # -- requests ------------------------------------------------------------------

    def cancel(self, now: datetime, by: str = "") -> list[AnyFact]:
        """Cancel the execution; empty if it was cancelled before or has finished."""
        facts: list[AnyFact] = []
        if not self.cancelling and not self.finished:
            self._decide(facts, CancelRequested(now, by))
        return facts

    def cancel_task(self, name: str, now: datetime, by: str = "") -> list[AnyFact]:
        """Cancel one task; empty if it was cancelled before or has ended."""
        facts: list[AnyFact] = []
        if not self.is_cancelling(name) and not self.tasks[name].state.finished:
            self._decide(facts, TaskCancelRequested(now, name, by))
        return facts

    def mark(self, name: str, state: State, now: datetime, by: str = "") -> list[AnyFact]:
        """Mark a task successful or skipped by hand. Empty if it is running or being cancelled,
        succeeded, or is in that state already."""
        kind = _MARKS[state]
        before = self.tasks[name].state
        facts: list[AnyFact] = []
        if before not in TABLE[kind].moves:
            return facts
        if self.finished:
            self._decide(facts, kind(now, name, by, self._final_state(without=before).value))
        elif not self.is_cancelling(name):
            self._decide(facts, kind(now, name, by))
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
        """Reopen a finished execution to run again the tasks that did not succeed; or `task`
        and, if `following`, all tasks downstream of it. Empty if there is nothing to run."""
        facts: list[AnyFact] = []
        if not self.finished:
            return facts
        if task is None:
            again = [name for name, run in self.tasks.items() if run.state is not State.SUCCESSFUL]
        else:
            chosen = self.plan.following(task) if following else {task}
            again = [name for name in self.tasks if name in chosen]
        if again:
            self._decide(facts, Retried(now, tuple(again), by, params, task))
        return facts

    def _decide(self, facts: list[AnyFact], fact: AnyFact) -> None:
        self._decided += self.apply(fact)
        facts.append(fact)
