"""Standard output that cannot be written to is told in a sentence, and by the exit code.

The rule: an answer that did not get out whole is a failure. Python itself would show a
traceback, or say nothing where output is closed from the start.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any

EXIT_CODE = 1


class Unwritable(OSError):
    """Standard output took no more."""


class _Checked(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None


def check() -> None:
    """Let standard output raise `Unwritable`. Descriptors that are closed are opened, so that a
    file or a connection that is opened later does not become standard output by its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Not for writing, where what is written would be lost unnoticed.
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
    """Say that the output did not get out; the exit code."""
    with contextlib.suppress(OSError):
        # What is left in buffers must not be tried again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        reason = "it is closed" if error.errno == errno.EBADF else error.strerror
        print(f"Error: cannot write to standard output: {reason}", file=sys.stderr)
    return EXIT_CODE
