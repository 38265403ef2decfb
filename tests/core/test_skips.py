"""Why tasks are skipped, branches, and skips as older versions recorded them."""

import pytest

from goflow.core.detail import Detail
from goflow.core.events import AnyFact, TaskFailed, TaskSkipped, TaskStarted, TaskSucceeded
from goflow.core.execution import Execution, Failed, Skipped, Succeeded
from goflow.core.graph import Plan, PlannedTask
from goflow.core.standing import IllegalTransition
from goflow.core.states import SkipReason, State, TriggerRule
from goflow.core.summary import WHY, WhySkipped
from tests.core.histories import NOW, SECOND, begin, dump, go_on, submitted

A, B = PlannedTask("a"), PlannedTask("b", ("a",))
PICK = PlannedTask("pick", branch=True)


def states(execution: Execution) -> dict[str, str]:
    return {name: task.state.value for name, task in execution.tasks.items()}


def why(execution: Execution, name: str) -> tuple[SkipReason, str]:
    skip = execution.tasks[name].skip
    assert skip is not None
    return skip.reason, skip.why


def test_none_failed_does_not_run_after_a_skip_that_comes_from_a_failure() -> None:
    execution = begin(A, B, PlannedTask("c", ("b",), TriggerRule.NONE_FAILED))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    go_on(execution, NOW)
    assert states(execution) == {"a": "failed", "b": "skipped", "c": "skipped"}
    failed = SkipReason.UPSTREAM_FAILED
    assert why(execution, "b") == (failed, "task 'a' failed")
    assert why(execution, "c") == (failed, "task 'b' was skipped because of a failure")


def test_none_failed_runs_after_a_task_that_skipped_itself() -> None:
    execution = begin(A, B, PlannedTask("c", ("b", "a"), TriggerRule.NONE_FAILED))
    go_on(execution, NOW)
    fact = execution.settle("a", Skipped("no rows"), NOW)
    assert fact == TaskSkipped(NOW, "a", None, 1, SkipReason.ITSELF, "no rows")
    go_on(execution, NOW)
    assert states(execution) == {"a": "skipped", "b": "skipped", "c": "running"}
    assert why(execution, "b") == (SkipReason.UPSTREAM_SKIPPED, "task 'a' was skipped")


@pytest.mark.parametrize("skip_first", [True, False])
def test_the_order_of_a_skip_and_a_failure_changes_no_end(skip_first: bool) -> None:
    execution = begin(
        A,
        PlannedTask("s"),
        PlannedTask("c", ("s", "a")),
        PlannedTask("d", ("c",), TriggerRule.NONE_FAILED),
    )
    go_on(execution, NOW)
    ends = {"s": Skipped(), "a": Failed("boom")}
    for name in ("s", "a") if skip_first else ("a", "s"):
        execution.settle(name, ends[name], NOW)
        go_on(execution, NOW)
    assert states(execution) == {"a": "failed", "s": "skipped", "c": "skipped", "d": "skipped"}
    assert why(execution, "c") == (SkipReason.UPSTREAM_FAILED, "task 'a' failed")


def test_without_rules_about_failures_a_skip_does_not_wait_for_the_other_tasks() -> None:
    execution = begin(A, PlannedTask("s"), PlannedTask("c", ("s", "a")))
    go_on(execution, NOW)
    execution.settle("s", Skipped(), NOW)
    go_on(execution, NOW)
    assert states(execution) == {"a": "running", "s": "skipped", "c": "skipped"}


def test_the_explanation_of_a_skip_is_cut() -> None:
    execution = begin(A)
    go_on(execution, NOW)
    fact = execution.settle("a", Skipped("x" * 1000), NOW)
    assert isinstance(fact, TaskSkipped)
    assert fact.why == "x" * (WHY - 1) + "…"


def test_a_mark_says_who_skipped_the_task() -> None:
    execution = begin(A)
    execution.mark("a", State.SKIPPED, NOW, "ann")
    assert why(execution, "a") == (SkipReason.HAND, "marked by ann")
    skip = WhySkipped(SkipReason.HAND, "marked by ann")
    assert execution.summary().tasks[0].skip == skip
    go_on(execution, NOW)
    execution.mark("a", State.SUCCESSFUL, NOW, "ann")
    assert execution.tasks["a"].skip is None


