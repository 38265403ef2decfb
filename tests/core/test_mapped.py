"""Mapped tasks: their items come to be at run time, and they end as their items end."""

from datetime import datetime
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from goflow.core import execution as decisions
from goflow.core.cost import Cost
from goflow.core.detail import Detail
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    Mapped,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
    Yielded,
    decode_facts,
    encode_facts,
)
from goflow.core.execution import Cancelled, Execution, Failed, Outcome, Skipped, Succeeded
from goflow.core.graph import OnEmpty, Plan, PlannedTask, decode_plan
from goflow.core.keys import Item, Key, key_of
from goflow.core.standing import IllegalTransition
from goflow.core.states import FINISHED, SkipReason, State, TriggerRule
from goflow.core.transition import Transition
from goflow.engine.live import LiveExecution
from goflow.stores.base import Submit
from tests.core.counting import counted_calls
from tests.core.histories import (
    NOW,
    SECOND,
    assert_costs_agree,
    costing,
    costs,
    dump,
    go_on,
    items_of,
    look,
    submitted,
)
from tests.core.model import Model
from tests.effort import examples

DONE = Succeeded(Raw(b'"done"'))


def mapped(**options: Any) -> Execution:
    """`extract` has succeeded, `fetch` maps over it, and `load` waits for `fetch`."""
    execution = Execution(
        Plan(
            (
                PlannedTask("extract"),
                PlannedTask("fetch", ("extract",), map_over="extract", **options),
                PlannedTask("load", ("fetch",)),
            )
        ),
        submitted(),
    )
    go_on(execution, NOW)
    execution.settle("extract", Succeeded(Raw(b"[1,2,3]")), NOW)
    go_on(execution, NOW)
    return execution


def begun(items: int, **options: Any) -> Execution:
    """The same, with the items of `fetch` known."""
    execution = mapped(**options)
    assert execution.groups_to_map() == ["fetch"]
    assert execution.map("fetch", NOW, items) == [Mapped(NOW, "fetch", 1, items)]
    return execution


def run_all(execution: Execution, outcome: Outcome = DONE) -> list[AnyFact]:
    """Start and end all items that may start, and what follows; joins nothing."""
    facts = go_on(execution, NOW)
    while execution.running:
        for key in execution.running:
            facts.append(execution.settle(key, outcome, NOW))
        facts += go_on(execution, NOW)
    return facts


def states(execution: Execution) -> dict[str, State]:
    return {name: task.state for name, task in execution.tasks.items()}


def ends_of(execution: Execution) -> list[State]:
    items = execution.tasks["fetch"].items
    assert items is not None
    return [run.state for run in items.runs or ()]


def test_items_run_when_their_number_is_known_and_the_task_ends_with_them() -> None:
    execution = begun(3)
    assert execution.newly_ready(NOW) == [Item("fetch", number) for number in range(3)]
    assert execution.tasks["fetch"].state is State.RUNNING
    assert execution.running == []
    started = execution.advance(NOW, [Item("fetch", 1)])
    assert started == [TaskStarted(NOW, "fetch", 1, item=1)]
    assert execution.running == [Item("fetch", 1)]
    execution.settle(Item("fetch", 1), DONE, NOW)
    execution.advance(NOW, [Item("fetch", 0), Item("fetch", 2)])
    assert execution.groups_to_join() == []
    for number in (0, 2):
        execution.settle(Item("fetch", number), DONE, NOW)
    assert execution.advance(NOW) == []
    assert execution.groups_to_join() == ["fetch"]
    assert execution.groups_to_join() == []
    joined = execution.settle("fetch", Succeeded(Raw(b"[1,2,3]")), NOW)
    assert joined == TaskSucceeded(NOW, "fetch", 1, Raw(b"[1,2,3]"))
    assert execution.newly_ready(NOW) == ["load"]


def test_an_item_that_fails_fails_the_task_after_the_others_have_ended() -> None:
    execution = begun(3)
    go_on(execution, NOW)
    execution.settle(Item("fetch", 1), Failed("Traceback …\n  line\nValueError: no"), NOW)
    assert execution.advance(NOW) == []
    for number in (0, 2):
        execution.settle(Item("fetch", number), DONE, NOW)
    facts = execution.advance(NOW)
    assert facts == [
        TaskFailed(NOW, "fetch", 1, "1 of 3 items failed\nitem 1: ValueError: no"),
        TaskSkipped(NOW, "load", reason=SkipReason.UPSTREAM_FAILED, why="task 'fetch' failed"),
        Finished(NOW, "failed"),
    ]


def test_the_error_of_a_task_names_the_first_items_that_failed() -> None:
    execution = begun(1200)
    run_all(execution, Failed("x" * 1000))
    failed = execution.tasks["fetch"]
    assert failed.state is State.FAILED
    assert failed.items is not None
    first, *told, more = failed.items.failure.split("\n")
    assert (first, more, len(told)) == ("1,200 of 1,200 items failed", "…", 3)
    assert len(failed.items.failure) < 700


def test_each_item_has_retries_of_its_own() -> None:
    execution = begun(2, retries=1)
    go_on(execution, NOW)
    failed = execution.settle(Item("fetch", 0), Failed("no"), NOW)
    assert failed == AttemptFailed(NOW, "fetch", 1, "no", NOW, item=0)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "fetch", 2, item=0)]
    assert isinstance(execution.settle(Item("fetch", 0), Failed("no"), NOW), TaskFailed)
    assert isinstance(execution.settle(Item("fetch", 1), Failed("no"), NOW), AttemptFailed)


