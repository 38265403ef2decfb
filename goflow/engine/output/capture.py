"""Sends the output of a task, from any of its threads, to the task's log.

The rule that must not be broken: outside tasks nothing changes. Streams are the original ones, no
logger gets noisier, and an unconfigured `logging` behaves as before.
"""

import contextlib
import threading
from collections.abc import Iterator

from goflow.engine.output.carrying import carry
from goflow.engine.output.records import catch
from goflow.engine.output.streams import route
from goflow.engine.surroundings import watch
from goflow.operators.base import Log

_lock = threading.Lock()  # never held while a task runs, since the task may fork
_capturing = 0
_undo: contextlib.ExitStack


@contextlib.contextmanager
def captured(handlers_print_to: Log | None = None) -> Iterator[None]:
    """Capture while inside. May be nested and overlap, as with several engines.

    Handlers that the user configured print to the original streams, or to `handlers_print_to`.
    """
    global _capturing, _undo
    with _lock:
        if not _capturing:
            _undo = contextlib.ExitStack()
            for undo in (route(), catch(handlers_print_to), carry(), watch()):
                _undo.callback(undo)
        _capturing += 1
    try:
        yield
    finally:
        with _lock:
            _capturing -= 1
            if not _capturing:
                _undo.close()
