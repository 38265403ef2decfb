"""The log of one attempt: takes text from any thread, and passes whole lines to the store in order.

The rule that must not be broken: whatever a task prints, memory and store stay bounded. A log keeps
`limit` characters. The first half, the head, is never dropped. In the second half, the tail, new
lines replace old ones once it is full, however slow the store is. Every line has a number, so a
reader sees by the gap in the numbers that lines are missing.

A thread that writes faster than the store waits when its log has reached its share, or the backlog
of all logs is full. The event loop cannot wait: when it writes into a full backlog, the oldest
lines are dropped, even from the head.

Lines linger for a moment before they are passed on, so that those of a short attempt, and the last
ones of any other, are left for the transaction that ends the attempt; see `TaskLog.rest`.
"""

import asyncio
import contextlib
import contextvars
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TextIO

from goflow.engine.clock import Clock
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.linetimes import LineTimes, milliseconds, pack, unpack

LINE = 16 * 1024  # characters; longer lines are split
CHUNK = 64 * 1024  # characters of one append
SHORT = 1024  # characters; shorter pieces are joined, since each has its overhead
PRICE = 256  # bytes of overhead per piece
DRAINED = 128 * 1024  # pending characters at which `drain` returns
MOMENT = 0.5  # seconds until an unfinished line is passed on
SOMETIMES = 64  # writes without a newline until a thread checks whether it has to wait
LINGER = 0.01  # seconds to wait for more text
BUSY = 0.001  # seconds until the event loop tries again to take a lock that a thread holds

Append = Callable[["Chunk"], Awaitable[None]]


class Chunk(NamedTuple):
    """Consecutive whole lines, the first of them numbered `first`; or, with 0 `lines`, the start
    of an unfinished line.

    `forget` is a half-open range of line numbers to drop, or None. `replaces` is the number of
    an unfinished line, passed on before, that this chunk replaces, or None.
    """

    first: int
    lines: int
    text: str
    times: bytes
    forget: tuple[int, int] | None = None
    replaces: int | None = None


class Carried(NamedTuple):
    """How far a log has got that is closed and will be continued: its `lines`, the `room` that is
    left, the stretches of its tail, and the beginning of another line."""

    lines: int
    room: int
    tail: tuple[tuple[int, int, int], ...] = ()
    unfinished: str = ""


class Piece:
    """Whole lines that wait to be passed on."""

    __slots__ = ("cost", "first", "lines", "text", "times")

    def __init__(self, first: int, lines: int, text: str, times: LineTimes) -> None:
        self.first = first
        self.lines = lines
        self.text = text
        self.times = times
        self.cost = sys.getsizeof(text) + len(times) + PRICE  # bytes

    def add(self, lines: int, text: str, times: LineTimes) -> None:
        """Append the following lines."""
        self.lines += lines
        self.text += text
        self.times.add(times)
        self.cost = sys.getsizeof(self.text) + len(self.times) + PRICE


class Stretch:
    """Lines of the tail that were passed on, and will be dropped together."""

    __slots__ = ("end", "first", "size")

    def __init__(self, first: int, end: int, size: int) -> None:
        self.first = first
        self.end = end
        self.size = size


class Lines:
    """The methods of a log besides `line` and `write`: levels, as prefixes."""

    __slots__ = ()

    def flush(self) -> None:
        """Pass an unfinished line on, if this process buffers it."""

    def line(self, text: str) -> None:
        """Append text as separate lines, after ending an unfinished line."""
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
    """A log that discards everything."""

    def line(self, text: str) -> None:
        return

    def write(self, text: str, /) -> int:
        return len(text)

    async def drain(self) -> None:
        return