def test_an_empty_list_succeeds_or_skips() -> None:
    assert go_on(begun(0), NOW)[0] == TaskSucceeded(NOW, "fetch", 1, Raw(b"[]"))
    execution = begun(0, on_empty=OnEmpty.SKIP)
    none = "there are no items to map over"
    told = "task 'fetch' was skipped"
    assert go_on(execution, NOW)[:2] == [
        TaskSkipped(NOW, "fetch", None, 1, SkipReason.ITSELF, none),
        TaskSkipped(NOW, "load", reason=SkipReason.UPSTREAM_SKIPPED, why=told),
    ]
    old = begun(0, on_empty=OnEmpty.SKIP)
    old.apply(TaskSkipped(NOW, "fetch"))  # as older versions wrote it
    assert old.tasks["fetch"].state is State.SKIPPED
    assert execution.state is State.SUCCESSFUL


def test_a_value_that_cannot_be_mapped_fails_the_task() -> None:
    execution = mapped(retries=3)
    execution.map("fetch", NOW, 0, "not a list")
    assert execution.advance(NOW)[0] == TaskFailed(NOW, "fetch", 1, "not a list")


def test_a_mapped_task_waits_for_its_list_whatever_its_trigger_rule() -> None:
    tasks = (
        PlannedTask("extract"),
        PlannedTask("other"),
        PlannedTask("fetch", ("extract", "other"), TriggerRule.ONE_DONE, map_over="extract"),
    )
    execution = Execution(Plan(tasks), submitted())
    go_on(execution, NOW)
    execution.settle("other", DONE, NOW)
    assert execution.groups_to_map() == []
    execution.settle("extract", Failed("no"), NOW)
    assert execution.groups_to_map() == ["fetch"]


def test_at_most_max_parallel_items_are_announced_and_run() -> None:
    execution = begun(5, max_parallel=2)
    assert execution.newly_ready(NOW) == [Item("fetch", 0), Item("fetch", 1)]
    assert execution.newly_ready(NOW) == []
    execution.advance(NOW, [Item("fetch", 0), Item("fetch", 1), Item("fetch", 2)])
    assert execution.newly_ready(NOW) == []
    execution.settle(Item("fetch", 0), DONE, NOW)
    assert execution.newly_ready(NOW) == [Item("fetch", 2)]
    execution.advance(NOW, [Item("fetch", 2)])
    with pytest.raises(IllegalTransition):
        execution.apply(TaskStarted(NOW, "fetch", 1, item=3))


def test_few_items_are_announced_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "AHEAD", 3)
    execution = begun(10)
    ready = execution.newly_ready(NOW)
    assert ready == [Item("fetch", number) for number in range(3)]
    execution.advance(NOW, ready[:2])
    assert execution.newly_ready(NOW) == [Item("fetch", 3), Item("fetch", 4)]


def test_cancelling_the_task_ends_the_items_that_wait_at_once() -> None:
    execution = begun(3)
    execution.advance(NOW, execution.newly_ready(NOW)[:1])
    assert execution.cancel_task("fetch", NOW) == [TaskCancelRequested(NOW, "fetch")]
    assert not execution.is_ready(Item("fetch", 1))
    assert go_on(execution, NOW) == []
    execution.settle(Item("fetch", 0), Cancelled(), NOW)
    assert execution.advance(NOW)[0] == TaskCancelled(NOW, "fetch", 1)
    assert ends_of(execution) == [State.CANCELLED] * 3
    assert execution.state is State.CANCELLED


def test_cancelling_the_execution_does_the_same() -> None:
    execution = begun(3)
    execution.cancel(NOW)
    assert execution.advance(NOW)[:2] == [
        TaskCancelled(NOW, "load"),
        TaskCancelled(NOW, "fetch", 1),
    ]


def test_one_item_is_cancelled_or_marked_alone() -> None:
    execution = begun(3)
    cancel = execution.cancel_task(Item("fetch", 0), NOW, "ann")
    assert cancel == [TaskCancelRequested(NOW, "fetch", "ann", 0)]
    assert execution.mark(Item("fetch", 1), State.SUCCESSFUL, NOW, "bob") == [
        MarkedSuccessful(NOW, "fetch", "bob", item=1)
    ]
    assert go_on(execution, NOW) == [
        TaskCancelled(NOW, "fetch", item=0),
        TaskStarted(NOW, "fetch", 1, item=2),
    ]
    execution.settle(Item("fetch", 2), DONE, NOW)
    assert execution.advance(NOW)[0] == TaskCancelled(NOW, "fetch", 1)
    assert execution.mark(Item("fetch", 0), State.SUCCESSFUL, NOW) == []


def test_a_mapped_task_that_runs_cannot_be_marked() -> None:
    execution = begun(1)
    assert execution.mark("fetch", State.SUCCESSFUL, NOW) == []


def failed_once() -> Execution:
    """Items 0 and 2 succeeded, item 1 failed, and the execution has finished."""
    execution = begun(3)
    go_on(execution, NOW)
    for number, outcome in enumerate((DONE, Failed("no"), DONE)):
        execution.settle(Item("fetch", number), outcome, NOW)
    execution.advance(NOW)
    assert execution.finished
    return execution


