"""Ends the process even if tasks keep it from ending.

The rule that must not be broken: a process that was told to end ends within limits. Threads cannot
be stopped, nor coroutines that swallow their cancellation; the interpreter waits for non-daemon
threads, multiprocessing waits for its children, and code that blocks the event loop blocks the
stop. So a separate thread waits until the limit, and exits then.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from goflow import forks
from goflow.engine.process import forked, loops
from goflow.engine.process.console import console
from goflow.operators import orphans
from goflow.operators.process_group import kill_all

EXIT_LIMIT = 5.0  # seconds that the interpreter may take to end
FLUSH = 2.0  # seconds to flush streams, and as many for multiprocessing

_ran = False  # whether an engine ran in this process
_abandoned = False  # whether cancelled attempts still run


def note_run(abandoned: bool) -> None:
    """An engine has stopped."""
    global _ran, _abandoned
    _ran = True
    _abandoned |= abandoned


def depart(code: int) -> None:
    """Ensure that the process, which is about to exit with this code, does exit."""
    if _abandoned or loops.is_anything_left():
        leave(code)
    if _ran:

        def watch() -> None:
            threading.Event().wait(EXIT_LIMIT)
            leave(code)

        threading.Thread(target=watch, name="goflow-leaving", daemon=True).start()


def leave(code: int) -> NoReturn:
    """Exit now, after flushing streams as far as possible."""
    _bounded(_end_multiprocessing)
    end_all()
    _bounded(_flush)
    console.flush()
    os._exit(code)


def leave_held_up(number: int, seconds: float | None) -> NoReturn:
    """Exit although the stop has not finished within `seconds`; None after a second signal that
    the main thread did not handle."""
    if seconds is not None:
        console.say(
            f"goflow: not stopped {seconds:g} s after {signal.Signals(number).name}; ending at "
            f"once. The main thread is here:\n{_where_main_is()}"
        )
    leave(128 + number)


def end_all() -> None:
    """Kill the processes of running attempts, and refuse to start more."""
    forks.refuse()
    kill_all()
    if forked.unfinished:
        for one in orphans.scan():
            if str(one.tag) in forked.unfinished:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(one.pid, signal.SIGKILL)
    _bounded(_kill_daemons)


def _kill_daemons() -> None:
    """Kill the processes that multiprocessing ends with this one. Its exit function may have been
    stuck on a lock that a killed worker of a pool held, and a pool replaces killed workers from a
    thread that belongs to no task."""
    if "multiprocessing.process" not in sys.modules:
        return
    from multiprocessing import active_children

    while daemons := [child for child in active_children() if child.daemon]:
        for child in daemons:
            child.kill()
        for child in daemons:
            child.join(FLUSH)


def _bounded(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads
        thread.start()
        thread.join(FLUSH)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]


def _end_multiprocessing() -> None:
    """Run its exit function: otherwise it would report leaked semaphores."""
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util._exit_function()


def _where_main_is() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return "".join(traceback.format_stack(frame)).rstrip("\n")