class TaskLog(Lines):
    """Implements `goflow.operators.base.Log`. Created and closed on the event loop `loop`.

    `append` is awaited with at most 64 Ki characters, one call at a time; text that arrives
    meanwhile goes with the next call. An unfinished line is passed on too after a moment, and
    replaced later. Lines are numbered from 0. `limit` is in characters. Text written after
    `end` (by a thread that could not be stopped) is lost.

    After `close`, `rest` has the last lines, of about 64 Ki characters at most. They are not
    stored yet: the caller commits them together with the end of the attempt, then calls `landed`.
    """

    # Defaults of the class, since most attempts write little or nothing, and each needs a log.
    lines = 0  # so far
    size = 0  # bytes written so far, in UTF-8
    rest: Sequence[Chunk] = ()
    # Bytes that this log has added to the backlog, and those that were stored. The event loop
    # counts the latter apart, since it must not wait for the lock.
    _held = 0
    _handed_on = 0
    _partial = ""
    _begun = 0  # the time at which `_partial` started
    _pending = 0  # characters in _head and _tail
    _tail_pending = 0
    _kept: deque[Stretch] | None = None
    _kept_size = 0
    _busy = False  # a flight is under way, or about to be
    _departing: asyncio.TimerHandle | None = None  # while lines linger
    _flight: asyncio.Task[None] | None = None
    _flying: Chunk | None = None  # is being appended
    _closed = False
    _elsewhere: TextIO | None = None
    _writes = 0  # from threads
    # The unfinished line: whether a timer will look at it, its number then, whether it is due to
    # be passed on, and the one that was passed on last.
    _looking = False
    _looks_at = 0
    _timer: asyncio.TimerHandle | None = None
    _lingering: asyncio.Future[None] | None = None
    _show = False
    _shown: tuple[int, str] | None = None

    def __init__(
        self,
        append: Append,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Clock,
        backlog: Backlog,
        limit: int,
    ) -> None:
        self.loop = loop
        self._append = append
        self._clock = clock
        self._backlog = backlog
        backlog.opened(1)
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._head: deque[Piece] = deque()
        self._tail: deque[Piece] = deque()
        self._tail_limit = limit - limit // 2
        self._room = limit  # characters until lines are dropped; negative from then on

    # -- writing, from any thread --------------------------------------------------

    def resume(self, lines: int, unfinished: str) -> None:
        """Continue a log that has so many lines, and perhaps the beginning of another one."""
        self.lines = lines
        if unfinished:
            self._shown = lines, unfinished
            self.line(unfinished)
            self.size = 0

    def carry_on(self, carried: Carried) -> None:
        """Continue a log that was closed."""
        self._room = carried.room
        self._kept = deque(Stretch(*one) for one in carried.tail)
        self._kept_size = sum(one.size for one in self._kept)
        self.resume(carried.lines, carried.unfinished)

    @property
    def carried(self) -> Carried | None:
        """After `close`: how to continue the log; None if it is empty."""
        if not self.lines:
            return None
        return Carried(
            self.lines,
            self._room,
            tuple((one.first, one.end, one.size) for one in self._kept or ()),
        )

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
        size = len(text)
        if not text.isascii():
            text = encodable(text)
            size = len(text.encode())
        at_home = threading.get_ident() == self._home
        if not at_home:
            self._writes += 1
            # Not for each piece of a line.
            if ("\n" in text or self._writes % SOMETIMES == 0) and not self._may_go_on():
                self._backlog.wait(self._may_go_on)
        with self._lock:
            if self._closed:
                return
            self.size += size
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
            self._at_home(at_home, self._depart_later)
        if is_to_look:
            self._at_home(at_home, self._look_later)

    def _at_home(self, at_home: bool, call: Callable[[], None]) -> None:
        if at_home:
            call()
        else:
            with contextlib.suppress(
                RuntimeError
            ):  # the loop has closed, and nothing is stored any more
                self.loop.call_soon_threadsafe(call)

    def _may_go_on(self) -> bool:
        if self._held - self._handed_on <= self._backlog.share and self._backlog.may_write():
            return True
        return self._closed or self.loop.is_closed()

    def _take(self, text: str) -> None:
        """Cut text into pieces; the lock is held."""
        if self._partial and "\n" not in text and len(self._partial) + len(text) <= LINE:
            self._partial += text
            return
        now = milliseconds(self._clock.now())
        # The time of a line is that of its start.
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
                end = visible  # a carriage return overwrites the text before it
            else:
                end = start + LINE
                self._add(text[start:end] + "\n", at, now)
            start, at = end, now
        self._partial = text[start:]
        self._begun = at

    def _add(self, text: str, at: int, now: int) -> None:
        """Take whole lines. `at` is the time of the first one, `now` that of the others."""
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
        """Drop the oldest pending lines down to a share. From now on lines belong to the tail."""
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
            self._timer = self.loop.call_later(MOMENT, self._look)

    def _look(self) -> None:
        """Pass the unfinished line on, if it has been there for a moment."""
        if not self._lock.acquire(blocking=False):
            self._timer = self.loop.call_later(BUSY, self._look)
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
        """In a fork of this process: write to a stream instead, which leads to the original log."""
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

    def _depart_later(self) -> None:
        if not self._closed:
            self._departing = self.loop.call_later(LINGER, self._depart)

    def _depart(self) -> None:
        self._departing = None
        # An empty context: output of `append` does not belong to the task.
        self._flight = self.loop.create_task(self._fly(), context=contextvars.Context())

    async def _fly(self) -> None:
        lingered = False
        try:
            while True:
                # Not blocking: the thread that holds the lock may wait for its turn to run.
                while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
                    await asyncio.sleep(BUSY)
                try:
                    if self._closed and self._pending <= CHUNK:
                        self._busy = False  # the rest is for the caller of `close`
                        return
                    chunk, held = self._next_chunk()
                    # Text written on the loop arrives all at once.
                    if chunk is None and (lingered or not self._writes):
                        self._busy = False
                        return
                finally:
                    self._lock.release()
                lingered = chunk is None
                if chunk is None:
                    await self._linger()
                    continue
                self._flying = chunk
                try:
                    await self._append(chunk)
                finally:
                    self._flying = None
                    self._handed_on += held
                    self._backlog.landed(held)
        except BaseException:
            self._busy = False
            self._let_go()  # nothing can be stored, so nobody has to wait
            raise

    async def _linger(self) -> None:
        """Wait a moment, since a thread may be about to write more."""
        self._lingering = self.loop.create_future()
        await asyncio.wait([self._lingering], timeout=LINGER)
        self._lingering = None

    def _next_chunk(self) -> tuple[Chunk | None, int]:
        """The oldest pending lines, and their bytes in the backlog; None if nothing is pending."""
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
        """Take consecutive pieces, up to the size of a chunk."""
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
        """Note lines that the store keeps of the tail; returns the range to drop, if any."""
        if self._kept is None:
            self._kept = deque()
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
        """Wait while the store is behind. A full log waits only for the backlog of all logs: its
        lines are dropped anyway, so they should not slow the task down."""
        while self._backlog.full or (self._room > 0 and self._pending > DRAINED):
            if self._departing is not None:
                self._departing.cancel()
                self._depart()
            if self._backlog.full:
                await self._backlog.drained()
            elif self._flight is None or self._flight.done():  # an append failed; see `close`
                return
            else:
                await asyncio.wait([self._flight])

    def end(self, error: str | None = None) -> None:
        """Append the error, if any, and take no text from now on."""
        if self._closed:
            return
        if error is not None:
            self.line(error)
        elif self._partial:
            self.write("\n")
        self._closed = True
        self._backlog.opened(-1)
        if not self.lines and not self._writes:  # so it is for many attempts
            return
        for timer in (self._timer, self._departing):
            if timer is not None:
                timer.cancel()
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)
        self._backlog.wake()  # threads that wait to write to this log
        if self._flight is None or self._flight.done():
            self._take_rest()

    @property
    def is_stored(self) -> bool:
        """After `end`: whether everything but `rest` is stored, so that `close` does nothing."""
        return self._flight is None and not self._pending

    def unwritten(self, limit: int) -> Chunk | None:
        """After `end`: the last lines that are not stored yet, of at most `limit` characters."""
        if self._flying is None and not self._pending:
            return _last_lines(self.rest, limit) if self.rest else None
        with self._lock:
            last: deque[Chunk] = deque()
            size = 0
            for one in (*reversed(self._tail), *reversed(self._head)):
                last.appendleft(Chunk(one.first, one.lines, one.text, one.times.packed()))
                size += len(one.text)
                if size >= limit:
                    break
            else:
                if self._flying is not None and self._flying.lines:
                    last.appendleft(self._flying)
        return _last_lines(last, limit)

    async def close(self, error: str | None = None) -> None:
        """Like `end`; then return when everything is stored but `rest`.

        Raises what `append` raised. After a cancellation, call it again to continue waiting.
        """
        self.end(error)
        if self._pending and (self._flight is None or self._flight.done()):
            self._depart()
        if self._flight is not None:
            if not self._flight.done():
                await asyncio.wait([self._flight])
            if not self._flight.cancelled() and self._flight.exception() is not None:
                self._let_go()
                self._flight.result()
            self._take_rest()

    def _take_rest(self) -> None:
        """Leave what is pending to the caller, unless it is too much for one transaction."""
        with self._lock:
            if not self._pending or self._pending > CHUNK:
                return
            rest = [*self.rest]
            while (taken := self._next_chunk()[0]) is not None:
                rest.append(taken)
            self.rest = rest

    def landed(self) -> None:
        """`rest` is stored."""
        self.rest = ()
        held, self._handed_on = self._held - self._handed_on, self._held
        self._backlog.landed(held)

    def _let_go(self) -> None:
        """Remove this log's bytes from the backlog, also those that could not be stored."""
        with self._lock:
            self._head.clear()
            self._tail.clear()
            self._pending = self._tail_pending = 0
            self._hold(self._handed_on - self._held)
        self._backlog.wake()


