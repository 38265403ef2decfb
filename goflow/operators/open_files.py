"""Raises the limit of open files for the server, and restores it for programs.

The usual soft limit is 1,024, for old programs that use select(2) or close all possible files at
their start. A server has a file for each connection and some for each program that tasks run, so
it raises its limit. Programs get the limit that the server was started with, as in Go.
"""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

ROOM = 64  # files that other threads may open while the limit is lowered

_given: tuple[int, int] | None = None  # the limits before they were raised
_lowering = threading.Lock()


class Started(Protocol):
    """A started program."""

    pid: int


P = TypeVar("P", bound=Started)


def raise_limit() -> int | None:
    """Raise the soft limit to the hard one. Returns the new limit; None for no limit."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS refuses limits above an unknown number.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _given = _given or (soft, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def start_as_given(start: Callable[[], P]) -> P:
    """Call `start`, and give the started program this process's original limit."""
    given = _given
    if given is None:
        return start()
    if _is_far_below(given[0]):
        with _lowered(given):
            return start()
    started = start()
    if hasattr(resource, "prlimit"):  # Linux
        # The program may have ended, or run as another user (setuid).
        with suppress(ProcessLookupError, PermissionError):
            resource.prlimit(started.pid, resource.RLIMIT_NOFILE, given)
    return started


@contextmanager
def _lowered(given: tuple[int, int]) -> Iterator[None]:
    """Lower the limit during the block. Other threads can still open files below it."""
    with _lowering:
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, given)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, raised)


def _is_far_below(limit: int) -> bool:
    """Whether the open files leave room below a limit. A new file gets the lowest free number."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(lowest)
    return lowest + ROOM < limit
