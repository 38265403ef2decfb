"""The log of one attempt: takes text from any thread, hands whole lines on in order.

The rule that must not be broken: whatever a task prints, memory and store stay bounded.
Of `limit` characters the first half, the head, is never dropped; the newest lines take the
place of older ones in the second half, the tail, and only once it is full, however slow the
store is. Every line that ever came has a number, so that a reader sees by the gap in the
numbers that some are gone.
"""

import asyncio
import contextlib
import contextvars
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TextIO

LINE = 16 * 1024  # characters; longer lines are broken
CHUNK = 64 * 1024  # characters handed on at a time
SHORT = 1024  # characters; shorter pieces that wait are joined, since each has its price
DRAINED = 128 * 1024  # characters waiting at which `drain` lets more come

Append = Callable[[int, int, str, tuple[int, int] | None], Awaitable[None]]


class Piece(NamedTuple):
    """Whole lines that follow each other, the first of them numbered `first`."""

    first: int
    lines: int
    text: str


class Stretch:
    """Lines of the tail that were handed on and will be forgotten together."""

    __slots__ = ("end", "first", "size")

    def __init__(self, first: int, end: int, size: int) -> None:
        self.first = first
        self.end = end
        self.size = size


class Lines:
    """What a log does besides `line` and `write`: the levels, as prefixes."""

    __slots__ = ()

    def flush(self) -> None:
        """Hand on a line that was begun, where it waits for its end in this process."""

    def line(self, text: str) -> None:
        """Append text as lines of its own, ending the line that others have begun."""
        raise NotImplementedError

    def __call__(self, message: object, /) -> None:
        self.line(str(message))

    def debug(self, message: object, *args: object) -> None:
        self.line(f"DEBUG {_formatted(message, args)}")

    def info(self, message: object, *args: object) -> None:
        self.line(f"INFO {_formatted(message, args)}")

    def warning(self, message: object, *args: object) -> None:
        self.line(f"WARNING {_formatted(message, args)}")

    def error(self, message: object, *args: object) -> None:
        self.line(f"ERROR {_formatted(message, args)}")

    def exception(self, message: object, *args: object) -> None:
        """Like `error`, with the traceback of the exception being handled."""
        trace = traceback.format_exc().rstrip("\n")
        self.line(f"ERROR {_formatted(message, args)}\n{trace}")


class Nowhere(Lines):
    """A log that keeps nothing."""

    def line(self, text: str) -> None:
        return

    def write(self, text: str, /) -> int:
        return len(text)

    async def drain(self) -> None:
        return


