"""A client may leave at any moment: its request is carried out completely or not at all."""

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
    """A store that commits only while its gate is open."""

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
    """Send a request, and leave while the store commits it. The gate stays closed."""
    store.gate.clear()
    asking = asyncio.ensure_future(question)
    # A commit of the scheduler may block the store first, so wait until this one has arrived too.
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
    """Check that nothing hangs, nothing is damaged, and every request can be repeated."""
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
async def test_a_client_that_leaves_at_any_step_leaves_nothing_half_done(
    act: str, steps: int
) -> None:
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
        # Another client sends the same request while the first one is being committed.
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


async def test_a_mark_holds_its_lock_until_it_is_committed_though_its_client_has_left() -> None:
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


async def test_a_replacing_submit_replaces_others_though_its_client_has_left() -> None:
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


async def test_toggles_of_clients_that_left_are_applied_in_order() -> None:
    store = Gated()
    job = job_of("j", Task("t", Scripted()), schedule="@yearly", active=True)
    async with running(job, store=store) as engine:
        await asked_and_left(store, engine, engine.schedules.toggle("j"))
        staying = asyncio.ensure_future(engine.schedules.toggle("j"))
        await asyncio.sleep(0)
        store.gate.set()
        assert await staying is True
        assert engine.schedules.active("j") is True


async def test_clients_waiting_at_a_stop_get_an_answer() -> None:
    errands = Errands(lambda what, error: None)
    work = errands.begin(asyncio.sleep(1000), "sleep")
    waiting = asyncio.ensure_future(errands.outcome(work))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(Stopping):
        await waiting


async def test_an_error_for_which_no_client_waits_is_reported_as_a_defect() -> None:
    told: list[tuple[str, str]] = []
    errands = Errands(lambda what, error: told.append((what, str(error))))

    async def wrong() -> None:
        raise KeyError("x")

    asking = asyncio.ensure_future(errands.outcome(errands.begin(wrong(), "an errand")))
    asking.cancel()
    await errands.end()
    assert told == [("an errand", "'x'")]
