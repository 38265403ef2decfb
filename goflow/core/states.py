"""The states of tasks and executions, and the rules that start or skip a task.

A trigger rule looks only at how the direct upstream tasks ended, as a tally, so its
verdict does not depend on the order in which they ended.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple


class State(enum.StrEnum):
    """The state of a task or of an execution, spelled as on the wire.

    Members are strings and equal to their value.

    Attributes:
        NOTSTARTED: Waits for upstream tasks, for a slot or for an earlier execution.
        RUNNING: An attempt is running; an execution has started and not ended.
        UPFORRETRY: An attempt failed, and the task waits for the next one.
        SKIPPED: Did not run: its trigger rule could not be met, or a user marked it.
        FAILED: The last attempt failed; an execution with a failed task is failed.
        SUCCESSFUL: Ended without a failure.
        CANCELLED: Stopped on request.

    Examples:
        >>> from goflow import State
        >>> State.SUCCESSFUL == "successful"
        True
        >>> State.UPFORRETRY.finished
        False
    """

    NOTSTARTED = "notstarted"
    RUNNING = "running"
    UPFORRETRY = "upforretry"
    SKIPPED = "skipped"
    FAILED = "failed"
    SUCCESSFUL = "successful"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the state is final, unless a user retries or marks the task."""
        return self in FINISHED


FINISHED = frozenset({State.SKIPPED, State.FAILED, State.SUCCESSFUL, State.CANCELLED})


class TriggerRule(enum.StrEnum):
    """When a task runs, depending on how its upstream tasks ended.

    A task without upstream tasks runs at once. A task whose rule can no longer be met is
    skipped. A cancelled upstream task counts as done, but not as successful, failed or skipped.

    Attributes:
        ALL_SUCCESSFUL: All succeeded. The default.
        ALL_DONE: All ended, in whatever state.
        ALL_FAILED: All failed.
        ALL_SKIPPED: All were skipped.
        ONE_SUCCESSFUL: At least one succeeded. Does not wait for the others.
        ONE_FAILED: At least one failed. Does not wait for the others.
        ONE_DONE: At least one succeeded or failed. Does not wait for the others.
        NONE_FAILED: All succeeded or were skipped.
        NONE_FAILED_MIN_ONE_SUCCESSFUL: The same, and at least one succeeded.
        NONE_SKIPPED: All succeeded or failed.
        ALWAYS: Runs at once.

    Examples:
        >>> from goflow import Command, Task, TriggerRule
        >>> task = Task("clean-up", Command("true"), trigger_rule=TriggerRule.ALL_DONE)
        >>> task.trigger_rule == "allDone"
        True
    """

    ALL_SUCCESSFUL = "allSuccessful"
    ALL_DONE = "allDone"
    ALL_FAILED = "allFailed"
    ALL_SKIPPED = "allSkipped"
    ONE_SUCCESSFUL = "oneSuccessful"
    ONE_FAILED = "oneFailed"
    ONE_DONE = "oneDone"
    NONE_FAILED = "noneFailed"
    NONE_FAILED_MIN_ONE_SUCCESSFUL = "noneFailedMinOneSuccessful"
    NONE_SKIPPED = "noneSkipped"
    ALWAYS = "always"


class Tally(NamedTuple):
    """How many of a task's upstream tasks ended in which way."""

    total: int
    successful: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def done(self) -> int:
        return self.successful + self.failed + self.skipped + self.cancelled

    def counting(self, state: State) -> "Tally":
        """This tally with one more upstream task ended in `state`."""
        total, successful, failed, skipped, cancelled = self
        match state:
            case State.SUCCESSFUL:
                return Tally(total, successful + 1, failed, skipped, cancelled)
            case State.FAILED:
                return Tally(total, successful, failed + 1, skipped, cancelled)
            case State.SKIPPED:
                return Tally(total, successful, failed, skipped + 1, cancelled)
            case State.CANCELLED:
                return Tally(total, successful, failed, skipped, cancelled + 1)
        raise ValueError(f"{state} is not the end of a task")


class Verdict(enum.Enum):
    """What a trigger rule says of a tally."""

    WAIT = enum.auto()
    RUN = enum.auto()
    SKIP = enum.auto()


class Rule(NamedTuple):
    """A trigger rule as two tests of a tally; `run` is asked first."""

    run: Callable[[Tally], bool]
    skip: Callable[[Tally], bool]


def _all(count: Callable[[Tally], int]) -> Rule:
    """Every upstream task must be among those counted."""
    return Rule(run=lambda t: count(t) == t.total, skip=lambda t: t.done > count(t))


def _one(count: Callable[[Tally], int]) -> Rule:
    """One upstream task among those counted is enough; it need not wait for the others."""
    return Rule(run=lambda t: count(t) >= 1, skip=lambda t: t.done == t.total)


RULES: dict[TriggerRule, Rule] = {
    TriggerRule.ALL_SUCCESSFUL: _all(lambda t: t.successful),
    TriggerRule.ALL_DONE: _all(lambda t: t.done),
    TriggerRule.ALL_FAILED: _all(lambda t: t.failed),
    TriggerRule.ALL_SKIPPED: _all(lambda t: t.skipped),
    TriggerRule.ONE_SUCCESSFUL: _one(lambda t: t.successful),
    TriggerRule.ONE_FAILED: _one(lambda t: t.failed),
    TriggerRule.ONE_DONE: _one(lambda t: t.successful + t.failed),
    TriggerRule.NONE_FAILED: _all(lambda t: t.successful + t.skipped),
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL: Rule(
        run=lambda t: t.successful >= 1 and t.successful + t.skipped == t.total,
        skip=lambda t: t.done > t.successful + t.skipped or t.skipped == t.total,
    ),
    TriggerRule.NONE_SKIPPED: _all(lambda t: t.successful + t.failed),
    TriggerRule.ALWAYS: Rule(run=lambda t: True, skip=lambda t: False),
}


def verdict(rule: TriggerRule, tally: Tally) -> Verdict:
    """Whether a task with this rule runs, is skipped, or waits on."""
    run, skip = RULES[rule]
    if tally.total == 0 or run(tally):
        return Verdict.RUN
    return Verdict.SKIP if skip(tally) else Verdict.WAIT