def _last_lines(chunks: Sequence[Chunk], limit: int) -> Chunk | None:
    """The last lines of chunks as one chunk of at most `limit` characters; None if there is none.
    It ends at a gap between chunks."""
    if len(chunks) == 1 and len(chunks[0].text) <= limit:
        return chunks[0]
    texts: list[str] = []
    times: list[int] = []
    first = lines = 0
    for chunk in reversed(chunks):
        if texts and chunk.first + chunk.lines != first:
            break
        # Whole lines: from the first one that begins where there is room.
        start = max(0, len(chunk.text) - limit)
        start = chunk.text.find("\n", start - 1) + 1 if start else 0
        dropped = chunk.text.count("\n", 0, start)
        if dropped < chunk.lines:
            texts.insert(0, chunk.text[start:])
            times[:0] = unpack(chunk.times)[dropped:]
            first, lines = chunk.first + dropped, lines + chunk.lines - dropped
            limit -= len(texts[0])
        elif not texts:  # the end of the last line
            texts, times, lines = [f"…{chunk.text[1 - limit :]}"], unpack(chunk.times)[-1:], 1
            first = chunk.first + chunk.lines - 1
        if dropped:
            break
    return Chunk(first, lines, "".join(texts), pack(times)) if texts else None


def _visible_from(text: str, start: int, end: int) -> int:
    """The start of the visible part of a line, after its last carriage return; 0 if it has none.
    A carriage return at the very end has overwritten nothing yet."""
    while end > start and text[end - 1] == "\r":
        end -= 1
    return text.rfind("\r", start, end) + 1


def _formatted(message: object, args: tuple[object, ...]) -> str:
    """`message % args` as in `logging`, except that a mistake in it does not raise."""
    text = str(message)
    if not args:
        return text
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return text % values
    except (TypeError, ValueError, KeyError) as error:
        return f"{text} {args!r} ({type(error).__name__}: {error})"


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot encode, as escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
