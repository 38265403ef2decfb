"""What a fork of this process does without: signal handlers, descriptors and locks of ours.

A Python task runs in a thread of the server and may fork it, as multiprocessing does. The child
has a copy of everything, and a server's copy is no use to it and harm to others.

The rule that must not be broken: a child leaves nothing of the server's behind that outlives the
server. Its descriptors are not closed but become ones of /dev/null: objects that believe to own
them live on in the child, and a number that was free again would be closed by them in another's
place. /dev/null is open for reading alone, so that SQLite, should a connection be closed in the
child after all, gets no lock, and neither writes to the store nor removes its log.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Protocol

# Their handlers are for whoever serves, not for a child of it.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVERS = {"asyncio", "daphne", "goflow", "granian", "gunicorn", "hypercorn", "uvicorn"}

_HOUSE = f"{os.path.dirname(__file__)}{os.sep}"

Descriptors = Callable[[], Iterable[int]]


class Forking(Protocol):
    """Whose code forks: an attempt, say."""

    def before(self) -> None:
        """In the parent."""
        ...

    def in_child(self) -> None: ...


def _nobody() -> Forking | None:
    return None


whose: Callable[[], Forking | None] = _nobody  # finds who forks, in the thread that does

_withheld: dict[object, Descriptors] = {}
_users = 0
_registered = False
_refused = False
_masks = threading.local()
_kept: list[object] = []  # in a child: what must never be collected there


@contextlib.contextmanager
def disinherited() -> Iterator[None]:
    """Inside, a fork of this process gets what the module says, and no more."""
    global _users, _registered
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )
        _registered = True
    _users += 1
    try:
        yield
    finally:
        _users -= 1


def withhold(descriptors: Descriptors) -> Callable[[], None]:
    """Keep descriptors from forks; they are asked for in the child. Call what is returned once
    they are closed."""
    key = object()
    _withheld[key] = descriptors

    def give_up() -> None:
        _withheld.pop(key, None)

    return give_up


@contextlib.contextmanager
def withheld(descriptors: Descriptors) -> Iterator[None]:
    give_up = withhold(descriptors)
    try:
        yield
    finally:
        give_up()


def keep(thing: object) -> None:
    """In a child: let an object never be collected, which would flush or close what it has."""
    _kept.append(thing)


def refuse() -> None:
    """From now on children end as soon as they begin: this process is about to."""
    global _refused
    _refused = True


def ends_here(home: int, error: BaseException | None = None) -> None:
    """End this process, as a program ends that has raised `error` or nothing, if it is a child
    of the process `home`: one that comes out of a task's code has nothing to do out here."""
    if os.getpid() != home:
        leave_child(error)


def leave_child(error: BaseException | None) -> NoReturn:
    code = 0
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            code = 1
            if error.code is None or isinstance(error.code, int):
                code = (error.code or 0) & 0xFF
            else:
                print(error.code, file=sys.stderr)
        elif error is not None:
            code = 1
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HOUSE):
                trace = trace.tb_next
            traceback.print_exception(error.with_traceback(trace or error.__traceback__))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)


# -- around a fork, in the thread that makes it ------------------------------------


def _before() -> None:
    if not _users:
        return
    # A signal that came to the child before it has its own handlers would be taken for ours.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if (forking := whose()) is not None:
        forking.before()


def _after_in_parent() -> None:
    if (mask := _masks.__dict__.pop("before", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    global _users
    if not _users:
        return
    if _refused:
        os._exit(1)
    _users = 0  # for its own children there is nothing left to do
    try:
        _handle_no_signals()
        if (forking := whose()) is not None:
            forking.in_child()
        _disinherit()
    finally:
        _after_in_parent()


def _handle_no_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if _is_of_a_server(signal.getsignal(number)):
            usual = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def _is_of_a_server(handler: object) -> bool:
    called = getattr(handler, "func", handler)  # of a functools.partial
    return callable(called) and str(getattr(called, "__module__", "")).split(".")[0] in SERVERS


def _disinherit() -> None:
    sources = list(_withheld.values())
    _kept.extend(sources)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for descriptors in sources:
        for fd in list(descriptors()):
            if fd > 2:  # 1 and 2 are told to others, whatever they are
                with contextlib.suppress(OSError):
                    os.dup2(null, fd, inheritable=False)
    os.close(null)
