"""Queries: the store's history, combined with the live state.

Reads run in a separate executor, so that the event loop never waits for a disk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from goflow.core.detail import Detail, Details, StateChange, result_of
from goflow.core.events import AnyFact, Dispatched, Mapped, TaskSucceeded
from goflow.core.keys import Asked, Key, NamedItem, described, item_of, key_of, task_of
from goflow.core.result import Artifact, digest
from goflow.core.states import State
from goflow.core.summary import listed
from goflow.engine.attempts.results import read_result, too_large
from goflow.engine.clock import Clock
from goflow.engine.item_pages import FoldedItems, ItemPages, ItemsPage
from goflow.engine.live import LiveState
from goflow.engine.output import linetimes
from goflow.engine.recent import RecentExecutions
from goflow.engine.replay import find_run, no_execution, salvage
from goflow.engine.search import Search
from goflow.engine.watched import Annotate, Watched, WatchedExecution
from goflow.errors import InvalidRequest, NotFound
from goflow.stores.base import History, Row, Store, Tick
from goflow.stores.logs import LogChunk

P = ParamSpec("P")
T = TypeVar("T")

PAGE_LIMIT = 1000  # executions on a page
STATES_BYTES = 4 * 1024 * 1024  # of JSON on a page of changes of a shared state
PAGE_BYTES = 16 * 1024 * 1024  # of JSON on a page; one execution may take more
LOG_PAGE = 256 * 1024  # characters of a log read at once
WINDOW = 1024 * 1024  # characters in a window of a log, plus at most one line
SEARCHED = 20 * 1024 * 1024  # characters of a log searched per request


class Page(NamedTuple):
    """Executions as JSON, newest first, and the cursor of the next page or None."""

    executions: list[bytes]
    next: str | None


Place = tuple[str, Key, int]  # of a log: execution, task or item, attempt


class Attempt(NamedTuple):
    """An attempt of a task. Number 0 means that none has begun; then the state is the task's."""

    job: str
    execution: str
    task: str
    number: int
    state: State
    item: int | None = None

    @property
    def place(self) -> Place:
        """Where its log is."""
        return self.execution, key_of(self.task, self.item), self.number


class StatePage(NamedTuple):
    """Changes of a shared state, newest first, the last of all, and the cursor of the following
    page or None."""

    last: StateChange | None
    changes: list[StateChange]
    next: str | None


class Result(NamedTuple):
    """The result of an attempt as JSON, and its SHA-256 in hexadecimal."""

    attempt: int
    body: bytes
    sha256: str


class Log(NamedTuple):
    """A log from line number `after` up to, not including, `end`; the first line is number 0.

    `texts` are whole lines. Dropped lines are replaced by one line with their number. The last text
    may be the beginning of line number `end`, which is unfinished.
    """

    after: int
    end: int
    texts: AsyncIterator[str]


class Window(NamedTuple):
    """Lines of a log that has `end` so far: the number of the first one, their texts and times, the
    half-open ranges dropped before and between them, and the number of the next line; if that is
    `end`, also the unfinished line, as a text and a time."""

    first: int
    end: int
    lines: list[str]
    times: list[datetime | None]
    gaps: list[tuple[int, int]]
    next: int
    unfinished: tuple[str, datetime | None] | None


class Found(NamedTuple):
    """Numbers of found lines in a log that has `end` so far, and the number to continue from."""

    numbers: list[int]
    next: int
    end: int


