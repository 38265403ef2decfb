"""Keys: what identifies the runs of an execution.

A task's key is its name. The key of an item of a mapped task is the task and the item's index.
"""

from typing import NamedTuple


class Item(NamedTuple):
    """The key of an item of a mapped task; `number` counts from 0."""

    task: str
    number: int


Key = str | Item


def key_of(task: str, item: int | None) -> Key:
    """The key of a task, or of one of its items."""
    return task if item is None else Item(task, item)


def task_of(key: Key) -> str:
    """The name of the task that a key belongs to."""
    return key if isinstance(key, str) else key.task


def item_of(key: Key) -> int | None:
    """The index of the item that a key belongs to; None for a task."""
    return None if isinstance(key, str) else key.number


def described(key: Key) -> str:
    """A key in messages."""
    return f"task {key!r}" if isinstance(key, str) else f"item {key.number} of task {key.task!r}"