def test_a_retry_runs_only_the_items_that_did_not_succeed() -> None:
    execution = failed_once()
    assert execution.retry(NOW) == [Retried(NOW, ("fetch", "load"))]
    assert ends_of(execution) == [State.SUCCESSFUL, State.NOTSTARTED, State.SUCCESSFUL]
    assert execution.groups_to_map() == ["fetch"]
    execution.map("fetch", NOW, 3)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "fetch", 2, item=1)]
    execution.settle(Item("fetch", 1), DONE, NOW)
    assert execution.groups_to_join() == ["fetch"]


def test_a_retry_from_the_list_on_makes_all_items_anew_and_counts_attempts_on() -> None:
    execution = failed_once()
    execution.retry(NOW, "extract")
    assert execution.groups_to_map() == []
    go_on(execution, NOW)
    execution.settle("extract", DONE, NOW)
    execution.map("fetch", NOW, 2)
    started = go_on(execution, NOW)
    assert started == [TaskStarted(NOW, "fetch", 2, item=number) for number in range(2)]


def succeeded() -> Execution:
    """Both items succeeded, and so have their task and the execution."""
    execution = begun(2)
    run_all(execution)
    execution.groups_to_join()
    execution.settle("fetch", DONE, NOW)
    run_all(execution)
    assert execution.finished
    return execution


def test_a_retry_of_a_task_that_succeeded_makes_all_items_anew() -> None:
    execution = succeeded()
    execution.retry(NOW, "fetch")
    assert ends_of(execution) == []
    assert execution.result_bytes == len(b"[1,2,3]")


def test_items_of_an_earlier_list_are_made_anew_and_not_retried_alone() -> None:
    execution = failed_once()
    execution.retry(NOW, "extract", following=False)
    go_on(execution, NOW)
    execution.settle("extract", DONE, NOW)
    execution.advance(NOW)
    assert execution.finished
    assert execution.retry(NOW, Item("fetch", 1)) == []
    execution.retry(NOW, "fetch")
    assert ends_of(execution) == []
    execution.map("fetch", NOW, 2)
    started = go_on(execution, NOW)
    assert started == [TaskStarted(NOW, "fetch", 2, item=number) for number in range(2)]
    assert not execution.is_outdated("fetch")


def test_items_are_of_an_earlier_list_also_if_the_task_it_came_from_never_ran_again() -> None:
    execution = failed_once()
    execution.retry(NOW, "extract", following=False)
    execution.cancel(NOW)
    execution.advance(NOW)
    assert execution.finished
    assert execution.is_outdated("fetch")
    execution.retry(NOW, "fetch", following=False)
    assert ends_of(execution) == []


def test_one_item_is_retried_alone() -> None:
    execution = succeeded()
    (fact,) = execution.retry(NOW, Item("fetch", 1), following=False, by="ann")
    assert fact == Retried(NOW, ("fetch",), "ann", None, "fetch", 1)
    execution.map("fetch", NOW, 2)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "fetch", 2, item=1)]


def test_an_interrupted_item_is_tried_again_or_fails() -> None:
    execution = begun(1, retries=1)
    go_on(execution, NOW)
    (fact,) = execution.interrupt(NOW)
    assert isinstance(fact, AttemptFailed)
    assert fact.item == 0
    execution = begun(1)
    go_on(execution, NOW)
    assert isinstance(execution.interrupt(NOW)[0], TaskFailed)


def test_an_aborted_execution_ends_also_while_results_are_joined() -> None:
    execution = begun(1)
    run_all(execution)
    assert execution.groups_to_join() == ["fetch"]
    execution.abort(NOW, "defect")
    assert states(execution)["fetch"] is State.FAILED
    assert execution.finished


def test_a_summary_has_counts_of_items_and_only_for_mapped_tasks() -> None:
    execution = begun(3)
    go_on(execution, NOW)
    execution.settle(Item("fetch", 0), DONE, NOW)
    shown = msgspec.json.decode(msgspec.json.encode(execution.summary()))["tasks"]
    assert shown[1]["items"] == {"total": 3, "running": 2, "successful": 1}
    assert "items" not in shown[0]


def test_a_transition_has_no_items_but_the_counts_of_their_task() -> None:
    execution = begun(1000)
    execution.transition()
    go_on(execution, NOW)
    transition = execution.transition()
    assert transition.tasks == []
    assert [task.items for task in transition.mapped] == [{"total": 1000, "running": 1000}]


def test_the_work_per_item_does_not_grow_with_their_number() -> None:
    def calls_per_item(number: int) -> float:
        execution = begun(number)
        with counted_calls() as calls:
            while not execution.groups_to_join():
                go_on(execution, NOW)
                for key in execution.running[:50]:
                    execution.settle(key, DONE, NOW)
        return calls[0] / number

    assert calls_per_item(8000) < 1.3 * calls_per_item(1000)


# -- item by item ----------------------------------------------------------------------


