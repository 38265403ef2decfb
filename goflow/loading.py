"""Reading a program for what is in it, without running it.

The rule that must not be broken: while a program is read, its `gf.run()` does nothing.
"""

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from types import FrameType

_loading: contextvars.ContextVar[bool] = contextvars.ContextVar("goflow_loading", default=False)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Inside, a program is being read."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def is_loading() -> bool:
    return _loading.get() or _is_imported_by_a_child()


def _is_imported_by_a_child() -> bool:
    """Whether this is a process that multiprocessing has started afresh, to which a task has sent
    a function of the program: it imports the program for that."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None or multiprocessing.parent_process() is None:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False
