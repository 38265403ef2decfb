"""The process tag: an environment variable that marks each process an attempt starts.

After a crash, or when an attempt leaves its process group, the tag is how its processes are found.

The rule that must not be broken: no two attempts share a tag, whichever servers and copies of
stores they belong to. So a tag also names the server's process, and a server never ends a process
that carries the tag of another living server.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from goflow.core.keys import Key, key_of

VARIABLE = "GOFLOW_COOKIE"
FORKED = b"goflow-fork"  # at most 15 bytes

ITEM = "i"  # before the number of an item; no hexadecimal digit
_MEMORY = f"/memfd:{VARIABLE}="


class ProcessTag(NamedTuple):
    """The attempt that a process belongs to.

    Attributes:
        store: The epoch of the server's store.
        server: The server's process, see `this_server`.
        execution: The execution's id.
        task: The task or item, see `task_key`.
        attempt: The attempt's number, from 1.
    """

    store: str
    server: str
    execution: str
    task: str
    attempt: int

    def __str__(self) -> str:
        beginning = _beginning(self.store, self.server, self.execution)
        return f"{beginning}{self.task}:{self.attempt}"


def _beginning(store: str, server: str, execution: str) -> str:
    return f"{store}:{server}:{execution}:"


def tags_of(store: str, server: str, execution: str) -> Callable[[Key, int], str]:
    """A function that makes the tags of an execution's attempts, as text."""
    beginning = _beginning(store, server, execution)

    def tag(key: Key, attempt: int) -> str:
        return f"{beginning}{task_key(key)}:{attempt}"

    return tag


@functools.lru_cache(maxsize=16_384)  # hashing takes longer than the rest of a tag
def _hashed(name: str) -> str:
    return f"t{hashlib.blake2s(name.encode(), digest_size=8).hexdigest()}"


def task_key(key: Key) -> str:
    """A task or item as a tag holds it: short, and of ASCII letters and digits only."""
    if isinstance(key, str):
        return _hashed(key)
    return f"{_hashed(key.task)}{ITEM}{key.number}"


def key_in(text: str, names: Mapping[str, str]) -> Key:
    """The task or item that `task_key` made the text of; `names` is of `tasks_by_key`. A task ""
    if it is none of them."""
    name, _, item = text.partition(ITEM)
    return key_of(names.get(name, ""), int(item) if item.isdecimal() else None)


def tasks_by_key(names: Iterable[str]) -> dict[str, str]:
    """The names of an execution's tasks, by the keys that tags may have for them.

    A server of an earlier version tagged its processes with the task's position in the job, so
    positions are keys too: an upgrade still finds what that server left running.
    """
    found: dict[str, str] = {}
    for position, name in enumerate(names):
        found[str(position)] = found[task_key(name)] = name
    return found


def parse(text: str) -> ProcessTag | None:
    """Read a tag from text; None if the text is not a tag."""
    match text.split(":"):
        case store, server, execution, task, attempt if task.isalnum() and attempt.isdecimal():
            return ProcessTag(store, server, execution, task, int(attempt))
        case _:
            return None


def tagged(tag: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process, updated with `env` and, unless it is empty, the tag."""
    return {**os.environ, **(env or {}), **({VARIABLE: tag} if tag else {})}


def tag_fork(tag: str) -> None:
    """Tag this process, a fork of the server, and the programs it will start.

    Other processes only see the environment that a program was started with. So the fork also
    holds a descriptor named by the tag, and gets a process name that a scan looks for.
    """
    if not tag:
        return
    os.environ[VARIABLE] = tag
    with contextlib.suppress(AttributeError, OSError):  # not Linux, or out of descriptors
        os.memfd_create(f"{VARIABLE}={tag}", os.MFD_CLOEXEC)
        Path("/proc/self/comm").write_bytes(FORKED)


def tag_of_fork(pid: int) -> str | None:
    """The tag that `tag_fork` gave to a process; None if it gave none."""
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            if file.readall() != FORKED + b"\n":
                return None
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    name = os.readlink(entry.path)
                    if name.startswith(_MEMORY):
                        return name.removeprefix(_MEMORY).removesuffix(" (deleted)")
    except OSError:  # the process has ended, or belongs to another user
        return None
    return None


def this_server() -> str:
    """This process in the form used in tags: PID namespace, PID and start time."""
    pid = os.getpid()
    return f"{_namespace()}.{pid}.{start_of(pid) or 0}"


def has_gone(server: str) -> bool:
    """Whether a server has ended. False if this process cannot know."""
    match server.split("."):
        case namespace, pid, start if pid.isdecimal():
            return namespace == _namespace() and str(start_of(int(pid))) != start
        case _:
            return False


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5)); None if it does not exist.

    PID and start time together identify a process for as long as the machine runs. psutil gives
    the time in seconds since 1970 instead, which shifts when the machine's clock is set.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            stat = file.readall()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except FileNotFoundError:
        return ""