class TaskLog(Lines):
    """Implements `goflow.operators.base.Log`; made and closed on the event loop `loop`.

    `append(first, lines, text, forget)` is awaited with at most 64 Ki characters of whole
    lines, one call at a time; what comes meanwhile goes with the next. `forget` is a
    half-open range of line numbers to drop, or None. Lines are numbered from 0. `limit` is in
    characters. What is written after `close` (by a thread that could not be stopped) is lost.
    """

    __slots__ = (
        "__weakref__",
        "_append",
        "_busy",
        "_closed",
        "_elsewhere",
        "_flight",
        "_head",
        "_home",
        "_kept",
        "_kept_size",
        "_lock",
        "_loop",
        "_partial",
        "_pending",
        "_room",
        "_tail",
        "_tail_limit",
        "_tail_pending",
        "lines",
    )

    def __init__(self, append: Append, loop: asyncio.AbstractEventLoop, *, limit: int) -> None:
        self.lines = 0  # that ever came
        self._append = append
        self._loop = loop
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._partial = ""
        self._pending = 0  # characters in _head and _tail
        self._head: deque[Piece] = deque()
        self._tail: deque[Piece] = deque()
        self._tail_pending = 0
        self._tail_limit = limit - limit // 2
        self._room = limit  # characters until something is dropped; negative from then on
        self._kept: deque[Stretch] = deque()
        self._kept_size = 0
        self._busy = False  # a flight is under way, or about to be
        self._flight: asyncio.Task[None] | None = None
        self._closed = False
        self._elsewhere: TextIO | None = None

    # -- writing, from any thread --------------------------------------------------

    def write(self, text: str, /) -> int:
        """Append text as it is; an unfinished line waits for its end, or for `close`."""
        with self._lock:
            if self._elsewhere is not None:
                self._elsewhere.write(text)
            elif not self._closed:
                self._take(text)
        return len(text)

    def line(self, text: str) -> None:
        with self._lock:
            if self._elsewhere is not None:
                self._elsewhere.write(f"{text}\n")
            elif not self._closed:
                begun = "\n" if self._partial else ""
                self._take(f"{begun}{text}\n")

    def _take(self, text: str) -> None:
        """Cut text into pieces; the lock is held."""
        text = encodable(self._partial + text)
        start = 0
        while start < len(text):
            end = text.rfind("\n", start, start + LINE + 1) + 1
            if end:
                self._add(text[start:end])
            elif len(text) - start > LINE:
                end = start + LINE
                self._add(text[start:end] + "\n")
            else:
                break
            start = end
        self._partial = text[start:]
        if self._pending and not self._busy:
            self._busy = True
            if threading.get_ident() == self._home:
                self._depart()
            else:
                with contextlib.suppress(RuntimeError):  # the loop has closed: nobody reads on
                    self._loop.call_soon_threadsafe(self._depart)

    def _add(self, text: str) -> None:
        piece = Piece(self.lines, text.count("\n"), text)
        self.lines += piece.lines
        self._pending += len(text)
        is_tail = self._room <= self._tail_limit
        self._room -= len(text)
        pieces = self._tail if is_tail else self._head
        if pieces and len(pieces[-1].text) + len(text) <= SHORT:
            before = pieces.pop()
            piece = Piece(before.first, before.lines + piece.lines, before.text + text)
        pieces.append(piece)
        if is_tail:
            self._tail_pending += len(text)
            while self._tail_pending > self._tail_limit and len(pieces) > 1:
                size = len(pieces.popleft().text)
                self._tail_pending -= size
                self._pending -= size

    def become(self, stream: TextIO) -> None:
        """In a fork of this process: be no more than a name for a stream, which leads to the
        log that this was a copy of."""
        self._lock = threading.Lock()
        self._elsewhere = stream

    def flush(self) -> None:
        if self._elsewhere is not None:
            with self._lock:
                self._elsewhere.flush()

    # -- handing on, on the event loop ---------------------------------------------

    def _depart(self) -> None:
        # An empty context: what `append` prints or logs is not the task's.
        self._flight = self._loop.create_task(self._fly(), context=contextvars.Context())

    async def _fly(self) -> None:
        try:
            while (chunk := self._next_chunk()) is not None:
                await self._append(*chunk)
        except BaseException:
            self._busy = False
            raise

    def _next_chunk(self) -> tuple[int, int, str, tuple[int, int] | None] | None:
        """The oldest pending lines and what to forget for them, or None after landing."""
        with self._lock:
            if self._head:
                first, lines, text = self._join(self._head)
                return first, lines, text, None
            if self._tail:
                first, lines, text = self._join(self._tail)
                self._tail_pending -= len(text)
                return first, lines, text, self._keep(first, lines, len(text))
            self._busy = False
            return None

    def _join(self, pieces: deque[Piece]) -> Piece:
        """Take pieces that follow each other, up to a chunk."""
        first, lines, text = pieces.popleft()
        texts, size = [text], len(text)
        while pieces and pieces[0].first == first + lines and size + len(pieces[0].text) <= CHUNK:
            piece = pieces.popleft()
            lines += piece.lines
            texts.append(piece.text)
            size += len(piece.text)
        self._pending -= size
        return Piece(first, lines, "".join(texts))

    def _keep(self, first: int, lines: int, size: int) -> tuple[int, int] | None:
        """Take note of what is kept of the tail; the range that has to go, if any."""
        if self._kept and self._kept[-1].size + size <= self._tail_limit // 16:
            self._kept[-1].end = first + lines
            self._kept[-1].size += size
        else:
            self._kept.append(Stretch(first, first + lines, size))
        self._kept_size += size
        gone: Stretch | None = None
        begin = self._kept[0].first
        while self._kept_size > self._tail_limit and len(self._kept) > 1:
            gone = self._kept.popleft()
            self._kept_size -= gone.size
        return None if gone is None else (begin, gone.end)

    async def drain(self) -> None:
        """Wait while more would only pile up. Once the log is full it never waits: more is
        cut anyhow, and the task should not be slowed by what nobody keeps."""
        while self._room > 0 and self._pending > DRAINED:
            if self._flight is None or self._flight.done():  # an append failed; see `close`
                return
            await asyncio.wait([self._flight])

    async def close(self, error: str | None = None) -> None:
        """Append the error, if any, and return when everything is handed on.

        Raises what `append` raised. After a cancellation, call it again: it goes on waiting.
        """
        if not self._closed:
            if error is not None:
                self.line(error)
            elif self._partial:
                self.write("\n")
            self._closed = True
        while self._busy:
            if self._flight is None or self._flight.done():
                await asyncio.sleep(0)  # departing, called from another thread
            else:
                await asyncio.wait([self._flight])
        if self._flight is not None and not self._flight.cancelled():
            self._flight.result()


def _formatted(message: object, args: tuple[object, ...]) -> str:
    """`message % args` as `logging` does it, except that a mistake in it fails no task."""
    text = str(message)
    if not args:
        return text
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return text % values
    except (TypeError, ValueError, KeyError) as error:
        return f"{text} {args!r} ({type(error).__name__}: {error})"


def encodable(text: str) -> str:
    """Lone surrogates, which UTF-8 cannot hold, written as escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
