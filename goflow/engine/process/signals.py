"""Stops on signals: the first one gracefully, the second one at once, including programs.

The rule that must not be broken: a signal ends the process. Python calls handlers in the main
thread, between two instructions. If the main thread is stuck, a separate thread, which the system
notifies of every signal, ends the process in time.
"""

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from goflow import forks
from goflow.engine.clock import SystemClock
from goflow.engine.process import leaving

SIGNALS = forks.SIGNALS
SECOND = 1.0  # seconds that the main thread has to act on a second signal


@contextlib.contextmanager
def ended_by_signals(
    first: Callable[[signal.Signals], None],
    last: Callable[[], None] = lambda: None,
    *,
    limit: float,
) -> Iterator[None]:
    """Handle signals while inside, on the event loop of the main thread.

    Calls `first` with the first signal. At the second one, or `limit` seconds after the first
    one, kills the processes of tasks, calls `last`, and exits with 128 plus the signal's number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    received: list[int] = []
    home = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != home:  # in a child that has not set its own handlers yet
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.append(number)
        if len(received) == 1:
            loop.call_soon_threadsafe(first, signal.Signals(number))
        else:
            last()
            leaving.end_all()
            os._exit(128 + number)

    # nohup ignores SIGHUP on purpose
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with _watched(limit, last):
        before = {number: signal.signal(number, handle) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _watched(limit: float, last: Callable[[], None]) -> Iterator[None]:
    """Run the thread that ends the process, while inside."""
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    over = threading.Event()

    def watch() -> None:
        number = _next_signal(told, None)
        if number is None:
            return
        second = _next_signal(told, limit)
        if over.wait(0 if second is None else SECOND):
            return
        last()
        leaving.leave_held_up(second or number, limit if second is None else None)

    thread = threading.Thread(target=watch, name="goflow-signals", daemon=True)
    thread.start()
    with forks.withheld(lambda: [told, telling]):
        before = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            over.set()
            os.write(telling, b"\0")
            thread.join()
            os.close(told)
            os.close(telling)


def _next_signal(told: int, seconds: float | None) -> int | None:
    """The next handled signal; None if none arrives in time, or none will arrive any more."""
    clock, poll = SystemClock(), select.poll()
    poll.register(told, select.POLLIN)
    begun = clock.elapsed()
    while True:
        left = None if seconds is None else max(begun + seconds - clock.elapsed(), 0) * 1000
        if not poll.poll(left):
            return None
        (number,) = os.read(told, 1)
        if number in SIGNALS:
            return number
        if not number:
            return None
