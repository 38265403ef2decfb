"""A mailbox per listener, holding the latest of each execution that changed.

A slow listener sees fewer steps, never a wrong last state, and costs bounded memory: a
mailbox that fills up is emptied, and its listener catches up from the store, as one that
comes back with the id of the last event it saw does.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

from goflow.core.summary import listed
from goflow.engine.board import Board, Entry
from goflow.errors import InvalidRequest, Unavailable
from goflow.stores.base import Row, Store

MAILBOX_LIMIT = 1000  # executions
PAGE = 100  # executions read from the store at once
SNAPSHOT = 100  # executions a listener is told of when it comes
LISTENER_LIMIT = 1000

Read = Callable[..., Coroutine[Any, Any, Any]]


class Event(NamedTuple):
    """One execution as it is now. `id` resumes the stream after this event."""

    id: str
    data: bytes


class Mailbox:
    """What a listener has not been told yet, the change longest ago first."""

    def __init__(self, job: str | None) -> None:
        self.job = job
        self.overflowed = False
        self.closed = False
        self._pending: dict[str, Entry] = {}
        self._arrived = asyncio.Event()

    def put(self, entry: Entry) -> None:
        if self.job is not None and entry.summary.job != self.job:
            return
        if not self.overflowed:
            # Taken out first, so that versions leave the mailbox in ascending order.
            self._pending.pop(entry.summary.id, None)
            self._pending[entry.summary.id] = entry
            if len(self._pending) > MAILBOX_LIMIT:
                self._pending.clear()
                self.overflowed = True
        self._arrived.set()

    def close(self) -> None:
        """Let the one who waits go."""
        self.closed = True
        self._arrived.set()

    async def get(self) -> Entry | None:
        """The entry that changed longest ago; None if the mailbox has overflowed or is closed."""
        while not self._pending and not self.overflowed and not self.closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self.overflowed or self.closed:
            self.overflowed = False
            return None
        return self._pending.pop(next(iter(self._pending)))


class Listener:
    """An iterator of what one who listens is told. `close` ends it, from wherever."""

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        mailbox: Mailbox,
        mailboxes: set[Mailbox],
    ) -> None:
        self._events = events
        self._mailbox = mailbox
        self._mailboxes = mailboxes
        # Joined before anything is read, so that no change falls between.
        mailboxes.add(mailbox)

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Be told nothing more; the iteration ends. Safe to call twice."""
        self._mailboxes.discard(self._mailbox)
        self._mailbox.close()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        self.close()
        await self._events.aclose()


class Broadcast:
    """Who listens, and what they are told."""

    def __init__(self, store: Store, board: Board, read: Read) -> None:
        self._store = store
        self._board = board
        self._read = read
        self._mailboxes: set[Mailbox] = set()
        self.most = LISTENER_LIMIT  # listeners, if there is room for fewer

    def __len__(self) -> int:
        return len(self._mailboxes)

    def publish(self, entry: Entry) -> None:
        """Tell every listener that an entry of the board changed."""
        for mailbox in self._mailboxes:
            mailbox.put(entry)

    def listen(self, job: str | None, last_id: str | None) -> Listener:
        """Recent executions, or those that changed since event `last_id`, then every change.

        Raises `InvalidRequest` for an id that is none, and `Unavailable` if too many listen;
        an id of another store, or of the future, gets the recent executions.
        """
        since = self._parse(last_id)
        most = min(self.most, LISTENER_LIMIT)
        if len(self._mailboxes) >= most:
            raise Unavailable(f"{most} listeners are connected already")
        mailbox = Mailbox(job)
        return Listener(self._follow(mailbox, since), mailbox, self._mailboxes)

    async def _follow(self, mailbox: Mailbox, since: int | None) -> AsyncGenerator[Event, None]:
        job = mailbox.job
        if since is None or since > self._board.version:
            # What changes while the snapshot is read and sent is in the mailbox, though not
            # surely in the snapshot: nobody may resume after it.
            since = self._board.version
            for version, data in await self._snapshot(job):
                yield Event(self._id(min(version, since)), data)
        else:
            async for version, data in self._missed(job, since):
                since = version
                yield Event(self._id(version), data)
        while True:
            entry = await mailbox.get()
            if mailbox.closed:
                return
            if entry is None:
                async for version, data in self._missed(job, since):
                    since = version
                    yield Event(self._id(version), data)
            elif entry.version > since:
                since = entry.version
                yield Event(self._id(since), entry.encoded())

    def _id(self, version: int) -> str:
        return f"{self._store.epoch}-{version}"

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

    async def _snapshot(self, job: str | None) -> list[tuple[int, bytes]]:
        rows: list[Row] = await self._read(
            self._store.page, job=job, state=None, before=None, limit=SNAPSHOT
        )
        newest = {row.id: _versioned(row, row.summary) for row in rows if row.summary is not None}
        found = [*newest.values()]
        # Unfinished ones are on the board, however long ago they were submitted.
        found += [
            (entry.version, entry.encoded())
            for entry in self._board
            if entry.summary.id not in newest and job in (None, entry.summary.job)
        ]
        return sorted(found)

    async def _missed(self, job: str | None, since: int) -> AsyncIterator[tuple[int, bytes]]:
        """What changed after version `since`, in ascending order, up to now."""
        upto = self._board.version
        unfinished = sorted(
            (
                (entry.version, entry)
                for entry in self._board
                if since < entry.version <= upto and job in (None, entry.summary.job)
            ),
            key=lambda pair: pair[0],
        )
        place = 0
        while True:
            rows: list[Row] = await self._read(self._store.finished_since, since, upto, PAGE, job)
            last = rows[-1].version if len(rows) == PAGE else upto
            found = [_versioned(row, row.summary) for row in rows if row.summary is not None]
            while place < len(unfinished) and unfinished[place][0] <= last:
                version, entry = unfinished[place]
                if entry.version == version:  # else a newer one is in the mailbox
                    found.append((version, entry.encoded()))
                place += 1
            for version, data in sorted(found):
                yield version, data
            since = last
            if since == upto:
                return


def _versioned(row: Row, summary: bytes) -> tuple[int, bytes]:
    return row.version, listed(summary, row.version)
