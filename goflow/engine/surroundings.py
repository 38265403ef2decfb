"""Process-wide settings that any task can change: they are restored when the task ends.

The rule that must not be broken: changes by code outside tasks stay. A change while no task runs
is what the program wants.

A change by the usual function (`os.chdir`) is attributed to the attempt that called it, and is
undone when that attempt ends. Any other change is found by a comparison at the start and end of
each attempt. All attempts that ran since the previous comparison are suspects, and the change is
undone when the last of them has ended.

Beside other attempts, only every `OFTEN`th start or end compares, and the last end: the change
waits for all that run, anyway. The comparison must be cheap, and must not release the interpreter:
beside 100 threads that compute, each release puts the event loop at the end of their queue.
"""

import asyncio
import contextlib
import functools
import gc
import locale
import operator
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


OFTEN = 16  # starts and ends of attempts from one comparison to the next


class Setting(NamedTuple):
    """A setting of the process: how to read it, and how to restore it.

    - `live`: reads the same value faster, without a copy, so that it may change later.
    - `changers`: the functions that change it, each by its module and name.
    - `looked`: whether every comparison reads it, or only those after a call of a changer.
    - `told`: whether the log mentions it. Some libraries change settings on import.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    changers: tuple[tuple[ModuleType, str], ...] = ()
    looked: bool = True
    told: bool = True
    live: Callable[[], Any] | None = None


_setlocale = locale.setlocale  # the original one, since reading is no change


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None and os.path.isdir(folder):
        os.chdir(folder)


def _environment() -> dict[Any, Any]:
    # `os.environ.copy()` takes 100 times as long.
    return dict(os.environ._data)  # type: ignore[attr-defined]


def _set_environment(wanted: dict[Any, Any]) -> None:
    for name in [name for name in os.environb if name not in wanted]:
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _umask() -> int | None:
    """Read from the kernel: reading by `os.umask` would reset it for a moment."""
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
    warnings.simplefilter("default", Warning, append=True)  # drops what `warnings` has cached
    warnings.filters[:] = filters  # type: ignore[index]


def _handlers() -> tuple[Any, ...]:
    numbers = (getattr(signal, name, None) for name in SIGNALS)
    return tuple((number, signal.getsignal(number)) for number in numbers if number is not None)


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # tasks in threads cannot set any
    for number, handler in handlers:
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _policy() -> Any:
    # The public function emits a warning from Python 3.14 on.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    # The default policy is created on demand, and holds no state of the program.
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
        looked=False,
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
    Setting(
        "the trace function of threads",
        threading.gettrace,
        _trace,
        live=functools.partial(getattr, threading, "_trace_hook"),
    ),
    Setting(
        "the filters of warnings",
        _filters,
        _set_filters,
        changers=tuple(
            (warnings, name) for name in ("simplefilter", "filterwarnings", "resetwarnings")
        ),
        told=False,
        live=functools.partial(getattr, warnings, "filters"),
    ),
)


BY_NAME = {one.name: one for one in SETTINGS}
LOOKED = [one for one in SETTINGS if one.looked]
LIVE = [one.live or one.read for one in LOOKED]
_call = operator.call


class Surroundings:
    """The settings of this process, and the attempts that run in it."""

    def __init__(self) -> None:
        # Reentrant, since restoring a setting calls its changer, which reports here again.
        self._lock = threading.RLock()
        self._running: set[Log] = set()
        self._settled: dict[str, Any] = {}  # the values to restore
        self._last: dict[str, Any] = {}  # at the previous comparison
        self._seen: list[Any] = []  # the same, in the order of `LIVE`
        self._makers: dict[
            str, set[Log | None]
        ] = {}  # callers of a changer since then; None: no task
        self._suspects: dict[str, set[Log]] = {}  # attempts whose end a restore waits for
        self._unseen = 0  # starts and ends since the last comparison

    def enter(self, log: Log) -> None:
        """An attempt, identified by its log, begins."""
        with self._lock:
            if self._running:
                self._look()
            else:
                self._begin()
            self._running.add(log)

    def _begin(self) -> None:
        """The settings are as the program wants them while no attempt runs."""
        if self._settled != self._last or self._have_changed():
            self._settled = {one.name: one.read() for one in LOOKED}
            self._last = dict(self._settled)
            self._see()
        self._makers.clear()
        self._suspects.clear()

    def leave(self, log: Log) -> None:
        """An attempt has ended: restore what it changed, and mention that in its log."""
        put_back = []
        with self._lock:
            self._look()
            self._running.discard(log)
            if not self._suspects:
                return
            for name, suspects in list(self._suspects.items()):
                suspects &= self._running  # an abandoned thread may have changed it since
                if suspects:
                    continue
                del self._suspects[name]
                setting = BY_NAME[name]
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # as far as it can
                    setting.write(self._settled[name])
                self._last[name] = setting.read()
                self._see()
                self._makers.pop(name, None)
                if setting.told:
                    put_back.append(name)
        for name in put_back:
            log.warning(
                f"{name} changed while this attempt ran, for all tasks of this process, and was "
                'restored. A task with isolation="process" has its own process'
            )

    def changing(self, setting: Setting) -> None:
        """A changer of the setting is about to be called."""
        with self._lock:
            if not self._running:
                return
            if not setting.looked and setting.name not in self._suspects | self._makers:
                self._settled[setting.name] = self._last[setting.name] = setting.read()
            self._makers.setdefault(setting.name, set()).add(current_log.get())

    def forget(self) -> None:
        """In a fork: no attempt runs here, and locks held by other threads stay locked."""
        self._lock = threading.RLock()
        self._running = set()

    def __reduce__(self) -> str:
        return "surroundings"  # unpickled in another process, it is that process's object

    def _have_changed(self) -> bool:
        return list(map(_call, LIVE)) != self._seen

    def _see(self) -> None:
        self._seen = [self._last[one.name] for one in LOOKED]

    def _look(self) -> None:
        self._unseen += 1
        if not self._makers and self._unseen < OFTEN and len(self._running) > 1:
            return
        self._unseen = 0
        if not self._makers and not self._have_changed():
            return
        makers, self._makers = self._makers, {}
        for one in LOOKED:
            now = one.read()
            if now != self._last[one.name]:
                self._note(one.name, now, makers.pop(one.name, None))
        for name, known in makers.items():
            now = BY_NAME[name].read()
            if now != self._last[name]:
                self._note(name, now, known)
        self._see()

    def _note(self, name: str, now: Any, makers: set[Log | None] | None) -> None:
        """Note a change by one of these attempts; None if the attempt is unknown."""
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
    """Patch the functions that change settings, to report here. Returns the undo function."""
    watched = [
        (module, name, getattr(module, name), _telling(setting, getattr(module, name)))
        for setting in SETTINGS
        for module, name in setting.changers
    ]
    for module, name, _, telling in watched:
        setattr(module, name, telling)

    def undo() -> None:
        for module, name, plain, telling in watched:
            if getattr(module, name) is telling:  # otherwise other code has patched it since
                setattr(module, name, plain)

    return undo


def _telling(setting: Setting, change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def telling(*args: Any, **kwargs: Any) -> Any:
        surroundings.changing(setting)
        return change(*args, **kwargs)

    return telling
