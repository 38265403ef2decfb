"""How much work something is, counted and not timed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """How many functions, of Python and built in, were called meanwhile."""
    calls = [0]

    def count(frame: object, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            calls[0] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)
