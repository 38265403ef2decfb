"""The log of one attempt: takes text from any thread, hands whole lines on in order.

The rule that must not be broken: whatever a task prints, memory and store stay bounded.
Of `limit` characters the first half, the head, is never dropped; the newest lines take the
place of older ones in the second half, the tail, and only once it is full, however slow the
store is. Every line that ever came has a number, so that a reader sees by the gap in the
numbers that some are gone.

A thread that writes faster than the store waits, when its share of what is to be written has
come together, or the backlog of all logs is full. The event loop cannot wait: of what is written
on it into a full backlog, the oldest is dropped, head or not.
"""

import asyncio
import contextlib
import contextvars
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TextIO

from goflow.engine.clock import Clock
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.linetimes import LineTimes, milliseconds

LINE = 16 * 1024  # characters; longer lines are broken
CHUNK = 64 * 1024  # characters handed on at a time
SHORT = 1024  # characters; shorter pieces that wait are joined, since each has its price
PRICE = 256  # bytes of memory that a piece takes besides its text and times
DRAINED = 128 * 1024  # characters waiting at which `drain` lets more come
MOMENT = 0.5  # seconds until an unfinished line is shown
SOMETIMES = 64  # writes without a line's end, after which a thread sees whether it has to wait
LINGER = 0.01  # seconds until nothing more is expected of a thread that has written
BUSY = 0.001  # seconds until the event loop looks again whether a thread has done writing

Append = Callable[["Chunk"], Awaitable[None]]


class Chunk(NamedTuple):
    """Whole lines that follow each other, the first of them numbered `first`; or, with 0
    `lines`, the beginning of a line that has not ended.

    `forget` is a half-open range of line numbers to drop, or None. `replaces` is the number of
    the unfinished line that was handed on before and goes now, or None.
    """

    first: int
    lines: int
    text: str
    times: bytes
    forget: tuple[int, int] | None = None
    replaces: int | None = None