def chained(
    items: int, *more: PlannedTask, rule: TriggerRule = TriggerRule.ALL_SUCCESSFUL, **options: Any
) -> Execution:
    """`parse` maps over `fetch`, which maps over `extract`; the items of both are known. `last`
    waits for `parse`."""
    tasks = (
        PlannedTask("extract"),
        PlannedTask("fetch", ("extract",), retries=0, map_over="extract"),
        PlannedTask("parse", ("fetch",), rule, map_over="fetch", by_item=True, **options),
        *more,
        PlannedTask("last", (more[-1].name if more else "parse",), TriggerRule.NONE_FAILED),
    )
    execution = Execution(Plan(tasks), submitted())
    go_on(execution, NOW)
    execution.settle("extract", DONE, NOW)
    map_all(execution, items)
    return execution


def map_all(execution: Execution, items: int) -> None:
    """Map what can be mapped, and begin what may."""
    go_on(execution, NOW)
    while names := execution.groups_to_map():
        for name in names:
            over = execution.items_over(name)
            execution.map(name, NOW, items if over is None else len(over))
        go_on(execution, NOW)


def end(execution: Execution, outcome: Outcome, *keys: Item) -> list[AnyFact]:
    """Settle items, and what follows."""
    for key in keys:
        execution.settle(key, outcome, NOW)
    facts = go_on(execution, NOW)
    while joined := execution.groups_to_join():
        facts += [execution.settle(name, DONE, NOW) for name in joined]
        facts += go_on(execution, NOW)
    return facts


def fetch(*numbers: int) -> list[Item]:
    return [Item("fetch", number) for number in numbers]


def parse(*numbers: int) -> list[Item]:
    return [Item("parse", number) for number in numbers]


def test_an_item_starts_when_the_one_it_is_made_of_has_succeeded() -> None:
    execution = chained(3)
    assert set(execution.running) == set(fetch(0, 1, 2))
    assert end(execution, DONE, *fetch(1)) == [TaskStarted(NOW, "parse", 1, item=1)]
    assert end(execution, DONE, *parse(1)) == []
    with pytest.raises(IllegalTransition, match="allSuccessful is not met"):
        execution.apply(TaskStarted(NOW, "parse", 1, item=0))
    end(execution, DONE, *fetch(0, 2))
    end(execution, DONE, *parse(0, 2))
    assert execution.running == ["last"]


def test_an_item_whose_trigger_rule_cannot_be_met_is_skipped_and_so_is_its_task() -> None:
    execution = chained(3)
    end(execution, DONE, *fetch(0, 2))
    facts = end(execution, Failed("no"), *fetch(1))
    failed = SkipReason.UPSTREAM_FAILED
    assert facts == [
        TaskSkipped(NOW, "parse", 1, 0, failed, "item 1 of task 'fetch' failed"),
        TaskFailed(NOW, "fetch", 1, "1 of 3 items failed\nitem 1: no"),
    ]
    told = "1 of 3 items were skipped because of a failure before them"
    why = "task 'parse' was skipped because of a failure"
    assert end(execution, DONE, *parse(0, 2)) == [
        TaskSkipped(NOW, "parse", None, 1, failed, told),
        TaskSkipped(NOW, "last", None, 0, failed, why),
        Finished(NOW, "failed"),
    ]


def test_a_trigger_rule_sees_the_item_in_place_of_the_task() -> None:
    execution = chained(2, rule=TriggerRule.ALL_FAILED)
    assert end(execution, Failed("no"), *fetch(0)) == [TaskStarted(NOW, "parse", 1, item=0)]
    (skipped, *_) = end(execution, DONE, *fetch(1))
    reason = SkipReason.UPSTREAM_SUCCESSFUL
    why = "item 1 of task 'fetch' was successful"
    assert skipped == TaskSkipped(NOW, "parse", 1, 0, reason, why)
    end(execution, DONE, *parse(0))
    assert states(execution)["parse"] is State.SUCCESSFUL


def test_items_that_are_lost_are_so_along_a_chain() -> None:
    third = PlannedTask("third", ("parse",), map_over="parse", by_item=True)
    for outcome, loss, after in (
        (Failed("no"), SkipReason.UPSTREAM_FAILED, SkipReason.UPSTREAM_FAILED),
        (Cancelled(), SkipReason.UPSTREAM_CANCELLED, SkipReason.UPSTREAM_SKIPPED),
    ):
        execution = chained(2, third)
        if isinstance(outcome, Cancelled):
            execution.cancel_task(Item("fetch", 0), NOW)
        end(execution, outcome, *fetch(0))
        end(execution, DONE, *fetch(1))
        end(execution, DONE, *parse(1))
        end(execution, DONE, Item("third", 1))
        reasons = [execution.tasks[name].skip.reason for name in ("parse", "third")]
        assert reasons == [loss, after]


def test_an_item_that_skipped_itself_skips_the_next_one_and_loses_none() -> None:
    execution = chained(2)
    end(execution, Skipped("nothing"), *fetch(0))
    end(execution, DONE, *fetch(1))
    end(execution, DONE, *parse(1))
    end(execution, DONE, "last")
    assert states(execution)["parse"] is State.SUCCESSFUL
    assert execution.state is State.SUCCESSFUL


def test_marking_the_item_it_is_made_of_lets_an_item_run() -> None:
    execution = chained(2, rule=TriggerRule.ALL_SUCCESSFUL)
    execution.settle(Item("fetch", 0), Failed("no"), NOW)
    execution.mark(Item("fetch", 0), State.SUCCESSFUL, NOW)
    assert go_on(execution, NOW) == [TaskStarted(NOW, "parse", 1, item=0)]


