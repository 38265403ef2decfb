"""A graph drawn as a tree: each task once, below the upstream task of the deepest layer.

So a task stands below one of the tasks it waits for last, one layer further in; its other
upstream tasks are named beside it.
"""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

DEEPEST = 30  # layers drawn; what is deeper keeps the indentation of its last ones


class Branch(NamedTuple):
    """One line of the tree: `lines` are its strokes, `also` the upstream tasks not above it."""

    lines: str
    task: str
    also: tuple[str, ...]


def draw(after: Mapping[str, Sequence[str]]) -> list[Branch]:
    """The tree of the tasks, given for each the tasks it waits for; there must be no cycle."""
    layer = _layers(after)
    below: dict[str, list[str]] = {task: [] for task in after}
    roots: list[str] = []
    for task, upstream in after.items():
        if upstream:
            below[max(upstream, key=layer.__getitem__)].append(task)
        else:
            roots.append(task)
    branches: list[Branch] = []
    # a stack, since a chain of tasks may be longer than Python's calls go deep
    pending = [(root, "", "") for root in reversed(roots)]
    while pending:
        task, strokes, indent = pending.pop()
        above = max(after[task], key=layer.__getitem__, default=None)
        branches.append(Branch(strokes, task, tuple(n for n in after[task] if n != above)))
        indent = indent[-3 * DEEPEST :]
        for place, child in enumerate(reversed(below[task])):
            last = place == 0
            pending.append(
                (child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
            )
    return branches


def _layers(after: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The length of the longest way from a task without upstream tasks."""
    layer: dict[str, int] = {}
    for task in TopologicalSorter(after).static_order():
        layer[task] = 1 + max((layer[upstream] for upstream in after[task]), default=-1)
    return layer
