"""Draws a task graph as a tree, with each task once.

A task is drawn below its upstream task in the deepest layer. Its other upstream tasks are listed
beside it.
"""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

DEEPEST = 30  # layers of indentation; deeper tasks are not indented further


class Branch(NamedTuple):
    """A line of the tree: its box-drawing characters, the task, and its other upstream tasks."""

    lines: str
    task: str
    also: tuple[str, ...]


def draw(after: Mapping[str, Sequence[str]]) -> list[Branch]:
    """The lines of the tree, given the upstream tasks of each task. There must be no cycle."""
    layer = _layers(after)
    below: dict[str, list[str]] = {task: [] for task in after}
    roots: list[str] = []
    for task, upstream in after.items():
        if upstream:
            below[max(upstream, key=layer.__getitem__)].append(task)
        else:
            roots.append(task)
    branches: list[Branch] = []
    # A stack, since a chain of tasks may be longer than the recursion limit.
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
    """The layer of each task: the length of the longest path to it from a root."""
    layer: dict[str, int] = {}
    for task in TopologicalSorter(after).static_order():
        layer[task] = 1 + max((layer[upstream] for upstream in after[task]), default=-1)
    return layer
