"""Finds the processes that attempts have left running, by their process tag, and ends them.

The rule that must not be broken: only a process with the right tag is signalled. Between the scan
and the signal a process may end and its PID may be used again. So each one is signalled through a
pidfd, and its start time and tag are checked again after the pidfd was opened.

This needs Linux and /proc; on other systems nothing is found. Out of reach are processes of other
users, processes that have overwritten their environment, and forks that have closed all
descriptors.

/proc is read directly, and not through psutil. psutil runs on macOS too, but there are no pidfds
there, and the tag of a fork is the name of a descriptor, which only /proc shows. A scan takes about
as long with either.
"""

import asyncio
import contextlib
import os
import select
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from goflow.operators.process_tag import VARIABLE, ProcessTag, parse, start_of, tag_of_fork

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
ROUNDS = 4  # scans followed by SIGKILL: a process may fork during a scan
SCAN_LIMIT = 5.0  # seconds; reading /proc may hang if a process hangs in the kernel

_ASSIGNMENT = f"{VARIABLE}=".encode()

Wanted = Callable[[ProcessTag], bool]


class Orphan(NamedTuple):
    """A tagged process."""

    pid: int
    start: int  # see `start_of`
    tag: ProcessTag


End = Callable[[Wanted], Coroutine[Any, Any, list[Orphan]]]


async def end(wanted: Wanted) -> list[Orphan]:
    """End the processes whose tag is wanted, and return those that were found.

    Each gets SIGTERM, and SIGKILL after `GRACE`. Takes at most about twice the grace, unless the
    kernel blocks.
    """
    found: dict[tuple[int, int], Orphan] = {}
    for number in [signal.SIGTERM, *[signal.SIGKILL] * ROUNDS]:
        try:
            async with asyncio.timeout(SCAN_LIMIT):
                left = [one for one in await _scanner().scan() if wanted(one.tag)]
        except TimeoutError:
            break
        found |= {(one.pid, one.start): one for one in left}
        if not left:
            break
        await _signal(left, number, GRACE if number is signal.SIGTERM else GRACE / ROUNDS)
    return list(found.values())


async def end_tagged(tag: str, warn: Callable[[str], None], by: End = end) -> None:
    """End the processes of an attempt that have left its process group."""
    if tag and (ended := await by(lambda found: str(found) == tag)):
        pids = ", ".join(str(one.pid) for one in ended)
        warn(f"ended processes that the task had left running: {pids}")


async def _signal(left: list[Orphan], number: signal.Signals, grace: float) -> None:
    """Signal processes, then wait for their end, at most `grace` seconds."""
    with contextlib.ExitStack() as opened:
        poll = select.poll()
        waiting: dict[int, int] = {}
        for one in left:
            if (pidfd := _open(one)) is not None:
                opened.callback(os.close, pidfd)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(pidfd, number)
                    # A stopped process does not handle signals until it is continued.
                    signal.pidfd_send_signal(pidfd, signal.SIGCONT)
                    waiting[pidfd] = one.pid
                    poll.register(pidfd, select.POLLIN)
        pause = 0.002
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while waiting:
                    for pidfd, _ in poll.poll(0):
                        poll.unregister(pidfd)
                        _reap(waiting.pop(pidfd))
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.05)


def _open(one: Orphan) -> int | None:
    """A pidfd of the process; None if the process has ended."""
    try:
        pidfd = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return None
    if _inspect(one.pid) == one:
        return pidfd
    os.close(pidfd)
    return None


def _reap(pid: int) -> None:
    """As process 1 of a container, this process inherits orphans and must reap them."""
    if os.getpid() == 1:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


# -- scans -------------------------------------------------------------------------


def scan() -> list[Orphan]:
    """All tagged processes except this one."""
    if not hasattr(os, "pidfd_open"):
        return []
    try:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # no /proc, or a kernel without pidfds
        return []
    own = os.getpid()
    return [found for pid in pids if pid != own and (found := _inspect(pid)) is not None]


def _inspect(pid: int) -> Orphan | None:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            environ = file.readall()
    except OSError:  # the process has ended, or belongs to another user
        return None
    text = tag_of_fork(pid)
    if text is None and _ASSIGNMENT in environ:
        values = [word for word in environ.split(b"\0") if word.startswith(_ASSIGNMENT)]
        text = values[-1][len(_ASSIGNMENT) :].decode(errors="replace") if values else None
    tag = None if text is None else parse(text)
    start = start_of(pid)
    return None if tag is None or start is None else Orphan(pid, start, tag)


class _Scanner:
    """Runs one scan at a time. All requests that arrive during a scan share the next one."""

    def __init__(self) -> None:
        self._running: asyncio.Task[list[Orphan]] | None = None
        self._next: asyncio.Task[list[Orphan]] | None = None

    async def scan(self) -> list[Orphan]:
        """The result of a scan that began after the call."""
        # One that was cancelled before it began has not cleared `_next`.
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_task(self._follow(self._running))
        return await asyncio.shield(self._next)

    async def _follow(self, running: "asyncio.Task[list[Orphan]] | None") -> list[Orphan]:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        return await _in_thread()


async def _in_thread() -> list[Orphan]:
    """`scan` in a daemon thread, so that a scan that hangs does not keep the process alive."""
    loop = asyncio.get_running_loop()
    scanned: asyncio.Future[list[Orphan]] = loop.create_future()

    def resolve(found: list[Orphan]) -> None:
        if not scanned.done():
            scanned.set_result(found)

    def work() -> None:
        found = scan()
        with contextlib.suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(resolve, found)

    try:
        threading.Thread(target=work, name="goflow-orphans", daemon=True).start()
    except (RuntimeError, MemoryError):  # no thread available, perhaps because of the orphans
        return scan()
    return await scanned


_scanners: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Scanner]"
_scanners = weakref.WeakKeyDictionary()


def _scanner() -> _Scanner:
    return _scanners.setdefault(asyncio.get_running_loop(), _Scanner())
