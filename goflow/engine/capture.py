"""`print` and `logging` inside a task land in that task's log.

The rule that must not be broken: outside tasks nothing changes. Streams are the original
ones, no logger gets noisier, and what `logging` does when nobody configured it stays.

`logging` is caught where a record goes to its handlers, for there every record passes once,
whatever handlers there are. The handlers that the user configured get it as well, and
what they print goes where it would have gone without goflow.
"""

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from goflow.operators.base import Log

current_log: ContextVar[Log | None] = ContextVar("goflow_current_log", default=None)

# One below INFO: INFO records are made, and the level is known to be ours, not the user's.
LOWERED = logging.INFO - 1

STREAMS = ("stdout", "stderr")

_lock = threading.Lock()
_capturing = 0
_undo: Callable[[], None]


@contextlib.contextmanager
def captured(handlers_print_to: Log | None = None) -> Iterator[None]:
    """Capture while inside; may be nested and overlap, several engines may run.

    What handlers print that the user configured goes to the streams as they were before, or
    to a log of its own.
    """
    global _capturing, _undo
    with _lock:
        if not _capturing:
            _undo = _install(handlers_print_to)
        _route_streams()  # every time: somebody may have put another stream there since
        _capturing += 1
    try:
        yield
    finally:
        with _lock:
            _capturing -= 1
            if not _capturing:
                _undo()


def _install(handlers_print_to: Log | None) -> Callable[[], None]:
    root = logging.getLogger()
    level = root.level
    if level > LOWERED:
        root.setLevel(LOWERED)
    hand_over = logging.Logger.callHandlers

    def routed(logger: logging.Logger, record: logging.LogRecord) -> None:
        log = current_log.get()
        if log is not None:
            _to_log.emit(record)
        if root.level == LOWERED and record.levelno < _level_without_us(logger, level):
            return
        if log is None:
            hand_over(logger, record)
        elif logger.hasHandlers():
            token = current_log.set(handlers_print_to)
            try:
                hand_over(logger, record)
            finally:
                current_log.reset(token)

    logging.Logger.callHandlers = routed  # type: ignore[method-assign, assignment]

    def undo() -> None:
        # What somebody replaced after us stays as it is; ours below it passes everything on.
        for name in STREAMS:
            if isinstance(stream := getattr(sys, name), RoutedStream):
                setattr(sys, name, stream.original)
        if logging.Logger.callHandlers is routed:
            logging.Logger.callHandlers = hand_over  # type: ignore[method-assign]
        if root.level == LOWERED:
            root.setLevel(level)

    return undo


def _route_streams() -> None:
    for name in STREAMS:
        if not isinstance(stream := getattr(sys, name), RoutedStream):
            setattr(sys, name, RoutedStream(stream))


def _level_without_us(logger: logging.Logger, root_level: int) -> int:
    """The level that would count for this logger, had the root's not been lowered."""
    effective = logger.getEffectiveLevel()
    return root_level if effective == LOWERED else effective


class RoutedStream:
    """Stands for sys.stdout or sys.stderr: a task's text goes to its log, the rest, and every
    other attribute, to the original stream (None where there is none)."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def write(self, text: str) -> int:
        log = current_log.get()
        if log is not None:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            return log.write(text)
        return len(text) if self.original is None else self.original.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.original is not None and current_log.get() is None:
            self.original.flush()

    def isatty(self) -> bool:
        """Never inside a task: its log shows no colours and no progress bars."""
        return self.original is not None and current_log.get() is None and self.original.isatty()

    def fileno(self) -> int:
        if self.original is None:
            raise io.UnsupportedOperation("fileno")
        number: int = self.original.fileno()
        return number

    def __iter__(self) -> Iterator[str]:
        return iter(self.original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _ToLog(logging.Handler):
    """Writes a record into the log of the task that made it."""

    def emit(self, record: logging.LogRecord) -> None:
        log = current_log.get()
        if log is not None:
            try:
                log(self.format(record))
            except Exception:  # as every handler does: a bad record fails nobody's task
                self.handleError(record)


_to_log = _ToLog()
_to_log.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
