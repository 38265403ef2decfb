"""CPU-bound threads leave the event loop its turns.

Whoever wants the interpreter waits until each thread before it in line has had its interval.
With 100 of them the usual 5 ms make that half a second, each time, and a request takes several.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator

INTERVAL = 0.0005  # seconds; less than that costs more than it gains

_lock = threading.Lock()
_asked = 0
_before: float


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """While inside, threads take turns often; may be nested and overlap."""
    global _asked, _before
    with _lock:
        if not _asked:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(_before, INTERVAL))
        _asked += 1
    try:
        yield
    finally:
        with _lock:
            _asked -= 1
            if not _asked and sys.getswitchinterval() == INTERVAL:  # else it is somebody else's
                sys.setswitchinterval(_before)
