"""A graph drawn as a tree."""

from hypothesis import given
from hypothesis import strategies as st

from goflow.cli.tree import draw


def picture(after):
    return [f"{b.lines}{b.task}" + "".join(f" +{name}" for name in b.also) for b in draw(after)]


def test_a_diamond_ends_below_the_last_of_its_deepest_upstream_tasks():
    after = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}
    assert picture(after) == [
        "a",
        "└─ b",
        "   └─ c",
        "      └─ d +a",
    ]


def test_siblings_keep_their_order_and_branches():
    after = {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "z": []}
    assert picture(after) == [
        "a",
        "├─ b",
        "│  └─ d",
        "└─ c",
        "z",
    ]


def test_the_indentation_of_a_long_chain_is_bounded():
    after = {"0": []} | {str(n): [str(n - 1)] for n in range(1, 5000)}
    branches = draw(after)
    assert len(branches) == 5000
    assert max(len(branch.lines) for branch in branches) < 100


@st.composite
def graphs(draw_from):
    size = draw_from(st.integers(1, 12))
    return {
        n: draw_from(st.lists(st.sampled_from(range(n)), unique=True)) if n else []
        for n in range(size)
    }


@given(graphs())
def test_each_task_is_drawn_once_below_its_upstream_tasks(after):
    place = {branch.task: row for row, branch in enumerate(draw(after))}
    assert sorted(place) == sorted(after)
    for branch in draw(after):
        assert len(branch.also) == max(len(after[branch.task]) - 1, 0)
        above = set(after[branch.task]) - set(branch.also)
        assert all(place[upstream] < place[branch.task] for upstream in above)
