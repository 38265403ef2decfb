"""What a task prints and logs, in whatever thread of its own, lands in that task's log.

The rule that must not be broken: outside tasks nothing changes. Streams are the original
ones, no logger gets noisier, and what `logging` does when nobody configured it stays.
"""

import contextlib
import threading
from collections.abc import Iterator

from goflow.engine.output.carrying import carry
from goflow.engine.output.records import catch
from goflow.engine.output.streams import route
from goflow.engine.surroundings import watch
from goflow.operators.base import Log

_lock = threading.Lock()  # never held where a task runs, which may fork
_capturing = 0
_undo: contextlib.ExitStack


@contextlib.contextmanager
def captured(handlers_print_to: Log | None = None) -> Iterator[None]:
    """Capture while inside; may be nested and overlap, several engines may run.

    What handlers print that the user configured goes to the streams as they are outside tasks,
    or to a log of its own.
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
