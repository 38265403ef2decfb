"""What attempts have left running, found by the cookie in its environment, and ended.

A fork of the server's own process has the server's environment, and carries the cookie otherwise.

The rule that must not be broken: only a process that has the cookie is signalled. Between
being found and being signalled it may end and its PID become somebody else's; so it is
signalled through a pidfd, opened before its start time and its cookie were looked at again.

That needs Linux, with /proc. Elsewhere nothing is found. Out of reach are processes of
other users, those that have overwritten their environment, and forks that have closed all
descriptors.
"""

import asyncio
import contextlib
import os
import select
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from goflow.operators.cookie import NAME, Cookie, carried, parse, start_of

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
ROUNDS = 4  # of SIGKILL: what forks while it is looked for is found the next time
SCAN_LIMIT = 5.0  # seconds: reading /proc may hang on a process that hangs in the kernel

_MARK = f"{NAME}=".encode()

Wanted = Callable[[Cookie], bool]


class Leftover(NamedTuple):
    """A process that was found."""

    pid: int
    start: int
    cookie: Cookie


End = Callable[[Wanted], Coroutine[Any, Any, list[Leftover]]]


async def end(wanted: Wanted) -> list[Leftover]:
    """End the processes with a wanted cookie: SIGTERM, `GRACE`, SIGKILL; those that were found.

    Takes at most about twice the grace, if nothing hangs in the kernel.
    """
    found: dict[tuple[int, int], Leftover] = {}
    for number in [signal.SIGTERM, *[signal.SIGKILL] * ROUNDS]:
        try:
            async with asyncio.timeout(SCAN_LIMIT):
                left = [one for one in await _scanner().scan() if wanted(one.cookie)]
        except TimeoutError:
            break
        found |= {(one.pid, one.start): one for one in left}
        if not left:
            break
        await _signal(left, number, GRACE if number is signal.SIGTERM else GRACE / ROUNDS)
    return list(found.values())


async def end_of(cookie: str, warn: Callable[[str], None], by: End = end) -> None:
    """End what an attempt has left running elsewhere than in its process group."""
    if cookie and (ended := await by(lambda found: str(found) == cookie)):
        pids = ", ".join(str(one.pid) for one in ended)
        warn(f"ended processes that the task had left running: {pids}")


async def _signal(left: list[Leftover], number: signal.Signals, grace: float) -> None:
    """Signal processes and wait until they have ended, at most `grace` seconds."""
    with contextlib.ExitStack() as opened:
        poll = select.poll()
        waiting: dict[int, int] = {}
        for one in left:
            if (pidfd := _hold(one)) is not None:
                opened.callback(os.close, pidfd)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(pidfd, number)
                    signal.pidfd_send_signal(pidfd, signal.SIGCONT)  # the stopped heed nothing
                    waiting[pidfd] = one.pid
                    poll.register(pidfd, select.POLLIN)
        pause = 0.002
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while waiting:
                    for pidfd, _ in poll.poll(0):
                        poll.unregister(pidfd)
                        _bury(waiting.pop(pidfd))
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.05)


def _hold(one: Leftover) -> int | None:
    """A pidfd of a process that was found, None if it is not there any more."""
    try:
        pidfd = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return None
    if _look_at(one.pid) == one:
        return pidfd
    os.close(pidfd)
    return None


def _bury(pid: int) -> None:
    """As process 1 of a container we inherit orphans, and they wait for us to take note."""
    if os.getpid() == 1:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


# -- looking -----------------------------------------------------------------------


def look() -> list[Leftover]:
    """All processes that have a cookie, but this one."""
    if not hasattr(os, "pidfd_open"):
        return []
    try:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # no /proc, or a kernel without pidfds
        return []
    own = os.getpid()
    return [found for pid in pids if pid != own and (found := _look_at(pid)) is not None]


def _look_at(pid: int) -> Leftover | None:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return None
    text = carried(pid)
    if text is None and _MARK in environ:
        values = [word for word in environ.split(b"\0") if word.startswith(_MARK)]
        text = values[-1][len(_MARK) :].decode(errors="replace") if values else None
    found = None if text is None else parse(text)
    start = start_of(pid)
    return None if found is None or start is None else Leftover(pid, start, found)


class _Scanner:
    """Scans of /proc, one at a time; all who ask during one share the next."""

    def __init__(self) -> None:
        self._running: asyncio.Task[list[Leftover]] | None = None
        self._next: asyncio.Task[list[Leftover]] | None = None

    async def scan(self) -> list[Leftover]:
        """What a scan that began after the call has found."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._follow(self._running))
        return await asyncio.shield(self._next)

    async def _follow(self, running: "asyncio.Task[list[Leftover]] | None") -> list[Leftover]:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        return await _in_thread()


async def _in_thread() -> list[Leftover]:
    """`look`, in a thread that keeps nobody from ending should it hang."""
    loop = asyncio.get_running_loop()
    looked: asyncio.Future[list[Leftover]] = loop.create_future()

    def tell(found: list[Leftover]) -> None:
        if not looked.done():
            looked.set_result(found)

    def work() -> None:
        found = look()
        with contextlib.suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(tell, found)

    try:
        threading.Thread(target=work, name="goflow-leftovers", daemon=True).start()
    except (RuntimeError, MemoryError):  # none can be had, perhaps because of what is looked for
        return look()
    return await looked


_scanners: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Scanner]"
_scanners = weakref.WeakKeyDictionary()


def _scanner() -> _Scanner:
    return _scanners.setdefault(asyncio.get_running_loop(), _Scanner())
