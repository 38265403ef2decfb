"""Who asks may leave at any moment; what was asked for is done whole, or not at all."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest

from goflow import MemoryStore, Task
from goflow.core.states import State
from goflow.engine.engine import Engine
from goflow.engine.errands import Errands
from goflow.errors import Conflict, GoflowError, Stopping
from goflow.stores.base import Change, Outcome
from goflow.testing import BEGINNING
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


class Gated(MemoryStore):
    """Commits when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waits = threading.Event()

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        if not self.gate.is_set():
            self.waits.set()
            assert self.gate.wait(60)
        return super().commit(batch)


async def asked_and_left(store: Gated, engine: Engine, question: Coroutine[Any, Any, Any]) -> None:
    """Somebody asks, and leaves while the store is at it. The gate is left closed."""
    store.gate.clear()
    asking = asyncio.ensure_future(question)
    # The store may be held up by a commit of the scheduler's: it has to be asked as well.
    await until(lambda: bool(engine.errands.under_way) and store.waits.is_set())
    asking.cancel()
    await asyncio.wait([asking])


Act = Callable[[Engine, str], Coroutine[Any, Any, Any]]

ACTS: dict[str, Act] = {
    "submit": lambda engine, id: engine.submissions.submit("j"),
    "submit with a key": lambda engine, id: engine.submissions.submit("j", key="k"),
    "mark": lambda engine, id: engine.control.mark(id, "t", State.SUCCESSFUL),
    "retry": lambda engine, id: engine.control.retry(id, task="t"),
    "toggle": lambda engine, id: engine.schedules.toggle("j"),
    "backfill": lambda engine, id: engine.backfills.run(
        "j", BEGINNING - timedelta(minutes=3), BEGINNING
    ),
    "cancel": lambda engine, id: engine.control.cancel(id),
}


async def is_whole(engine: Engine, act: str) -> None:
    """Nothing hangs, nothing is damaged, and everything can be asked for again."""
    await until(lambda: not engine.errands.under_way and not engine.runners)
    assert engine.health.defect is None
    assert not engine.control._reopening
    assert not engine.submissions.keys.under_way
    assert not engine.room.reserved
    assert not list(engine.live)
    for row in engine.store.page(job=None, state=None, before=None, limit=100):
        detail = await engine.reader.execution(row.id)
        assert detail.damage is None
        assert detail.state.finished


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("steps", range(12))
async def test_whoever_leaves_at_any_step_leaves_nothing_half_done(act: str, steps: int) -> None:
    store = Gated()
    operator = Scripted(["fail"])
    job = job_of("j", Task("t", operator), schedule="* * * * *", overlap="replace")
    async with running(job, store=store) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        store.gate.clear()
        asking = asyncio.ensure_future(ACTS[act](engine, id))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        # Somebody else asks for the same, while the first is still being written.
        again = asyncio.ensure_future(ACTS[act](engine, id))
        for _ in range(5):
            await asyncio.sleep(0)
        store.gate.set()
        await asyncio.wait([asking, again])
        assert asking.cancelled() or not asking.exception()
        if (error := again.exception()) is not None:
            assert isinstance(error, GoflowError)
        await is_whole(engine, act)
        await engine.control.retry(id, task="t")
        await engine.runners.finished(id)
        assert (await states(engine, id))[""] == "successful"


async def test_a_mark_whose_asker_has_left_keeps_others_away_until_it_is_written() -> None:
    store = Gated()
    async with running(job_of("j", Task("t", Scripted(["fail"]))), store=store) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        await asked_and_left(store, engine, engine.control.mark(id, "t", State.SUCCESSFUL))
        with pytest.raises(Conflict):
            await engine.control.mark(id, "t", State.SKIPPED)
        with pytest.raises(Conflict):
            await engine.control.retry(id, task="t")
        store.gate.set()
        await until(lambda: not engine.errands.under_way)
        assert (await states(engine, id)) == {"": "successful", "t": "successful"}
        await engine.control.retry(id, task="t")
        await engine.runners.finished(id)


async def test_what_replaces_others_does_so_though_nobody_waits_for_its_answer() -> None:
    store = Gated()
    operator = Scripted(["hang"])
    async with running(job_of("j", Task("t", operator), overlap="replace"), store=store) as engine:
        first = (await engine.submissions.submit("j")).id
        await until(lambda: operator.runs)
        await asked_and_left(store, engine, engine.submissions.submit("j"))
        store.gate.set()
        await until(lambda: not engine.runners)
        assert (await states(engine, first))[""] == "cancelled"
        assert operator.runs == [1, 1]


async def test_switches_that_were_asked_for_by_people_who_left_are_switched_in_turn() -> None:
    store = Gated()
    job = job_of("j", Task("t", Scripted()), schedule="@yearly", active=True)
    async with running(job, store=store) as engine:
        await asked_and_left(store, engine, engine.schedules.toggle("j"))
        staying = asyncio.ensure_future(engine.schedules.toggle("j"))
        await asyncio.sleep(0)
        store.gate.set()
        assert await staying is True
        assert engine.schedules.active("j") is True


async def test_who_waits_at_a_stop_is_told_so() -> None:
    errands = Errands(lambda what, error: None)
    work = errands.begin(asyncio.sleep(1000), "sleep")
    waiting = asyncio.ensure_future(errands.outcome(work))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(Stopping):
        await waiting


async def test_what_goes_wrong_when_nobody_waits_is_told_as_a_defect() -> None:
    told: list[tuple[str, str]] = []
    errands = Errands(lambda what, error: told.append((what, str(error))))

    async def wrong() -> None:
        raise KeyError("x")

    asking = asyncio.ensure_future(errands.outcome(errands.begin(wrong(), "an errand")))
    asking.cancel()
    await errands.end()
    assert told == [("an errand", "'x'")]