# -- branches --------------------------------------------------------------------------


def branching(*chosen: str, others: tuple[PlannedTask, ...] = ()) -> Execution:
    """A branch before x and y, which has succeeded."""
    execution = begin(
        PICK,
        PlannedTask("x", ("pick",)),
        PlannedTask("y", ("pick",), TriggerRule.ALWAYS),
        PlannedTask("join", ("x", "y"), TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL),
        *others,
    )
    go_on(execution, NOW)
    assert states(execution)["y"] == "notstarted", "it waits for the branch whatever its rule"
    execution.settle("pick", Succeeded(chosen=chosen), NOW)
    go_on(execution, NOW)
    return execution


def test_a_branch_skips_the_tasks_that_it_did_not_choose() -> None:
    execution = branching("x")
    assert states(execution) == {
        "pick": "successful",
        "x": "running",
        "y": "skipped",
        "join": "notstarted",
    }
    assert why(execution, "y") == (SkipReason.BRANCH, "branch 'pick' chose 'x'")
    execution.settle("x", Succeeded(), NOW)
    go_on(execution, NOW)
    assert states(execution)["join"] == "running"


def test_a_branch_may_choose_no_task_and_skips_cascade() -> None:
    execution = branching()
    assert states(execution) == {
        "pick": "successful",
        "x": "skipped",
        "y": "skipped",
        "join": "skipped",
    }
    assert execution.state is State.SUCCESSFUL
    assert why(execution, "x") == (SkipReason.BRANCH, "branch 'pick' chose no task")
    assert why(execution, "join") == (SkipReason.UPSTREAM_SKIPPED, "task 'x' was skipped")


def test_after_a_branch_that_failed_or_was_marked_the_trigger_rules_decide() -> None:
    execution = begin(PICK, PlannedTask("x", ("pick",)), PlannedTask("y", ("pick",)))
    go_on(execution, NOW)
    execution.settle("pick", Failed("boom"), NOW)
    go_on(execution, NOW)
    assert states(execution) == {"pick": "failed", "x": "skipped", "y": "skipped"}
    assert why(execution, "x") == (SkipReason.UPSTREAM_FAILED, "task 'pick' failed")
    execution.mark("pick", State.SUCCESSFUL, NOW)
    execution.retry(NOW)
    go_on(execution, NOW)
    assert states(execution) == {"pick": "successful", "x": "running", "y": "running"}


def test_a_retry_keeps_the_choice_unless_the_branch_runs_again() -> None:
    execution = branching("x")
    execution.settle("x", Failed("boom"), NOW)
    go_on(execution, NOW)
    execution.retry(NOW)
    go_on(execution, NOW)
    assert (states(execution)["x"], states(execution)["y"]) == ("running", "skipped")
    execution.cancel(NOW)
    execution.settle("x", Failed("boom"), NOW)
    go_on(execution, NOW)
    execution.retry(NOW, "pick")
    go_on(execution, NOW)
    execution.settle("pick", Succeeded(chosen=("y",)), NOW)
    go_on(execution, NOW)
    assert (states(execution)["x"], states(execution)["y"]) == ("skipped", "running")


def test_a_task_after_two_branches_runs_if_both_choose_it() -> None:
    both = PlannedTask("both", ("pick", "other"))
    for chosen, end in ((("both",), "running"), ((), "skipped")):
        execution = begin(PICK, PlannedTask("other", branch=True), both)
        go_on(execution, NOW)
        execution.settle("pick", Succeeded(chosen=("both",)), NOW)
        go_on(execution, NOW)
        assert states(execution)["both"] == "notstarted"
        execution.settle("other", Succeeded(chosen=chosen), NOW)
        go_on(execution, NOW)
        assert states(execution)["both"] == end


