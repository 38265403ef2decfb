"""`logging` inside a task: records go to the task's log, and global switches apply to it alone.

Records are caught where a logger calls its handlers, since every record passes there once. Handlers
that the user configured get the record as well, and print where they would without goflow.

Global switches apply to the task that uses them: `logging.disable`, level and handlers of the root
logger, and loggers that a configuration disables. Changes to a named logger apply to the whole
process, since modules make them once, on import.
"""

import logging
from collections.abc import Callable
from contextvars import Token
from typing import Any

from goflow.engine.current import UNSET, Own, current_log
from goflow.engine.output.tasklog import Nowhere
from goflow.operators.base import Log

# One below INFO: INFO records are created, and the level is recognizable as ours.
LOWERED = logging.INFO - 1

Key = tuple[object, str]  # a logger, or the manager of them all, and an attribute


def catch(handlers_print_to: Log | None) -> Callable[[], None]:
    """Send the records of tasks to their logs. Returns the undo function.

    Handlers that the user configured print to the original streams, or to `handlers_print_to`.
    """
    root = logging.getLogger()
    level = root.level
    if level > LOWERED:
        root.setLevel(LOWERED)
    hand_over = logging.Logger.callHandlers
    is_enabled = logging.Logger.isEnabledFor
    owned: Own[dict[Key, Any]] = Own()
    nowhere = Nowhere()

    def routed(logger: logging.Logger, record: logging.LogRecord) -> None:
        log = current_log.get()
        if log is None:
            if _wanted(logger, record, level):
                hand_over(logger, record)
            return
        _to_log.emit(record)
        own = owned.get()
        token: Token[Log | None] = current_log.set(handlers_print_to)
        try:
            if logger.hasHandlers() and _wanted(logger, record, level):
                hand_over(logger, record)
            if own is not UNSET and _reaches_root(logger):
                # Their output is in the log already.
                current_log.set(nowhere)
                for handler in own.get((root, "handlers"), ()):
                    if record.levelno >= handler.level:
                        handler.handle(record)
        finally:
            current_log.reset(token)

    def enabled(logger: logging.Logger, level: int) -> bool:
        if owned.get() is UNSET:
            return is_enabled(logger, level)
        # Loggers cache answers, but only those that apply to all tasks.
        if logger.disabled or logger.manager.disable >= level:
            return False
        return level >= logger.getEffectiveLevel()

    patches: list[tuple[type, str, Any]] = [
        (logging.Logger, "callHandlers", routed),
        (logging.Logger, "isEnabledFor", enabled),
        (logging.Logger, "disabled", OwnAttribute("disabled", owned)),
        (logging.RootLogger, "level", OwnAttribute("level", owned)),
        (logging.RootLogger, "handlers", OwnAttribute("handlers", owned, list)),
        (logging.Manager, "_disable", OwnAttribute("_disable", owned)),
    ]
    before = [(where, name, where.__dict__.get(name, UNSET)) for where, name, _ in patches]
    for where, name, ours in patches:
        setattr(where, name, ours)

    def undo() -> None:
        for (where, name, was), (_, _, ours) in zip(before, patches, strict=True):
            if where.__dict__.get(name) is not ours:
                continue  # a later patch by other code stays; ours below it passes everything on
            if was is UNSET:
                delattr(where, name)
            else:
                setattr(where, name, was)
        if root.level == LOWERED:
            root.setLevel(level)

    return undo


class OwnAttribute:
    """An attribute that has a value per task, once the task sets it; with `make`, from the
    start."""

    def __init__(
        self, name: str, owned: Own[dict[Key, Any]], make: Callable[[], Any] | None = None
    ) -> None:
        self._name = name
        self._owned = owned
        self._make = make

    def __get__(self, instance: Any, owner: object) -> Any:
        if instance is None:
            return self
        if current_log.get() is not None:
            own = self._owned.get()
            key = instance, self._name
            if own is not UNSET and key in own:
                return own[key]
            if self._make is not None:
                made = self._make()
                self.__set__(instance, made)
                return made
        try:
            return instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, instance: Any, value: Any) -> None:
        if current_log.get() is None or self._name not in instance.__dict__:
            instance.__dict__[self._name] = value
            return
        own = self._owned.get()
        if own is UNSET:
            own = {}
            self._owned.set(own)
        own[instance, self._name] = value


def _wanted(logger: logging.Logger, record: logging.LogRecord, root_level: int) -> bool:
    """Whether the record would exist if we had not lowered the level of the root logger."""
    effective = logger.getEffectiveLevel()
    return record.levelno >= (root_level if effective == LOWERED else effective)


def _reaches_root(logger: logging.Logger) -> bool:
    at: logging.Logger | None = logger
    while at is not None and at.parent is not None:
        if not at.propagate:
            return False
        at = at.parent
    return True


class _ToLog(logging.Handler):
    """Writes a record to the log of its task."""

    def emit(self, record: logging.LogRecord) -> None:
        log = current_log.get()
        if log is not None:
            try:
                log(self.format(record))
            except Exception:  # as every handler does: a bad record fails no task
                self.handleError(record)


_to_log = _ToLog()
_to_log.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
