"""The cookie: a word in the environment of whatever an attempt starts, to find it again by.

The rule that must not be broken: no two attempts have the same cookie, whichever servers and
copies of stores they belong to. So it names the server's process too, and what has the
cookie of a server that lives is that server's, never ours to end.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

NAME = "GOFLOW_COOKIE"
FORKED = b"goflow-fork"  # 15 bytes at most

_MEMORY = f"/memfd:{NAME}="


class Cookie(NamedTuple):
    """Whose a process is: an attempt, of the task in a `place` of its execution's plan."""

    epoch: str  # of the store
    server: str  # see `server`
    execution: str
    place: int
    attempt: int

    def __str__(self) -> str:
        return ":".join(map(str, self))


def parse(text: str) -> Cookie | None:
    """The cookie that a text is, None if it is none of ours."""
    match text.split(":"):
        case epoch, server, execution, place, attempt if place.isdecimal() and attempt.isdecimal():
            return Cookie(epoch, server, execution, int(place), int(attempt))
        case _:
            return None


def marked(cookie: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with `env` and the cookie, if there is one, added."""
    cookies = {NAME: cookie} if cookie else {}
    return {**os.environ, **(env or {}), **cookies}


def carry(cookie: str) -> None:
    """In a fork of this process: have the cookie, and give it to the programs it starts.

    The environment that others can read is that of the program's start, so a descriptor tells
    the cookie by its name, and the process's own name that there is one.
    """
    if not cookie:
        return
    os.environ[NAME] = cookie
    with contextlib.suppress(AttributeError, OSError):  # not Linux, or no descriptors left
        os.memfd_create(f"{NAME}={cookie}", os.MFD_CLOEXEC)
        Path("/proc/self/comm").write_bytes(FORKED)


def carried(pid: int) -> str | None:
    """The cookie that a process carries which is a fork."""
    try:
        if Path(f"/proc/{pid}/comm").read_bytes() != FORKED + b"\n":
            return None
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    name = os.readlink(entry.path)
                    if name.startswith(_MEMORY):
                        return name.removeprefix(_MEMORY).removesuffix(" (deleted)")
    except OSError:  # it has ended, or is another user's
        return None
    return None


def this_server() -> str:
    """This process, as cookies name it: PID namespace, PID and start time."""
    pid = os.getpid()
    return f"{_namespace()}.{pid}.{start_of(pid) or 0}"


def has_gone(server: str) -> bool:
    """Whether a server has ended. False if that cannot be known from here."""
    match server.split("."):
        case namespace, pid, start if pid.isdecimal():
            return namespace == _namespace() and str(start_of(int(pid))) != start
        case _:
            return False


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, None if there is no such process:
    who has the same PID and start time is the same. See proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except FileNotFoundError:
        return ""