def test_a_detail_has_the_choice_and_the_reasons() -> None:
    plan = Plan((PICK, PlannedTask("x", ("pick",)), PlannedTask("y", ("pick",))))
    branch, itself = SkipReason.BRANCH, SkipReason.ITSELF
    facts: list[AnyFact] = [
        submitted(),
        TaskStarted(NOW, "pick", 1),
        TaskSucceeded(NOW, "pick", 1, chosen=("x",)),
        TaskSkipped(NOW, "y", reason=branch, why="branch 'pick' chose 'x'"),
        TaskStarted(NOW, "x", 1),
        TaskSkipped(NOW + SECOND, "x", None, 1, itself, "no rows"),
    ]
    pick, x, y = Detail.replay(plan, facts).tasks
    assert (pick.branch, pick.chosen) == (True, ("x",))
    assert x.skip == WhySkipped(itself, "no rows")
    assert [attempt.state for attempt in x.attempts] == [State.SKIPPED]
    assert y.skip == WhySkipped(branch, "branch 'pick' chose 'x'")
    assert y.attempts == []


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (TaskSucceeded(NOW, "pick", 1), "a task that is a branch"),
        (TaskSucceeded(NOW, "a", 1, chosen=()), "a task that is no branch"),
        (TaskSucceeded(NOW, "pick", 1, chosen=("a",)), "not directly downstream"),
        (TaskSucceeded(NOW, "pick", 1, chosen=("z",)), "not directly downstream"),
        (TaskSkipped(NOW, "a", None, 2, SkipReason.ITSELF), "while running, attempt 1"),
        (TaskSkipped(NOW, "a", None, 1, SkipReason.BRANCH), "while running, attempt 1"),
        (TaskSkipped(NOW, "x", reason=SkipReason.BRANCH), "can still be met"),
        (TaskSkipped(NOW, "late", reason=SkipReason.BRANCH), "against the choice"),
        (TaskSkipped(NOW, "late", reason=SkipReason.HAND), "while notstarted"),
        (TaskSkipped(NOW, "late", None, 1, SkipReason.ITSELF), "while notstarted"),
    ],
)
def test_an_impossible_choice_or_skip_is_refused_and_changes_nothing(
    fact: AnyFact, reason: str
) -> None:
    execution = begin(
        A,
        PICK,
        PlannedTask("x", ("pick",)),
        PlannedTask("f"),
        PlannedTask("late", ("f",)),
    )
    go_on(execution, NOW)
    execution.settle("f", Failed("boom"), NOW)
    before = dump(execution)
    with pytest.raises(IllegalTransition, match=reason):
        execution.apply(fact)
    assert dump(execution) == before


# -- stores of older versions ----------------------------------------------------------


def test_a_skip_without_a_reason_counts_as_skipped_as_it_did() -> None:
    """Older versions ran c here. Its start must stay possible."""
    plan = Plan((A, B, PlannedTask("c", ("b",), TriggerRule.NONE_FAILED)))
    kept: list[AnyFact] = [
        submitted(),
        TaskStarted(NOW, "a", 1),
        TaskFailed(NOW, "a", 1, "boom"),
        TaskSkipped(NOW, "b"),
        TaskStarted(NOW, "c", 1),
    ]
    unfinished = Execution.replay(plan, kept[:-1])
    assert unfinished.newly_ready(NOW) == ["c"], "it goes on as it would have"
    execution = Execution.replay(plan, kept)
    assert execution.tasks["b"].skip is None
    assert states(execution) == {"a": "failed", "b": "skipped", "c": "running"}


def test_a_skip_that_did_not_wait_for_its_reason_is_still_allowed() -> None:
    plan = Plan(
        (
            A,
            PlannedTask("s"),
            PlannedTask("c", ("s", "a")),
            PlannedTask("d", ("c",), TriggerRule.NONE_FAILED),
        )
    )
    kept: list[AnyFact] = [
        submitted(),
        TaskStarted(NOW, "a", 1),
        TaskStarted(NOW, "s", 1),
        TaskSkipped(NOW, "s", None, 1, SkipReason.ITSELF),
        TaskSkipped(NOW, "c"),
        TaskStarted(NOW, "d", 1),
    ]
    assert states(Execution.replay(plan, kept))["d"] == "running"
