"""Subscribers to committed facts miss none, in a crash or when slow, without a gap notice."""

import asyncio
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goflow import Job, MemoryStore, SqliteStore, Task
from goflow.core.events import Finished, Submitted, TaskStarted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.engine import feed as feed_module
from goflow.engine.feed import CURSOR, PAGE, PAGE_BYTES, Feed, Purged, Subscription
from goflow.engine.journal import Journal
from goflow.engine.threads import Threads
from goflow.errors import StoreUnavailable
from goflow.stores.base import Committed, FactsPage, Purge, Record, Store, Submit
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import running, until

pytestmark = pytest.mark.anyio

PLAN = Plan((PlannedTask("a"),))


def submit(execution: str) -> Submit:
    fact = Submitted(BEGINNING, id=execution, job="job", plan=PLAN.id, cause="api")
    return Submit(fact, PLAN)


def record(execution: str) -> Record:
    return Record(execution, [TaskStarted(BEGINNING, "a", 1)], State.RUNNING, BEGINNING)


def finish(execution: str) -> Record:
    done = [Finished(BEGINNING, "successful")]
    return Record(execution, list(done), State.SUCCESSFUL, BEGINNING, b"{}")


async def read_at_once(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@asynccontextmanager
async def fed(store: Store, clock: FakeClock | None = None) -> AsyncIterator[tuple[Feed, Journal]]:
    """A feed and a started journal on a store, which is opened and closed."""
    store.open()
    clock = clock or FakeClock()
    journal = Journal(store, clock, lambda *told: feed.committed(*told), Threads())
    feed = Feed(store, journal, read_at_once, clock)
    journal.start()
    try:
        yield feed, journal
    finally:
        feed.close()
        await journal.stop()
        store.close()


async def take(subscription: Subscription, count: int) -> list[int]:
    """The versions of the next items, each of which has to be facts."""
    found = [await anext(subscription) for _ in range(count)]
    assert all(isinstance(one, Committed) for one in found)
    return [one.version for one in found]


async def test_facts_arrive_in_order_and_commits_wake_subscribers() -> None:
    async with fed(MemoryStore()) as (feed, journal):
        await journal.commit(submit("x"))
        subscription = await feed.subscribe("audit", since=0)
        assert await take(subscription, 1) == [1]
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        assert not waiting.done()
        await journal.commit(record("x"))
        item = await waiting
        assert (item.version, item.execution, item.job) == (2, "x", "job")  # type: ignore[union-attr]
        assert item.facts == record("x").facts  # type: ignore[union-attr]


async def test_a_new_subscription_begins_with_the_next_facts() -> None:
    async with fed(MemoryStore()) as (feed, journal):
        await journal.commit(submit("x"))
        subscription = await feed.subscribe("audit")
        await journal.commit(record("x"))
        assert await take(subscription, 1) == [2]


@pytest.mark.parametrize("since", [None, 0])
async def test_after_a_crash_it_continues_after_the_remembered_version(
    tmp_path: Path, since: int | None
) -> None:
    path = tmp_path / "goflow.db"
    async with fed(SqliteStore(path)) as (feed, journal):
        subscription = await feed.subscribe("audit", since)
        for number in range(5):
            await journal.commit(submit(f"x{number}"))
        assert await take(subscription, 4) == [1, 2, 3, 4]
        await subscription.remember(2)
    async with fed(SqliteStore(path)) as (feed, journal):
        await journal.commit(submit("y"))
        again = await feed.subscribe("audit", since)
        assert await take(again, 4) == [3, 4, 5, 6]


async def test_a_subscription_that_remembered_nothing_misses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    async with fed(SqliteStore(path)) as (feed, journal):
        await journal.commit(submit("before"))
        await feed.subscribe("audit")
        await journal.commit(submit("after"))
    async with fed(SqliteStore(path)) as (feed, journal):
        assert await take(await feed.subscribe("audit"), 1) == [2]


async def test_facts_purged_before_they_were_read_are_reported() -> None:
    async with fed(MemoryStore()) as (feed, journal):
        subscription = await feed.subscribe("audit")
        for change in (submit("x"), finish("x"), submit("y"), submit("z"), finish("z")):
            await journal.commit(change)
        while await journal.commit(Purge(None, None, 0, 9)):
            pass
        await journal.commit(record("y"))
        items = [await anext(subscription) for _ in range(4)]
        assert [type(item) for item in items] == [Purged, Committed, Purged, Committed]
        assert items[0] == Purged(version=2, count=2)
        assert items[2] == Purged(version=5, count=2)


async def test_facts_purged_at_the_end_are_reported_too() -> None:
    async with fed(MemoryStore()) as (feed, journal):
        subscription = await feed.subscribe("audit")
        for change in (submit("x"), finish("x")):
            await journal.commit(change)
        while await journal.commit(Purge(None, None, 0, 9)):
            pass
        assert await anext(subscription) == Purged(version=2, count=2)


class Counting(MemoryStore):
    """Counts reads of facts, and the longest page; can raise errors."""

    reads = 0
    trouble = False
    longest = largest = 0

    def facts_since(self, version: int, limit: int, room: int) -> FactsPage:
        self.reads += 1
        if self.trouble:
            raise StoreUnavailable("the disk is away")
        page = super().facts_since(version, limit, room)
        self.longest = max(self.longest, len(page.committed))
        size = sum(len(getattr(fact, "id", "")) for one in page.committed for fact in one.facts)
        self.largest = max(self.largest, size)
        return page


async def test_a_slow_subscriber_holds_one_page_and_reads_on_demand() -> None:
    store = Counting()
    async with fed(store) as (feed, journal):
        subscription = await feed.subscribe("slow")
        for number in range(20):
            await asyncio.gather(*(journal.commit(submit(f"x{number}-{n}")) for n in range(50)))
        assert await take(subscription, 1) == [1]
        assert store.reads == 1, "commits alone read nothing"
        assert await take(subscription, 999) == list(range(2, 1001))
        assert store.longest <= PAGE
        assert store.reads == 1000 // PAGE


async def test_a_page_is_bounded_in_bytes() -> None:
    store = Counting()
    async with fed(store) as (feed, journal):
        subscription = await feed.subscribe("slow")
        size = PAGE_BYTES // 8
        for number in range(20):
            await journal.commit(submit(f"{number:0{size}}"))
        assert await take(subscription, 20) == list(range(1, 21))
        assert store.largest <= PAGE_BYTES
        assert store.reads >= 3


async def test_a_failing_store_loses_nothing() -> None:
    store, clock = Counting(), FakeClock(jumps=True)
    async with fed(store, clock) as (feed, journal):
        subscription = await feed.subscribe("audit")
        await journal.commit(submit("x"))
        store.trouble = True
        waiting = asyncio.ensure_future(anext(subscription))
        await until(lambda: store.reads > 2)
        store.trouble = False
        assert (await waiting).version == 1


async def test_a_closed_subscription_ends_and_its_position_is_kept() -> None:
    async with fed(MemoryStore()) as (feed, journal):
        subscription = await feed.subscribe("audit")
        ended = asyncio.ensure_future(anext(subscription, None))
        await asyncio.sleep(0)
        subscription.close()
        assert await ended is None
        await journal.commit(submit("x"))
        assert await take(await feed.subscribe("audit"), 1) == [1]


async def test_a_name_has_one_subscription_and_can_be_removed() -> None:
    store = MemoryStore()
    async with fed(store) as (feed, journal):
        subscription = await feed.subscribe("audit")
        with pytest.raises(ValueError, match="'audit' is subscribed already"):
            await feed.subscribe("audit")
        await feed.unsubscribe("audit")
        assert [item async for item in subscription] == []
        assert store.entries(CURSOR) == {}
        await journal.commit(submit("x"))
        again = await feed.subscribe("audit")
        await journal.commit(record("x"))
        assert await take(again, 1) == [2]


async def test_a_restarted_engine_delivers_every_fact_at_least_once(
    tmp_path: Path,
) -> None:
    job = Job("job", tasks=[Task("a", Quick()), Task("b", Quick(), after=["a"])])
    path = tmp_path / "goflow.db"
    told: dict[str, list[Any]] = {}

    async def listen(subscription: Subscription, remembering: int) -> None:
        async for item in subscription:
            assert isinstance(item, Committed)
            told.setdefault(item.execution, []).extend(
                fact for fact in item.facts if fact not in told.get(item.execution, [])
            )
            if item.version <= remembering:
                await subscription.remember(item.version)

    ids = []
    for remembering in (3, 10**9):
        async with running(job, store=SqliteStore(path)) as engine:
            listening = asyncio.ensure_future(listen(await engine.feed.subscribe("a"), remembering))
            for _ in range(3):
                ids.append((await engine.submissions.submit("job")).id)
            await until(lambda: not engine.store.unfinished())
        await listening  # ended by the stop
    async with running(job, store=SqliteStore(path)) as engine:
        listening = asyncio.ensure_future(listen(await engine.feed.subscribe("a"), 10**9))
        histories = {id: engine.store.history(id) for id in ids}
        await until(lambda: all(told.get(id) == kept.facts for id, kept in histories.items()))
    await listening


class Quick:
    def run(self) -> None:
        pass


# -- a hook, as the module's docstring has it ------------------------------------------


def documented(send: Callable[[str], Awaitable[None]]) -> Callable[[Feed], Awaitable[None]]:
    """The example of the docstring, with its `send`."""
    assert feed_module.__doc__ is not None
    example = feed_module.__doc__[feed_module.__doc__.index("    async def") :]
    names: dict[str, Any] = {
        "Feed": Feed, "Committed": Committed, "Finished": Finished, "send": send
    }  # fmt: skip
    exec(textwrap.dedent(example), names)
    found: Callable[[Feed], Awaitable[None]] = names["alert"]
    return found


async def test_a_hook_that_raises_gets_the_same_item_again() -> None:
    sent: list[str] = []
    troubles = [OSError("no mail"), OSError("no mail")]

    async def send(text: str) -> None:
        if troubles:
            raise troubles.pop()
        sent.append(text)

    job = Job("job", tasks=[Task("a", Fails())])
    async with running(job, clock=FakeClock(jumps=True)) as engine:
        alert = documented(send)
        engine.lifetime.keep_up(lambda: alert(engine.feed), "alerts")
        await until(lambda: engine.store.entries(CURSOR))
        first = (await engine.submissions.submit("job")).id
        await until(lambda: sent)
        second = (await engine.submissions.submit("job")).id
        await until(lambda: len(sent) == 2)
        assert sent == [f"job failed, execution {id}" for id in (first, second)]
        assert "no mail" in str(engine.health.defect)


class Fails:
    def run(self) -> None:
        raise ValueError("it fails")
