"""The states of tasks and executions, and the rules that start or skip a task.

A trigger rule sees only the tally of a task's direct upstream tasks that ended, so its verdict
does not depend on the order in which they ended. Once it is not to wait, it never changes.

The reason of a skip must not depend on that order either where other tasks depend on it: in a
plan with rules about failures, a rule waits until it is known whether a failure is the reason.
"""

import enum
from collections.abc import Callable
from operator import attrgetter


class State(enum.StrEnum):
    """The state of a task or of an execution, spelled as on the wire.

    Members are strings and equal to their value.

    Attributes:
        NOTSTARTED: Waits for upstream tasks, for a slot or for an earlier execution.
        RUNNING: An attempt is running; an execution has started and not ended.
        UPFORRETRY: An attempt failed, and the task waits for the next one.
        SKIPPED: Did not run: its trigger rule could not be met, a branch did not choose it, its
            condition was false, it skipped itself, or a user marked it.
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


_SUCCESSFUL = State.SUCCESSFUL


class SkipReason(enum.StrEnum):
    """Why a task was skipped. The first four are about its trigger rule.

    A skip with `UPSTREAM_FAILED` comes from a failure. For the rules that are about failures it
    counts as one; see `TriggerRule`.
    """

    UPSTREAM_FAILED = "upstream failed"
    UPSTREAM_SKIPPED = "upstream skipped"
    UPSTREAM_CANCELLED = "upstream cancelled"
    UPSTREAM_SUCCESSFUL = "upstream successful"  # the rule wants failures or skips
    BRANCH = "branch"  # a branch upstream did not choose it
    CONDITION = "condition"
    ITSELF = "itself"
    HAND = "hand"


# Why a trigger rule may skip a task.
BY_RULE = frozenset(
    {
        SkipReason.UPSTREAM_FAILED,
        SkipReason.UPSTREAM_SKIPPED,
        SkipReason.UPSTREAM_CANCELLED,
        SkipReason.UPSTREAM_SUCCESSFUL,
    }
)
# Why a running attempt may skip its task.
BY_ATTEMPT = frozenset({SkipReason.CONDITION, SkipReason.ITSELF})


class TriggerRule(enum.StrEnum):
    """When a task runs, depending on how its upstream tasks ended.

    A task without upstream tasks runs at once. A task whose rule can no longer be met is
    skipped. A cancelled upstream task counts as done, but not as successful, failed or skipped.
    An upstream task that was skipped because of a failure before it counts as failed for
    `ALL_FAILED`, `ONE_FAILED`, `NONE_FAILED` and `NONE_FAILED_MIN_ONE_SUCCESSFUL`, and as skipped
    for the others.

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


class Tally:
    """The number of a task's upstream tasks that ended, in total and in each state. Of the
    skipped ones, `unreached` were skipped because of a failure."""

    __slots__ = ("cancelled", "done", "failed", "skipped", "successful", "total", "unreached")

    def __init__(self, total: int) -> None:
        self.total = total
        self.reset()

    def reset(self) -> None:
        """Start to count again."""
        self.done = self.successful = self.failed = self.skipped = self.cancelled = 0
        self.unreached = 0

    def and_one(self, state: State, unreached: bool = False) -> "Tally":
        """A tally with one more upstream task, as `count` has it."""
        other = Tally(self.total)
        other.done, other.successful, other.failed = self.done, self.successful, self.failed
        other.skipped, other.cancelled = self.skipped, self.cancelled
        other.unreached = self.unreached
        other.count(state, unreached)
        return other

    def count(self, state: State, unreached: bool = False) -> None:
        """One more upstream task has ended, in `state`. `unreached`: it was skipped because of a
        failure."""
        if state is _SUCCESSFUL:
            self.successful += 1
        elif state is State.FAILED:
            self.failed += 1
        elif state is State.SKIPPED:
            self.skipped += 1
            self.unreached += unreached
        elif state is State.CANCELLED:
            self.cancelled += 1
        else:
            raise ValueError(f"{state} is not the end of a task")
        self.done += 1


class Verdict(enum.Enum):
    """The decision of a trigger rule."""

    WAIT = enum.auto()
    RUN = enum.auto()
    SKIP = enum.auto()


# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_WAIT, _RUN, _SKIP = Verdict.WAIT, Verdict.RUN, Verdict.SKIP

Rule = Callable[[Tally], Verdict]


def _all(count: Callable[[Tally], int]) -> Rule:
    """Every upstream task must be among those counted."""

    def rule(tally: Tally) -> Verdict:
        counted = count(tally)
        if counted == tally.total:
            return _RUN
        return _SKIP if tally.done > counted else _WAIT

    return rule


def _patient(name: TriggerRule, rule: Rule) -> Rule:
    """The rule, which skips only when it is known whether a failure is the reason."""

    def patient(tally: Tally) -> Verdict:
        found = rule(tally)
        if found is not _SKIP or tally.done == tally.total or _fails(name, tally):
            return found
        return _WAIT

    return patient


def _one(count: Callable[[Tally], int]) -> Rule:
    """One upstream task among those counted is enough; the task does not wait for the others."""

    def rule(tally: Tally) -> Verdict:
        if count(tally):
            return _RUN
        return _SKIP if tally.done == tally.total else _WAIT

    return rule


