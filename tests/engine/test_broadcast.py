"""The stream: every change arrives in order without a gap, and a slow listener costs little."""

import asyncio
import heapq
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from goflow import Job, Task
from goflow.core.states import State
from goflow.engine import broadcast
from goflow.engine.broadcast import Event
from goflow.engine.broadcast import Listener as Events
from goflow.engine.engine import Engine
from goflow.engine.live import LiveExecution
from goflow.errors import InvalidRequest
from goflow.stores.sqlite import SqliteStore
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


class Listener:
    """Reads a stream in the background and keeps its events."""

    def __init__(self, engine: Engine, job: str | None = None, last_id: str | None = None) -> None:
        self.events: list[Event] = []
        self.stream = engine.broadcast.listen(job, last_id)
        self.task = asyncio.create_task(self._read(self.stream))

    async def _read(self, stream: AsyncIterator[list[Event]]) -> None:
        async for events in stream:
            self.events += events

    @property
    def last(self) -> dict[str, Any]:
        """The last event of each execution."""
        return {event.id: decode(event) for event in self.events}

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def decode(event: Event) -> dict[str, Any]:
    """The execution in a framed event."""
    lines = event.frame.decode().split("\n")
    assert [line.partition(": ")[0] for line in lines] == ["id", "event", "data", "", ""]
    assert lines[1] == "event: message"
    execution: dict[str, Any] = json.loads(lines[2].removeprefix("data: "))
    return execution


def id_of(event: Event) -> str:
    """The id that resumes the stream after an event."""
    return event.frame.decode().split("\n")[0].removeprefix("id: ")


def versions(events: list[Event]) -> list[int]:
    return [int(id_of(event).rpartition("-")[2]) for event in events]


async def first(stream: Events) -> dict[str, Any]:
    """The execution in the next event, which arrives alone."""
    (event,) = await anext(stream)
    return decode(event)


async def submit(engine: Engine, count: int, job: str = "j") -> list[str]:
    ids = [(await engine.submissions.submit(job)).id for _ in range(count)]
    await until(lambda: not engine.runners)
    return ids


async def test_a_listener_receives_recent_executions_and_then_every_change() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        before = await submit(engine, 3)
        listener = Listener(engine)
        await until(lambda: len(listener.events) == 3)
        after = await submit(engine, 2)
        await until(lambda: set(listener.last) == {*before, *after})
        await until(lambda: all(e["state"] == "successful" for e in listener.last.values()))
        assert versions(listener.events) == sorted(set(versions(listener.events)))
        await listener.close()
        assert len(engine.broadcast) == 0


async def test_a_listener_can_ask_for_one_job() -> None:
    async with running(
        job_of("j", Task("t", Scripted())), job_of("k", Task("t", Scripted()))
    ) as engine:
        await submit(engine, 2, "j")
        await submit(engine, 2, "k")
        listener = Listener(engine, job="k")
        await submit(engine, 1, "j")
        await submit(engine, 1, "k")
        await until(lambda: len(listener.last) == 3)
        assert {e["job"] for e in listener.last.values()} == {"k"}
        await listener.close()


async def test_resuming_at_any_event_leaves_no_gap(tmp_path: Path) -> None:
    async with running(
        job_of("j", Task("a", Scripted()), Task("b", Scripted(), after=["a"])),
        store=SqliteStore(tmp_path / "s.db"),
    ) as engine:
        await submit(engine, 1)
        whole = Listener(engine)
        await submit(engine, 12)
        await until(lambda: len(whole.last) == 13)
        await until(lambda: all(e["state"] == "successful" for e in whole.last.values()))
        for place, event in enumerate(list(whole.events)):
            resumed = Listener(engine, last_id=id_of(event))
            seen = {e.id: decode(e) for e in whole.events[: place + 1]}
            await until(lambda resumed=resumed, seen=seen: seen | resumed.last == whole.last)
            assert versions(resumed.events) == sorted(versions(resumed.events))
            assert all(v > versions([event])[0] for v in versions(resumed.events))
            await resumed.close()
        await whole.close()


async def test_an_event_id_is_valid_after_a_restart(tmp_path: Path) -> None:
    job = job_of("j", Task("t", Scripted()))
    async with running(job, store=SqliteStore(tmp_path / "s.db")) as engine:
        await submit(engine, 2)
        listener = Listener(engine)
        await until(lambda: len(listener.events) == 2)
        last = id_of(listener.events[-1])
        await listener.close()
        missed = await submit(engine, 1)
    async with running(job, store=SqliteStore(tmp_path / "s.db")) as engine:
        resumed = Listener(engine, last_id=last)
        missed += await submit(engine, 1)
        await until(lambda: list(resumed.last) == missed)
        await resumed.close()


