"""One execution, step by step, and the cost of a step."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec import Raw

from goflow.core import runs
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
    decode_facts,
)
from goflow.core.execution import (
    INTERRUPTED,
    INTERRUPTIONS,
    Cancelled,
    Execution,
    Failed,
    Outcome,
    Succeeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.standing import IllegalTransition
from goflow.core.states import Rule, SkipReason, State, Tally, TriggerRule, Verdict, rule_for
from tests.core.counting import counted_calls, counted_lines
from tests.core.histories import NOW, SECOND, begin, dump, go_on, submitted

A, B = PlannedTask("a"), PlannedTask("b", ("a",))
FAILED, CANCELLED = SkipReason.UPSTREAM_FAILED, SkipReason.UPSTREAM_CANCELLED


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


def test_ready_tasks_are_announced_once_in_the_order_added() -> None:
    execution = begin(*(PlannedTask(name) for name in "cab"), PlannedTask("d", ("a",)))
    assert execution.newly_ready(NOW) == ["c", "a", "b"]
    assert execution.newly_ready(NOW) == []
    execution.advance(NOW, ["a"])
    execution.settle("a", Succeeded(), NOW)
    assert execution.newly_ready(NOW) == ["d"]
    assert execution.newly_ready(NOW) == []
    assert [name for name in "abcd" if execution.is_ready(name)] == ["b", "c", "d"]


def test_granted_tasks_start_in_the_order_granted_and_only_if_ready() -> None:
    execution = begin(*(PlannedTask(name) for name in "cab"), PlannedTask("d", ("a",)))
    assert execution.advance(NOW) == []
    assert execution.advance(NOW, ["d", "a", "nobody", "c", "a"]) == [
        TaskStarted(NOW, "a", 1),
        TaskStarted(NOW, "c", 1),
    ]
    assert execution.running == ["a", "c"]
    assert execution.advance(NOW, ["a", "c"]) == []


def test_the_order_in_which_tasks_become_ready_is_the_same_in_every_process() -> None:
    """It does not depend on Python's hash seed."""
    script = """
from tests.core.histories import NOW, begin
from goflow.core.execution import Failed
from goflow.core.graph import PlannedTask
names = [f"task {number}" for number in range(20)]
execution = begin(
    PlannedTask("first"), *(PlannedTask(name, ("first",), retries=1) for name in names)
)
execution.advance(NOW, ["first"])
execution.settle("first", Failed("boom"), NOW)
execution.mark("first", "successful", NOW)
for _ in range(3):
    ready = execution.newly_ready(NOW)
    print(ready, execution.advance(NOW, ready))
    for name in execution.running:
        execution.settle(name, Failed("boom"), NOW)
    print(execution.advance(NOW))
execution.retry(NOW, "first")
print(execution.cancel(NOW), execution.advance(NOW), execution.retry(NOW))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith("['task 0', 'task 1', 'task 2', 'task 3'")


def test_skips_cascade_in_one_step_and_clean_up_runs() -> None:
    execution = begin(
        A, B, PlannedTask("c", ("b",)), PlannedTask("clean", ("c",), TriggerRule.ALL_DONE)
    )
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    assert go_on(execution, NOW) == [
        TaskSkipped(NOW, "b", reason=FAILED, why="task 'a' failed"),
        TaskSkipped(NOW, "c", reason=FAILED, why="task 'b' was skipped because of a failure"),
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


def test_one_successful_runs_without_waiting_for_the_other_upstream_tasks() -> None:
    execution = begin(
        A, PlannedTask("slow"), PlannedTask("c", ("a", "slow"), TriggerRule.ONE_SUCCESSFUL)
    )
    go_on(execution, NOW)
    execution.settle("a", Succeeded(), NOW)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "c", 1)]
    assert execution.running == ["slow", "c"]


def test_a_retry_waits_for_its_delay_and_delays_no_other_task() -> None:
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
    assert execution.newly_ready(due - SECOND) == []
    assert not execution.is_ready("a")
    assert execution.newly_ready(due) == ["a"]
    assert execution.next_retry() is None
    assert execution.newly_ready(due) == []
    assert execution.advance(due, ["a"]) == [TaskStarted(due, "a", 2)]
    assert not execution.will_retry("a", Failed("boom"))
    assert execution.settle("a", Failed("again"), due) == TaskFailed(due, "a", 2, "again")


def test_a_final_failure_is_not_retried() -> None:
    execution = begin(PlannedTask("a", retries=3))
    go_on(execution, NOW)
    assert not execution.will_retry("a", Failed("boom", final=True))
    assert execution.settle("a", Failed("boom", final=True), NOW) == TaskFailed(NOW, "a", 1, "boom")


def test_interrupted_attempts_are_retried_at_once_or_fail_visibly() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b"))
    go_on(execution, NOW)
    later = NOW + SECOND
    assert execution.interrupt(later) == [
        AttemptFailed(later, "a", 1, INTERRUPTED, later, interrupted=True),
        TaskFailed(later, "b", 1, INTERRUPTED, interrupted=True),
    ]
    assert go_on(execution, later) == [TaskStarted(later, "a", 2)]


def test_interruptions_and_retries_are_counted_separately() -> None:
    execution = begin(PlannedTask("a", retries=2))
    for failures in range(3):
        for _ in range(20):
            go_on(execution, NOW)
            execution.interrupt(NOW)
            assert execution.tasks["a"].state == "upforretry"
        go_on(execution, NOW)
        fact = execution.settle("a", Failed("boom"), NOW)
        assert isinstance(fact, TaskFailed) == (failures == 2)


def test_a_task_interrupted_too_often_in_a_row_fails() -> None:
    """It may be the task that kills the server. A failure of its own resets the count."""
    execution = begin(PlannedTask("a", retries=2))
    for failures in range(2):
        for _ in range(INTERRUPTIONS):
            go_on(execution, NOW)
            assert execution.interrupt(NOW)[0] == AttemptFailed(
                NOW, "a", execution.tasks["a"].attempt, INTERRUPTED, NOW, interrupted=True
            )
        go_on(execution, NOW)
        if not failures:
            execution.settle("a", Failed("boom"), NOW)
    (last,) = execution.interrupt(NOW)
    assert isinstance(last, TaskFailed)
    assert last.interrupted
    assert last.error == f"{INTERRUPTED}; this is interruption 101 in a row, so it is not retried"


def test_facts_from_before_interruptions_were_counted_separately_keep_their_meaning() -> None:
    before = b'[{"fact":"AttemptFailed","at":"2026-01-01T00:00:00Z","task":"a","attempt":1,'
    before += b'"error":"interrupted","retry_at":"2026-01-01T00:00:00Z"}]'
    execution = begin(PlannedTask("a", retries=1))
    go_on(execution, NOW)
    for fact in decode_facts(before):
        execution.apply(fact)
    assert execution.tasks["a"].retries_left == 0
    assert go_on(execution, NOW) == [TaskStarted(NOW, "a", 2)]


def test_a_clock_change_moves_no_retry_and_no_deadline() -> None:
    hour = timedelta(hours=1)
    for skew in (hour, -hour):
        execution = begin(PlannedTask("a", retries=2), timeout=60)
        go_on(execution, NOW)
        execution.settle("a", Failed("boom"), NOW, delay=10)
        execution.skew = skew
        now = NOW + skew
        assert execution.next_retry() == now + 10 * SECOND
        assert execution.deadline() == now + 60 * SECOND
        assert go_on(execution, now + 9 * SECOND) == []
        assert go_on(execution, now + 10 * SECOND) == [TaskStarted(now + 10 * SECOND, "a", 2)]
        execution.settle("a", Failed("boom"), now + 10 * SECOND, delay=100)
        execution.skew = timedelta(0)  # the clock is corrected
        assert execution.next_retry() == NOW + 110 * SECOND
        assert go_on(execution, NOW + 59 * SECOND) == []
        assert CancelRequested(NOW + 60 * SECOND, timeout=60) in go_on(execution, NOW + 60 * SECOND)


def test_impossible_facts_are_ignored_and_reported() -> None:
    plan = Plan((A, B))
    good = [
        submitted(),
        TaskStarted(NOW, "a", 1),
        TaskSucceeded(NOW, "a", 1),
        TaskStarted(NOW, "b", 1),
    ]
    assert Execution.salvage(plan, good).damage is None
    damaged = [*good[:2], TaskSucceeded(NOW, "z", 1), Finished(NOW, "failed"), *good[2:]]
    execution, kept, damage = Execution.salvage(plan, damaged)
    assert kept == good
    assert damage is not None
    assert damage.startswith("fact 3 of 6 is impossible: ")
    assert "'z'" in damage
    assert execution.summary() == Execution.replay(plan, good).summary()


def test_an_aborted_execution_fails_with_the_reason_and_keeps_finished_tasks() -> None:
    execution = begin(A, PlannedTask("b", ("a",)), PlannedTask("c", retries=3), PlannedTask("d"))
    go_on(execution, NOW)
    execution.settle("a", Succeeded(), NOW)
    execution.settle("d", Failed("boom"), NOW)
    facts = execution.abort(NOW, "its history is damaged")
    assert facts[0] == CancelRequested(NOW, defect="its history is damaged")
    assert execution.state == "failed"
    assert execution.reason == "a defect in goflow: its history is damaged"
    assert [task.state for task in execution.tasks.values()] == [
        "successful",
        "cancelled",
        "failed",
        "failed",
    ]
    assert execution.abort(NOW, "again") == []


def test_cancelling_ends_waiting_tasks_at_once_and_running_ones_when_they_have_stopped() -> None:
    execution = begin(A, B, PlannedTask("c", retries=1))
    go_on(execution, NOW)
    execution.settle("c", Failed("boom"), NOW, delay=60)
    assert execution.cancel(NOW) == [CancelRequested(NOW)]
    assert execution.cancel(NOW) == []
    assert execution.newly_ready(NOW + 60 * SECOND) == []
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
def test_an_accepted_cancel_shows_even_if_the_last_attempt_ended_first(
    outcome: Outcome, state: str
) -> None:
    execution = begin(PlannedTask("a", retries=5))
    go_on(execution, NOW)
    execution.cancel(NOW)
    execution.settle("a", outcome, NOW)
    assert go_on(execution, NOW) == [Finished(NOW, state)]


def test_a_manual_retry_keeps_successful_tasks_and_continues_the_attempt_numbers() -> None:
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


def test_an_unfinished_execution_cannot_be_retried() -> None:
    execution = begin(A)
    assert execution.retry(NOW) == []


# -- cancelling one task ---------------------------------------------------------------


def test_a_task_cancelled_while_waiting_never_starts_and_the_others_continue() -> None:
    execution = begin(A, B, PlannedTask("c"))
    execution.advance(NOW, ["a"])
    assert execution.cancel_task("c", NOW, "ann") == [TaskCancelRequested(NOW, "c", "ann")]
    assert execution.cancel_task("b", NOW) == [TaskCancelRequested(NOW, "b")]
    assert execution.cancel_task("b", NOW) == []
    assert (execution.cancel_requested, execution.is_ready("c")) == (["c", "b"], False)
    execution.settle("a", Succeeded(), NOW)
    assert execution.newly_ready(NOW) == []
    assert not execution.is_ready("b")
    assert execution.advance(NOW, ["b", "c"]) == [
        TaskCancelled(NOW, "c"),
        TaskCancelled(NOW, "b"),
        Finished(NOW, "cancelled"),
    ]
    assert execution.cancel_requested == []


def test_a_cancelled_running_task_ends_when_it_has_stopped() -> None:
    execution = begin(PlannedTask("a", retries=5), PlannedTask("b"))
    go_on(execution, NOW)
    execution.cancel_task("a", NOW)
    assert execution.is_cancelling("a")
    assert not execution.is_cancelling("b")
    assert not execution.will_retry("a", Failed("boom"))
    assert go_on(execution, NOW) == []
    assert (execution.running, execution.cancel_requested) == (["a", "b"], ["a"])
    assert execution.settle("a", Cancelled(), NOW) == TaskCancelled(NOW, "a", 1)
    execution.settle("b", Succeeded(), NOW)
    assert go_on(execution, NOW) == [Finished(NOW, "cancelled")]


@pytest.mark.parametrize(
    ("outcome", "state"), [(Succeeded(), "successful"), (Failed("boom"), "failed")]
)
def test_an_attempt_that_ends_before_it_is_stopped_keeps_its_outcome(
    outcome: Outcome, state: str
) -> None:
    execution = begin(PlannedTask("a", retries=5))
    go_on(execution, NOW)
    execution.cancel_task("a", NOW)
    execution.settle("a", outcome, NOW)
    assert go_on(execution, NOW) == [Finished(NOW, state)]


def test_a_task_cancelled_between_attempts_has_no_further_attempt() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b"))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW, delay=5)
    execution.cancel_task("a", NOW)
    assert execution.next_retry() is None
    assert execution.newly_ready(NOW + 5 * SECOND) == []
    assert execution.advance(NOW + 5 * SECOND, ["a"]) == [TaskCancelled(NOW + 5 * SECOND, "a")]


def test_after_a_restart_a_task_being_cancelled_is_cancelled_and_others_are_retried() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b", retries=1))
    go_on(execution, NOW)
    execution.cancel_task("a", NOW)
    assert execution.interrupt(NOW) == [
        TaskCancelled(NOW, "a", 1),
        AttemptFailed(NOW, "b", 1, INTERRUPTED, NOW, interrupted=True),
    ]
    assert go_on(execution, NOW) == [TaskStarted(NOW, "b", 2)]


def test_tasks_after_a_cancelled_one_follow_their_trigger_rules() -> None:
    execution = begin(A, B, PlannedTask("clean", ("a",), TriggerRule.ALL_DONE))
    execution.cancel_task("a", NOW)
    assert go_on(execution, NOW) == [
        TaskCancelled(NOW, "a"),
        TaskSkipped(NOW, "b", reason=CANCELLED, why="task 'a' was cancelled"),
        TaskStarted(NOW, "clean", 1),
    ]


def test_a_finished_task_and_one_in_a_cancelled_execution_cannot_be_cancelled() -> None:
    execution = begin(A, PlannedTask("b"))
    go_on(execution, NOW)
    execution.settle("a", Succeeded(), NOW)
    assert execution.cancel_task("a", NOW) == []
    execution.cancel(NOW)
    assert execution.cancel_task("b", NOW) == []


# -- marking tasks ---------------------------------------------------------------------


def test_a_mark_in_an_unfinished_execution_reevaluates_waiting_tasks_only() -> None:
    execution = begin(
        A,
        B,
        PlannedTask("slow"),
        PlannedTask("later", ("a", "slow")),
        PlannedTask("alarm", ("a", "slow"), TriggerRule.ALL_FAILED),
    )
    execution.advance(NOW, ["a", "slow"])
    execution.settle("a", Failed("boom"), NOW)
    assert execution.advance(NOW, []) == [
        TaskSkipped(NOW, "b", reason=FAILED, why="task 'a' failed"),
        TaskSkipped(NOW, "later", reason=FAILED, why="task 'a' failed"),
    ]
    assert execution.mark("a", State.SUCCESSFUL, NOW, "ann") == [MarkedSuccessful(NOW, "a", "ann")]
    assert states(execution)["b"] == "skipped"
    why = "task 'a' was successful"
    assert execution.advance(NOW) == [
        TaskSkipped(NOW, "alarm", reason=SkipReason.UPSTREAM_SUCCESSFUL, why=why)
    ]
    execution.settle("slow", Succeeded(), NOW)
    assert go_on(execution, NOW) == [Finished(NOW, "successful")]


def test_a_mark_before_the_next_advance_lets_the_next_task_run() -> None:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    execution.settle("a", Failed("boom"), NOW)
    execution.mark("a", State.SUCCESSFUL, NOW)
    assert execution.newly_ready(NOW) == ["b"]
    assert execution.results_for("b") == {}
    assert execution.advance(NOW, ["b"]) == [TaskStarted(NOW, "b", 1)]


def test_a_mark_can_make_a_task_unready_and_another_announces_it_again() -> None:
    alarm = PlannedTask("alarm", ("a",), TriggerRule.ALL_FAILED)
    execution = begin(A, alarm, PlannedTask("always", ("a",), TriggerRule.ALWAYS))
    assert execution.newly_ready(NOW) == ["a", "always"]
    execution.advance(NOW, ["a"])
    execution.settle("a", Failed("boom"), NOW)
    assert execution.newly_ready(NOW) == ["alarm"]
    execution.mark("a", State.SKIPPED, NOW)
    assert not execution.is_ready("alarm")
    assert execution.newly_ready(NOW) == []
    assert execution.is_ready("always")
    why = "task 'a' was skipped"
    assert execution.advance(NOW, ["alarm"]) == [
        TaskSkipped(NOW, "alarm", reason=SkipReason.UPSTREAM_SKIPPED, why=why)
    ]


def test_a_marked_waiting_task_does_not_start() -> None:
    execution = begin(PlannedTask("a", retries=1), PlannedTask("b"))
    execution.advance(NOW, ["a"])
    execution.settle("a", Failed("boom"), NOW, delay=1)
    assert execution.newly_ready(NOW + SECOND) == ["b", "a"]
    execution.mark("a", State.SUCCESSFUL, NOW)
    execution.mark("b", State.SKIPPED, NOW)
    assert execution.next_retry() is None
    assert execution.advance(NOW + SECOND, ["a", "b"]) == [Finished(NOW + SECOND, "successful")]


def test_a_cancelled_task_can_be_marked_while_the_others_run() -> None:
    execution = begin(A, B, PlannedTask("c"))
    execution.advance(NOW, ["c"])
    execution.cancel_task("a", NOW)
    assert execution.mark("a", State.SUCCESSFUL, NOW) == [], "it is being cancelled"
    execution.advance(NOW)
    assert states(execution) == {"a": "cancelled", "b": "skipped", "c": "running"}
    assert execution.mark("a", State.SUCCESSFUL, NOW) == [MarkedSuccessful(NOW, "a")]


@pytest.mark.parametrize("state", [State.SUCCESSFUL, State.SKIPPED])
def test_running_and_successful_tasks_and_those_already_in_the_state_cannot_be_marked(
    state: State,
) -> None:
    execution = begin(A, PlannedTask("b"), PlannedTask("c"))
    execution.advance(NOW, ["a", "b"])
    execution.settle("b", Succeeded(), NOW)
    execution.mark("c", State.SKIPPED, NOW)
    assert execution.mark("a", state, NOW) == []
    assert execution.mark("b", state, NOW) == []
    assert bool(execution.mark("c", state, NOW)) == (state is State.SUCCESSFUL)


def test_marking_the_last_failed_task_makes_a_finished_execution_successful() -> None:
    execution = begin(A, B, PlannedTask("c"))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    execution.settle("c", Failed("boom"), NOW)
    go_on(execution, NOW)
    later = NOW + SECOND
    assert execution.mark("a", State.SUCCESSFUL, later) == [
        MarkedSuccessful(later, "a", "", "failed")
    ]
    assert execution.mark("c", State.SKIPPED, later, "bob") == [
        MarkedSkipped(later, "c", "bob", "successful")
    ]
    assert execution.state is State.SUCCESSFUL
    assert states(execution) == {"a": "successful", "b": "skipped", "c": "skipped"}
    assert (execution.finished_at, execution.modified_at) == (NOW, later)


def test_a_mark_hides_neither_a_cancel_nor_a_timeout_of_the_execution() -> None:
    for facts, state in (
        ([CancelRequested(NOW)], "cancelled"),
        ([CancelRequested(NOW, timeout=1.0)], "failed"),
    ):
        execution = begin(A)
        for fact in facts:
            execution.apply(fact)
        assert go_on(execution, NOW) == [TaskCancelled(NOW, "a"), Finished(NOW, state)]
        assert execution.mark("a", State.SUCCESSFUL, NOW) == [MarkedSuccessful(NOW, "a", "", state)]


# -- retrying --------------------------------------------------------------------------


def ended() -> Execution:
    """a > b > c, and d on its own; only c failed."""
    execution = begin(A, B, PlannedTask("c", ("b",)), PlannedTask("d"))
    for name, outcome in (("a", Succeeded(Raw(b"1"))), ("d", Succeeded()), ("b", Succeeded())):
        execution.advance(NOW, [name])
        execution.settle(name, outcome, NOW)
    execution.advance(NOW, ["c"])
    execution.settle("c", Failed("boom"), NOW)
    execution.advance(NOW)
    assert execution.finished
    return execution


@pytest.mark.parametrize(
    ("task", "following", "again"),
    [
        (None, True, ("c",)),
        ("b", True, ("b", "c")),
        ("a", True, ("a", "b", "c")),
        ("b", False, ("b",)),
        ("d", True, ("d",)),
    ],
)
def test_a_retry_runs_the_chosen_tasks_again(
    task: str | None, following: bool, again: tuple[str, ...]
) -> None:
    execution = ended()
    before = states(execution)
    decided = execution.retry(NOW, task, following=following, params={"x": 1}, by="ann")
    assert decided == [Retried(NOW, again, "ann", {"x": 1}, task)]
    assert states(execution) == before | dict.fromkeys(again, "notstarted")
    assert execution.params == {"x": 1}
    assert execution.started_at is None
    assert execution.newly_ready(NOW) == [again[0]]


def test_a_task_retried_alone_leaves_the_tasks_after_it_unchanged() -> None:
    execution = ended()
    execution.retry(NOW, "b", following=False)
    assert execution.results_for("b") == {"a": Raw(b"1")}
    assert execution.results_for("c") == {}
    assert execution.advance(NOW, ["b", "c"]) == [TaskStarted(NOW, "b", 2)]
    execution.settle("b", Succeeded(), NOW)
    assert go_on(execution, NOW) == [Finished(NOW, "failed")]
    assert states(execution)["c"] == "failed"


def test_a_retry_without_params_keeps_the_params() -> None:
    execution = ended()
    execution.retry(NOW, params={"x": 1})
    execution.cancel(NOW)
    go_on(execution, NOW)
    execution.retry(NOW)
    assert execution.params == {"x": 1}
    execution.cancel(NOW)
    go_on(execution, NOW)
    execution.retry(NOW, params={})
    assert execution.params == {}


def test_a_task_ready_at_a_cancel_is_announced_once_in_the_next_round() -> None:
    execution = begin(A)
    execution.cancel(NOW)
    go_on(execution, NOW)
    execution.retry(NOW)
    assert execution.newly_ready(NOW) == ["a"]


# -- the timeout of an execution -------------------------------------------------------


def test_at_its_deadline_an_execution_is_cancelled_and_fails_with_a_reason() -> None:
    execution = begin(A, B, timeout=2.5)
    assert execution.deadline() is None
    assert execution.advance(NOW + 60 * SECOND, ["a"]) == [TaskStarted(NOW + 60 * SECOND, "a", 1)]
    due = NOW + timedelta(seconds=62.5)
    assert execution.deadline() == due
    just_before = due - timedelta(microseconds=1)
    assert execution.advance(just_before) == []
    assert execution.reason is None
    assert execution.advance(due) == [CancelRequested(due, "", 2.5), TaskCancelled(due, "b")]
    assert execution.deadline() is None
    execution.settle("a", Cancelled(), due)
    assert execution.advance(due) == [Finished(due, "failed")]
    assert execution.reason == "timed out after 2.5 s"
    assert states(execution) == {"a": "cancelled", "b": "cancelled"}


def test_a_task_granted_at_the_deadline_does_not_start() -> None:
    execution = begin(A, PlannedTask("b"), timeout=1)
    execution.advance(NOW, ["a"])
    assert execution.advance(NOW + SECOND, ["b"]) == [
        CancelRequested(NOW + SECOND, "", 1),
        TaskCancelled(NOW + SECOND, "b"),
    ]


def test_a_timeout_does_not_fail_an_execution_whose_tasks_have_all_ended() -> None:
    execution = begin(A, timeout=1)
    execution.advance(NOW, ["a"])
    execution.settle("a", Succeeded(), NOW + SECOND)
    assert execution.advance(NOW + 9 * SECOND) == [Finished(NOW + 9 * SECOND, "successful")]


def test_a_retry_restarts_the_timeout_at_its_first_start() -> None:
    execution = begin(A, timeout=1)
    execution.advance(NOW, ["a"])
    execution.advance(NOW + SECOND)
    execution.settle("a", Cancelled(), NOW + SECOND)
    execution.advance(NOW + SECOND)
    assert execution.state is State.FAILED
    assert execution.retry(NOW + 5 * SECOND) != []
    assert (execution.reason, execution.deadline()) == (None, None)
    execution.advance(NOW + 7 * SECOND, ["a"])
    assert execution.deadline() == NOW + 8 * SECOND
    execution.settle("a", Succeeded(), NOW + 7 * SECOND)
    assert execution.advance(NOW + 7 * SECOND) == [Finished(NOW + 7 * SECOND, "successful")]


@pytest.mark.parametrize("timeout", [1e12, 1e300])
def test_a_timeout_beyond_the_calendar_never_ends(timeout: float) -> None:
    execution = begin(A, timeout=timeout)
    execution.advance(NOW, ["a"])
    assert execution.deadline() is None
    assert execution.advance(NOW + SECOND) == []


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (submitted(), "cannot follow another fact"),
        (TaskStarted(NOW, "nobody", 1), "no task 'nobody'"),
        (TaskStarted(NOW, "a", 2), "while running|follows attempt 1"),
        (TaskStarted(NOW, "b", 1), "allSuccessful is not met"),
        (TaskStarted(NOW, "c", 2), "follows attempt 0"),
        (TaskStarted(NOW, "d", 1), "after it was cancelled"),
        (TaskSucceeded(NOW, "a", 2), "while running, attempt 1"),
        (TaskSucceeded(NOW, "c", 0), "while notstarted"),
        (AttemptFailed(NOW, "a", 1, "boom", NOW), "no retries left"),
        (TaskFailed(NOW, "a", 0, "boom"), "while running, attempt 1"),
        (TaskSkipped(NOW, "b"), "can still be met"),
        (TaskCancelled(NOW, "a"), "while attempt 1 is running"),
        (TaskCancelled(NOW, "b", 1), "while attempt 0 is running"),
        (TaskSkipped(NOW, "d"), "can still be met"),
        (TaskCancelRequested(NOW, "nobody"), "no task 'nobody'"),
        (TaskCancelRequested(NOW, "d"), "a second time"),
        (MarkedSuccessful(NOW, "nobody"), "no task 'nobody'"),
        (MarkedSuccessful(NOW, "a"), "while running"),
        (MarkedSkipped(NOW, "d"), "after it was cancelled"),
        (MarkedSkipped(NOW, "c", "", "successful"), "leaves the execution unfinished"),
        (Finished(NOW, "successful"), "4 tasks unfinished"),
        (Retried(NOW, ("a",)), "while running"),
    ],
)
def test_an_impossible_fact_is_refused_and_changes_nothing(fact: AnyFact, reason: str) -> None:
    execution = begin(A, B, PlannedTask("c"), PlannedTask("d"))
    execution.advance(NOW, ["a"])
    execution.cancel_task("d", NOW)
    before = dump(execution)
    with pytest.raises(IllegalTransition, match=reason):
        execution.apply(fact)
    assert dump(execution) == before


@pytest.mark.parametrize("state", ["failed", "cancelled", "running", "nonsense"])
def test_an_execution_finishes_only_in_the_state_derived_from_its_tasks(state: str) -> None:
    execution = begin(A)
    execution.advance(NOW, ["a"])
    execution.settle("a", Succeeded(), NOW)
    with pytest.raises(IllegalTransition, match="of an execution that is successful"):
        execution.apply(Finished(NOW, state))


@pytest.mark.parametrize(
    "fact",
    [
        Retried(NOW, ()),
        Retried(NOW, ("a", "a")),
        Retried(NOW, ("nobody",)),
        Retried(NOW, ("a", "nobody")),
        MarkedSuccessful(NOW, "a"),
        MarkedSuccessful(NOW, "a", "", "failed"),
        MarkedSuccessful(NOW, "b", "", "failed"),
        MarkedSkipped(NOW, "b", "", "failed"),
        TaskCancelRequested(NOW, "a"),
        CancelRequested(NOW),
    ],
)
def test_an_illegal_fact_after_the_end_is_refused_and_changes_nothing(
    fact: AnyFact,
) -> None:
    execution = begin(A, PlannedTask("b"))
    go_on(execution, NOW)
    execution.settle("a", Failed("boom"), NOW)
    execution.settle("b", Succeeded(), NOW)
    go_on(execution, NOW)
    before = dump(execution)
    with pytest.raises(IllegalTransition):
        execution.apply(fact)
    assert dump(execution) == before


@pytest.mark.parametrize("facts", [[], [TaskStarted(NOW, "a", 1)]])
def test_the_facts_of_an_execution_begin_with_its_submission(facts: list[AnyFact]) -> None:
    with pytest.raises(IllegalTransition, match="begin with Submitted"):
        Execution.replay(Plan((A,)), facts)


# -- the cost of a step ----------------------------------------------------------------


def layers(tasks: int, width: int = 100) -> Plan:
    """Each task waits for three tasks of the previous layer."""
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
    """All tasks wait for the first one, and the last one waits for all."""
    rays = tuple(f"{number}" for number in range(1, tasks - 1))
    return Plan(
        (
            PlannedTask("0"),
            *(PlannedTask(ray, ("0",)) for ray in rays),
            PlannedTask(f"{tasks - 1}", rays),
        )
    )


def run(plan: Plan, outcome: Outcome, slots: int = 100) -> list[AnyFact]:
    """The facts of an execution in which every attempt has this outcome."""
    execution = Execution(plan, submitted())
    facts: list[AnyFact] = [submitted()]
    waiting: deque[str] = deque()
    while not execution.finished:
        facts += execution.advance(NOW)
        waiting.extend(execution.newly_ready(NOW))
        free = min(slots - len(execution.running), len(waiting))
        facts += execution.advance(NOW, [waiting.popleft() for _ in range(free)])
        facts += [execution.settle(name, outcome, NOW) for name in execution.running]
    return facts


SHAPES = [layers, chain, wide, star]
OUTCOMES = [Succeeded(), Failed("boom")]


def size(plan: Plan) -> int:
    """The number of tasks and edges."""
    return sum(1 + len(task.after) for task in plan.tasks)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[TriggerRule]:
    """The rules evaluated, in order."""
    evaluated: list[TriggerRule] = []

    def recording(name: TriggerRule, upstream: int) -> Rule:
        rule = rule_for(name, upstream)

        def ask(tally: Tally) -> Verdict:
            evaluated.append(name)
            return rule(tally)

        return ask

    monkeypatch.setattr(runs, "rule_for", recording)
    return evaluated


@pytest.mark.parametrize("tasks", [100, 2_000])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=["succeed", "fail"])
def test_a_rule_is_evaluated_at_most_once_per_task_and_once_per_edge(
    evaluated: list[TriggerRule], shape: Callable[[int], Plan], tasks: int, outcome: Outcome
) -> None:
    plan = shape(tasks)
    facts = run(plan, outcome)
    assert tasks <= len(evaluated) <= size(plan)
    living = len(evaluated)
    Execution.replay(plan, facts)
    assert len(evaluated) == 2 * living


@pytest.mark.parametrize("slots", [1, 100])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=["succeed", "fail"])
def test_the_work_is_linear_in_tasks_and_edges(
    shape: Callable[[int], Plan], outcome: Outcome, slots: int
) -> None:
    work = []
    for tasks in (200, 2_000):
        plan = shape(tasks)
        with counted_calls() as calls:
            run(plan, outcome, slots)
        work.append(calls[0] / size(plan))
    assert work[1] <= 1.1 * work[0]


def test_tasks_that_stop_slowly_cost_the_others_nothing() -> None:
    work = []
    for tasks in (100, 1_000):
        execution = begin(*(PlannedTask(f"{number}") for number in range(tasks)))
        go_on(execution, NOW)
        for name in execution.running:
            execution.cancel_task(name, NOW)
        with counted_lines() as lines:
            for name in execution.running:
                execution.settle(name, Cancelled(), NOW)
                execution.advance(NOW)
        assert execution.state is State.CANCELLED
        work.append(lines[0] / tasks)
    assert work[1] <= 1.1 * work[0]


def test_an_attempt_is_running_from_its_start_to_its_end() -> None:
    execution = begin(A)
    assert not execution.is_attempting("a", 1)
    go_on(execution, NOW)
    assert execution.is_attempting("a", 1)
    assert not execution.is_attempting("a", 2)
    assert not execution.is_attempting("nobody", 1)
    execution.settle("a", Succeeded(), NOW)
    assert not execution.is_attempting("a", 1)