class Piece:
    """Whole lines that wait to be handed on."""

    __slots__ = ("cost", "first", "lines", "text", "times")

    def __init__(self, first: int, lines: int, text: str, times: LineTimes) -> None:
        self.first = first
        self.lines = lines
        self.text = text
        self.times = times
        self.cost = sys.getsizeof(text) + len(times) + PRICE  # bytes

    def add(self, lines: int, text: str, times: LineTimes) -> None:
        """Add the lines that come next."""
        self.lines += lines
        self.text += text
        self.times.add(times)
        self.cost = sys.getsizeof(self.text) + len(self.times) + PRICE


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

    `append` is awaited with at most 64 Ki characters, one call at a time; what comes meanwhile
    goes with the next. A line that does not end is handed on too after a moment, and replaced
    later. Lines are numbered from 0. `limit` is in characters. What is written after `close`
    (by a thread that could not be stopped) is lost.
    """

    __slots__ = (
        "__weakref__",
        "_append",
        "_backlog",
        "_begun",
        "_busy",
        "_clock",
        "_closed",
        "_elsewhere",
        "_flight",
        "_handed_on",
        "_head",
        "_held",
        "_home",
        "_kept",
        "_kept_size",
        "_lingering",
        "_lock",
        "_looking",
        "_looks_at",
        "_loop",
        "_partial",
        "_pending",
        "_room",
        "_show",
        "_shown",
        "_tail",
        "_tail_limit",
        "_tail_pending",
        "_timer",
        "_writes",
        "lines",
    )

    def __init__(
        self,
        append: Append,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Clock,
        backlog: Backlog,
        limit: int,
    ) -> None:
        self.lines = 0  # that ever came
        self._append = append
        self._loop = loop
        self._clock = clock
        self._backlog = backlog
        backlog.opened(1)
        # Bytes that this log has added to the backlog, and those that the event loop, which
        # must not wait for the lock, has taken off it.
        self._held = 0
        self._handed_on = 0
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._partial = ""
        self._begun = 0  # when `_partial` did
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
        self._writes = 0  # from threads
        # The unfinished line: whether somebody will look at it, which one it was, whether it is
        # to be handed on, and which one was.
        self._looking = False
        self._looks_at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._lingering: asyncio.Future[None] | None = None
        self._show = False
        self._shown: tuple[int, str] | None = None

    # -- writing, from any thread --------------------------------------------------

    def write(self, text: str, /) -> int:
        """Append text as it is; an unfinished line waits for its end, or for `close`."""
        if self._elsewhere is not None:
            self._pass_on(text)
        elif len(text) <= CHUNK:
            self._put(text)
        else:
            for start in range(0, len(text), CHUNK):
                self._put(text[start : start + CHUNK])
        return len(text)

    def line(self, text: str) -> None:
        if self._elsewhere is not None:
            self._pass_on(f"{text}\n")
        elif len(text) < CHUNK:
            self._put(f"{text}\n", of_its_own=True)
        else:
            self._put(text[:CHUNK], of_its_own=True)
            self.write(f"{text[CHUNK:]}\n")

    def _put(self, text: str, of_its_own: bool = False) -> None:
        if not text.isascii():
            text = encodable(text)
        at_home = threading.get_ident() == self._home
        if not at_home:
            self._writes += 1
            # Not for each of the pieces that a line is printed in.
            if ("\n" in text or self._writes % SOMETIMES == 0) and not self._may_go_on():
                self._backlog.wait(self._may_go_on)
        with self._lock:
            if self._closed:
                return
            if of_its_own and self._partial:
                text = f"\n{text}"
            self._take(text)
            if at_home and self._backlog.full:
                self._drop_beyond(self._backlog.share)
            is_to_depart = self._pending > 0 and not self._busy
            is_to_look = not self._looking and self._partial != ""
            if is_to_depart:
                self._busy = True
            if is_to_look:
                self._looking, self._looks_at = True, self.lines
        if is_to_depart:
            self._at_home(at_home, self._depart)
        if is_to_look:
            self._at_home(at_home, self._look_later)

    def _at_home(self, at_home: bool, call: Callable[[], None]) -> None:
        if at_home:
            call()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody reads on
                self._loop.call_soon_threadsafe(call)

    def _may_go_on(self) -> bool:
        if self._held - self._handed_on <= self._backlog.share and self._backlog.may_write():
            return True
        return self._closed or self._loop.is_closed()

    def _take(self, text: str) -> None:
        """Cut text into pieces; the lock is held."""
        if self._partial and "\n" not in text and len(self._partial) + len(text) <= LINE:
            self._partial += text
            return
        now = milliseconds(self._clock.now())
        # A line came when it began.
        at = self._begun if self._partial else now
        text = self._partial + text
        start = 0
        while start < len(text):
            end = text.rfind("\n", start, start + LINE + 1) + 1
            if end:
                self._add(text[start:end], at, now)
            elif len(text) - start <= LINE:
                break
            elif visible := _visible_from(text, start, start + LINE):
                end = visible  # no terminal shows what a carriage return has overwritten
            else:
                end = start + LINE
                self._add(text[start:end] + "\n", at, now)
            start, at = end, now
        self._partial = text[start:]
        self._begun = at

    def _add(self, text: str, at: int, now: int) -> None:
        """Take whole lines, of which the first came at another time than the others."""
        first, lines = self.lines, text.count("\n")
        times = LineTimes(at, 1)
        if lines > 1:
            times.add(LineTimes(now, lines - 1))
        self.lines += lines
        self._pending += len(text)
        is_tail = self._room <= self._tail_limit
        self._room -= len(text)
        pieces = self._tail if is_tail else self._head
        if pieces and len(pieces[-1].text) + len(text) <= SHORT:
            before = pieces[-1].cost
            pieces[-1].add(lines, text, times)
            self._hold(pieces[-1].cost - before)
        else:
            pieces.append(piece := Piece(first, lines, text, times))
            self._hold(piece.cost)
        if is_tail:
            self._tail_pending += len(text)
            while self._tail_pending > self._tail_limit and len(pieces) > 1:
                self._drop_first_of_tail()

    def _drop_beyond(self, share: int) -> None:
        """Drop the oldest lines that wait, but for a share; from now on the tail is written."""
        share += self._handed_on
        if self._head and self._held > share:
            self._tail.extendleft(reversed(self._head))
            self._tail_pending += sum(len(piece.text) for piece in self._head)
            self._head.clear()
            self._room = min(self._room, self._tail_limit)
        while self._held > share and len(self._tail) > 1:
            self._drop_first_of_tail()

    def _drop_first_of_tail(self) -> None:
        gone = self._tail.popleft()
        self._tail_pending -= len(gone.text)
        self._pending -= len(gone.text)
        self._hold(-gone.cost)

    def _hold(self, size: int) -> None:
        self._held += size
        self._backlog.count(size)

    # -- the line that has not ended, on the event loop -----------------------------

    def _look_later(self) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(MOMENT, self._look)

    def _look(self) -> None:
        """Hand the unfinished line on, if it is the one that was there a moment ago."""
        if not self._lock.acquire(blocking=False):
            self._timer = self._loop.call_later(BUSY, self._look)
            return
        self._timer = None
        try:
            self._looking = bool(self._partial) and self._looks_at != self.lines
            if self._looking:
                self._looks_at = self.lines
                self._look_later()
                return
            self._show = bool(self._partial) and self._shown != (self.lines, self._partial)
            is_to_depart = self._show and not self._busy
            self._busy = self._busy or is_to_depart
        finally:
            self._lock.release()
        if is_to_depart:
            self._depart()

    def become(self, stream: TextIO) -> None:
        """In a fork of this process: be no more than a name for a stream, which leads to the
        log that this was a copy of."""
        self._lock = threading.Lock()
        self._elsewhere = stream

    def _pass_on(self, text: str) -> None:
        with self._lock:
            if self._elsewhere is not None:
                self._elsewhere.write(text)

    def flush(self) -> None:
        if self._elsewhere is not None:
            with self._lock:
                self._elsewhere.flush()

    # -- handing on, on the event loop ---------------------------------------------

    def _depart(self) -> None:
        # An empty context: what `append` prints or logs is not the task's.
        self._flight = self._loop.create_task(self._fly(), context=contextvars.Context())

    async def _fly(self) -> None:
        lingered = False
        try:
            while True:
                # Not to be waited for: a thread that writes may have to wait its turn to run.
                while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
                    await asyncio.sleep(BUSY)
                try:
                    chunk, held = self._next_chunk()
                    # What is written on the loop comes all at once.
                    if chunk is None and (lingered or self._closed or not self._writes):
                        self._busy = False
                        return
                finally:
                    self._lock.release()
                lingered = chunk is None
                if chunk is None:
                    await self._linger()
                    continue
                try:
                    await self._append(chunk)
                finally:
                    self._handed_on += held
                    self._backlog.landed(held)
        except BaseException:
            self._busy = False
            self._let_go()  # none of it can be written, so nobody need wait for that
            raise

    async def _linger(self) -> None:
        """Wait for more a moment, as a thread may be in the middle of writing it."""
        self._lingering = self._loop.create_future()
        await asyncio.wait([self._lingering], timeout=LINGER)
        self._lingering = None

    def _next_chunk(self) -> tuple[Chunk | None, int]:
        """The oldest pending lines, and the bytes they hold; None if there is nothing."""
        if self._head:
            chunk, held = self._join(self._head)
        elif self._tail:
            chunk, held = self._join(self._tail)
            self._tail_pending -= len(chunk.text)
            chunk = chunk._replace(forget=self._keep(chunk.first, chunk.lines, len(chunk.text)))
        elif self._show and self._partial:
            self._show = False
            times = LineTimes(self._begun, 1).packed()
            chunk, held = Chunk(self.lines, 0, self._partial, times), 0
        else:
            return None, 0
        if self._shown is not None:
            chunk = chunk._replace(replaces=self._shown[0])
        self._shown = None if chunk.lines else (chunk.first, chunk.text)
        return chunk, held

    def _join(self, pieces: deque[Piece]) -> tuple[Chunk, int]:
        """Take pieces that follow each other, up to a chunk."""
        joined = pieces.popleft()
        texts, size, held = [joined.text], len(joined.text), joined.cost
        while (
            pieces
            and pieces[0].first == joined.first + joined.lines
            and size + len(pieces[0].text) <= CHUNK
        ):
            piece = pieces.popleft()
            joined.lines += piece.lines
            joined.times.add(piece.times)
            texts.append(piece.text)
            size += len(piece.text)
            held += piece.cost
        self._pending -= size
        return Chunk(joined.first, joined.lines, "".join(texts), joined.times.packed()), held

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
        """Wait while more would only pile up. Once the log is full it waits for the backlog of
        all logs alone: more is cut anyhow, and the task should not be slowed by what nobody
        keeps."""
        while self._backlog.full or (self._room > 0 and self._pending > DRAINED):
            if self._backlog.full:
                await self._backlog.drained()
            elif self._flight is None or self._flight.done():  # an append failed; see `close`
                return
            else:
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
            self._backlog.opened(-1)
            if self._timer is not None:
                self._timer.cancel()
            if self._lingering is not None and not self._lingering.done():
                self._lingering.set_result(None)
        while self._busy:
            if self._flight is None or self._flight.done():
                await asyncio.sleep(0)  # departing, called from another thread
            else:
                await asyncio.wait([self._flight])
        self._let_go()
        if self._flight is not None and not self._flight.cancelled():
            self._flight.result()

    def _let_go(self) -> None:
        """Leave the backlog to others, also when an append failed and all of it is still there."""
        with self._lock:
            self._head.clear()
            self._tail.clear()
            self._pending = self._tail_pending = 0
            self._hold(self._handed_on - self._held)
        self._backlog.wake()


def _visible_from(text: str, start: int, end: int) -> int:
    """Where what a terminal shows of a line begins, after its last carriage return; 0 if it
    has none. One at its very end has overwritten nothing yet."""
    while end > start and text[end - 1] == "\r":
        end -= 1
    return text.rfind("\r", start, end) + 1


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
