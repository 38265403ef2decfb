"""Errors of standard output: one message and an exit code.

The rule: a command whose output is incomplete fails. Python itself would print a traceback, or
say nothing if standard output is closed from the start.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any

EXIT_CODE = 1


class Unwritable(OSError):
    """A write to standard output failed."""


class _Checked(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None


def check() -> None:
    """Make writes to standard output raise `Unwritable`.

    Closed standard descriptors are opened on /dev/null, so that a file or connection opened later
    does not get the number of standard output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Standard output is opened for reading only, so that writes to it fail.
            os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    before: Any = sys.stdout
    if before is None or isinstance(before, io.TextIOWrapper):
        raw = _Checked(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=getattr(before, "encoding", "utf-8"),
            errors=getattr(before, "errors", "backslashreplace"),
            line_buffering=os.isatty(1),
            write_through=getattr(before, "write_through", False),
        )


def flush() -> None:
    """Raises `Unwritable`."""
    if sys.stdout is not None:
        sys.stdout.flush()


def give_up(error: Unwritable) -> int:
    """Print the error and return the exit code."""
    with contextlib.suppress(OSError):
        # Buffered output must not be written again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        reason = "it is closed" if error.errno == errno.EBADF else error.strerror
        print(f"Error: cannot write to standard output: {reason}", file=sys.stderr)
    return EXIT_CODE
