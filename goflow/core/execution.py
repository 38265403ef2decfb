"""One execution: what may happen next.

The rule that must not be broken: everything here is decided from what was applied, so it
comes out the same after a crash. The shell asks (`advance`, `settle`, `interrupt`, `cancel`,
`cancel_task`, `mark`, `retry`); each answers with the facts it has decided on and already
applied, for the shell to commit before it acts.
"""

import heapq
from collections.abc import Iterable
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
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.progress import TRANSITIONS, Progress, without_skew
from goflow.core.states import State
from goflow.core.summary import cut_error

_MARKS: dict[State, type[MarkedSuccessful | MarkedSkipped]] = {
    State.SUCCESSFUL: MarkedSuccessful,
    State.SKIPPED: MarkedSkipped,
}

INTERRUPTED = "interrupted: the server stopped while this attempt was running"
# How often in a row a task is interrupted and tried again all the same. It is bounded since a
# task may be what ends the server; and generous, since that is rarely so.
INTERRUPTIONS = 100


ERRORS_KEPT = 16 * 1024 * 1024  # characters of errors, after which facts keep them cut


class Succeeded(msgspec.Struct, frozen=True):
    """How an attempt ended: well, with a result as JSON. If the store has that by itself,
    `size` and `sha256` are as in the fact `TaskSucceeded`."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""


class Failed(msgspec.Struct, frozen=True):
    """How an attempt ended: with an error. `final` failures are not tried again."""

    error: str
    final: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """How an attempt ended: stopped because it, or its execution, was cancelled."""


class Interrupted(msgspec.Struct, frozen=True):
    """How an attempt ended: with the server it ran in. That is no failure of its own."""

    error: str = INTERRUPTED


Outcome = Succeeded | Failed | Cancelled | Interrupted


class Execution(Progress):
    """One run of a job: how far it has come, and what follows from that."""

    # -- when to look again --------------------------------------------------------

    def newly_ready(self, now: datetime) -> list[str]:
        """The tasks that may start and have not been told of since they may, each once, in
        the order in which that came about. After a replay all are told of again."""
        if self.cancelling or self.finished:
            return []
        while (due := self._next_due()) is not None and due <= without_skew(now, self.skew):
            self._make_ready(heapq.heappop(self._retries)[1])
        ready, self._untold = self._untold, {}
        return list(ready)

    def next_retry(self) -> datetime | None:
        """When the next retry is due that nobody was told of, by the clock as it is set now;
        or None."""
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
        """When the execution's time is over, by the clock as it is set now; if it has begun,
        has a limit, and goes on."""
        ending = self.cancelling or not self._unfinished
        if self.timeout is None or self._began is None or ending:
            return None
        try:
            return self._began + timedelta(seconds=self.timeout) + self.skew
        except OverflowError:
            return None

    # -- what follows from what happened -------------------------------------------

    def advance(self, now: datetime, granted: Iterable[str] = ()) -> list[AnyFact]:
        """Cancel, skip, start those of the `granted` tasks that are ready, and finish, as
        the rules say."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if (due := self.deadline()) is not None and due <= now:
            self._decide(facts, CancelRequested(now, timeout=self.timeout))
        if self.cancelling and self._waiting:
            for name, task in self.tasks.items():
                if task.state in (State.NOTSTARTED, State.UPFORRETRY):
                    self._decide(facts, TaskCancelled(now, name))
        while self._forsaken:
            self._decide(facts, TaskCancelled(now, next(iter(self._forsaken))))
        while self._unmeetable:
            self._decide(facts, TaskSkipped(now, next(iter(self._unmeetable))))
        for name in granted:
            if self.is_ready(name):
                self._decide(facts, TaskStarted(now, name, self.tasks[name].attempt + 1))
        if not self._unfinished:
            self._decide(facts, Finished(now, self._final_state()))
        return facts

    def will_retry(self, name: str, outcome: Outcome) -> bool:
        """Whether this end of the running attempt leads to another one."""
        return (
            isinstance(outcome, Failed)
            and not outcome.final
            and not self.is_cancelling(name)
            and self.tasks[name].retries_left > 0
        )

    def goes_on(self, name: str) -> bool:
        """Whether a task is tried again when its running attempt is interrupted. None of its
        retries is taken by that, but one without any must not be repeated."""
        task = self.tasks[name]
        return task.planned.retries > 0 and task.interruptions < INTERRUPTIONS

    def settle(self, name: str, outcome: Outcome, now: datetime, delay: float = 0.0) -> AnyFact:
        """How the running attempt of a task ended; `delay` is in seconds, before a retry."""
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
                    error += f"; that was so {times + 1} times in a row, so it is not tried again"
                fact = TaskFailed(now, name, attempt, error, interrupted=True)
            case Failed() if self.will_retry(name, outcome):
                fact = AttemptFailed(
                    now, name, attempt, outcome.error, now + timedelta(seconds=delay)
                )
            case Failed():
                fact = TaskFailed(now, name, attempt, outcome.error)
        self.apply(fact)
        return fact

    def interrupt(self, now: datetime) -> list[AnyFact]:
        """After a restart: what was running is not any more. It is tried again at once if it
        may be, and fails visibly if not."""
        return [self.settle(name, Interrupted(), now) for name in self.running]

    def abort(self, now: datetime, defect: str) -> list[AnyFact]:
        """End it here and now, as failed, because goflow itself went wrong; empty if it has
        finished."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if not self.cancelling:
            self._decide(facts, CancelRequested(now, defect=defect))
        for name in self.running:
            told = f"how this attempt ended was not recorded, by a defect in goflow: {defect}"
            facts.append(self.settle(name, Failed(told, final=True), now))
        return facts + self.advance(now)

    # -- what somebody asks for ----------------------------------------------------

    def cancel(self, now: datetime, by: str = "") -> list[AnyFact]:
        """Ask for the end; empty if it was asked before or the execution has finished."""
        facts: list[AnyFact] = []
        if not self.cancelling and not self.finished:
            self._decide(facts, CancelRequested(now, by))
        return facts

    def cancel_task(self, name: str, now: datetime, by: str = "") -> list[AnyFact]:
        """Ask for the end of one task; empty if it has ended, or was asked before."""
        facts: list[AnyFact] = []
        if not self.is_cancelling(name) and not self.tasks[name].state.finished:
            self._decide(facts, TaskCancelRequested(now, name, by))
        return facts

    def mark(self, name: str, state: State, now: datetime, by: str = "") -> list[AnyFact]:
        """Let a task count as `state`, successful or skipped; empty if it runs, is to stop,
        or has ended so, or well, already."""
        kind = _MARKS[state]
        before = self.tasks[name].state
        facts: list[AnyFact] = []
        if (before, kind) not in TRANSITIONS:
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
        """Send a finished execution round again: what did not succeed, or one task and, if
        `following`, all that come after it. Empty if there is nothing to do again."""
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
        self.apply(fact)
        facts.append(fact)