def test_items_that_wait_for_others_are_cancelled_with_the_execution() -> None:
    execution = chained(2)
    execution.cancel(NOW)
    end(execution, Cancelled(), *fetch(0, 1))
    assert states(execution)["parse"] is State.CANCELLED
    assert execution.tasks["parse"].summary().items == {"total": 2, "cancelled": 2}


def test_a_task_that_runs_by_item_waits_for_its_other_upstream_tasks() -> None:
    tasks = (
        PlannedTask("extract"),
        PlannedTask("other"),
        PlannedTask("fetch", ("extract",), map_over="extract"),
        PlannedTask("parse", ("fetch", "other"), map_over="fetch", by_item=True),
    )
    execution = Execution(Plan(tasks), submitted())
    go_on(execution, NOW)
    execution.settle("extract", DONE, NOW)
    map_all(execution, 2)
    end(execution, DONE, *fetch(0, 1))
    assert states(execution)["parse"] is State.NOTSTARTED
    execution.settle("other", DONE, NOW)
    map_all(execution, 2)
    assert execution.running == parse(0, 1)


@pytest.mark.parametrize("outcome", [DONE, Failed("no")])
def test_the_reason_of_a_whole_skip_does_not_depend_on_the_order(outcome: Outcome) -> None:
    tasks = (
        PlannedTask("extract"),
        PlannedTask("other"),
        PlannedTask("fetch", ("extract",), map_over="extract"),
        PlannedTask("parse", ("fetch", "other"), map_over="fetch", by_item=True),
        PlannedTask("last", ("parse",), TriggerRule.NONE_FAILED),
    )
    execution = Execution(Plan(tasks), submitted())
    go_on(execution, NOW)
    execution.settle("extract", DONE, NOW)
    execution.settle("other", Skipped("nothing"), NOW)
    map_all(execution, 1)
    assert states(execution)["parse"] is State.NOTSTARTED
    end(execution, outcome, *fetch(0))
    failed = isinstance(outcome, Failed)
    reason = SkipReason.UPSTREAM_FAILED if failed else SkipReason.UPSTREAM_SKIPPED
    skip = execution.tasks["parse"].skip
    assert skip is not None
    assert skip.reason is reason
    assert skip.why == ("task 'fetch' failed" if failed else "task 'other' was skipped")


def test_a_retry_keeps_the_items_whose_other_item_is_kept() -> None:
    execution = chained(3)
    end(execution, Failed("no"), *fetch(1))
    end(execution, DONE, *fetch(0, 2))
    end(execution, Failed("no"), *parse(0))
    end(execution, DONE, *parse(2))
    assert execution.finished
    execution.retry(NOW)
    map_all(execution, 3)
    assert set(execution.running) == {Item("fetch", 1), Item("parse", 0)}
    assert end(execution, DONE, *fetch(1))[0] == TaskStarted(NOW, "parse", 1, item=1)


def test_one_item_is_retried_with_those_made_of_it() -> None:
    execution = chained(2)
    end(execution, DONE, *fetch(0, 1))
    end(execution, DONE, *parse(0, 1))
    end(execution, DONE, "last")
    execution.retry(NOW, Item("fetch", 1))
    map_all(execution, 2)
    assert execution.running == fetch(1)
    assert end(execution, DONE, *fetch(1))[0] == TaskStarted(NOW, "parse", 2, item=1)


def test_a_task_that_runs_by_item_has_no_other_items_than_those_it_maps_over() -> None:
    for fact in (Mapped(NOW, "parse", 1, 3), Mapped(NOW, "parse", 1, 0, "no list")):
        other = Execution.replay(chained(2).plan, [submitted()])
        go_on(other, NOW)
        other.settle("extract", DONE, NOW)
        other.map("fetch", NOW, 2, keys=("a", "b"))
        with pytest.raises(IllegalTransition, match="the task that it maps over has 2 items"):
            other.apply(fact)
        other.map("parse", NOW, 2)
        items = other.tasks["parse"].items
        assert items is not None
        assert items.keys == ("a", "b")


def test_a_mapped_task_cannot_succeed_while_its_items_go_on() -> None:
    execution = begun(1)
    with pytest.raises(IllegalTransition):
        execution.apply(TaskSucceeded(NOW, "fetch", 1))


def test_the_work_per_item_of_a_chain_does_not_grow_with_their_number() -> None:
    def calls_per_item(number: int) -> float:
        execution = chained(number)
        with counted_calls() as calls:
            while execution.running != ["last"]:
                end(execution, DONE, *execution.running[-50:])
        return calls[0] / number

    assert calls_per_item(4000) < 1.3 * calls_per_item(500)


# -- whatever happens ------------------------------------------------------------------

