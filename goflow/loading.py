"""Loads a program for its jobs without serving them.

The rule that must not be broken: `gf.run()` does nothing while its program is being loaded.
"""

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from types import FrameType

programs: set[str] = set()
"""Names of modules made from a program's file. They are pickled by value, like `__main__`, so that
editing the file does not change the registered jobs."""

_loading: contextvars.ContextVar[bool] = contextvars.ContextVar("goflow_loading", default=False)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Marks a block in which a program is being loaded."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def is_loading() -> bool:
    """Whether a program is being loaded, so that it must not start to serve."""
    return _loading.get() or _is_imported_by_a_child()


def _is_imported_by_a_child() -> bool:
    """Whether a child process of multiprocessing imports the program, because a task has sent it
    one of the program's functions."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None or multiprocessing.parent_process() is None:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False
