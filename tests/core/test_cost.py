"""The sums of costs: what is counted, and when it no longer counts."""

from datetime import timedelta

import msgspec
import pytest

from goflow.core.cost import COUNTS_SUMMED, MOST, Cost, added, summed, with_counts
from goflow.core.detail import Detail
from goflow.core.execution import Cancelled, Execution, Failed, Skipped, Succeeded
from goflow.core.graph import Plan, PlannedTask
from goflow.core.keys import Item
from goflow.core.states import State
from tests.core.histories import NOW, begin, go_on, submitted

SPENT = Cost(0.5, 1000, 20, {"rows": 3})
DONE = Succeeded(cost=SPENT)


def test_a_sum_has_all_costs_and_the_highest_peak() -> None:
    total = added(None, SPENT, counts=True)
    assert total == SPENT
    total = added(total, Cost(0.25, 400, 5, {"rows": 1, "files": 2}), counts=True)
    assert total == Cost(0.75, 1000, 25, {"rows": 4, "files": 2})


def test_counts_of_failed_attempts_are_not_in_the_sum() -> None:
    execution = begin(PlannedTask("a", retries=2))
    go_on(execution, NOW)
    execution.settle("a", Failed("no", cost=SPENT), NOW)
    go_on(execution, NOW)
    assert execution.costs == {"a": Cost(0.5, 1000, 20)}
    execution.settle("a", DONE, NOW)
    assert execution.costs == {"a": Cost(1.0, 1000, 40, {"rows": 3})}
    assert execution.cost == execution.summary().cost == execution.costs["a"]


@pytest.mark.parametrize(
    "outcome", [Skipped("nothing to do", cost=SPENT), Failed("no", final=True, cost=SPENT)]
)
def test_the_cost_of_an_attempt_counts_however_it_ends(outcome: Skipped | Failed) -> None:
    execution = begin(PlannedTask("a"))
    go_on(execution, NOW)
    execution.settle("a", outcome, NOW)
    assert execution.cost == Cost(0.5, 1000, 20)


def test_the_cost_of_a_cancelled_attempt_counts() -> None:
    execution = begin(PlannedTask("a"))
    go_on(execution, NOW)
    execution.cancel(NOW)
    execution.settle("a", Cancelled(SPENT), NOW)
    assert execution.cost == Cost(0.5, 1000, 20)


def test_a_task_without_costs_has_none_and_neither_has_its_execution() -> None:
    execution = begin(PlannedTask("a"))
    facts = go_on(execution, NOW)
    facts.append(execution.settle("a", Succeeded(), NOW))
    assert (execution.costs, execution.cost) == ({}, None)
    assert b"cost" not in msgspec.json.encode((execution.summary(), facts))


def test_after_a_retry_only_the_new_success_is_counted() -> None:
    execution = begin(PlannedTask("a"), PlannedTask("b"))
    go_on(execution, NOW)
    execution.settle("a", DONE, NOW)
    execution.settle("b", DONE, NOW)
    execution.advance(NOW)
    execution.retry(NOW, "a")
    assert execution.cost == Cost(1.0, 1000, 40, {"rows": 3})
    assert execution.costs["a"].counts == {}
    go_on(execution, NOW)
    execution.settle("a", Succeeded(cost=Cost(counts={"rows": 10})), NOW)
    assert execution.cost == Cost(1.0, 1000, 40, {"rows": 13})


def mapped(*outcomes: Succeeded | Failed) -> Execution:
    """A finished execution whose task "m" is mapped over items with these outcomes."""
    plan = Plan((PlannedTask("a"), PlannedTask("m", ("a",), map_over="a")))
    execution = Execution(plan, submitted())
    go_on(execution, NOW)
    execution.settle("a", Succeeded(msgspec.Raw(b"[1,2]")), NOW)
    execution.advance(NOW)
    (name,) = execution.groups_to_map()
    execution.map(name, NOW, len(outcomes))
    go_on(execution, NOW)
    for number, outcome in enumerate(outcomes):
        execution.settle(Item("m", number), outcome, NOW)
    for name in execution.groups_to_join():
        execution.settle(name, Succeeded(), NOW)
    execution.advance(NOW)
    assert execution.finished
    return execution


def test_a_mapped_task_has_the_sums_of_its_items() -> None:
    execution = mapped(DONE, Failed("no", cost=SPENT))
    assert execution.costs == {"m": Cost(1.0, 1000, 40, {"rows": 3})}
    execution.retry(NOW)  # only the item that failed
    go_on(execution, NOW)
    execution.map("m", NOW, 2)
    go_on(execution, NOW)
    assert execution.costs["m"].counts == {"rows": 3}
    execution.settle(Item("m", 1), DONE, NOW)
    assert execution.costs["m"].counts == {"rows": 6}


def test_a_retry_of_one_item_counts_that_item_anew() -> None:
    execution = mapped(DONE, DONE)
    execution.retry(NOW, Item("m", 1))
    assert execution.costs["m"].counts == {"rows": 3}


def test_items_that_are_made_anew_are_counted_anew() -> None:
    execution = mapped(DONE, DONE)
    execution.retry(NOW, "a")
    assert execution.costs["m"] == Cost(1.0, 1000, 40)


def test_the_costs_of_each_attempt_are_in_the_detail() -> None:
    plan = Plan((PlannedTask("a", retries=1),))
    execution = Execution(plan, submitted())
    facts = [submitted(), *go_on(execution, NOW)]
    facts.append(execution.settle("a", Failed("no", cost=SPENT), NOW))
    facts += go_on(execution, NOW + timedelta(seconds=1))
    facts.append(execution.settle("a", Succeeded(), NOW))
    (task,) = Detail.replay(plan, facts).tasks
    assert task.state is State.SUCCESSFUL
    assert [attempt.cost for attempt in task.attempts] == [SPENT, msgspec.UNSET]


def test_a_sum_of_counts_is_bounded_in_names_and_size() -> None:
    many = {f"n{number}": number for number in range(COUNTS_SUMMED)}
    assert summed(many, {"one more": 1, "n1": 5}) == many | {"n1": 6}
    largest = summed({"n": MOST}, {"n": MOST})
    assert largest == {"n": 2.0 * MOST}
    assert isinstance(largest["n"], float)  # an int of that size has no room in some JSON
    assert with_counts(SPENT, [{"rows": 1}, {"rows": 2}]) == Cost(0.5, 1000, 20, {"rows": 3})