names = ["t0", "t1", "t2", "t3"]
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(DONE),
    st.builds(Failed, st.just("failure"), st.booleans()),
    st.just(Skipped("nothing to do")),
    st.just(Cancelled()),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to four tasks, each after some before it and mapped over one of them."""
    tasks: list[PlannedTask] = []
    for place, name in enumerate(names[: draw(st.integers(2, 4))]):
        after = tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True) if place else
                           st.just([])))  # fmt: skip
        over = draw(st.sampled_from(after)) if after and draw(st.booleans()) else None
        is_mapped = any(task.name == over and task.map_over is not None for task in tasks)
        tasks.append(
            PlannedTask(
                name,
                after,
                draw(st.sampled_from([TriggerRule.ALL_SUCCESSFUL, *TriggerRule])),
                draw(st.integers(0, 2)),
                over,
                draw(st.sampled_from([None, 1, 2])),
                draw(st.sampled_from(OnEmpty)),
                by_item=is_mapped and draw(st.sampled_from([True, True, False])),
            )
        )
    return Plan(tuple(tasks))


def likely(at: datetime, key: Key, attempt: int) -> list[AnyFact]:
    """Facts about a task or item that may fit."""
    task, item = (key, None) if isinstance(key, str) else key
    return [
        TaskStarted(at, task, attempt + 1, item),
        TaskSucceeded(at, task, attempt, item=item),
        AttemptFailed(at, task, attempt, "failure", at + SECOND, item=item),
        TaskFailed(at, task, attempt, "failure", item=item),
        TaskSkipped(at, task, item),
        TaskSkipped(at, task, item, attempt, SkipReason.ITSELF),
        TaskSkipped(at, task, item, reason=SkipReason.UPSTREAM_FAILED),
        TaskCancelled(at, task, attempt, item),
        TaskCancelled(at, task, item=item),
        TaskCancelRequested(at, task, item=item),
        MarkedSuccessful(at, task, item=item),
        MarkedSkipped(at, task, item=item),
        Mapped(at, task, attempt + 1, 2),
        Mapped(at, task, attempt + 1, 2, keys=("a", "b")),
        Mapped(at, task, attempt + 1, 2, keys=("a", "a")),
        Mapped(at, task, attempt + 1, 2, keys=("a",)),
        Mapped(at, task, attempt + 1, 0),
        Mapped(at, task, attempt + 1, 0, "no list"),
        Mapped(at, task, attempt + 1, 2, "no list"),
        Retried(at, (task,), asked=task, item=item),
    ]


class AnyMappedLife(RuleBasedStateMachine):
    """An execution with mapped tasks, to which anything may happen at any time."""

    execution: Execution

    @initialize(plan=plans())
    def submit(self, plan: Plan) -> None:
        self.now = NOW
        self.plan = plan
        opening = submitted()
        self.facts: list[AnyFact] = [opening]
        self.execution = Execution(plan, opening)
        self.live = LiveExecution.created(Submit(opening, plan), 1)
        self.model = Model(plan, opening)

    @rule(most=st.integers(0, 4))
    def advance(self, most: int) -> None:
        """What is announced may start, and no more at once than allowed."""
        self.now += SECOND
        self.take(self.execution.advance(self.now))
        ready = self.execution.newly_ready(self.now)
        assert len(set(ready)) == len(ready)
        for key in ready:
            assert self.execution.is_ready(key)
            assert not self.model.stops(key)
        self.take(self.execution.advance(self.now, ready[:most]))

    @rule(items=st.integers(0, 3), error=st.sampled_from(["", "", "no list"]))
    def map(self, items: int, error: str) -> None:
        for name in self.execution.groups_to_map():
            known = self.model.items[name]
            number, why = (items, error) if known is None else (len(known), "")
            if self.model.plan[name].by_item:
                over = self.model.over(name) or []
                number, why = len(over), "" if over else why
            decided = self.execution.map(name, self.now, 0 if why else number, why)
            assert bool(decided) == self.model.can_map(name)
            self.take(decided)

    @precondition(lambda self: self.execution.running)
    @rule(
        pick=st.integers(0, 9),
        outcome=outcomes,
        delay=st.integers(0, 2),
        cost=costs,
        tells=st.booleans(),
    )
    def settle(
        self, pick: int, outcome: Outcome, delay: int, cost: Cost | None, tells: bool
    ) -> None:
        running = self.execution.running
        key = running[pick % len(running)]
        outcome = costing(outcome, cost)
        self.take([self.execution.settle(key, outcome, self.now, delay, tells=tells)])

    @precondition(lambda self: self.execution.untold)
    @rule(pick=st.integers(0, 9))
    def end_on_retry(self, pick: int) -> None:
        key = self.execution.untold[pick % len(self.execution.untold)]
        attempt = self.execution.run(key).attempt
        self.take(self.execution.end_on_retry(key, attempt, "", self.now))

    @rule(good=st.booleans())
    def join(self, good: bool) -> None:
        for name in self.execution.groups_to_join():
            assert State.SUCCESSFUL in self.model.group_ends(name)
            outcome = DONE if good else Failed("too large", final=True)
            self.take([self.execution.settle(name, outcome, self.now)])

    @rule()
    def crash(self) -> None:
        self.execution = self.replayed()
        self.take(self.execution.interrupt(self.now))

    def replayed(self) -> Execution:
        kept = decode_facts(encode_facts(self.facts))
        return Execution.replay(decode_plan(self.plan.encoded), kept)

    @rule()
    def cancel(self) -> None:
        expected = not (self.model.cancelled or self.model.finished)
        decided = self.execution.cancel(self.now)
        assert decided == ([CancelRequested(self.now)] if expected else [])
        self.take(decided)

    @rule(pick=st.integers(0, 20), mark=st.sampled_from([None, State.SUCCESSFUL, State.SKIPPED]))
    def request(self, pick: int, mark: State | None) -> None:
        """Cancel or mark a task or an item; what the model allows is done."""
        key = self.pick(pick)
        task, item = (key, None) if isinstance(key, str) else key
        fact: AnyFact
        if mark is None:
            fact = TaskCancelRequested(self.now, task, "ann", item)
            decided = self.execution.cancel_task(key, self.now, "ann")
        else:
            kind = MarkedSuccessful if mark is State.SUCCESSFUL else MarkedSkipped
            finished = None
            if self.model.finished and item is None:
                finished = self.model.end(self.model.states | {task: mark}).value
            fact = kind(self.now, task, "ann", finished, item)
            decided = self.execution.mark(key, mark, self.now, "ann")
        assert decided == ([fact] if self.model_allowed(fact, decided) else [])
        self.take(decided)

    def model_allowed(self, fact: AnyFact, decided: list[AnyFact]) -> bool:
        return self.model.allows(fact)

    @precondition(lambda self: self.execution.finished)
    @rule(pick=st.none() | st.integers(0, 20), following=st.booleans())
    def retry(self, pick: int | None, following: bool) -> None:
        key = None if pick is None else self.pick(pick)
        self.take(self.execution.retry(self.now, key, following=following))

    @precondition(lambda self: self.execution.finished)
    @rule(plan=plans(), pick=st.none() | st.integers(0, 20), following=st.booleans())
    def retry_by_another_plan(self, plan: Plan, pick: int | None, following: bool) -> None:
        key = None if pick is None else self.pick(pick)
        self.take(self.execution.retry(self.now, key, following=following, plan=plan))

    def pick(self, number: int) -> Key:
        keys: list[Key] = [*self.model.plan]
        for name, items in self.model.items.items():
            keys += [Item(name, place) for place in range(len(items or ()))]
        return keys[number % len(keys)]

    @rule(pick=st.integers(0, 20), which=st.integers(0, 19), wrong=st.sampled_from([0, 0, 0, 1]))
    def slip(self, pick: int, which: int, wrong: int) -> None:
        """A fact that nobody decided is taken if and only if the model allows it."""
        key = self.pick(pick)
        if wrong and isinstance(key, Item):
            key = Item(key.task, key.number + 5)
        attempt = self.execution.run(key).attempt if self.execution.has(key) else 1
        fact = likely(self.now, key, attempt + wrong)[which]
        before, items = dump(self.execution), self.all_items()
        allowed = self.model.allows(fact)
        try:
            self.execution._decided += self.execution.apply(fact)
        except IllegalTransition:
            assert not allowed, fact
            assert (dump(self.execution), self.all_items()) == (before, items)
        else:
            assert allowed, fact
            self.take([fact])

    def all_items(self) -> list[object]:
        return [task.items and items_of(task.items) for task in self.execution.tasks.values()]

    def take(self, decided: list[AnyFact]) -> None:
        self.facts += decided
        transition: Transition = self.execution.transition()
        self.live.apply(transition, self.live.version + 1)
        for fact in decided:
            assert self.model.allows(fact), fact
            self.model.take(fact)

    @invariant()
    def it_stands_as_the_model_says(self) -> None:
        assert states(self.execution) == self.model.states
        assert self.execution.state == self.model.state
        assert set(self.execution.cancel_requested) == self.model.doomed
        assert set(self.execution.untold) == self.model.untold
        for name, items in self.model.items.items():
            found = self.execution.tasks[name].items
            assert found is not None
            runs = None if found.runs is None else [run.state for run in found.runs]
            assert runs == items
            for number in range(len(items or ())):
                key = Item(name, number)
                assert self.execution.run(key).attempt == self.model.attempts[key]

    @invariant()
    def costs_are_summed(self) -> None:
        assert_costs_agree(self.execution, self.model)
        detail = Detail.replay(self.plan, self.facts)
        assert (detail.cost or None) == self.execution.cost
        rows = [*detail.tasks, *detail.hooks, *detail.dropped]
        shown = {row.name: row.cost for row in rows if row.cost is not msgspec.UNSET}
        assert shown == self.execution.costs

    @invariant()
    def all_that_is_shown_agrees(self) -> None:
        assert self.live.summary() == self.execution.summary()
        replayed = self.replayed()
        assert look(replayed, self.now) == look(self.execution, self.now)
        assert replayed.result_bytes == self.execution.result_bytes
        detail = Detail.replay(self.plan, self.facts)
        for row, task in zip(detail.tasks, self.execution.tasks.values(), strict=True):
            assert (row.state, row.items) == (task.state, task.summary().items)

    @invariant()
    def results_are_counted(self) -> None:
        keys = [*self.model.plan] + [
            Item(name, number)
            for name, items in self.model.items.items()
            for number in range(len(items or ()))
        ]
        results = [self.execution.run(key).result for key in keys]
        yielded = [run.stream.size for run in self.execution.tasks.values() if run.stream]
        assert self.execution.result_bytes == sum(yielded) + sum(
            len(result) for result in results if isinstance(result, Raw)
        )

    @invariant()
    def it_is_never_stuck(self) -> None:
        """From any point on, with attempts that succeed, it ends."""
        execution = self.replayed()
        now = self.now
        for _ in range(200):
            if execution.finished:
                break
            for key in execution.untold:
                execution.end_on_retry(key, execution.run(key).attempt, "", now)
            now = max(now, execution.next_retry() or now)
            go_on(execution, now)
            for name in execution.groups_to_map():
                number = 2 if (known := self.model.items[name]) is None else len(known)
                if self.model.plan[name].by_item:
                    number = execution.items_known(name)
                execution.map(name, now, number)
            for name in execution.groups_to_join():
                execution.settle(name, DONE, now)
            for key in execution.running:
                execution.settle(key, DONE, now)
        assert execution.finished
        assert set(states(execution).values()) <= FINISHED
        for name in self.model.items:
            items = execution.tasks[name].items
            assert items is not None
            assert not items.open

    @invariant()
    def no_more_items_run_than_allowed(self) -> None:
        for name in self.model.items:
            most = self.model.plan[name].max_parallel
            assert most is None or self.model.items_running(name) <= most


@st.composite
def chains(draw: st.DrawFn) -> Plan:
    """Tasks that map over one another item by item, and perhaps wait for another one as well."""
    plan = [
        PlannedTask("t0"),
        PlannedTask("t1", ("t0",), retries=draw(st.integers(0, 1)), map_over="t0"),
    ]
    for place in range(2, draw(st.integers(3, 5))):
        over = f"t{draw(st.integers(1, place - 1))}"
        after = draw(st.sampled_from([(over,), (over,), ("other", over), ("t0", over)]))
        plan.append(
            PlannedTask(
                f"t{place}",
                after,
                draw(st.sampled_from([TriggerRule.ALL_SUCCESSFUL, *TriggerRule])),
                draw(st.integers(0, 1)),
                over,
                draw(st.sampled_from([None, 1])),
                draw(st.sampled_from(OnEmpty)),
                by_item=True,
            )
        )
    last = PlannedTask("last", (plan[-1].name,), draw(st.sampled_from(TriggerRule)))
    return Plan((PlannedTask("other"), *plan, last))


class ItemByItemLife(AnyMappedLife):
    """The same with tasks that run item by item, once the first items are known."""

    @initialize(plan=chains(), items=st.integers(1, 3))
    def submit(self, plan: Plan, items: int) -> None:  # type: ignore[override]
        super().submit(plan)
        self.advance(9)
        self.take([self.execution.settle("t0", DONE, self.now)])
        self.advance(9)
        self.map(items, "")


@st.composite
def streams(draw: st.DrawFn) -> Plan:
    """As `chains`, over a generator."""
    plan = draw(chains())
    tasks = {task.name: task for task in plan.tasks}
    retries = draw(st.integers(0, 2))
    tasks["t0"] = PlannedTask("t0", retries=retries, stream=True)
    rule = draw(st.sampled_from([TriggerRule.ALL_SUCCESSFUL, *TriggerRule]))
    tasks["t1"] = msgspec.structs.replace(tasks["t1"], by_item=True, rule=rule)
    return Plan(tuple(tasks.values()))


class StreamLife(AnyMappedLife):
    """The same with a generator that yields items at any time while it runs."""

    @initialize(plan=streams(), items=st.integers(0, 2))
    def submit(self, plan: Plan, items: int) -> None:  # type: ignore[override]
        super().submit(plan)
        self.advance(9)
        if items:
            self.yields(items, 0)
            self.map(0, "")

    def is_stream(self) -> bool:
        run = self.execution.tasks.get("t0")
        return run is not None and run.stream is not None

    @precondition(is_stream)
    @rule(items=st.integers(0, 2), wrong=st.sampled_from([0, 0, 0, 1]))
    def yields(self, items: int, wrong: int) -> None:
        run = self.execution.tasks["t0"]
        assert run.stream is not None
        first, size, attempt = run.stream.items, 3 * items, run.attempt
        fact = Yielded(self.now, "t0", attempt, first + wrong, items, size)
        if wrong or not items:
            with pytest.raises(IllegalTransition):
                self.execution.apply(fact)
            return
        decided = self.execution.extend("t0", attempt, first, items, size, self.now)
        assert decided == ([fact] if self.model.allows(fact) else [])
        self.take(decided)

    @precondition(lambda self: self.execution.finished)
    @rule(plan=streams(), pick=st.none() | st.integers(0, 20))
    def retry_by_another_stream(self, plan: Plan, pick: int | None) -> None:
        key = None if pick is None else self.pick(pick)
        self.take(self.execution.retry(self.now, key, following=True, plan=plan))

    @invariant()
    def items_are_counted(self) -> None:
        run = self.execution.tasks.get("t0")
        if run is None or run.stream is None:  # the plan is another one
            return
        assert run.stream.items == self.model.yielded["t0"]
        assert run.summary().yielded == run.stream.items
        ahead = self.execution.items_ahead("t0")
        assert ahead is None or ahead <= run.stream.items


TestStreamLife = StreamLife.TestCase
TestStreamLife.settings = settings(max_examples=examples(50), stateful_step_count=30)
TestItemByItemLife = ItemByItemLife.TestCase
TestItemByItemLife.settings = settings(max_examples=examples(50), stateful_step_count=30)
TestAnyMappedLife = AnyMappedLife.TestCase
TestAnyMappedLife.settings = settings(max_examples=examples(50), stateful_step_count=30)


def test_a_key_is_a_name_or_an_item() -> None:
    assert key_of("t", None) == "t"
    assert key_of("t", 0) == Item("t", 0)
