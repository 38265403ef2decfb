"""Human-readable messages on standard error, written without ever blocking the caller.

The rule that must not be broken: the console never blocks, raises, or grows without limit. A pipe
that nobody reads fills up, and then writes block; Ctrl-S stops a terminal, and a disk may be full.
So a separate thread writes. Messages beyond the limit are dropped and counted, and the count is
written later.
"""

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator

LIMIT = 256 * 1024  # bytes that may wait
FLUSH = 1.0  # seconds that `flush` waits


class Console:
    """Standard error, looked up at each write."""

    def __init__(self) -> None:
        self._home = 0  # the process of the writing thread, which a fork does not have
        self._begin()

    def _begin(self) -> None:
        self._news = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes that wait or are being written
        self._dropped = 0

    def say(self, text: str) -> None:
        """Queue a message, which ends with a newline. From any thread."""
        line = f"{text}\n".encode(errors="backslashreplace")
        if self._home != os.getpid():
            self._home = os.getpid()
            self._begin()
            # no more threads: the message is lost
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
        """Wait until all messages are written, but not for long."""
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
                    line = f"… {dropped} messages were lost because nothing read them …\n".encode()
            _write(line)
            with self._news:
                if dropped:
                    self._dropped -= dropped
                else:
                    self._size -= len(line)
                self._news.notify_all()


def _write(line: bytes) -> None:
    """May block indefinitely. A line that cannot be written is lost."""
    stream = sys.stderr
    stream = getattr(stream, "original", stream)
    with contextlib.suppress(OSError, ValueError):
        if stream is None:
            return
        try:
            # Not through its buffer, whose lock this thread would hold at exit.
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
    """Writes each record to the console."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            console.say(self.format(record))
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def last_resort() -> Iterator[None]:
    """Send records of an unconfigured `logging` to the console, while inside."""
    before = logging.lastResort
    logging.lastResort = ConsoleHandler(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before
