"""Listeners of the stream, each with a mailbox that keeps the newest change of each execution.

The rule: a slow listener sees fewer steps, never a wrong last state, and costs bounded memory.

`publish` only notes that an execution changed. A flush frames each noted change once and puts
the same bytes into every mailbox. After a flush comes a pause in proportion to its cost, so
that listeners take a bounded share of the processor. The pause also grows with the flushes of
the last moments: a single change is sent at once, and many in a row about 50 times a second.
Unfinished executions with many tasks also wait for a pause in proportion to their size; the end
of an execution never does.

The progress of a running task is news without a version: its event repeats the newest version and
has no id. A listener receives it only while that version is the newest, and a slow one may miss it.

A mailbox that its listener does not empty overflows. It is cleared, and the listener catches
up from the store, like a client that reconnects with the id of the last event it received.
"""

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from goflow.core.summary import listed
from goflow.engine.live import LiveExecution, LiveState
from goflow.errors import InvalidRequest, Unavailable
from goflow.stores.base import Row, Store

LISTENER_LIMIT = 1000
SNAPSHOT = 100  # recent executions sent to a new listener
SNAPSHOT_UNFINISHED = 1000  # unfinished executions sent to a new listener
SNAPSHOT_BYTES = 1024 * 1024  # of recent executions sent to a new listener
PAGE = 100  # executions read from the store at once
PIECE = 16 * 1024  # bytes handed out at once, one event at least
AHEAD = 64 * 1024  # bytes of finished executions kept in memory until they are handed out
MAILBOX_BYTES = 32 * 1024  # left in a mailbox when the next flush comes
MAILBOX_LIMIT = 500  # executions left in a mailbox when the next flush comes

# A flush costs 25 to 50 us for each listener it wakes, and about 1 ns for each byte sent. With
# these pauses it takes about a twentieth of a processor. It also delays runners and the writer,
# which compete for the interpreter, so flushes in a row take longer pauses.
PAUSE_PER_LISTENER = 1e-3  # seconds
PAUSE_PER_FLUSH = 1e-3  # seconds for each recent flush
RECENT = 20e-3  # seconds after which one flush less is recent
RECENT_LIMIT = 20  # flushes
PAUSE_PER_BYTE = 20e-9  # seconds for each byte sent to each listener
MANY_TASKS = 20  # an unfinished execution with more tasks is paced by its size
PACE_PER_BYTE = 50e-9  # seconds for each byte sent to each listener
ENCODING = 3  # encoding a byte costs as much as sending it to so many listeners

BEGIN = b"event: message\ndata: "

Read = Callable[..., Coroutine[Any, Any, Any]]


Later = Callable[[float, Callable[[], None]], object]


class Event:
    """One execution at `version`, framed as a server-sent event.

    A client that resumes with the event's id receives every execution whose version is above
    `position`. That is below `version` where older changes were still to be sent.

    An event with `news` that have no version repeats that of the execution `news`.
    """

    __slots__ = ("__weakref__", "epoch", "frame", "id", "news", "position", "version")

    def __init__(
        self,
        id: str,
        epoch: str,
        version: int,
        position: int,
        data: bytes,
        news: LiveExecution | None = None,
    ) -> None:
        self.id = id  # of the execution
        self.epoch = epoch
        self.version = version
        self.position = position
        self.news = news
        # JSON has no line breaks, so it is one line of data.
        if news is not None:
            self.frame = b"%b%b\n\n" % (BEGIN, data)
        else:
            self.frame = b"id: %b-%d\n%b%b\n\n" % (epoch.encode(), position, BEGIN, data)

    def is_for(self, since: int) -> bool:
        """Whether a listener that has everything up to a version is to receive it."""
        if self.news is not None:
            return self.news.version == self.version
        return self.version > since

    def with_news(self, event: "Event") -> "Event":
        """This event with the news of one that repeats its version."""
        data = event.frame[len(BEGIN) : -2]
        return Event(self.id, self.epoch, self.version, self.position, data)


