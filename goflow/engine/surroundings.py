"""What all tasks of a process share and any of them can change: it is put back at the task's end.

The rule that must not be broken: outside tasks nothing is put back. What changes while no task
runs is how the program wants it.

A change made by the usual function (`os.chdir`) is known with its maker, and is put back when that
attempt ends. Any other is found by looking, at each attempt's begin and end: all that ran since the
look before may have made it, so it is put back when the last of these has ended.

Looking must be cheap, and must not give the interpreter to other threads: with a hundred that
compute, each time costs the event loop a place at the end of their queue.
"""

import asyncio
import contextlib
import functools
import gc
import locale
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from goflow.engine.current import current_log
from goflow.operators.base import Log

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE", "SIGALRM", "SIGUSR1")


class Setting(NamedTuple):
    """Something that the process has once: how to read it, and how to put it back.

    - `changers`: the functions that change it, each by its module and name.
    - `looked`: whether it is read at each look, or only once a changer was called.
    - `told`: whether the log tells of it. Libraries change some when they are imported.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    changers: tuple[tuple[ModuleType, str], ...] = ()
    looked: bool = True
    told: bool = True


_setlocale = locale.setlocale  # the plain one, since to ask it is no change


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
    Setting(
        "the working directory",
        _folder,
        _enter,
        changers=((os, "chdir"), (os, "fchdir")),
        looked=False,
    ),
    Setting(
        "environment variables",
        _environment,
        _set_environment,
        changers=((os, "putenv"), (os, "unsetenv")),
    ),
    Setting("the umask", _umask, _set_umask, changers=((os, "umask"),), looked=False),
    Setting(
        "the locale",
        lambda: _setlocale(locale.LC_ALL),
        lambda was: _setlocale(locale.LC_ALL, was),
        changers=((locale, "setlocale"),),
        looked=False,
    ),
    Setting(
        "signal handlers",
        _handlers,
        _set_handlers,
        changers=((signal, "signal"),),
        looked=False,
    ),
    Setting(
        "the default timeout of sockets",
        socket.getdefaulttimeout,
        socket.setdefaulttimeout,
        changers=((socket, "setdefaulttimeout"),),
    ),
    Setting("the event loop policy", _policy, _set_policy),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("the garbage collector", gc.isenabled, _collect),
    Setting("the trace function of threads", threading.gettrace, _trace),
    Setting(
        "the filters of warnings",
        _filters,
        _set_filters,
        changers=tuple(
            (warnings, name) for name in ("simplefilter", "filterwarnings", "resetwarnings")
        ),
        told=False,
    ),
)


BY_NAME = {one.name: one for one in SETTINGS}
LOOKED = [one for one in SETTINGS if one.looked]


class Surroundings:
    """The settings of this process, and the attempts in it."""

    def __init__(self) -> None:
        # Putting a setting back calls its changer, which tells again.
        self._lock = threading.RLock()
        self._running: set[Log] = set()
        self._settled: dict[str, Any] = {}  # what to put back
        self._last: dict[str, Any] = {}  # as last looked
        self._makers: dict[str, set[Log | None]] = {}  # who called a changer since; None: no task
        self._suspects: dict[str, set[Log]] = {}  # whose end a change waits for

    def enter(self, log: Log) -> None:
        """The attempt that writes to this log begins."""
        with self._lock:
            if self._running:
                self._look()
            else:
                self._settled = {one.name: one.read() for one in LOOKED}
                self._last = dict(self._settled)
                self._makers.clear()
                self._suspects.clear()
            self._running.add(log)

    def leave(self, log: Log) -> None:
        """The attempt has ended; what it changed is put back, and its log says so."""
        put_back = []
        with self._lock:
            self._look()
            self._running.discard(log)
            for name, suspects in list(self._suspects.items()):
                suspects &= self._running  # a thread that was abandoned may have made it since
                if suspects:
                    continue
                del self._suspects[name]
                setting = BY_NAME[name]
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # as far as it can
                    setting.write(self._settled[name])
                self._last[name] = setting.read()
                self._makers.pop(name, None)
                if setting.told:
                    put_back.append(name)
        for name in put_back:
            log.warning(
                f"{name} changed while this attempt ran, for all tasks, as they share one process; "
                'put back. A task with isolation="process" has a process of its own'
            )

    def changing(self, setting: Setting) -> None:
        """Somebody is about to call a changer of it."""
        with self._lock:
            if not self._running:
                return
            if not setting.looked and setting.name not in self._suspects | self._makers:
                self._settled[setting.name] = self._last[setting.name] = setting.read()
            self._makers.setdefault(setting.name, set()).add(current_log.get())

    def forget(self) -> None:
        """In a fork: no attempt runs here, and nobody will release what others hold."""
        self._lock = threading.RLock()
        self._running = set()

    def __reduce__(self) -> str:
        return "surroundings"  # what is sent to another process finds that one's own

    def _look(self) -> None:
        makers, self._makers = self._makers, {}
        for one in LOOKED:
            now = one.read()
            if now != self._last[one.name]:
                self._note(one.name, now, makers.pop(one.name, None))
        for name, known in makers.items():
            now = BY_NAME[name].read()
            if now != self._last[name]:
                self._note(name, now, known)

    def _note(self, name: str, now: Any, makers: set[Log | None] | None) -> None:
        """It was changed by one of these; by anyone if it is None."""
        self._last[name] = now
        if makers == {None}:
            self._settled[name] = now
        if now == self._settled[name]:
            self._suspects.pop(name, None)
        else:
            known = self._running if makers is None else {one for one in makers if one}
            self._suspects.setdefault(name, set()).update(known)


surroundings = Surroundings()
os.register_at_fork(after_in_child=surroundings.forget)


def watch() -> Callable[[], None]:
    """Be told by the functions that change a setting; returns what undoes that."""
    watched = [
        (module, name, getattr(module, name), _telling(setting, getattr(module, name)))
        for setting in SETTINGS
        for module, name in setting.changers
    ]
    for module, name, _, telling in watched:
        setattr(module, name, telling)

    def undo() -> None:
        for module, name, plain, telling in watched:
            if getattr(module, name) is telling:  # else somebody replaced it after us
                setattr(module, name, plain)

    return undo


def _telling(setting: Setting, change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def telling(*args: Any, **kwargs: Any) -> Any:
        surroundings.changing(setting)
        return change(*args, **kwargs)

    return telling
