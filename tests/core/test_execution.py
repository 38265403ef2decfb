"""One execution, step by step, and the work a step costs."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec import Raw

from goflow.core import progress
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    Retried,
    TaskCancelled,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.execution import (
    INTERRUPTED,
    Cancelled,
    Execution,
    Failed,
    IllegalTransition,
    Outcome,
    Succeeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State, Tally, TriggerRule, Verdict, verdict
from tests.core.histories import NOW, SECOND, begin, dump, submitted

A, B = PlannedTask("a"), PlannedTask("b", ("a",))


def states(execution: Execution) -> dict[str, str]:
    return {name: str(task.state) for name, task in execution.tasks.items()}


def test_tasks_run_one_after_the_other_and_the_execution_ends_successful() -> None:
    execution = begin(A, B)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "a", 1)]
    assert execution.settle("a", Succeeded(Raw(b"1")), NOW) == TaskSucceeded(NOW, "a", 1, Raw(b"1"))
    assert go_on(execution, NOW) == [TaskStarted(NOW, "b", 1)]
    assert execution.results_for("b") == {"a": Raw(b"1")}
    execution.settle("b", Succeeded(), NOW + SECOND)
    assert go_on(execution, NOW + SECOND) == [Finished(NOW + SECOND, "successful")]
    assert (execution.state, execution.started_at) == (State.SUCCESSFUL, NOW)
    assert execution.finished_at == execution.modified_at == NOW + SECOND


def test_no_more_tasks_start_than_there_are_slots_and_those_added_first_start_first() -> None:
    execution = begin(*(PlannedTask(name) for name in "cab"))
    assert execution.wants_slots(NOW) == 3
    assert execution.advance(NOW, -1) == []
    assert execution.advance(NOW, 0) == []
    assert execution.advance(NOW, 2) == [TaskStarted(NOW, "c", 1), TaskStarted(NOW, "a", 1)]
    assert execution.wants_slots(NOW) == 1
    assert execution.running == ["c", "a"]


def test_skips_cascade_in_one_step_and_clean_up_runs() -> None:
    execution = begin(
        A, B, PlannedTask("c", ("b",)), PlannedTask("clean", ("c",), TriggerRule.ALL_DONE)
    )
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    assert go_on(execution, NOW) == [
        TaskSkipped(NOW, "b"),
        TaskSkipped(NOW, "c"),
        TaskStarted(NOW, "clean", 1),
    ]


def test_an_execution_with_a_failed_task_is_failed_whatever_ran_after_it() -> None:
    execution = begin(A, PlannedTask("alarm", ("a",), TriggerRule.ONE_FAILED))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    go_on(execution, NOW)
    execution.settle("alarm", Succeeded(), NOW)
    assert go_on(execution, NOW) == [Finished(NOW, "failed")]
    assert states(execution) == {"a": "failed", "alarm": "successful"}


def test_one_upstream_task_is_enough_without_waiting_for_the_others() -> None:
    execution = begin(
        A, PlannedTask("slow"), PlannedTask("c", ("a", "slow"), TriggerRule.ONE_SUCCESSFUL)
    )
    go_on(execution, NOW)
    execution.settle("a", Succeeded(), NOW)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "c", 1)]
    assert execution.running == ["slow", "c"]


def test_a_retry_waits_for_its_delay_and_holds_nobody_up() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b"))
    go_on(execution, NOW)
    due = NOW + timedelta(seconds=2.5)
    assert execution.will_retry("a", Failed("boom"))
    assert execution.settle("a", Failed("boom"), NOW, delay=2.5) == AttemptFailed(
        NOW, "a", 1, "boom", due
    )
    assert execution.next_retry() == due
    execution.settle("b", Succeeded(), NOW)
    assert go_on(execution, due - SECOND) == []
    assert execution.wants_slots(due - SECOND) == 0
    assert execution.wants_slots(due) == 1
    assert execution.next_retry() is None
    assert go_on(execution, due) == [TaskStarted(due, "a", 2)]
    assert not execution.will_retry("a", Failed("boom"))
    assert execution.settle("a", Failed("again"), due) == TaskFailed(due, "a", 2, "again")


def test_a_final_failure_is_not_tried_again() -> None:
    execution = begin(PlannedTask("a", retries=3))
    go_on(execution, NOW)
    assert not execution.will_retry("a", Failed("boom", final=True))
    assert execution.settle("a", Failed("boom", final=True), NOW) == TaskFailed(NOW, "a", 1, "boom")


def test_interrupted_attempts_are_tried_again_at_once_or_fail_visibly() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b"))
    go_on(execution, NOW)
    later = NOW + SECOND
    assert execution.interrupt(later) == [
        AttemptFailed(later, "a", 1, INTERRUPTED, later),
        TaskFailed(later, "b", 1, INTERRUPTED),
    ]
    assert go_on(execution, later) == [TaskStarted(later, "a", 2)]


def test_cancelling_ends_what_waits_at_once_and_what_runs_when_it_has_stopped() -> None:
    execution = begin(A, B, PlannedTask("c", retries=1))
    go_on(execution, NOW)
    execution.settle("c", Failed("boom"), NOW, delay=60)
    assert execution.cancel(NOW) == [CancelRequested(NOW)]
    assert execution.cancel(NOW) == []
    assert execution.wants_slots(NOW) == 0
    assert go_on(execution, NOW) == [TaskCancelled(NOW, "b"), TaskCancelled(NOW, "c")]
    assert execution.settle("a", Cancelled(), NOW) == TaskCancelled(NOW, "a", 1)
    assert go_on(execution, NOW) == [Finished(NOW, "cancelled")]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded(), "cancelled"),
        (Cancelled(), "cancelled"),
        (Failed("boom"), "failed"),
    ],
)
def test_a_cancel_that_was_accepted_shows_even_if_the_last_attempt_came_to_its_end(
    outcome: Outcome, state: str
) -> None:
    execution = begin(PlannedTask("a", retries=5))
    go_on(execution, NOW)
    execution.cancel(NOW)
    execution.settle("a", outcome, NOW)
    assert go_on(execution, NOW) == [Finished(NOW, state)]


def test_a_retry_by_hand_keeps_what_succeeded_and_numbers_attempts_on() -> None:
    execution = begin(PlannedTask("a"), PlannedTask("b", ("a",), retries=1), PlannedTask("c"))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    execution.settle("c", Succeeded(), NOW)
    go_on(execution, NOW)
    assert states(execution) == {"a": "failed", "b": "skipped", "c": "successful"}
    assert execution.retry(NOW) == [Retried(NOW, ("a", "b"))]
    assert execution.state is State.NOTSTARTED
    assert execution.finished_at is None
    assert go_on(execution, NOW) == [TaskStarted(NOW, "a", 2)]
    execution.settle("a", Succeeded(), NOW)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "b", 1)]
    execution.settle("b", Succeeded(), NOW)
    assert go_on(execution, NOW) == [Finished(NOW, "successful")]
    assert execution.retry(NOW) == []


def test_an_unfinished_execution_is_not_sent_round_again() -> None:
    execution = begin(A)
    assert execution.retry(NOW) == []


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (submitted(), "cannot follow another fact"),
        (TaskStarted(NOW, "nobody", 1), "no task 'nobody'"),
        (TaskStarted(NOW, "a", 2), "while running|follows attempt 1"),
        (TaskStarted(NOW, "b", 1), "allSuccessful is not met"),
        (TaskStarted(NOW, "c", 2), "follows attempt 0"),
        (TaskSucceeded(NOW, "a", 2), "while running, attempt 1"),
        (TaskSucceeded(NOW, "c", 0), "while notstarted"),
        (AttemptFailed(NOW, "a", 1, "boom", NOW), "no retries left"),
        (TaskFailed(NOW, "a", 0, "boom"), "while running, attempt 1"),
        (TaskSkipped(NOW, "b"), "can still be met"),
        (TaskCancelled(NOW, "a"), "while attempt 1 is running"),
        (TaskCancelled(NOW, "b", 1), "while attempt 0 is running"),
        (Finished(NOW, "successful"), "3 tasks unfinished"),
        (Retried(NOW, ("a",)), "while running"),
    ],
)
def test_what_cannot_have_happened_is_refused_and_changes_nothing(
    fact: AnyFact, reason: str
) -> None:
    execution = begin(A, B, PlannedTask("c"))
    execution.advance(NOW, 1)
    before = dump(execution)
    with pytest.raises(IllegalTransition, match=reason):
        execution.apply(fact)
    assert dump(execution) == before


@pytest.mark.parametrize("state", ["failed", "cancelled", "running", "nonsense"])
def test_an_execution_finishes_only_in_the_state_its_tasks_give(state: str) -> None:
    execution = begin(A)
    execution.advance(NOW, 1)
    execution.settle("a", Succeeded(), NOW)
    with pytest.raises(IllegalTransition, match="of an execution that is successful"):
        execution.apply(Finished(NOW, state))


@pytest.mark.parametrize("tasks", [(), ("b",), ("a", "a"), ("nobody",), ("a", "nobody")])
def test_only_what_did_not_succeed_is_sent_round_again(tasks: tuple[str, ...]) -> None:
    execution = begin(A, PlannedTask("b"))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    execution.settle("b", Succeeded(), NOW)
    go_on(execution, NOW)
    before = dump(execution)
    with pytest.raises(IllegalTransition):
        execution.apply(Retried(NOW, tasks))
    assert dump(execution) == before


@pytest.mark.parametrize("facts", [[], [TaskStarted(NOW, "a", 1)]])
def test_the_facts_of_an_execution_begin_with_its_submission(facts: list[AnyFact]) -> None:
    with pytest.raises(IllegalTransition, match="begin with Submitted"):
        Execution.replay(Plan((A,)), facts)


# -- the work a step costs -------------------------------------------------------------


def layers(tasks: int, width: int = 100) -> Plan:
    """Each task waits for three of the layer before."""
    return Plan(
        tuple(
            PlannedTask(
                f"{number}",
                tuple(
                    f"{number - number % width - width + (number + step) % width}"
                    for step in range(3)
                )
                if number >= width
                else (),
            )
            for number in range(tasks)
        )
    )


def chain(tasks: int) -> Plan:
    return Plan(
        tuple(
            PlannedTask(f"{number}", (f"{number - 1}",) if number else ())
            for number in range(tasks)
        )
    )


def wide(tasks: int) -> Plan:
    return Plan(tuple(PlannedTask(f"{number}") for number in range(tasks)))


def star(tasks: int) -> Plan:
    """All wait for the first; the last waits for all."""
    rays = tuple(f"{number}" for number in range(1, tasks - 1))
    return Plan(
        (
            PlannedTask("0"),
            *(PlannedTask(ray, ("0",)) for ray in rays),
            PlannedTask(f"{tasks - 1}", rays),
        )
    )


def run(plan: Plan, outcome: Outcome, slots: int = 100) -> list[AnyFact]:
    """The facts of an execution in which every attempt ends so."""
    execution = Execution(plan, submitted())
    facts: list[AnyFact] = [submitted()]
    while not execution.finished:
        facts += execution.advance(NOW, slots - len(execution.running))
        facts += [execution.settle(name, outcome, NOW) for name in execution.running]
    return facts


SHAPES = [layers, chain, wide, star]
OUTCOMES = [Succeeded(), Failed("boom")]


def size(plan: Plan) -> int:
    """How many tasks and edges there are."""
    return sum(1 + len(task.after) for task in plan.tasks)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TriggerRule]:
    """The rules asked for their verdict, one by one."""
    asked: list[TriggerRule] = []

    def noting(rule: TriggerRule, tally: Tally) -> Verdict:
        asked.append(rule)
        return verdict(rule, tally)

    monkeypatch.setattr(progress, "verdict", noting)
    return asked


@pytest.mark.parametrize("tasks", [1_000, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=["succeed", "fail"])
def test_a_rule_is_asked_once_per_task_and_once_per_edge_at_most(
    asked: list[TriggerRule], shape: Callable[[int], Plan], tasks: int, outcome: Outcome
) -> None:
    plan = shape(tasks)
    facts = run(plan, outcome)
    assert tasks <= len(asked) <= size(plan)
    living = len(asked)
    Execution.replay(plan, facts)
    assert len(asked) == 2 * living


@pytest.mark.parametrize("slots", [1, 100])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=["succeed", "fail"])
def test_the_work_grows_with_tasks_and_edges_and_no_faster(
    shape: Callable[[int], Plan], outcome: Outcome, slots: int
) -> None:
    work = []
    for tasks in (300, 3_000):
        plan = shape(tasks)
        with counted_calls() as calls:
            run(plan, outcome, slots)
        work.append(calls[0] / size(plan))
    assert work[1] <= 1.1 * work[0]
