"""Explains why a program cannot be run, and what to do.

The system has one message for several causes: it also says "No such file or directory" of an
existing script whose interpreter does not exist.
"""

import errno
import os
import stat
from collections.abc import Mapping, Sequence

_HEAD = 256  # bytes of a file that show its type; Linux reads as many of the first line
_ELF = b"\x7fELF"


def why(error: OSError, args: Sequence[str], env: Mapping[str, str], cwd: str | None) -> str:
    """The reason, as a clause that follows "cannot run 'program': "."""
    said = error.strerror or type(error).__name__
    if error.errno == errno.E2BIG:
        size = sum(len(os.fsencode(arg)) + 1 for arg in args)
        size += sum(len(os.fsencode(f"{name}={value}")) + 1 for name, value in env.items())
        return f"{said}: arguments and environment take {size:,} bytes; hand on a file instead"
    file = _file_of(args[0], env, cwd)
    if file is None:
        return "there is no such program on PATH"
    try:
        mode = os.stat(file).st_mode
        head = b""
        if stat.S_ISREG(mode) and error.errno in (errno.ENOENT, errno.ENOEXEC, errno.EACCES):
            with open(file, "rb") as opened:
                head = opened.read(_HEAD)
    except OSError:  # it does not exist or is not readable, as the system's message says
        return said
    if stat.S_ISDIR(mode):
        return "it is a folder, not a program"
    if not stat.S_ISREG(mode):
        return f"it is not a regular file: {said}"
    interpreter = _interpreter(head)
    match error.errno:
        case errno.ENOENT | errno.EACCES | errno.ENOTDIR if interpreter is not None and (
            error.errno != errno.EACCES or os.access(file, os.X_OK)
        ):
            return _about(interpreter)
        case errno.ENOENT if head.startswith(_ELF):
            return "the loader that it is built for is not on this machine (another libc?)"
        case errno.EACCES if not mode & 0o111:
            return f"{said}: it is not executable; chmod +x, or name its interpreter"
        case errno.ENOEXEC if head.startswith(_ELF):
            return f"{said}: it is built for another architecture, or damaged"
        case errno.ENOEXEC if not head:
            return f"{said}: the file is empty"
        case errno.ENOEXEC:
            return (
                f"{said}: it is neither a program for this machine nor a script whose first line "
                "names an interpreter, such as #!/bin/sh"
            )
    return said


def _file_of(program: str, env: Mapping[str, str], cwd: str | None) -> str | None:
    """The program's file; None if PATH has none."""
    if "/" in program:
        return os.path.join(cwd or "", program)
    found = [os.path.join(cwd or "", each, program) for each in os.get_exec_path(dict(env))]
    there = [file for file in found if os.path.exists(file)]
    runnable = [file for file in there if os.access(file, os.X_OK) and not os.path.isdir(file)]
    return next(iter(runnable or there), None)


def _interpreter(head: bytes) -> str | None:
    """The interpreter in a script's first line."""
    if not head.startswith(b"#!"):
        return None
    line = head[2:].split(b"\n")[0].strip(b" \t")
    words = line.split(b" ", 1)[0].split(b"\t", 1)
    return os.fsdecode(words[0])


def _about(interpreter: str) -> str:
    if interpreter.endswith("\r"):
        return (
            "it has Windows line ends (CRLF), so its interpreter is read as "
            f"{interpreter!r}; convert it, with dos2unix for example"
        )
    if not interpreter:
        return "its first line, #!, names no interpreter"
    if not os.path.exists(interpreter):
        return f"its interpreter {interpreter!r} is not there"
    if os.path.isdir(interpreter):
        return f"its interpreter {interpreter!r} is a folder"
    if not os.access(interpreter, os.X_OK):
        return f"its interpreter {interpreter!r} is not executable"
    return f"its interpreter {interpreter!r} cannot be run"


def why_not_in(error: OSError, cwd: str) -> str:
    """The reason why a program cannot run in a folder."""
    if not os.path.lexists(cwd):
        return f"{error.strerror}: there is no such folder"
    if os.path.exists(cwd) and not os.path.isdir(cwd):
        return f"{error.strerror}: it is not a folder"
    return error.strerror or type(error).__name__