class Reader:
    """Queries about executions and their logs."""

    def __init__(
        self, store: Store, live: LiveState, executor: Executor, clock: Clock, most: int
    ) -> None:
        """`most` is the number of bytes that a result may have that is loaded as a whole."""
        self._store = store
        self._most = most
        self._live = live
        self._executor = executor
        self._clock = clock
        self.watched = Watched(clock)
        self.item_pages = ItemPages(clock)
        self.recent = RecentExecutions(store, self.read)

    async def read(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query of the store outside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: question(*args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown()

    async def page(
        self,
        job: str | None,
        state: State | None,
        limit: int,
        cursor: str | None,
        room: int = PAGE_BYTES,
    ) -> Page:
        """One page of executions: `limit` of them, or fewer if they fill `room` bytes.

        Raises `InvalidRequest` for an invalid limit or cursor.
        """
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidRequest(
                f"limit must be 1 to {PAGE_LIMIT}, not {limit}",
                code="invalid-limit",
                field="limit",
            )
        before = None if cursor is None else _parse_cursor(cursor)
        rows = await self.read(
            self._store.page, job=job, state=state, before=before, limit=limit, room=room
        )
        executions: list[bytes] = []
        for row in rows:
            encoded = await self._encoded(row)
            room -= len(encoded)
            if room < 0 and executions:
                break
            executions.append(encoded)
            before = row.number
        # The page has all rows that were read, or is full.
        more: list[Row] = []
        if before is not None:
            more = await self.read(self._store.page, job=job, state=state, before=before, limit=1)
        return Page(executions, str(before) if more else None)

    async def _encoded(self, row: Row) -> bytes:
        """The execution as listed. If it finished between the two reads, it is read again."""
        while True:
            if row.summary is not None:
                return listed(row.summary, row.version)
            if (entry := self._live.get(row.id)) is not None:
                return entry.encoded()
            found = await self.read(self._store.find, row.id)
            if found is None:
                raise no_execution(row.id)
            row = found

    async def execution(self, id: str) -> Detail:
        """One execution with every attempt. Raises `NotFound`."""

        def fold() -> Detail:
            history = self._history(id)
            details = Details()
            execution, _, damage = salvage(history, details.note)
            detail = details.of(execution)
            detail.version = history.version
            detail.damage = damage
            return detail

        return await self.read(fold)

    def _history(self, id: str) -> History:
        if (history := self._store.history(id)) is None:
            raise no_execution(id)
        return history

    async def watch(self, id: str, since: int | None, annotate: Annotate) -> bytes:
        """One execution as JSON, after `annotate`. With a version `since`, only the tasks that
        changed after it, if they are known. Raises `NotFound`."""
        unfinished = self._live.get(id) is not None
        if unfinished or since is not None:
            watched = self.watched.get(id)
            if watched is None and unfinished:
                watched = await self._begin_to_watch(id)
            if watched is not None:
                return watched.answer(since, annotate, self._clock.elapsed())
        detail = await self.execution(id)
        if since == detail.version:
            detail.tasks, detail.dag, detail.since = [], {}, since
        annotate(detail, [*detail.tasks, *detail.hooks])
        return msgspec.json.encode(detail)

    async def _begin_to_watch(self, id: str) -> WatchedExecution:
        with self.watched.collecting(id) as collected:
            view = WatchedExecution(await self.execution(id))
            return self.watched.keep(id, view, collected)

    async def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ledger, newest first, with due times before `before`."""
        return await self.read(self._store.ticks, job, before, limit)

    async def attempt(self, id: str, asked: Asked, number: int | None) -> Attempt:
        """An attempt of a task or item; by default the last one.

        Raises `NotFound` for an unknown execution, task, item or attempt.
        """

        if isinstance(asked, str) and (known := self._known_attempt(id, asked, number)) is not None:
            return known
        _, attempt = await self.read(self._attempt, id, asked, number)
        return attempt

    def _known_attempt(self, id: str, task: str, number: int | None) -> Attempt | None:
        """The attempt, if it is known without a replay of the execution."""
        if (live := self._live.get(id)) is None or (run := live.task(task)) is None:
            return None
        if number in (None, run.attempts) and (run.state is State.RUNNING or not run.attempts):
            return Attempt(live.job, id, task, run.attempts, run.state)
        watched = self.watched.get(id)
        if watched is None or (detail := watched.task(task)) is None:
            return None
        states = {one.attempt: one.state for one in detail.attempts}
        number = run.attempts if number is None else number
        return Attempt(live.job, id, task, number, states[number]) if number in states else None

    def _attempt(self, id: str, asked: Asked, number: int | None) -> tuple[list[AnyFact], Attempt]:
        """The attempt, and all facts of the execution."""
        history = self._history(id)
        details = Details(_numbered(history.facts, asked))
        execution, facts, _ = salvage(history, details.note)
        run = find_run(execution, asked)
        key = run.key
        task, item = task_of(key), item_of(key)
        found = details.of_task(run.planned) if item is None else details.of_item(run)
        states = {one.attempt: one.state for one in found.attempts}
        if number is None:
            number = max(states, default=0)
        elif number not in states:
            raise NotFound(
                f"{described(key)} of execution {id!r} has no attempt {number}; "
                f"it has {len(states)}",
                field="attempt",
            )
        state = states.get(number, found.state)
        return facts, Attempt(execution.job, id, task, number, state, item)

    async def result(self, id: str, asked: Asked, number: int | None = None) -> Result:
        """The result of an attempt of a task or item; by default of the last one.

        Raises `NotFound` for an unknown execution, task, item or attempt, for one that has no
        result, and for a list that is too large as a whole; `ResultLost` where the store has lost
        it.
        """
        return await self.read(self._result, id, asked, number)

    def _result(self, id: str, asked: Asked, number: int | None) -> Result:
        facts, attempt = self._attempt(id, asked, number)
        key = key_of(attempt.task, attempt.item)
        if (fact := result_of(facts, key, attempt.number)) is None:
            state = attempt.state if attempt.number else "not begun"
            raise NotFound(
                f"attempt {attempt.number} of {described(key)}, execution {id!r}, has no result: "
                f"it is {state}",
                code="no-result",
                field="attempt",
            )
        if (stored := fact.stored) is None or stored.format:  # an artifact is described
            body = bytes(fact.result)
            return Result(attempt.number, body, digest(body))
        if (told := too_large(stored, self._most)) is not None:
            raise NotFound(told, code="result-too-large", field="task")
        return Result(attempt.number, read_result(self._store, id, stored), stored.sha256)

    async def artifacts(
        self, id: str, task: str, number: int | None = None, item: int | None = None
    ) -> tuple[int | None, tuple[Artifact, ...]]:
        """The artifacts of an attempt, by default of the last successful one, and its number, None
        if there is none. Raises `NotFound` for an unknown execution, task, item or attempt."""
        return await self.read(self._artifacts, id, key_of(task, item), number)

    def _artifacts(
        self, id: str, key: Key, number: int | None
    ) -> tuple[int | None, tuple[Artifact, ...]]:
        facts, _ = self._attempt(id, key, number)
        for fact in reversed(facts):
            if not isinstance(fact, TaskSucceeded) or fact.key != key:
                continue
            if number in (None, fact.attempt):
                return fact.attempt, () if fact.kept is None else fact.kept.all
        return number, ()

    async def items(
        self, id: str, task: str, state: State | None, after: int, limit: int, part: str = ""
    ) -> ItemsPage:
        """The items of a mapped task from number `after` on, at most `limit`, or fewer that take
        `ITEMS_BYTES` bytes; with `state`, only those in it, and with `part`, only those with that
        text in their key, whatever its case. Raises `NotFound`."""
        if (fold := self.item_pages.get(id)) is None:
            with self.watched.collecting(id) as collected:
                fold = await self.read(lambda: FoldedItems(self._history(id)))
                fold = self.item_pages.keep(id, fold, collected)
        return fold.page(task, state, after, limit, part)

    async def shared_state(self, id: str, before: int | None, limit: int) -> StatePage:
        """The changes of an execution's shared state, newest first, at most `limit`, or fewer that
        take `STATES_BYTES` bytes; with `before`, those with a lower number. Raises `NotFound`."""
        return await self.read(self._shared_state, id, before, limit)

    def _shared_state(self, id: str, before: int | None, limit: int) -> StatePage:
        facts = salvage(self._history(id)).facts
        dispatched = [fact for fact in facts if isinstance(fact, Dispatched)]
        end = len(dispatched) if before is None else max(0, min(before - 1, len(dispatched)))
        page: list[StateChange] = []
        room = STATES_BYTES
        for number in range(end, 0, -1):
            if len(page) == limit or room <= 0:
                break
            change = StateChange.of(number, dispatched[number - 1])
            room -= len(change.action) + len(change.state) + 200
            page.append(change)
        last = StateChange.of(len(dispatched), dispatched[-1]) if dispatched else None
        more = bool(page) and page[-1].number > 1
        return StatePage(last, page, str(page[-1].number) if more else None)

    # -- logs of attempts that have begun ----------------------------------------------

    async def log_of(
        self,
        id: str,
        key: Key,
        attempt: int,
        after: int = 0,
        tail: int | None = None,
        *,
        timestamps: bool = False,
    ) -> Log:
        """An attempt's log from line number `after` on, or at most the last `tail` lines. With
        `timestamps`, each line begins with its time in RFC 3339 and a space."""
        place = id, key, attempt
        end = await self.read(self._end, place)
        after = _begin(after, tail, end)
        return Log(after, end, self._texts(place, after, end, timestamps))

    def _end(self, place: Place) -> int:
        """The number of the next line of a log."""
        execution, key, attempt = place
        return self._store.logs.end(execution, task_of(key), attempt, item_of(key))

    async def _texts(
        self, place: Place, after: int, end: int, timestamps: bool
    ) -> AsyncIterator[str]:
        while stretch := await self.read(self._stretch, place, after, end, timestamps):
            for chunk in stretch:
                if chunk.first > after:
                    yield f"[… {chunk.first - after:,} lines left out …]\n"
                yield chunk.text
                after = chunk.first + chunk.lines
        if after == end:
            begun = await self.read(self._unfinished, place, end, timestamps)
            if begun is not None:
                yield begun.text

    def _unfinished(self, place: Place, end: int, timestamps: bool = False) -> LogChunk | None:
        """The line number `end` of a log, if it has not ended."""
        execution, key, attempt = place
        chunk = self._store.logs.unfinished(execution, task_of(key), attempt, item_of(key))
        if chunk is None or chunk.first != end:
            return None
        return _stamped(chunk) if timestamps else chunk

    def _stretch(
        self, place: Place, after: int, end: int, timestamps: bool = False
    ) -> list[LogChunk]:
        """The stored chunks of the log from line `after` on, at most a page; none at the end."""
        if after >= end:
            return []
        execution, key, attempt = place
        task, item = task_of(key), item_of(key)
        chunks = self._store.logs.read(execution, task, attempt, after, LOG_PAGE, item)
        if chunks and chunks[0].first < after:
            known = after - chunks[0].first
            rest = chunks[0].text.split("\n", known)[known]
            times = linetimes.without(chunks[0].times, known)
            chunks[0] = LogChunk(after, chunks[0].lines - known, rest, times)
        chunks = [chunk for chunk in chunks if chunk.first < end]
        return [_stamped(chunk) for chunk in chunks] if timestamps else chunks

    async def window(
        self, id: str, key: Key, attempt: int, after: int, tail: int | None, limit: int
    ) -> Window:
        """At most `limit` lines of a log from line number `after` on, or of the last `tail`."""
        return await self.read(self._window, (id, key, attempt), after, tail, limit)

    def _window(self, place: Place, after: int, tail: int | None, limit: int) -> Window:
        end = self._end(place)
        at = after = _begin(after, tail, end)
        room = WINDOW
        lines: list[str] = []
        times: list[datetime | None] = []
        gaps: list[tuple[int, int]] = []
        while len(lines) < limit and room > 0 and (chunks := self._stretch(place, at, end)):
            for chunk in chunks:
                texts = chunk.text.split("\n", limit - len(lines))[: chunk.lines]
                known = _times_of(chunk)
                for text, time in zip(texts[: limit - len(lines)], known, strict=False):
                    if room <= 0:
                        break
                    if chunk.first > at:
                        gaps.append((at, chunk.first))
                        at = chunk.first
                    lines.append(text)
                    times.append(time)
                    room -= len(text) + 1
                    at += 1
                if len(lines) == limit or room <= 0:
                    break
        first = gaps[0][1] if gaps and gaps[0][0] == after else after
        begun = self._unfinished(place, end) if at == end else None
        unfinished = None if begun is None else (begun.text, _times_of(begun)[0])
        return Window(first, end, lines, times, gaps, at, unfinished)

    async def find(
        self, id: str, key: Key, attempt: int, search: Search, after: int, limit: int
    ) -> Found:
        """The lines from number `after` on that a search finds, at most `limit`; it gives up
        after `SEARCHED` characters."""
        place = id, key, attempt
        end = await self.read(self._end, place)
        numbers: list[int] = []
        room = SEARCHED
        # A page at a time, so that other readers do not wait for all of it.
        while len(numbers) < limit and room > 0 and after < end:
            found = await self.read(self._find, place, search, after, end, limit - len(numbers))
            numbers += found.numbers
            after = found.next
            room -= LOG_PAGE
        return Found(numbers, after, end)

    def _find(self, place: Place, search: Search, after: int, end: int, limit: int) -> Found:
        numbers: list[int] = []
        for chunk in self._stretch(place, after, end):
            for line in search(chunk.text):
                numbers.append(chunk.first + line)
                if len(numbers) == limit:
                    return Found(numbers, numbers[-1] + 1, end)
            after = chunk.first + chunk.lines
        return Found(numbers, after, end)


def _numbered(facts: Sequence[AnyFact], asked: Asked) -> Key:
    """The key of the run that a request names, of which the execution may have none."""
    if not isinstance(asked, NamedItem):
        return asked
    numbers = (
        fact.keys.index(asked.key)
        for fact in reversed(facts)
        if isinstance(fact, Mapped) and fact.task == asked.task and asked.key in fact.keys
    )
    return key_of(asked.task, next(numbers, -1))


def _times_of(chunk: LogChunk) -> list[datetime | None]:
    """The time of each of its lines, including an unfinished one."""
    times = linetimes.unpack(chunk.times)
    return [*map(linetimes.instant, times)] or [None] * max(chunk.lines, 1)


def _stamped(chunk: LogChunk) -> LogChunk:
    """The text with the time before each line; unchanged if no times are known."""
    stamps = map(linetimes.stamp, linetimes.unpack(chunk.times))
    texts = chunk.text.split("\n")
    stamped = [f"{stamp} {text}" for stamp, text in zip(stamps, texts, strict=False)]
    if not stamped:
        return chunk
    text = "\n".join([*stamped, *texts[len(stamped) :]])
    return LogChunk(chunk.first, chunk.lines, text)


def _begin(after: int, tail: int | None, end: int) -> int:
    return after if tail is None else max(after, end - tail)


def _parse_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and 1 <= len(cursor) <= 18):
        raise InvalidRequest(
            f"cursor {cursor[:80]!r} is not from this server",
            code="invalid-cursor",
            field="cursor",
        )
    return int(cursor)
