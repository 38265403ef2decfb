"""A slow and simple model of an execution, which looks at all of it each time.

The model states the trigger rules as sentences about the final states of all upstream tasks. It
does not know tallies, queues, or the way `goflow.core` decides.
"""

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache

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
from goflow.core.states import State, TriggerRule

S, F, K, C = State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED
ENDS = (S, F, K, C)


def runs(rule: TriggerRule, ends: Sequence[State]) -> bool:
    """Whether a task runs when its upstream tasks have ended in these states."""
    if not ends:
        return True
    match rule:
        case TriggerRule.ALL_SUCCESSFUL:
            return all(end == S for end in ends)
        case TriggerRule.ALL_FAILED:
            return all(end == F for end in ends)
        case TriggerRule.ALL_SKIPPED:
            return all(end == K for end in ends)
        case TriggerRule.ONE_SUCCESSFUL:
            return S in ends
        case TriggerRule.ONE_FAILED:
            return F in ends
        case TriggerRule.ONE_DONE:
            return S in ends or F in ends
        case TriggerRule.NONE_FAILED:
            return F not in ends and C not in ends
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL:
            return F not in ends and C not in ends and S in ends
        case TriggerRule.NONE_SKIPPED:
            return K not in ends and C not in ends
        case TriggerRule.ALL_DONE | TriggerRule.ALWAYS:
            return True


@cache
def possible_verdicts(rule: TriggerRule, ends: tuple[State, ...], missing: int) -> set[bool]:
    """Whether a task may still run, be skipped, or both, while `missing` upstream tasks have not
    ended."""
    if missing and rule is TriggerRule.ALL_DONE:
        return {True, False}  # it certainly runs, but only after all upstream tasks
    rests = itertools.combinations_with_replacement(ENDS, missing)
    return {runs(rule, ends + rest) for rest in rests}


def end_of(ends: Iterable[State], *, cancelled: bool = False, fails: bool = False) -> State:
    """The final state of an execution whose tasks ended in these states."""
    ends = set(ends)
    if fails or F in ends:
        return F
    return C if cancelled or C in ends else S


class Model:
    """An execution, derived from its facts."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        self.plan = {task.name: task for task in plan.tasks}
        self.states = dict.fromkeys(self.plan, State.NOTSTARTED)
        self.attempts = dict.fromkeys(self.plan, 0)
        self.spent = dict.fromkeys(self.plan, 0)
        self.state = State.NOTSTARTED
        self.params = submitted.params
        self.begun: datetime | None = None
        self.doomed: set[str] = set()
        self.cancelled = False
        self.fails = False

    @classmethod
    def of(cls, plan: Plan, facts: Iterable[AnyFact]) -> "Model":
        """The model after these facts; each must be allowed."""
        opening, *happened = facts
        assert isinstance(opening, Submitted)
        model = cls(plan, opening)
        for fact in happened:
            assert model.allows(fact), fact
            model.take(fact)
        return model

    @property
    def finished(self) -> bool:
        return self.state in ENDS

    def possible_verdicts(self, name: str) -> set[bool]:
        upstream = [self.states[other] for other in self.plan[name].after]
        ends = tuple(sorted(state for state in upstream if state in ENDS))
        return possible_verdicts(self.plan[name].rule, ends, len(upstream) - len(ends))

    def stops(self, name: str) -> bool:
        return self.cancelled or name in self.doomed

    def can_start(self, name: str) -> bool:
        """Whether the task's first attempt of this round may start."""
        begins = self.states[name] is State.NOTSTARTED and not self.stops(name)
        return begins and self.possible_verdicts(name) == {True}

    def allows(self, fact: AnyFact) -> bool:
        """Whether this fact can happen now."""
        name = getattr(fact, "task", None)
        if name is not None and name not in self.plan:
            return False
        state = None if name is None else self.states[name]
        match fact:
            case Submitted():
                return False
            case Retried(tasks=tasks):
                known = set(tasks) <= self.plan.keys() and len(set(tasks)) == len(tasks)
                return self.finished and bool(tasks) and known
            case MarkedSuccessful() | MarkedSkipped():
                end = S if isinstance(fact, MarkedSuccessful) else K
                if state in (State.RUNNING, S, end):
                    return False
                if not self.finished:
                    return fact.finished is None and not self.stops(fact.task)
                return fact.finished == self.end(self.states | {fact.task: end})
            case _ if self.finished:
                return False
            case CancelRequested():
                return not self.cancelled
            case Finished():
                ended = all(state in ENDS for state in self.states.values())
                return ended and fact.state == self.end(self.states)
            case TaskCancelRequested():
                return state not in ENDS and not self.stops(fact.task)
            case TaskStarted():
                due = state is State.UPFORRETRY and not self.stops(fact.task)
                counted = fact.attempt == self.attempts[fact.task] + 1
                return counted and (due or self.can_start(fact.task))
            case AttemptFailed(interrupted=True) if not self.plan[fact.task].retries:
                return False
            case AttemptFailed(interrupted=False) if (
                self.spent[fact.task] == self.plan[fact.task].retries
            ):
                return False
            case TaskSucceeded() | TaskFailed() | AttemptFailed():
                return state is State.RUNNING and fact.attempt == self.attempts[fact.task]
            case TaskSkipped():
                waits = state is State.NOTSTARTED and fact.task not in self.doomed
                return waits and self.possible_verdicts(fact.task) == {False}
            case TaskCancelled():
                running = self.attempts[fact.task] if state is State.RUNNING else 0
                return state not in ENDS and fact.attempt == running
        raise AssertionError(f"the model does not know {fact!r}")

    def end(self, states: dict[str, State]) -> State:
        return end_of(states.values(), cancelled=self.cancelled, fails=self.fails)

    def take(self, fact: AnyFact) -> None:
        """Apply a fact, which must be allowed."""
        match fact:
            case TaskStarted():
                self.states[fact.task] = self.state = State.RUNNING
                self.attempts[fact.task] += 1
                self.begun = self.begun or fact.at
            case AttemptFailed():
                self.states[fact.task] = State.UPFORRETRY
                self.spent[fact.task] += not fact.interrupted
            case TaskSucceeded() | MarkedSuccessful():
                self.states[fact.task] = S
            case TaskFailed():
                self.states[fact.task] = F
            case TaskSkipped() | MarkedSkipped():
                self.states[fact.task] = K
            case TaskCancelled():
                self.states[fact.task] = C
            case TaskCancelRequested():
                self.doomed.add(fact.task)
            case CancelRequested():
                self.cancelled = True
                self.fails = fact.timeout is not None or fact.defect != ""
            case Finished():
                self.state = State(fact.state)
            case Retried():
                for name in fact.tasks:
                    self.states[name], self.spent[name] = State.NOTSTARTED, 0
                self.state, self.begun = State.NOTSTARTED, None
                self.cancelled = self.fails = False
                self.params = self.params if fact.params is None else fact.params
        if isinstance(fact, MarkedSuccessful | MarkedSkipped) and fact.finished is not None:
            self.state = State(fact.finished)
        self.doomed = {name for name in self.doomed if self.states[name] not in ENDS}
