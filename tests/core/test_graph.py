"""Plans, and the search for cycles."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.graph import Plan, PlannedTask, decode_plan, find_cycle
from goflow.core.states import TriggerRule
from tests.core.histories import plans

DIAMOND = Plan(
    (
        PlannedTask("a"),
        PlannedTask("b", ("a",), TriggerRule.ALL_DONE, 2),
        PlannedTask("c", ("a",)),
        PlannedTask("d", ("b", "c")),
    )
)


def test_downstream_tasks_are_listed_in_the_order_added() -> None:
    assert DIAMOND.downstream == {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}


def test_a_task_may_be_added_before_its_upstream_tasks() -> None:
    plan = Plan((PlannedTask("late", ("early",)), PlannedTask("early")))
    assert plan.downstream == {"late": [], "early": ["late"]}


def test_following_returns_the_task_and_all_tasks_after_it() -> None:
    assert DIAMOND.following("a") == {"a", "b", "c", "d"}
    assert DIAMOND.following("b") == {"b", "d"}
    assert DIAMOND.following("d") == {"d"}


def test_the_encoding_of_a_plan_never_changes() -> None:
    """Plans stored by older versions must stay readable."""
    assert DIAMOND.encoded == (
        b'{"tasks":[{"name":"a"},'
        b'{"name":"b","after":["a"],"rule":"allDone","retries":2},'
        b'{"name":"c","after":["a"]},'
        b'{"name":"d","after":["b","c"]}]}'
    )


@given(plans())
def test_a_plan_survives_a_round_trip(plan: Plan) -> None:
    decoded = decode_plan(plan.encoded)
    assert decoded == plan
    assert decoded.id == plan.id
    assert decoded.downstream == plan.downstream


@given(plans(), plans())
def test_plans_have_the_same_id_only_if_they_are_equal(one: Plan, other: Plan) -> None:
    assert (one.id == other.id) == (one == other)


@pytest.mark.parametrize(
    "after",
    [
        {},
        {"a": []},
        {"a": [], "b": ["a"], "c": ["a", "b"]},
        {"a": ["b"], "c": ["b"]},
    ],
)
def test_a_graph_without_a_cycle_has_no_cycle(after: dict[str, list[str]]) -> None:
    assert find_cycle(after) is None


def test_a_task_that_waits_for_itself_is_a_cycle() -> None:
    assert find_cycle({"a": ["a"]}) == ["a", "a"]


def test_a_cycle_of_ten_thousand_tasks_is_found() -> None:
    cycle = find_cycle({str(n): [str((n + 1) % 10_000)] for n in range(10_000)})
    assert cycle is not None
    assert len(cycle) == 10_001


@given(plans())
def test_a_graph_built_forwards_has_no_cycle(plan: Plan) -> None:
    assert find_cycle({task.name: task.after for task in plan.tasks}) is None


@given(
    st.dictionaries(
        st.sampled_from("abcde"), st.lists(st.sampled_from("abcde"), unique=True), min_size=1
    )
)
def test_find_cycle_returns_a_cycle_if_and_only_if_one_exists(after: dict[str, list[str]]) -> None:
    cycle = find_cycle(after)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(cycle) >= 2
        for upstream, waiting in itertools.pairwise(cycle):
            assert upstream in after.get(waiting, [])
        return
    settled: set[str] = set()
    for _ in range(5):
        settled |= {name for name in "abcde" if settled.issuperset(after.get(name, []))}
    assert settled == set("abcde")
