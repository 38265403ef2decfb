"""Keys: what identifies the runs of an execution.

A task's key is its name. The key of an item of a mapped task is the task and the item's index.
"""

from typing import NamedTuple


class Item(NamedTuple):
    """The key of an item of a mapped task; `number` counts from 0."""

    task: str
    number: int


Key = str | Item


class NamedItem(NamedTuple):
    """An item of a mapped task by its own key, which `item_key` gave it."""

    task: str
    key: str


Asked = Key | NamedItem  # as a request names a task or an item


def key_of(task: str, item: int | None) -> Key:
    """The key of a task, or of one of its items."""
    return task if item is None else Item(task, item)


def task_of(key: Asked) -> str:
    """The name of the task that a key belongs to."""
    return key if isinstance(key, str) else key.task


def item_of(key: Key) -> int | None:
    """The index of the item that a key belongs to; None for a task."""
    return None if isinstance(key, str) else key.number


def described(key: Asked) -> str:
    """A key in messages."""
    if isinstance(key, NamedItem):
        return f"item {key.key!r} of task {key.task!r}"
    return f"task {key!r}" if isinstance(key, str) else f"item {key.number} of task {key.task!r}"
