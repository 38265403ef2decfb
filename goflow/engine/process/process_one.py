"""The duties of process 1 in a container: reap orphans, and forward signals.

The kernel makes process 1 the parent of orphans, and keeps ended ones as zombies until their parent
reaps them. The server cannot do that: it would also take the exit codes of children that tasks
wait for. So if goflow is started as process 1, the server runs in a child.

The rule that must not be broken: the container behaves as if there were one process. Signals reach
the server, and its exit code is the container's.
"""

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn

from goflow.engine.process.console import console

# Signals by faults of this process, which are not forwarded.
OWN = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
ZOMBIES = (
    "goflow runs as process 1 and cannot fork a reaper of orphans, because the program has "
    "started threads: start the container with --init"
)


def stand_aside() -> None:
    """If this is process 1, fork, and return in the child. Call it first of all."""
    if os.getpid() != 1:
        return
    if threading.active_count() > 1:  # the child would not have them
        console.say(ZOMBIES)
        return
    handed_on = {int(number) for number in signal.valid_signals()} - OWN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handed_on)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    child = os.fork()
    if child:
        _watch_over(child, handed_on)
    # Ctrl-C goes to a whole process group: only to the server, not through process 1 as well.
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch_over(child: int, handed_on: set[int]) -> NoReturn:
    while True:
        number = signal.sigwait(handed_on)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else 128 - code)
