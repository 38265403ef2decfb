"""How many files the process may have open: as many as the system lets it.

The usual soft limit is 1,024, for the sake of old programs that use select(2), which knows no
more, and of those that close every file there might be before they begin. A server has a file
for each connection and some for each program that tasks run, so it raises its own. Programs
get the limit that the server was started with, as those that a Go program starts do.
"""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

ROOM = 64  # files that others may open while the limit is down

_given: tuple[int, int] | None = None  # the limits before they were raised
_lowering = threading.Lock()


class Started(Protocol):
    """A program that was started."""

    pid: int


P = TypeVar("P", bound=Started)


def raise_limit() -> int | None:
    """Raise the soft limit to the hard one. How many files may be open then, None for any."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS refuses more than some number that it does not tell.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _given = _given or (soft, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def start_as_given(start: Callable[[], P]) -> P:
    """What `start` starts, with the limit that this process was given."""
    given = _given
    if given is None:
        return start()
    if _is_far_below(given[0]):
        with _lowered(given):
            return start()
    started = start()
    if hasattr(resource, "prlimit"):  # Linux
        # The program may have ended, or run as somebody else (setuid).
        with suppress(ProcessLookupError, PermissionError):
            resource.prlimit(started.pid, resource.RLIMIT_NOFILE, given)
    return started


@contextmanager
def _lowered(given: tuple[int, int]) -> Iterator[None]:
    """The limit as given. Whoever opens a file meanwhile does not notice: there is room."""
    with _lowering:
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, given)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, raised)


def _is_far_below(limit: int) -> bool:
    """Whether the files that are open leave room below a limit: the next one has the lowest
    free number."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(lowest)
    return lowest + ROOM < limit