def _none_failed_min_one_successful(tally: Tally) -> Verdict:
    counted = tally.successful + tally.skipped - tally.unreached
    if tally.successful and counted == tally.total:
        return _RUN
    skip = tally.done > counted or tally.skipped == tally.total
    return _SKIP if skip else _WAIT


# A new trigger rule needs its name above, its row here, and its sentence in tests/core/model.py.
RULES: dict[TriggerRule, Rule] = {
    TriggerRule.ALL_SUCCESSFUL: _all(attrgetter("successful")),
    TriggerRule.ALL_DONE: _all(attrgetter("done")),
    TriggerRule.ALL_FAILED: _all(lambda tally: tally.failed + tally.unreached),
    TriggerRule.ALL_SKIPPED: _all(attrgetter("skipped")),
    TriggerRule.ONE_SUCCESSFUL: _one(attrgetter("successful")),
    TriggerRule.ONE_FAILED: _one(lambda tally: tally.failed + tally.unreached),
    TriggerRule.ONE_DONE: _one(lambda tally: tally.successful + tally.failed),
    TriggerRule.NONE_FAILED: _all(lambda tally: tally.successful + tally.skipped - tally.unreached),
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL: _none_failed_min_one_successful,
    TriggerRule.NONE_SKIPPED: _all(lambda tally: tally.successful + tally.failed),
    TriggerRule.ALWAYS: lambda tally: _RUN,
}


# The rules for which a skip because of a failure differs from another skip.
ABOUT_FAILURES = frozenset(
    {
        TriggerRule.ALL_FAILED,
        TriggerRule.ONE_FAILED,
        TriggerRule.NONE_FAILED,
        TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL,
    }
)


def rule_for(rule: TriggerRule, upstream: int, *, patient: bool = False) -> Rule:
    """The decision of a trigger rule for a task with `upstream` upstream tasks. If `patient`, it
    skips only when it is known whether a failure is the reason."""
    return (_PATIENT if patient else RULES)[rule if upstream else TriggerRule.ALWAYS]


def verdict(rule: TriggerRule, tally: Tally) -> Verdict:
    """Whether a task with this rule runs, is skipped, or waits for more upstream tasks to end."""
    return rule_for(rule, tally.total)(tally)


def undecided(tally: Tally) -> Verdict:
    """The rule of a task while a branch directly upstream has not ended."""
    return _WAIT


def not_chosen(tally: Tally) -> Verdict:
    """The rule of a task that a branch directly upstream did not choose."""
    return _SKIP


def _bearing(state: State, unreached: bool = False) -> frozenset[TriggerRule]:
    """The rules that one upstream task with such an end meets: it is no reason for a skip."""
    alone = Tally(1)
    alone.count(state, unreached)
    return frozenset(rule for rule in TriggerRule if RULES[rule](alone) is _RUN)


BEAR_FAILED = _bearing(State.FAILED)
BEAR_UNREACHED = _bearing(State.SKIPPED, unreached=True)
_BEAR_SKIPPED = _bearing(State.SKIPPED)


def is_met_by_success(rule: TriggerRule, total: int) -> bool:
    """Whether a rule is met when so many upstream tasks have all succeeded."""
    tally = Tally(total)
    for _ in range(total):
        tally.count(State.SUCCESSFUL)
    return RULES[rule](tally) is Verdict.RUN


def skip_reason(rule: TriggerRule, tally: Tally) -> SkipReason:
    """Why a task with this rule is skipped, once the rule says so. A failure comes first, since
    tasks downstream depend on that."""
    if _fails(rule, tally):
        return SkipReason.UPSTREAM_FAILED
    if tally.cancelled:
        return SkipReason.UPSTREAM_CANCELLED
    if tally.skipped > tally.unreached and rule not in _BEAR_SKIPPED:
        return SkipReason.UPSTREAM_SKIPPED
    return SkipReason.UPSTREAM_SUCCESSFUL


def explains(reason: SkipReason, rule: TriggerRule, state: State, unreached: bool) -> bool:
    """Whether the end of an upstream task is a reason of that kind to skip one with that rule."""
    match reason:
        case SkipReason.UPSTREAM_FAILED if unreached:
            return rule not in BEAR_UNREACHED
        case SkipReason.UPSTREAM_FAILED:
            return state is State.FAILED and rule not in BEAR_FAILED
        case SkipReason.UPSTREAM_SKIPPED:
            return state is State.SKIPPED and not unreached
        case SkipReason.UPSTREAM_CANCELLED:
            return state is State.CANCELLED
    return state is State.SUCCESSFUL


def _fails(rule: TriggerRule, tally: Tally) -> bool:
    """Whether a failure rules out that the rule is met."""
    failed = tally.failed > 0 and rule not in BEAR_FAILED
    return failed or (tally.unreached > 0 and rule not in BEAR_UNREACHED)


# Rules that bear all failures never have one as the reason, so they need not wait to know it.
_PATIENT = {
    name: rule if name in BEAR_FAILED & BEAR_UNREACHED else _patient(name, rule)
    for name, rule in RULES.items()
}
