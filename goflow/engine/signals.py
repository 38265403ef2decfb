"""Ending by a signal: the first one ends in order, a second one at once, programs included."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from goflow.operators.process_group import kill_all

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals(
    first: Callable[[signal.Signals], None], last: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Inside, on the event loop of the main thread: call `first` with the first signal; at the
    second one kill what tasks run, call `last`, and end with 128 plus its number."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            loop.call_soon_threadsafe(first, signal.Signals(number))
        else:
            kill_all()
            last()
            os._exit(128 + number)

    # nohup has SIGHUP ignored, and that is meant
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
