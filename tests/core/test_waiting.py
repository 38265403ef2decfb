"""Tasks that look in vain, and wait for their next look."""

from datetime import timedelta

import pytest

from goflow.core.detail import Detail
from goflow.core.events import (
    AttemptFailed,
    MarkedSuccessful,
    TaskCancelled,
    TaskPostponed,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.execution import (
    Cancelled,
    Execution,
    Failed,
    Interrupted,
    Postponed,
    Succeeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.keys import Item
from goflow.core.standing import IllegalTransition
from goflow.core.states import State
from goflow.core.summary import Waiting
from tests.core.histories import NOW, SECOND, begin, submitted

A, B = PlannedTask("a", retries=1), PlannedTask("b", ("a",))
LIST, MAPPED = PlannedTask("list"), PlannedTask("m", ("list",), map_over="list")
LOOK = Postponed(30.0, "no file")


def waiting() -> Execution:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    execution.settle("a", LOOK, NOW)
    return execution


def mapped() -> Execution:
    execution = begin(LIST, MAPPED)
    execution.advance(NOW, ["list"])
    execution.settle("list", Succeeded(), NOW)
    execution.advance(NOW)
    execution.map("m", NOW, 2)
    execution.advance(NOW, execution.newly_ready(NOW))
    return execution


def test_a_look_in_vain_leaves_the_task_running_and_says_why_and_until_when() -> None:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    fact = execution.settle("a", LOOK, NOW)
    assert fact == TaskPostponed(NOW, "a", 1, NOW + 30 * SECOND, "no file")
    assert execution.tasks["a"].state is State.RUNNING
    shown = Waiting("no file", NOW + 30 * SECOND, 30.0)
    assert execution.summary().tasks[0].waiting == shown
    assert execution.waits == ["a"]
    assert execution.newly_ready(NOW + 60 * SECOND) == []


def test_only_another_reason_or_an_end_is_news() -> None:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    assert execution.is_news("a", LOOK)
    execution.settle("a", LOOK, NOW)
    assert not execution.is_news("a", LOOK)
    assert not execution.is_news("a", Postponed(1.0, "no file"))
    assert not execution.is_news("a", Interrupted())
    assert not execution.is_news("a", Cancelled())
    for outcome in (Postponed(30.0, "an empty file"), Succeeded(), Failed("no")):
        assert execution.is_news("a", outcome)
    execution.cancel(NOW)
    for outcome in (LOOK, Cancelled(), Interrupted()):
        assert execution.is_news("a", outcome)


def test_the_end_of_the_server_does_not_interrupt_a_wait() -> None:
    execution = waiting()
    assert execution.interrupt(NOW) == []
    assert execution.waits == ["a"]


def test_a_wait_whose_task_is_cancelled_ends_at_the_next_start() -> None:
    execution = waiting()
    execution.cancel_task("a", NOW)
    assert execution.interrupt(NOW) == [TaskCancelled(NOW, "a", 1)]


def test_a_look_that_fails_uses_a_retry_and_the_next_attempt_does_not_wait_at_first() -> None:
    execution = waiting()
    assert isinstance(execution.settle("a", Failed("boom"), NOW), AttemptFailed)
    assert execution.tasks["a"].waiting is None
    execution.advance(NOW, execution.newly_ready(NOW))
    assert execution.tasks["a"].attempt == 2
    assert execution.tasks["a"].waiting is None


def test_a_look_in_vain_of_a_task_being_cancelled_cancels_it() -> None:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    execution.cancel(NOW)
    assert execution.settle("a", LOOK, NOW) == TaskCancelled(NOW, "a", 1)


@pytest.mark.parametrize("state", [State.SUCCESSFUL, State.SKIPPED])
def test_a_waiting_task_may_be_marked_but_not_while_it_looks(state: State) -> None:
    execution = waiting()
    execution.looking.add("a")
    assert execution.mark("a", state, NOW) == []
    execution.looking.discard("a")
    assert len(execution.mark("a", state, NOW)) == 1
    assert execution.tasks["a"].state is state
    assert execution.waits == []


def test_a_running_task_that_does_not_wait_cannot_be_marked() -> None:
    execution = begin(A, B)
    execution.advance(NOW, ["a"])
    assert execution.mark("a", State.SUCCESSFUL, NOW) == []
    with pytest.raises(IllegalTransition, match="not waiting"):
        execution.apply(MarkedSuccessful(NOW, "a"))


def test_items_wait_each_for_itself_and_their_task_does_not() -> None:
    execution = mapped()
    fact = execution.settle(Item("m", 1), LOOK, NOW)
    assert fact == TaskPostponed(NOW, "m", 1, NOW + 30 * SECOND, "no file", 1)
    assert execution.run(Item("m", 1)).waiting is not None
    assert execution.run(Item("m", 0)).waiting is None
    with pytest.raises(IllegalTransition, match="items"):
        execution.apply(TaskPostponed(NOW, "m", 1, NOW, "no file"))
    execution.settle(Item("m", 0), Succeeded(), NOW)
    execution.settle(Item("m", 1), Succeeded(), NOW)
    assert execution.groups_to_join() == ["m"]


def test_a_cancelled_group_waits_for_its_waiting_items_to_be_ended() -> None:
    execution = mapped()
    execution.settle(Item("m", 0), LOOK, NOW)
    execution.settle(Item("m", 1), Succeeded(), NOW)
    execution.cancel_task("m", NOW)
    assert execution.advance(NOW) == []
    execution.settle(Item("m", 0), Cancelled(), NOW)
    execution.advance(NOW)
    assert execution.tasks["m"].state is State.CANCELLED


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (TaskPostponed(NOW, "b", 0, NOW, "no file"), "while notstarted"),
        (TaskPostponed(NOW, "a", 2, NOW, "no file"), "attempt 1"),
        (TaskPostponed(NOW, "a", 1, NOW - timedelta(seconds=1), "no file"), "in the past"),
    ],
)
def test_an_impossible_wait_is_refused(fact: TaskPostponed, reason: str) -> None:
    with pytest.raises(IllegalTransition, match=reason):
        waiting().apply(fact)


def test_a_cancelled_task_begins_no_wait() -> None:
    execution = waiting()
    execution.cancel_task("a", NOW)
    with pytest.raises(IllegalTransition, match="cancelled"):
        execution.apply(TaskPostponed(NOW, "a", 1, NOW, "no file"))


def test_the_detail_has_one_attempt_for_all_looks_and_shows_the_last_wait() -> None:
    later = NOW + SECOND
    facts = [
        submitted(),
        TaskStarted(NOW, "a", 1),
        TaskPostponed(NOW, "a", 1, NOW, "no file"),
        TaskPostponed(later, "a", 1, later + SECOND, "an empty file"),
    ]
    plan = Plan((A,))
    (task,) = Detail.replay(plan, facts).tasks
    assert task.waiting == Waiting("an empty file", later + SECOND, 1.0)
    assert [attempt.state for attempt in task.attempts] == [State.RUNNING]
    (task,) = Detail.replay(plan, [*facts, TaskSucceeded(later, "a", 1)]).tasks
    assert task.waiting is None
    assert [attempt.state for attempt in task.attempts] == [State.SUCCESSFUL]