class Mailbox:
    """The events that a listener has not received yet, in ascending order of version."""

    def __init__(self, job: str | None) -> None:
        self.job = job
        self.overflowed = False
        self.closed = False
        self.size = 0  # bytes
        self._pending: dict[str, Event] = {}
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, events: Sequence[Event]) -> None:
        """Add the events of a flush."""
        pending = self._pending
        if self.size > MAILBOX_BYTES or len(pending) > MAILBOX_LIMIT:
            if all(event.news is not None for event in events):
                return
            pending.clear()
            self.size = 0
            self.overflowed = True
        if not self.overflowed:
            for event in events:
                older = pending.get(event.id)
                if event.news is not None and older is not None and older.news is None:
                    # In its place, so that its id is still sent.
                    renewed = pending[event.id] = older.with_news(event)
                    self.size += len(renewed.frame) - len(older.frame)
                    continue
                # Removed first, so that versions stay in ascending order.
                if (older := pending.pop(event.id, None)) is not None:
                    self.size -= len(older.frame)
                pending[event.id] = event
                self.size += len(event.frame)
        self._notify()

    def take(self, room: int) -> list[Event]:
        """Remove and return the oldest events of at most `room` bytes, one at least."""
        pending = self._pending
        if self.size <= room:
            taken = list(pending.values())
            pending.clear()
            self.size = 0
            return taken
        taken = []
        for event in pending.values():
            if taken and len(event.frame) > room:
                break
            room -= len(event.frame)
            taken.append(event)
        for event in taken:
            self.size -= len(pending.pop(event.id).frame)
        return taken

    def close(self) -> None:
        """End every `wait`, and drop the events."""
        self.closed = True
        self._pending.clear()
        self.size = 0
        self._notify()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return once there are events, or the mailbox has overflowed or was closed."""
        while not (self._pending or self.overflowed or self.closed):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class Listener:
    """An async iterator over lists of events, each of at most `PIECE` bytes or one event.

    `close` ends the iteration from any task.
    """

    def __init__(self, broadcast: "Broadcast", mailbox: Mailbox, since: int | None) -> None:
        self._broadcast = broadcast
        self._mailbox = mailbox
        self._since = -1 if since is None else since  # it has everything up to this version
        self._upto = -1  # and up to this one, once it has caught up
        self._behind: AsyncGenerator[list[Event], None] | None = None
        self._catch_up()

    def _catch_up(self) -> None:
        self._upto = self._broadcast.version
        read = self._broadcast.snapshot if self._since < 0 else self._broadcast.missed
        self._behind = read(self._mailbox.job, self._since, self._upto)

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> list[Event]:
        try:
            while not self._mailbox.closed:
                if (events := await self._next()) is not None:
                    return events
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopAsyncIteration

    async def _next(self) -> list[Event] | None:
        """The next events, or None if there were none yet."""
        mailbox = self._mailbox
        if self._behind is not None:
            events = await anext(self._behind, None)
            if events is None:
                self._behind = None
                self._since = max(self._since, self._upto)
            else:
                self._since = max(self._since, events[-1].position)
            return events
        await mailbox.wait()
        if mailbox.overflowed:
            mailbox.overflowed = False
            self._catch_up()
            return None
        events = [event for event in mailbox.take(PIECE) if event.is_for(self._since)]
        for event in events:
            if event.news is None:
                self._since = max(self._since, event.position)
        return events or None

    def close(self) -> None:
        """End the iteration. Safe to call twice."""
        self._broadcast.leave(self._mailbox)
        self._mailbox.close()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        self.close()
        if self._behind is not None:
            await self._behind.aclose()


class Kept(NamedTuple):
    """A finished execution that is read from the store when its turn comes."""

    id: str


Item = tuple[int, Event | LiveExecution | Kept]  # an execution to send, at this version


class Broadcast:
    """All listeners. `elapsed` is a monotonic clock."""

    def __init__(
        self, store: Store, live: LiveState, read: Read, elapsed: Callable[[], float]
    ) -> None:
        self._store = store
        self._live = live
        self._read = read
        self._elapsed = elapsed
        self._later: Later = asyncio.get_running_loop().call_later
        self._mailboxes: set[Mailbox] = set()
        self._jobs: Counter[str | None] = Counter()  # listeners by the job they asked for
        self._changed: dict[str, LiveExecution] = {}  # for the next flush
        self._paced: dict[str, LiveExecution] = {}  # for the flush after the current pace
        self._news: set[str] = set()  # of these, those whose version was sent before
        self._flush_timer: object | None = None
        self._pace_timer: object | None = None
        self._flushes = 0.0  # recent ones
        self._flushed = float("-inf")  # when the last flush was
        # Events of finished executions, so that listeners who catch up share the bytes.
        self._shared: WeakValueDictionary[tuple[str, int, int], Event] = WeakValueDictionary()
        self.most = LISTENER_LIMIT  # listeners, if there is room for fewer

    def __len__(self) -> int:
        return len(self._mailboxes)

    # -- changes -------------------------------------------------------------------

    def publish(self, execution: LiveExecution) -> None:
        """Note that an execution changed; its listeners receive it at the next flush."""
        if self._recipients(execution.job):
            self._news.discard(execution.id)
            self._note(execution)

    def publish_news(self, execution: LiveExecution) -> None:
        """Note that an execution has news that are no new version, such as progress."""
        if self._recipients(execution.job):
            id = execution.id
            if id not in self._changed and id not in self._paced:
                self._news.add(id)
            self._note(execution)

    def _note(self, execution: LiveExecution) -> None:
        id = execution.id
        if (
            self._pace_timer is not None
            and not execution.state.finished
            and len(execution.tasks) > MANY_TASKS
        ):
            self._paced[id] = execution
            return
        self._paced.pop(id, None)
        self._changed[id] = execution
        if self._flush_timer is None:
            self._flush_timer = self._later(0, self._flush)

    def _recipients(self, job: str) -> int:
        return self._jobs[None] + self._jobs[job]

    def _flush(self) -> None:
        self._flush_timer = None
        changed = sorted(self._changed.values(), key=_version)
        self._changed = {}
        # A client that resumes must still receive the changes that wait for the pace.
        waiting = (one.version for one in self._paced.values() if one.id not in self._news)
        below = min(waiting, default=None)
        everything: list[Event] = []
        by_job: dict[str, list[Event]] = {}
        sent = paced = 0
        for execution in changed:
            if not (recipients := self._recipients(execution.job)):
                continue
            version = execution.version
            position = version if below is None else min(version, below - 1)
            news = execution if execution.id in self._news else None
            data = execution.encoded()
            event = Event(execution.id, self._store.epoch, version, position, data, news)
            everything.append(event)
            by_job.setdefault(execution.job, []).append(event)
            size = len(event.frame)
            sent += size * recipients
            if len(execution.tasks) > MANY_TASKS and not execution.state.finished:
                paced += size * (recipients + ENCODING)
        self._news = {id for id in self._news if id in self._paced}
        if not everything:
            return
        woken = 0
        for mailbox in self._mailboxes:
            events = everything if mailbox.job is None else by_job.get(mailbox.job)
            if events is not None:
                mailbox.put(events)
                woken += 1
        pause = woken * PAUSE_PER_LISTENER + sent * PAUSE_PER_BYTE
        pause += self._count_flush() * PAUSE_PER_FLUSH
        self._flush_timer = self._later(pause, self._after_flush)
        if paced and self._pace_timer is None:
            self._pace_timer = self._later(paced * PACE_PER_BYTE, self._after_pace)

    def _count_flush(self) -> float:
        """How many flushes are recent, with this one."""
        now = self._elapsed()
        before = max(self._flushes - (now - self._flushed) / RECENT, 0)
        self._flushes, self._flushed = min(before + 1, RECENT_LIMIT), now
        return self._flushes

    def _after_flush(self) -> None:
        self._flush_timer = None
        if self._changed:
            self._flush()

    def _after_pace(self) -> None:
        self._pace_timer = None
        self._changed |= self._paced
        self._paced = {}
        if self._changed and self._flush_timer is None:
            self._flush()

    # -- listeners -----------------------------------------------------------------

    def listen(self, job: str | None, last_id: str | None) -> Listener:
        """Receive recent executions, or those that changed since event `last_id`, then every
        change.

        Raises `InvalidRequest` for an invalid id, and `Unavailable` if too many listen; an id
        of another store, or of the future, gets the recent executions.
        """
        since = self._parse(last_id)
        most = min(self.most, LISTENER_LIMIT)
        if len(self._mailboxes) >= most:
            raise Unavailable(f"{most} listeners are connected already")
        if since is not None and since > self._live.version:
            since = None
        mailbox = Mailbox(job)
        # Added before anything is read, so that no change falls between.
        self._mailboxes.add(mailbox)
        self._jobs[job] += 1
        return Listener(self, mailbox, since)

    def leave(self, mailbox: Mailbox) -> None:
        """Forget a mailbox, if it is still here."""
        if mailbox not in self._mailboxes:
            return
        self._mailboxes.discard(mailbox)
        self._jobs[mailbox.job] -= 1
        if not self._jobs[mailbox.job]:
            del self._jobs[mailbox.job]
        if not self._mailboxes:
            self._changed, self._paced = {}, {}
            self._news.clear()

    def _parse(self, last_id: str | None) -> int | None:
        if not last_id:
            return None
        epoch, _, number = last_id.rpartition("-")
        if not epoch or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            raise InvalidRequest(
                f"Last-Event-ID {last_id[:80]!r} is not an id of this stream",
                code="invalid-event-id",
                field="Last-Event-ID",
            )
        return int(number) if epoch == self._store.epoch else None

    # -- catching up ---------------------------------------------------------------

    @property
    def version(self) -> int:
        """The highest version that was committed."""
        return self._live.version

    async def snapshot(
        self, job: str | None, since: int, upto: int
    ) -> AsyncGenerator[list[Event], None]:
        """The recent executions and the unfinished ones, in ascending order of version.

        Changes after version `upto` reach the mailbox, but not surely the snapshot, so no client
        may resume after them.
        """
        items = self._recent(
            await self._read(
                self._store.page,
                job=job,
                state=None,
                before=None,
                limit=SNAPSHOT,
                room=SNAPSHOT_BYTES,
            ),
            upto,
        )
        newest = {item.id for _, item in items if not isinstance(item, LiveExecution)}
        unfinished = (execution for execution in self._of(job) if execution.id not in newest)
        items += [
            (execution.version, execution)
            for execution in heapq.nlargest(SNAPSHOT_UNFINISHED, unfinished, key=_version)
        ]
        async for events in self._pieces(items, upto):
            yield events

    def _recent(self, rows: list[Row], upto: int) -> list[Item]:
        """The finished executions among the rows. Those that `AHEAD` has no room for are read
        again when their turn comes."""
        items: list[Item] = []
        room = AHEAD
        for row in sorted(rows, key=_version):
            if row.summary is not None:
                room -= len(row.summary)
                event = self._event(row, min(row.version, upto))
                items.append((row.version, event if room >= 0 else Kept(row.id)))
        return items

    async def missed(
        self, job: str | None, since: int, upto: int
    ) -> AsyncGenerator[list[Event], None]:
        """The executions that changed after version `since`, in ascending order of version."""
        while since < upto:
            rows: list[Row] = await self._read(
                self._store.finished_since, since, upto, PAGE, job, AHEAD
            )
            last = rows[-1].version if rows else upto
            between = (
                execution for execution in self._of(job) if since < execution.version <= last
            )
            unfinished = heapq.nsmallest(PAGE, between, key=_version)
            if len(unfinished) == PAGE:
                last = unfinished[-1].version
            items: list[Item] = [(execution.version, execution) for execution in unfinished]
            items += [
                (row.version, self._event(row, row.version)) for row in rows if row.version <= last
            ]
            rows.clear()
            async for events in self._pieces(items, upto):
                yield events
            since = last

    def _of(self, job: str | None) -> Iterable[LiveExecution]:
        return (execution for execution in self._live if job in (None, execution.job))

    async def _pieces(self, items: list[Item], position: int) -> AsyncIterator[list[Event]]:
        """The items as events, `PIECE` bytes at a time; each is encoded when its turn comes."""
        remaining = deque(sorted(items, key=lambda item: item[0]))
        items.clear()
        piece: list[Event] = []
        size = 0
        while remaining:
            version, item = remaining.popleft()
            event = await self._resolve(version, item, position)
            if event is None:
                continue
            if piece and size + len(event.frame) > PIECE:
                yield piece
                piece, size = [], 0
            piece.append(event)
            size += len(event.frame)
        if piece:
            yield piece

    async def _resolve(
        self, version: int, item: Event | LiveExecution | Kept, position: int
    ) -> Event | None:
        """The event of an item. None if its execution changed meanwhile, since the mailbox has
        a newer event then, or is gone."""
        if isinstance(item, Event):
            return item
        if isinstance(item, Kept):
            row: Row | None = await self._read(self._store.find, item.id)
            if row is None or row.summary is None or row.version != version:
                return None
            return self._event(row, min(version, position))
        if item.version != version:
            return None
        return self._share(item.id, version, min(version, position), item.encoded)

    def _event(self, row: Row, position: int) -> Event:
        summary = row.summary
        assert summary is not None
        return self._share(row.id, row.version, position, lambda: listed(summary, row.version))

    def _share(self, id: str, version: int, position: int, encode: Callable[[], bytes]) -> Event:
        """The event of an execution at a version, the same object for all who hold it."""
        key = (id, version, position)
        if (event := self._shared.get(key)) is None:
            event = Event(id, self._store.epoch, version, position, encode())
            self._shared[key] = event
        return event


def _version(of: Row | LiveExecution) -> int:
    return of.version
