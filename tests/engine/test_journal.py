"""The journal answers every caller that awaits a change, even after errors."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from goflow.core.events import Submitted
from goflow.core.graph import Plan, PlannedTask
from goflow.engine.journal import Journal
from goflow.engine.threads import Threads
from goflow.errors import Stopping, StoreUnavailable
from goflow.stores.base import Change, Created, Outcome, Put, Submit
from goflow.stores.memory import MemoryStore
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import until

pytestmark = pytest.mark.anyio


class Odd(MemoryStore):
    """A real store that raises the test's error for a change of key "odd"."""

    raises: BaseException | None = None
    swallows = False

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        odd = any(isinstance(one, Put) and one.key == "odd" for one in batch)
        if odd and self.raises is not None:
            raise self.raises
        outcomes = super().commit(batch)
        return outcomes[:-1] if odd and self.swallows else outcomes


def put(key: str) -> Put:
    return Put("kind", key, b"1")


class Kept:
    """A started journal, and its reports."""

    def __init__(self, store: Odd, clock: FakeClock) -> None:
        self.store = store
        self.told: list[str] = []
        self.defects: list[tuple[str, str]] = []
        self.journal = Journal(store, clock, self._tell, Threads(), self._defect)

    def _tell(self, change: Change, outcome: Outcome) -> None:
        key = change.key if isinstance(change, Put) else type(change).__name__
        self.told.append(key)
        if key == "bad":
            raise KeyError("bad")

    def _defect(self, what: str, error: Exception) -> None:
        self.defects.append((what, repr(error)))


@asynccontextmanager
async def kept(clock: FakeClock | None = None) -> AsyncIterator[Kept]:
    store = Odd()
    store.open()
    found = Kept(store, clock or FakeClock())
    found.journal.start()
    try:
        yield found
    finally:
        await found.journal.stop()
        store.close()


async def all_of(*waiting: "asyncio.Future[Any]") -> list[Any]:
    async with asyncio.timeout(60):
        return await asyncio.gather(*waiting, return_exceptions=True)


async def test_every_change_of_a_batch_is_answered_though_a_listener_raises() -> None:
    async with kept() as one:
        names = ["a", "bad", "c", "bad", "e"]
        assert await all_of(*(one.journal.commit(put(name)) for name in names)) == [None] * 5
        assert one.told == names
        assert one.defects == [("a listener of Put", "KeyError('bad')")] * 2
        assert await one.journal.commit(put("later")) is None


async def test_without_a_defect_handler_a_defect_goes_to_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    store = MemoryStore()
    store.open()

    def raising(change: Change, outcome: Outcome) -> None:
        raise ValueError("no")

    journal = Journal(store, FakeClock(), raising, Threads())
    journal.start()
    assert await all_of(journal.commit(put("a"))) == [None]
    await journal.stop()
    store.close()
    assert [type(context["exception"]) for context in told] == [ValueError]


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(3), KeyboardInterrupt(), StopIteration(), MemoryError()],
    ids=repr,
)
async def test_a_store_that_raises_refuses_that_change_and_no_other(error: BaseException) -> None:
    async with kept() as one:
        one.store.raises = error
        names = ["a", "odd", "c"]
        first, odd, last = await all_of(*(one.journal.commit(put(name)) for name in names))
        assert (first, last) == (None, None)
        assert isinstance(odd, Exception)
        assert type(error).__name__ in repr(odd)
        assert one.store.entries("kind").keys() == {"a", "c"}
        assert await one.journal.commit(put("later")) is None


async def test_a_store_that_returns_too_few_outcomes_leaves_no_caller_waiting() -> None:
    async with kept() as one:
        one.store.swallows = True
        (odd,) = await all_of(one.journal.commit(put("odd")))
        assert "answered 1 changes with 0 outcomes" in str(odd)
        assert await one.journal.commit(put("later")) is None


async def test_the_changes_of_an_entry_are_written_in_order_and_all_or_none_of_them() -> None:
    async with kept() as one:
        one.store.raises = ValueError("no")
        entries = [("a", "b"), ("c", "odd", "d"), ("e", "f")]
        first, odd, last = await all_of(
            *(one.journal.commit(*map(put, names)) for names in entries)
        )
        assert (first, odd, last) == (None, one.store.raises, None)
        assert one.told == ["a", "b", "e", "f"]
        assert one.store.entries("kind").keys() == {"a", "b", "e", "f"}


async def test_an_entry_has_the_outcome_of_its_last_change() -> None:
    async with kept() as one:
        plan = Plan((PlannedTask("t"),))
        fact = Submitted(BEGINNING, id="x", job="j", plan=plan.id, cause="api")
        assert await one.journal.commit(put("a"), Submit(fact, plan)) == Created(1)
        again = Submit(msgspec.structs.replace(fact, id="y"), plan)
        assert await one.journal.insist(again, put("b")) is None


async def test_a_refused_entry_is_tried_again_as_a_whole() -> None:
    clock = FakeClock()
    async with kept(clock) as one:
        one.store.raises = StoreUnavailable("full")
        written = asyncio.ensure_future(one.journal.insist(put("a"), put("odd"), put("c")))
        await until(lambda: one.journal.trouble)
        assert one.told == []
        one.store.raises = None
        await until(lambda: written.done() or clock.advance(seconds=1))
        assert [key for key in one.told if key != "Touch"] == ["a", "odd", "c"]


async def test_the_journal_recovers_from_repeated_store_failures() -> None:
    clock = FakeClock()
    async with kept(clock) as one:
        for _ in range(3):
            one.store.raises = StoreUnavailable("full")
            (odd,) = await all_of(one.journal.commit(put("odd")))
            assert odd is one.store.raises is one.journal.trouble
            one.store.raises = None
            await until(lambda: one.journal.trouble is None or clock.advance(seconds=1))


async def test_changes_queued_at_a_stop_are_written_and_later_ones_refused() -> None:
    async with kept() as one:
        queued = [one.journal.commit(put(str(number))) for number in range(50)]
        await one.journal.stop()
        assert await all_of(*queued) == [None] * 50
        (late,) = await all_of(one.journal.commit(put("late")))
        assert isinstance(late, Stopping)
