"""Removes the server's signal handlers, descriptors and locks from forks of the server.

A Python task runs in a thread of the server and may fork it, as multiprocessing does. The child has
a copy of everything, and a copy of the server's resources is useless to it and harmful to others.

The rule that must not be broken: a child keeps nothing of the server that outlives the server. The
server's descriptors are not closed in the child but replaced by /dev/null. The objects that own
them still exist in the child, and would otherwise close a descriptor that has reused the number.
/dev/null is opened read-only: if SQLite closes a connection in the child, it gets no lock, so it
neither writes to the store nor removes its log.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Protocol

# Handlers of these signals belong to the server, not to its children.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVERS = {"asyncio", "daphne", "goflow", "granian", "gunicorn", "hypercorn", "uvicorn"}

_HOUSE = f"{os.path.dirname(__file__)}{os.sep}"

Descriptors = Callable[[], Iterable[int]]


class Forking(Protocol):
    """The owner of the code that forks, such as an attempt."""

    def before(self) -> None:
        """Called in the parent, before the fork."""
        ...

    def in_child(self) -> None: ...


def _nobody() -> Forking | None:
    return None


whose: Callable[[], Forking | None] = _nobody  # finds the owner of the current thread's code

_withheld: dict[object, Descriptors] = {}
_users = 0
_registered = False
_refused = False
_masks = threading.local()
_kept: list[object] = []  # in a child: objects that must never be collected


@contextlib.contextmanager
def disinherited() -> Iterator[None]:
    """While the block runs, forks of this process lose the server's resources."""
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
    """Withhold descriptors from forks. `descriptors` is called in the child.

    Returns a function to call when they are closed.
    """
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
    """In a child: never collect an object, since that would flush or close its descriptors."""
    _kept.append(thing)


def refuse() -> None:
    """Let new children exit at once from now on, since this process is about to exit."""
    global _refused
    _refused = True


def ends_here(home: int, error: BaseException | None = None) -> None:
    """Exit if this process is a child of the process `home`, as a program exits that has raised
    `error` or nothing. A child that leaves its task's code must not run the server's."""
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
    # Until the child has its own handlers, it would handle a signal as the server does.
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
    _users = 0  # nothing is left to remove from the child's own children
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
    called = getattr(handler, "func", handler)  # the function of a functools.partial
    return callable(called) and str(getattr(called, "__module__", "")).split(".")[0] in SERVERS


def _disinherit() -> None:
    sources = list(_withheld.values())
    _kept.extend(sources)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for descriptors in sources:
        for fd in list(descriptors()):
            if fd > 2:  # 1 and 2 are the outputs, also if the server has reopened them
                with contextlib.suppress(OSError):
                    os.dup2(null, fd, inheritable=False)
    os.close(null)
