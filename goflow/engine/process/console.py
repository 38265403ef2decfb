"""Words for people on standard error: said without ever waiting for somebody to read them.

The rule that must not be broken: nothing here holds up who says something, raises, or grows. A
pipe that nobody reads fills up, and then a write to it never returns; a terminal may be stopped
by Ctrl-S, a disk be full. So a thread of its own writes, and what it cannot keep up with is
dropped, counted, and told once it can.
"""

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator

LIMIT = 256 * 1024  # bytes that may wait
FLUSH = 1.0  # seconds that an end waits for what was said to be out


class Console:
    """Standard error, as it is when something is written."""

    def __init__(self) -> None:
        self._home = 0  # the process whose thread writes; a fork has no such thread
        self._begin()

    def _begin(self) -> None:
        self._news = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0  # of what waits and of what is being written
        self._dropped = 0

    def say(self, text: str) -> None:
        """Write a text as lines of its own, as soon as that is possible; from any thread."""
        line = f"{text}\n".encode(errors="backslashreplace")
        if self._home != os.getpid():
            self._home = os.getpid()
            self._begin()
            # no more threads: then nothing is said
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._work, name="goflow-console", daemon=True).start()
        with self._news:
            if self._size + len(line) > LIMIT:
                self._dropped += 1
            else:
                self._waiting.append(line)
                self._size += len(line)
            self._news.notify_all()

    def flush(self, seconds: float = FLUSH) -> None:
        """Wait until all that was said is out, but not for long."""
        if self._home == os.getpid():
            with self._news:
                self._news.wait_for(lambda: not self._size and not self._dropped, seconds)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._dropped)
                if self._waiting:
                    line, dropped = self._waiting.popleft(), 0
                else:
                    dropped = self._dropped
                    line = f"… {dropped} messages were lost, since nobody read them …\n".encode()
            _write(line)
            with self._news:
                if dropped:
                    self._dropped -= dropped
                else:
                    self._size -= len(line)
                self._news.notify_all()


def _write(line: bytes) -> None:
    """May take for ever. What cannot be written is lost: nobody is there to be told."""
    stream = sys.stderr
    stream = getattr(stream, "original", stream)
    with contextlib.suppress(OSError, ValueError):
        if stream is None:
            return
        try:
            # Not through its buffer, whose lock would be held by this thread at the very end.
            fd = stream.fileno()
        except (OSError, ValueError, AttributeError):
            stream.write(line.decode())
            stream.flush()
        else:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(fd, rest) :]


console = Console()


class ConsoleHandler(logging.Handler):
    """Says each record on the console."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            console.say(self.format(record))
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def last_resort() -> Iterator[None]:
    """Inside, what `logging` prints because nobody configured it is said on the console."""
    before = logging.lastResort
    logging.lastResort = ConsoleHandler(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before
