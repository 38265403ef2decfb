"""Watches a process group and ends it.

The rule that must not be broken: an empty group is never signalled again, since its number may be
reused.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from goflow import forks

GRACE = 5.0  # seconds between SIGTERM and SIGKILL

_watched: "set[ProcessGroup]" = set()


def kill_all() -> None:
    """Kill every group that this process watches. Safe from any thread and signal handler."""
    for group in list(_watched):
        group.signal(signal.SIGKILL)


def _pipes_of_watched() -> list[int]:
    """In a fork of this process: stop watching, and return the pipes to the programs."""
    groups = list(_watched)
    _watched.clear()
    forks.keep(groups)
    pipes = [pipe for one in groups for pipe in (one._leader.stdout, one._leader.stderr)]
    return [pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed]


forks.withhold(_pipes_of_watched)


class ProcessGroup:
    """The group whose leader is `process`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._leader = process
        self._number = process.pid
        self._empty = False
        self._known: list[int] = []  # members other than the leader, as of the last scan
        _watched.add(self)

    def release(self) -> None:
        """Stop watching the group."""
        _watched.discard(self)

    def alive(self) -> bool:
        """Whether any process of the group runs, the leader included."""
        if self._leader.returncode is None:
            return True
        if self._empty:
            return False
        self._reap()
        try:
            os.killpg(self._number, 0)
            self._empty = not self._has_living()
        except ProcessLookupError:
            self._empty = True
        except PermissionError:  # it runs as another user
            return True
        return not self._empty

    def _reap(self) -> None:
        """As process 1 of a container, this process inherits orphans and must reap them."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self._number, os.WNOHANG)[0]:
                pass

    def _has_living(self) -> bool:
        """Whether the group has more than zombies. Without /proc, zombies count as living."""
        if not any(_lives_in(self._number, pid) for pid in self._known):
            try:
                pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
            except FileNotFoundError:
                return True
            if not pids:
                return True
            self._known = [pid for pid in pids if _lives_in(self._number, pid)]
        return bool(self._known)

    def signal(self, number: signal.Signals) -> None:
        if not self._empty:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._number, number)

    async def end(self, warn: Callable[[str], None]) -> None:
        """Send SIGTERM, wait, and send SIGKILL. Takes at most twice the grace."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process does not handle SIGTERM
        if await self._gone_within(GRACE):
            return
        warn(f"still there {GRACE:g} s after SIGTERM; sending SIGKILL")
        self.signal(signal.SIGKILL)
        if not await self._gone_within(GRACE):
            warn(f"process group {self._number} could not be ended")

    async def _gone_within(self, seconds: float) -> bool:
        pause = 0.001
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.alive():
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.05)
        return not self.alive()


def _lives_in(group: int, pid: int) -> bool:
    """Whether a process is in this group and not a zombie; see proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state, _parent, its_group = stat[stat.rindex(b")") + 2 :].split(maxsplit=3)[:3]
    return int(its_group) == group and state not in (b"Z", b"X")


async def uninterrupted(cleanup: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine to its end, even if the awaiting task is cancelled meanwhile."""
    task = asyncio.get_running_loop().create_task(cleanup)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
