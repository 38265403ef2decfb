"""A file of jobs, and helpers that start processes and wait for them."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DEADLINE = 60  # seconds until a wait has failed

JOBS = """
import os
from goflow import Command, ConstantDelay, Goflow, Job, Task

gf = Goflow()

def etl() -> Job:
    job = Job("etl", "0 3 * * *", True, params={"day": "today", "rows": 3})

    @job.task
    def fetch(day, rows):
        print("fetching", day)
        return [day, rows]

    @job.task
    def clean(fetch):
        return fetch

    @job.task
    def report(fetch, clean):
        return clean

    return job

def broken() -> Job:
    job = Job("broken")

    @job.task(retries=1)
    def explode():
        raise ValueError("no fuse left")

    @job.task(after=["explode"])
    def never():
        pass

    return job

gf.add_job(etl)
gf.add_job(broken)
"""


class Spawned:
    """A `goflow` process."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def address(self) -> str:
        """Wait until it prints its address, and return that."""
        found = eventually(lambda: re.search(r"http://\S+", self.errors) or self.has_ended())
        assert isinstance(found, re.Match), self.errors
        return found[0]

    def has_ended(self) -> bool:
        return self.process.poll() is not None


def eventually(look: Callable[[], Any]) -> Any:
    """Wait for a truthy value of `look`, and return it."""
    deadline = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


Watch = Callable[[str, "subprocess.Popen[bytes]"], None]


def in_a_terminal(
    arguments: Sequence[str],
    cwd: Path,
    *,
    rows: int = 40,
    watch: Watch = lambda screen, process: None,
    escapes: bool = False,
) -> tuple[int, str]:
    """The exit code, and the text sent to the screen; `watch` is called as it grows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "goflow", *arguments],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    received = b""
    deadline = time.monotonic() + DEADLINE
    while True:
        if not select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]:
            process.kill()
            raise AssertionError(f"it did not end in time: {plain(received)}")
        try:
            more = os.read(ours, 65_536)
        except OSError:  # Linux's sign that the other side has closed
            break
        if not more:
            break
        received += more
        watch(plain(received), process)
    os.close(ours)
    text = received.decode() if escapes else plain(received)
    return process.wait(DEADLINE), text


def plain(received: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received.decode(errors="replace"))
