"""Which task the running code belongs to, and what that task has for itself.

A task is known by the log of its attempt. Threads that it starts belong to it, too: see
`carrying`.
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
    """No value; None may be one."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET


class Own(Generic[T]):
    """A variable of which every task has its own, all its threads together, as a process has;
    and so has the code outside tasks."""

    def __init__(self) -> None:
        self._is_used = False  # hardly any is, and each print asks
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
