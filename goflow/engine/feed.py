"""Committed facts for subscribers that must not miss any: hooks, alerts, audits.

A subscriber has a name. It reads facts from the store alone, in the order of versions, and is woken
by commits. How far it got is kept in the store under its name, so that it continues there after a
crash. The rule that must not be broken: every fact reaches a subscriber at least once, or the
subscriber is told that it was purged.

A hook or an alert is a coroutine under `Lifetime.keep_up`. It handles an item first and remembers
it afterwards. So a crash in between repeats the item, and a hook that raises gets it again:

    async def alert(feed: Feed) -> None:
        subscription = await feed.subscribe("alerts")
        try:
            async for item in subscription:
                if isinstance(item, Committed):
                    for fact in item.facts:
                        if isinstance(fact, Finished) and fact.state == "failed":
                            await send(f"{item.job} failed, execution {item.execution}")
                await subscription.remember(item.version)
        finally:
            subscription.close()
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from goflow.engine.clock import Clock
from goflow.engine.journal import PROBE, Journal
from goflow.errors import StoreUnavailable
from goflow.stores.base import Change, Committed, FactsPage, Outcome, Put, Record, Store, Submit

PAGE = 100  # versions read at once
PAGE_BYTES = 256 * 1024  # of facts read at once; one version may be longer
SUBSCRIBERS = 100

CURSOR = "cursor"  # the kind of the entries: the last version handled, by name

Read = Callable[..., Coroutine[Any, Any, Any]]


class Purged(msgspec.Struct, frozen=True):
    """Facts that were purged before the subscriber read them: `count` versions, the last of them
    `version`."""

    version: int
    count: int


class Feed:
    """Takes subscriptions, and wakes them after each commit of facts."""

    def __init__(self, store: Store, journal: Journal, read: Read, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._read = read
        self._clock = clock
        self._subscriptions: dict[str, Subscription] = {}
        self._closed = False

    async def subscribe(self, name: str, since: int | None = None) -> "Subscription":
        """Continue the subscription of that name, or begin one after version `since`, which is
        the newest one by default; 0 begins with the oldest facts.

        Where it begins is durable when this returns. Raises `ValueError` for a name that is
        subscribed now, or for too many names, and `Unavailable`.
        """
        if name in self._subscriptions:
            raise ValueError(f"{name!r} is subscribed already")
        if len(self._subscriptions) >= SUBSCRIBERS:
            raise ValueError(f"{SUBSCRIBERS} names are subscribed, which is the limit")
        subscription = Subscription(self, name)
        self._subscriptions[name] = subscription  # first, so that it wakes from here on
        try:
            kept = (await self._read(self._store.entries, CURSOR)).get(name)
            if kept is not None:
                subscription.begin(msgspec.json.decode(kept, type=int))
            else:
                version = await self._read(self._store.version) if since is None else since
                await self.remember(name, version)
                subscription.begin(version)
        except BaseException:
            del self._subscriptions[name]
            raise
        if self._closed:
            subscription.close()
        return subscription

    async def unsubscribe(self, name: str) -> None:
        """End the subscription and forget its place. Raises `Unavailable`."""
        if (subscription := self._subscriptions.get(name)) is not None:
            subscription.close()
        await self._journal.commit(Put(CURSOR, name, None))

    async def remember(self, name: str, version: int) -> None:
        await self._journal.commit(Put(CURSOR, name, msgspec.json.encode(version)))

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Follow the commits of the journal."""
        if self._subscriptions and isinstance(change, Submit | Record):
            for subscription in self._subscriptions.values():
                subscription.wake()

    def close(self) -> None:
        """End all subscriptions; they continue where they were after the next start."""
        self._closed = True
        for subscription in list(self._subscriptions.values()):
            subscription.close()

    def drop(self, subscription: "Subscription") -> None:
        if self._subscriptions.get(subscription.name) is subscription:
            del self._subscriptions[subscription.name]

    async def page(self, version: int) -> FactsPage | None:
        """The facts after a version; None where the store cannot be read now, after a pause."""
        try:
            page: FactsPage = await self._read(self._store.facts_since, version, PAGE, PAGE_BYTES)
        except StoreUnavailable:
            await self._clock.sleep(PROBE)
            return None
        return page


class Subscription:
    """Iterates over committed facts, and over what was purged; waits for the next ones at the end.

    Call `remember` with the version of an item when it is handled. After a crash the iteration
    continues behind that version, so items handled since then come again. It holds one page in
    memory, however slow the subscriber is.
    """

    def __init__(self, feed: Feed, name: str) -> None:
        self.name = name
        self._feed = feed
        self._read_to = 0
        self._items: deque[Committed | Purged] = deque()
        self._woken = asyncio.Event()
        self._closed = False

    def begin(self, version: int) -> None:
        self._read_to = version

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Committed | Purged:
        while not self._items and not self._closed:
            self._woken.clear()  # before the read, so that a commit during it wakes again
            page = await self._feed.page(self._read_to)
            if page is None:
                continue
            if page.upto > self._read_to:
                self._take(page)
            elif not self._closed:
                await self._woken.wait()
        if self._closed:
            raise StopAsyncIteration
        return self._items.popleft()

    def _take(self, page: FactsPage) -> None:
        last = self._read_to
        for committed in page.committed:
            if (missing := committed.version - last - 1) > 0:
                self._items.append(Purged(committed.version - 1, missing))
            self._items.append(committed)
            last = committed.version
        if page.upto > last:
            self._items.append(Purged(page.upto, page.upto - last))
        self._read_to = page.upto

    async def remember(self, version: int) -> None:
        """Keep that everything up to this version is handled; durable when this returns. Raises
        `Unavailable`."""
        await self._feed.remember(self.name, version)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        """End the iteration. Safe to call twice."""
        self._closed = True
        self._woken.set()
        self._feed.drop(self)
