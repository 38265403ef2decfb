"""What all tasks of a process share and any of them can change: it is put back at the task's end.

The rule that must not be broken: outside tasks nothing is put back. What changes while no task
runs is how the program wants it.

A change is found by looking, at each attempt's begin and end. All that ran since the look before
may have made it, so it is put back when the last one of these has ended.
"""

import asyncio
import contextlib
import gc
import locale
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from goflow.operators.base import Log

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE", "SIGALRM", "SIGUSR1")


class Setting(NamedTuple):
    """Something that the process has once: how to read it, and how to put it back. Of what is
    not `told`, libraries change much by being imported."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    told: bool = True


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None and os.path.isdir(folder):
        os.chdir(folder)


def _environment() -> dict[Any, Any]:
    return dict(os.environ._data)  # type: ignore[attr-defined] # the copy of it takes 100 times as long


def _set_environment(wanted: dict[Any, Any]) -> None:
    for name in [name for name in os.environb if name not in wanted]:
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _umask() -> int | None:
    """Read from the kernel, since setting it to find out would be a moment without one."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return None


def _set_umask(mask: int | None) -> None:
    if mask is not None:
        os.umask(mask)


def _filters() -> list[Any]:
    return list(warnings.filters)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings.simplefilter("default", Warning, append=True)  # so that nothing remembered counts
    warnings.filters[:] = filters  # type: ignore[index]


def _handlers() -> tuple[Any, ...]:
    numbers = (getattr(signal, name, None) for name in SIGNALS)
    return tuple((number, signal.getsignal(number)) for number in numbers if number is not None)


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # nor could a task have set any
    for number, handler in handlers:
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _policy() -> Any:
    # Asked for by its function it warns from Python 3.14 on.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    # The usual one is made when it is first needed, and has nothing of anybody's in it.
    return None if type(policy).__module__ == "asyncio.unix_events" else policy


def _set_policy(policy: Any) -> None:
    setattr(asyncio.events, "_event_loop_policy", policy)  # noqa: B010


def _collect(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()


def _trace(trace: Any) -> None:
    threading._trace_hook = trace  # type: ignore[attr-defined]


SETTINGS = (
    Setting("the working directory", _folder, _enter),
    Setting("environment variables", _environment, _set_environment),
    Setting("the umask", _umask, _set_umask),
    Setting(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda was: locale.setlocale(locale.LC_ALL, was),
    ),
    Setting("signal handlers", _handlers, _set_handlers),
    Setting("the default timeout of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Setting("the event loop policy", _policy, _set_policy),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("the garbage collector", gc.isenabled, _collect),
    Setting("the trace function of threads", threading.gettrace, _trace),
    Setting("the filters of warnings", _filters, _set_filters, told=False),
)


class Surroundings:
    """The settings of this process, and the attempts in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Log] = set()
        self._settled: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._suspects: dict[str, set[Log]] = {}

    def enter(self, log: Log) -> None:
        """The attempt that writes to this log begins."""
        with self._lock:
            if self._running:
                self._look()
            else:
                self._settled = {one.name: one.read() for one in SETTINGS}
                self._last = dict(self._settled)
                self._suspects.clear()
            self._running.add(log)

    def leave(self, log: Log) -> None:
        """The attempt has ended; what it changed is put back, and its log says so."""
        put_back = []
        with self._lock:
            self._look()
            self._running.discard(log)
            for one in SETTINGS:
                suspects = self._suspects.get(one.name)
                if suspects is None:
                    continue
                suspects.discard(log)
                if not suspects:
                    del self._suspects[one.name]
                    with contextlib.suppress(OSError, ValueError, RuntimeError):  # as far as it can
                        one.write(self._settled[one.name])
                    self._last[one.name] = one.read()
                    if one.told:
                        put_back.append(one.name)
        for name in put_back:
            log.warning(
                f"{name} changed while this attempt ran, for all tasks, as they share one process; "
                'put back. A task with isolation="process" has a process of its own'
            )

    def _look(self) -> None:
        for one in SETTINGS:
            now = one.read()
            if now != self._last[one.name]:
                self._last[one.name] = now
                if now == self._settled[one.name]:
                    self._suspects.pop(one.name, None)
                else:
                    self._suspects.setdefault(one.name, set()).update(self._running)


surroundings = Surroundings()