async def test_an_id_of_another_store_gets_the_recent_executions() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        ids = await submit(engine, 2)
        for last_id in ("0123abcd-1", engine.store.epoch + "-999999"):
            listener = Listener(engine, last_id=last_id)
            await until(lambda listener=listener: set(listener.last) == set(ids))
            await listener.close()


@pytest.mark.parametrize("last_id", ["x", "-", "-1", "e-", "e-x", "e--1x", "e-٣", "e-" + "9" * 99])
async def test_an_invalid_event_id_is_refused(last_id: str) -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        with pytest.raises(InvalidRequest, match="Last-Event-ID"):
            await anext(engine.broadcast.listen(None, last_id))


async def test_a_listener_that_does_not_read_uses_bounded_memory_and_misses_no_final_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "MAILBOX_LIMIT", 5)
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        before = await submit(engine, 1)
        stream = engine.broadcast.listen(None, None)
        assert (await first(stream))["id"] == before[0]
        ids = []
        (mailbox,) = engine.broadcast._mailboxes
        for _ in range(40):
            ids += await submit(engine, 1)
            await until(lambda: engine.broadcast._flush_timer is None)
            assert len(mailbox) <= 6
        states = {}
        async with asyncio.timeout(60):
            while set(states) != set(ids) or set(states.values()) != {"successful"}:
                for event in await anext(stream):
                    states[event.id] = decode(event)["state"]
        await stream.aclose()


async def test_a_mailbox_holds_only_the_newest_event_of_an_execution() -> None:
    job = job_of("j", *(Task(f"t{n}", Scripted()) for n in range(50)))
    async with running(job) as engine:
        await submit(engine, 1)
        stream = engine.broadcast.listen(None, None)
        await first(stream)
        (id,) = await submit(engine, 1)
        await until(lambda: not engine.broadcast._changed)
        event = await first(stream)
        assert (event["id"], event["state"]) == (id, "successful")
        await stream.aclose()


class Timers:
    """Replaces the event loop's `call_later` and the clock; time advances only by `advance`."""

    def __init__(self, engine: Engine) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        engine.broadcast._later = self.later
        engine.broadcast._elapsed = lambda: self.now

    def later(self, delay: float, act: Callable[[], None]) -> object:
        timer = (self.now + delay, next(self._count), act)
        heapq.heappush(self._waiting, timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._waiting and self._waiting[0][0] <= end:
            self.now, _, act = heapq.heappop(self._waiting)
            act()
        self.now = end


async def caught_up(engine: Engine) -> Listener:
    """A listener that has received its snapshot."""
    listener = Listener(engine)
    await until(lambda: listener.stream._behind is None)
    return listener


def large(name: str, first: Scripted, second: Scripted) -> Job:
    """A job with enough tasks to be paced; two of them hang until they are released."""
    rest = (Task(f"t{n}", Scripted(), after=["first"]) for n in range(broadcast.MANY_TASKS))
    return job_of(name, Task("first", first), Task("second", second), *rest)


async def test_events_of_a_large_execution_are_paced_except_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "PACE_PER_BYTE", 1.0)
    one, two = Scripted(["hang"]), Scripted(["hang"])
    small = job_of("small", Task("t", Scripted()))
    async with running(large("large", one, two), small) as engine:
        timers = Timers(engine)
        listener = await caught_up(engine)
        id = (await engine.submissions.submit("large")).id
        await until(lambda: one.runs and two.runs)
        timers.advance(0)
        await until(lambda: len(listener.events) == 1)
        one.release.set()
        await until(lambda: (entry := engine.live.get(id)) and entry.counts.get(State.RUNNING) == 1)
        timers.advance(1)  # less than its pace
        other = (await engine.submissions.submit("small")).id
        await until(lambda: len(engine.runners) == 1)
        timers.advance(1)
        await until(lambda: other in listener.last)
        assert [event.id for event in listener.events].count(id) == 1
        # A client that resumes after the small one's event receives the large one's current state.
        resumed = Listener(engine, last_id=id_of(listener.events[-1]))
        await until(lambda: id in resumed.last)
        states = {task["name"]: task["state"] for task in resumed.last[id]["tasks"]}
        assert (states["first"], states["t0"]) == ("successful", "successful")
        two.release.set()
        await until(lambda: not engine.runners)
        timers.advance(1)  # still less than its pace
        await until(lambda: listener.last[id]["state"] == "successful")
        await resumed.close()
        await listener.close()


async def test_a_paced_execution_is_sent_when_its_pace_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "PACE_PER_BYTE", 1.0)
    one, two = Scripted(["hang"]), Scripted(["hang"])
    async with running(large("large", one, two)) as engine:
        timers = Timers(engine)
        listener = await caught_up(engine)
        id = (await engine.submissions.submit("large")).id
        await until(lambda: one.runs and two.runs)
        timers.advance(0)
        one.release.set()
        await until(lambda: (entry := engine.live.get(id)) and entry.counts.get(State.RUNNING) == 1)
        timers.advance(1)
        assert len(listener.events) == 1
        timers.advance(1_000_000)
        await until(lambda: len(listener.events) == 2)
        assert [t["state"] for t in listener.last[id]["tasks"]].count("successful") > 1
        two.release.set()
        await until(lambda: not engine.runners)
        await listener.close()


