"""Process 1 of a container: takes note of orphans that have ended, and hands signals on.

The kernel gives orphans to process 1 of their PID namespace, and keeps those that have ended as
zombies until it takes note. A server cannot do that: it would take the exit codes of children that
tasks wait for. So where goflow is started as process 1, it runs in a child of that.

The rule that must not be broken: to whoever runs the container, nothing shows. Signals go to the
server, and its exit code is the container's.
"""

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn

from goflow.engine.process.console import console

# Of faults of this process, which nobody else is to be told of.
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
    "goflow runs as process 1 and, because the program has started threads, cannot let another "
    "one take note of orphans that have ended: start the container with --init"
)


def stand_aside() -> None:
    """If this is process 1, go on in a child of it. To be called before anything is begun."""
    if os.getpid() != 1:
        return
    if threading.active_count() > 1:  # they would be missing in the child
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
    # A terminal's Ctrl-C goes to a whole group: to the server alone, not by way of process 1 too.
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
