"""The stream: every change arrives, in order, with no gap, and a slow listener costs little."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from goflow import Task
from goflow.engine import broadcast
from goflow.engine.broadcast import Event
from goflow.engine.engine import Engine
from goflow.errors import InvalidRequest
from goflow.stores.sqlite import SqliteStore
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


class Listener:
    """Reads a stream in the background and keeps what it was told."""

    def __init__(self, engine: Engine, job: str | None = None, last_id: str | None = None) -> None:
        self.events: list[Event] = []
        self.stream = engine.broadcast.listen(job, last_id)
        self.task = asyncio.create_task(self._read(self.stream))

    async def _read(self, stream: AsyncIterator[Event]) -> None:
        async for event in stream:
            self.events.append(event)

    @property
    def last(self) -> dict[str, Any]:
        """The last that was heard of each execution."""
        return {(e := json.loads(event.data))["id"]: e for event in self.events}

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def versions(events: list[Event]) -> list[int]:
    return [int(event.id.rpartition("-")[2]) for event in events]


async def submit(engine: Engine, count: int, job: str = "j") -> list[str]:
    ids = [(await engine.submit(job)).id for _ in range(count)]
    await until(lambda: not engine._runners)
    return ids


async def test_a_listener_is_told_of_recent_executions_and_then_of_every_change() -> None:
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
        for place, event in enumerate(whole.events):
            resumed = Listener(engine, last_id=event.id)
            seen = {json.loads(e.data)["id"]: json.loads(e.data) for e in whole.events[: place + 1]}
            await until(lambda resumed=resumed, seen=seen: seen | resumed.last == whole.last)
            assert versions(resumed.events) == sorted(versions(resumed.events))
            assert all(v > versions([event])[0] for v in versions(resumed.events))
            await resumed.close()
        await whole.close()


async def test_an_id_stays_good_after_a_restart(tmp_path: Path) -> None:
    job = job_of("j", Task("t", Scripted()))
    async with running(job, store=SqliteStore(tmp_path / "s.db")) as engine:
        await submit(engine, 2)
        listener = Listener(engine)
        await until(lambda: len(listener.events) == 2)
        last = listener.events[-1].id
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
        for last_id in ("0123abcd-1", engine._store.epoch + "-999999"):
            listener = Listener(engine, last_id=last_id)
            await until(lambda listener=listener: set(listener.last) == set(ids))
            await listener.close()


@pytest.mark.parametrize("last_id", ["x", "-", "-1", "e-", "e-x", "e--1x", "e-٣", "e-" + "9" * 99])
async def test_garbage_for_an_id_is_refused(last_id: str) -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        with pytest.raises(InvalidRequest, match="Last-Event-ID"):
            await anext(engine.broadcast.listen(None, last_id))


async def test_a_listener_that_does_not_read_costs_bounded_memory_and_misses_no_last_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "MAILBOX_LIMIT", 5)
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        first = await submit(engine, 1)
        stream = engine.broadcast.listen(None, None)
        seen = {json.loads((await anext(stream)).data)["id"]}
        assert seen == set(first)
        ids = await submit(engine, 40)
        (mailbox,) = engine.broadcast._mailboxes
        assert len(mailbox._pending) <= 5
        states = {}
        async with asyncio.timeout(60):
            while set(states) != set(ids) or set(states.values()) != {"successful"}:
                execution = json.loads((await anext(stream)).data)
                states[execution["id"]] = execution["state"]
        await stream.aclose()  # type: ignore[attr-defined]


async def test_only_the_latest_of_an_execution_waits_in_a_mailbox() -> None:
    job = job_of("j", *(Task(f"t{n}", Scripted()) for n in range(50)))
    async with running(job) as engine:
        await submit(engine, 1)
        stream = engine.broadcast.listen(None, None)
        await anext(stream)
        (id,) = await submit(engine, 1)
        event = json.loads((await anext(stream)).data)
        assert (event["id"], event["state"]) == (id, "successful")
        await stream.aclose()  # type: ignore[attr-defined]