async def bytes_of_a_chain(length: int) -> int:
    """The bytes a listener receives while `length` tasks run one after another, with a change
    each millisecond."""
    tasks = [Task(f"t{n}", Scripted(), after=[f"t{n - 1}"] if n else []) for n in range(length)]
    async with running(job_of("chain", *tasks)) as engine:
        timers = Timers(engine)
        listener = Listener(engine)
        on_change = engine.live._on_change

        def published(entry: LiveExecution) -> None:
            on_change(entry)
            timers.advance(0.001)

        engine.live._on_change = published
        (id,) = await submit(engine, 1, "chain")
        timers.advance(1)
        await until(lambda: listener.last.get(id, {}).get("state") == "successful")
        await listener.close()
        return sum(len(event.frame) for event in listener.events)


async def test_bytes_grow_linearly_with_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "PAUSE_PER_FLUSH", 0)  # which would send even less
    small, large = await bytes_of_a_chain(100), await bytes_of_a_chain(200)
    assert 1.5 < large / small < 2.5


async def test_a_change_is_sent_at_once_and_many_in_a_row_are_sent_together() -> None:
    tasks = [Task(f"t{n}", Scripted(), after=[f"t{n - 1}"] if n else []) for n in range(15)]
    async with running(job_of("chain", *tasks), job_of("j", Task("t", Scripted()))) as engine:
        timers = Timers(engine)
        listener = await caught_up(engine)
        on_change = engine.live._on_change
        changes = []

        def published(entry: LiveExecution) -> None:
            on_change(entry)
            changes.append(entry.version)
            timers.advance(0.001)

        engine.live._on_change = published
        (id,) = await submit(engine, 1, "chain")
        timers.advance(1)  # time enough for the flushes to be no longer recent
        await until(lambda: listener.last.get(id, {}).get("state") == "successful")
        assert len(changes) > 15
        assert 3 <= len(listener.events) <= 8
        engine.live._on_change = on_change
        (id,) = await submit(engine, 1)
        timers.advance(0)
        await until(lambda: id in listener.last)
        await listener.close()


async def test_the_pause_after_a_flush_grows_with_the_listeners() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        timers = Timers(engine)
        listeners = [await caught_up(engine) for _ in range(20)]
        await submit(engine, 1)
        timers.advance(0)
        await submit(engine, 5)
        timers.advance(20 * broadcast.PAUSE_PER_LISTENER - 0.001)
        await asyncio.sleep(0)
        assert {len(listener.last) for listener in listeners} <= {0, 1}
        timers.advance(0.01)
        await until(lambda: all(len(listener.last) == 6 for listener in listeners))
        # The bytes of an event are the same object for all.
        frames = [[event.frame for event in listener.events] for listener in listeners]
        assert all(a is b for one in frames[1:] for a, b in zip(one, frames[0], strict=True))
        for listener in listeners:
            await listener.close()


@pytest.mark.parametrize("ahead", [broadcast.AHEAD, 2000])
@pytest.mark.parametrize("resumed", [False, True])
async def test_missed_events_arrive_in_small_pieces(
    ahead: int, resumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "PIECE", 3000)
    monkeypatch.setattr(broadcast, "AHEAD", ahead)
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        ids = await submit(engine, 30)
        stream = engine.broadcast.listen(None, f"{engine.store.epoch}-0" if resumed else None)
        received: list[Event] = []
        while len(received) < 30:
            piece = await anext(stream)
            assert sum(len(event.frame) for event in piece) <= 3000
            received += piece
        assert [event.id for event in received] == ids
        assert versions(received) == sorted(set(versions(received)))
        await stream.aclose()


async def test_a_snapshot_stays_within_its_byte_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "SNAPSHOT_BYTES", 5000)
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        ids = await submit(engine, 30)
        listener = Listener(engine)
        await until(lambda: ids[-1] in listener.last)
        await asyncio.sleep(0)
        assert sum(len(event.frame) for event in listener.events) < 10_000
        assert [event.id for event in listener.events] == ids[-len(listener.events) :]
        await listener.close()


def test_an_unread_mailbox_holds_a_bounded_number_of_bytes() -> None:
    mailbox = broadcast.Mailbox(None)
    for number in range(1000):
        mailbox.put([Event(f"e{number}", "epoch", number, number, b"x" * 1000)])
        assert mailbox.size <= broadcast.MAILBOX_BYTES + 2000
    assert mailbox.overflowed
    assert not len(mailbox)


async def test_a_closed_listener_ends() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        stream = engine.broadcast.listen(None, None)
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
