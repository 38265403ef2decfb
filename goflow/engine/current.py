"""The task that the running code belongs to, and variables with one value per task.

The log of its attempt identifies a task. Threads that it starts belong to it, too: see
`output.carrying`.
"""

import enum
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from goflow.operators.base import Log

T = TypeVar("T")

current_log: ContextVar[Log | None] = ContextVar("goflow_current_log", default=None)


class Unset(enum.Enum):
    """The absence of a value, since None may be a value."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET


class Own(Generic[T]):
    """A variable with one value per task, shared by all threads of the task, and one value for
    the code outside tasks."""

    def __init__(self) -> None:
        self._is_used = False  # most never are, and each `print` looks here
        self._outside: T | Unset = UNSET
        self._of_tasks: MutableMapping[Log, T] = WeakKeyDictionary()

    def get(self) -> T | Unset:
        if not self._is_used:
            return UNSET
        log = current_log.get()
        return self._outside if log is None else self._of_tasks.get(log, UNSET)

    def set(self, value: T | Unset) -> None:
        self._is_used = True
        log = current_log.get()
        if log is None:
            self._outside = value
        elif value is UNSET:
            self._of_tasks.pop(log, None)
        else:
            self._of_tasks[log] = value
