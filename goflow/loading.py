"""Reading a program for what is in it, without running it.

The rule that must not be broken: while a program is read, its `gf.run()` does nothing.
"""

import contextlib
import contextvars
from collections.abc import Iterator

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
    return _loading.get()
