"""Streams: a task mapped over a generator works on its items while it yields further ones."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from goflow import ConstantDelay, Context, Job, Later, Skip, TaskFailed
from goflow.core.events import Yielded
from goflow.core.keys import Item
from goflow.core.result import SMALL
from goflow.core.states import State
from goflow.engine.attempts import streams
from goflow.engine.attempts.dependencies import Limits
from goflow.errors import NotFound
from goflow.operators import generator
from goflow.stores.memory import MemoryStore
from tests.engine.scripted import running, until

pytestmark = pytest.mark.anyio


def counting(number: int, *, retries: int = 0, **options: Any) -> Job:
    """A job whose generator yields so many numbers, which two tasks work on."""
    job = Job("j", **options)

    @job.task(retries=retries)
    def count() -> Iterator[int]:
        yield from range(number)

    @job.task(map_over="count")
    async def double(count: int) -> int:
        return count * 2

    @job.task(map_over="double")
    def add(double: int) -> int:
        return double + 1

    @job.task
    def total(add: list[int]) -> int:
        return sum(add)

    return job


def tasks(detail: Any) -> dict[str, Any]:
    return {task.name: task for task in detail.tasks}


async def ended(engine: Any, id: str) -> Any:
    await engine.runners.finished(id)
    return await engine.reader.execution(id)


async def submitted(engine: Any) -> str:
    return str((await engine.submissions.submit("j")).id)


async def done(engine: Any) -> Any:
    return await ended(engine, await submitted(engine))


def now(engine: Any, id: str) -> Any:
    """The execution as the runner has it."""
    return engine.runners[id].execution


# -- items run while the generator goes on ----------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 3, 2500])
def test_all_items_go_through_the_tasks_in_order(number: int) -> None:
    execution = counting(number).run()
    assert execution.state == "successful"
    assert execution.tasks["count"].result == list(range(number))
    assert execution.tasks["add"].result == [one * 2 + 1 for one in range(number)]
    assert execution.tasks["total"].result == number**2


class Gate:
    """A generator that yields `items`, and waits before each one until it is let."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.let = [threading.Event() for _ in items]
        self.let_async = [asyncio.Event() for _ in items]
        self.closed = 0

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.let[number].set()
            self.let_async[number].set()

    def sync(self) -> Iterator[Any]:
        try:
            for item, let in zip(self.items, self.let, strict=True):
                assert let.wait(60)
                yield item
        finally:
            self.closed += 1

    async def later(self) -> AsyncIterator[Any]:
        try:
            for item, let in zip(self.items, self.let_async, strict=True):
                await let.wait()
                yield item
        finally:
            self.closed += 1


def gated(gate: Gate, kind: str, *, retries: int = 0, **options: Any) -> tuple[Job, list[Any]]:
    """A job of a generator `gate` and a task mapped over it, and the items that this one saw."""
    job, seen = Job("j"), list[Any]()

    if kind == "sync":

        @job.task(retries=retries)
        def gate_() -> Iterator[Any]:
            yield from gate.sync()

    else:

        @job.task(name="gate_", retries=retries)
        async def later() -> AsyncIterator[Any]:
            async for item in gate.later():
                yield item

    @job.task(map_over="gate_", **options)
    async def work(gate_: Any) -> Any:
        seen.append(gate_)
        return gate_

    return job, seen


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_item_runs_before_the_generator_yields_the_next_one(kind: str) -> None:
    gate = Gate(["a", {"b": 1}, None])
    job, seen = gated(gate, kind)
    async with running(job) as engine:
        id = await submitted(engine)
        for number in range(3):
            assert len(seen) == number
            gate.open(number)
            await until(lambda number=number: len(seen) == number + 1)  # type: ignore[misc]
        detail = await ended(engine, id)
    assert seen == ["a", {"b": 1}, None]
    assert gate.closed == 1
    assert tasks(detail)["gate_"].yielded == 3
    assert tasks(detail)["work"].items == {"total": 3, "successful": 3}
    assert msgspec.json.decode(tasks(detail)["work"].result) == seen


async def test_the_numbers_of_items_grow_in_what_is_shown() -> None:
    gate = Gate([1, 2])
    job, _ = gated(gate, "sync")
    async with running(job) as engine:
        id = await submitted(engine)
        gate.open(0)
        async with asyncio.timeout(60):
            while True:
                found = tasks(await engine.reader.execution(id))
                if found["work"].items == {"total": 1, "successful": 1}:
                    break
        assert found["gate_"].yielded == 1
        assert found["work"].state is State.RUNNING
        page = await engine.reader.items(id, "work", None, 0, 10)
        assert [item.index for item in page.items] == [0]
        gate.open(1)
        await ended(engine, id)
        page = await engine.reader.items(id, "work", None, 0, 10)
        assert [item.index for item in page.items] == [0, 1]


async def test_the_items_are_committed_in_chunks_beside_the_facts() -> None:
    store = MemoryStore()
    async with running(counting(3000), store=store) as engine:
        id = (await done(engine)).id
        history = store.history(id)
        assert history is not None
        facts = [one for one in history.facts if isinstance(one, Yielded)]
        found: list[int] = []
        for fact in facts:
            assert fact.first == len(found)
            assert fact.items <= streams.BATCH
            chunk = store.chunk(id, "count", 0, fact.first)
            assert chunk is not None
            assert (chunk.first, chunk.items) == (fact.first, fact.items)
            assert fact.size == len(chunk.body) - 1
            found += msgspec.json.decode(chunk.body)
        assert found == list(range(3000))


async def test_a_task_with_keys_waits_for_the_whole_list() -> None:
    """Keys are known before any item runs, and differ from each other."""
    gate = Gate(["a", "b"])
    job, seen = gated(gate, "sync", item_key="{{ item }}")
    gate.open(0, 1)
    async with running(job) as engine:
        detail = await done(engine)
    assert sorted(seen) == ["a", "b"]
    assert not job.plan.streams
    assert tasks(detail)["gate_"].yielded is msgspec.UNSET


def test_a_generator_is_a_list_for_products_processes_and_failures() -> None:
    job = Job("j")

    @job.task
    def count() -> Iterator[int]:
        yield from range(2)

    @job.task(isolation="process")
    def apart() -> Iterator[int]:
        yield from range(2)

    @job.task(map_over=["count", "apart"])
    def product(count: int, apart: int) -> int:
        return count + apart

    @job.task(map_over="apart")
    def one(apart: int) -> int:
        return apart

    @job.task(map_over="count", trigger_rule="allFailed")
    def failed(count: int) -> int:
        return count

    execution = job.run()
    assert not job.plan.streams
    assert execution.tasks["product"].result == [0, 1, 1, 2]
    assert execution.tasks["one"].result == [0, 1]


# -- running ahead ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("slots", [1, 2])
async def test_a_generator_waits_for_its_tasks_without_a_slot(
    kind: str, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 10)
    gate = Gate(list(range(100)))
    gate.open(*range(100))
    job, seen = gated(gate, kind)
    most = 0
    async with running(job, max_running=slots) as engine:
        id = await submitted(engine)
        execution = now(engine, id)
        while not execution.finished:
            await asyncio.sleep(0)
            ahead = execution.items_ahead("gate_")
            most = max(most, ahead or 0)
            assert engine.slots.taken <= slots
    assert sorted(seen) == list(range(100))
    assert most <= 10 + 1  # and those that were committed before the task over it began
    assert gate.closed == 1


async def test_two_waiting_generators_do_not_keep_each_others_tasks_from_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 5)
    job, seen = Job("j"), list[Any]()

    @job.task
    def one() -> Iterator[int]:
        yield from range(40)

    @job.task
    def two() -> Iterator[int]:
        yield from range(40)

    @job.task(map_over="one")
    def first(one: int) -> None:
        seen.append(("one", one))

    @job.task(map_over="two")
    def second(two: int) -> None:
        seen.append(("two", two))

    async with running(job, max_running=1) as engine:
        assert (await done(engine)).state is State.SUCCESSFUL
    assert len(set(seen)) == 80


async def test_a_generator_does_not_wait_for_a_task_that_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 5)
    job = Job("j")

    @job.task
    def count() -> Iterator[int]:
        yield from range(40)

    @job.task
    def whole(count: list[int]) -> int:
        return len(count)

    @job.task(map_over="count")
    def each(count: int, whole: int) -> int:
        return whole - count

    async with running(job) as engine:
        detail = await done(engine)
    assert detail.state is State.SUCCESSFUL
    assert msgspec.json.decode(tasks(detail)["each"].result) == [40 - one for one in range(40)]


async def test_large_items_run_less_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "AHEAD_BYTES", 10_000)
    monkeypatch.setattr(streams, "BATCH_BYTES", 2_000)
    release = asyncio.Event()
    job = Job("j")

    @job.task
    def large() -> Iterator[str]:
        for _ in range(100):
            yield "y" * 1000

    @job.task(map_over="large")
    async def each(large: str) -> None:
        await release.wait()

    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: engine.runners.waiting(id, "large"))
        assert now(engine, id).tasks["large"].stream.items <= 10 + 2
        release.set()
        assert (await ended(engine, id)).state is State.SUCCESSFUL


# -- another attempt --------------------------------------------------------------------


def failing(items: list[list[Any]], *, retries: int = 1) -> tuple[Job, list[Any], list[int]]:
    """A job whose generator yields the items of one list per attempt, and fails in all but the
    last; with the items that were worked on, and the attempts."""
    job, seen, attempts = Job("j"), list[Any](), list[int]()

    @job.task(retries=retries)
    def source(context: Context) -> Iterator[Any]:
        attempts.append(context.attempt)
        yield from items[len(attempts) - 1]
        if len(attempts) < len(items):
            raise ValueError("broken")

    @job.task(map_over="source")
    async def work(source: Any) -> Any:
        seen.append(source)
        return source

    return job, seen, attempts


async def test_an_attempt_that_yields_the_same_again_repeats_no_item() -> None:
    job, seen, attempts = failing([["a", "b"], ["a", "b", {"c": 1}]])
    async with running(job) as engine:
        detail = await done(engine)
    assert (sorted(seen, key=str), attempts) == (["a", "b", {"c": 1}], [1, 2])
    assert detail.state is State.SUCCESSFUL
    assert msgspec.json.decode(tasks(detail)["source"].result) == ["a", "b", {"c": 1}]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (["a", "x", "c"], "item 1 that the generator yields is not the one that it yielded"),
        (["a"], "the generator yields 1 items, and yielded 2 in an earlier attempt"),
    ],
)
async def test_an_attempt_that_yields_something_else_fails_for_good(
    second: list[Any], told: str
) -> None:
    job, seen, attempts = failing([["a", "b"], second], retries=5)
    async with running(job) as engine:
        detail = await done(engine)
    source, work = tasks(detail)["source"], tasks(detail)["work"]
    assert source.error.startswith(told)
    assert "must yield the same items in the same order" in source.error
    assert (source.state, attempts, seen) == (State.FAILED, [1, 2], ["a", "b"])
    assert (work.state, work.skip.reason) == (State.SKIPPED, "upstream failed")
    assert work.skip.why == "task 'source' failed, after 2 items"


async def test_a_large_stream_is_compared_chunk_by_chunk() -> None:
    items = [f"{one} {'y' * 100}" for one in range(5000)]
    job, seen, _ = failing([items, [*items, "last"]])
    async with running(job) as engine:
        detail = await done(engine)
    assert detail.state is State.SUCCESSFUL
    assert sorted(seen) == sorted([*items, "last"])


async def test_a_look_in_vain_begins_again_and_repeats_no_item() -> None:
    job, seen, looks = Job("j"), list[Any](), list[float]()

    @job.task
    def source(context: Context) -> Iterator[int]:
        looks.append(context.waited)
        yield from range(len(looks))
        if len(looks) < 3:
            raise Later(0.01, "not complete")

    @job.task(map_over="source")
    async def work(source: int) -> None:
        seen.append(source)

    execution = job.run()
    assert execution.state == "successful"
    assert (sorted(seen), len(looks)) == ([0, 1, 2], 3)


async def test_a_retry_by_hand_makes_all_anew() -> None:
    job, seen, attempts = failing([["a"], ["x", "y"], ["z"]], retries=0)
    async with running(job) as engine:
        id = (await done(engine)).id
        for _ in range(2):
            await engine.control.retry(id)
            detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        assert msgspec.json.decode(tasks(detail)["work"].result) == ["z"]
        assert (await engine.reader.result(id, "source")).body == b'["z"]'
    assert (seen, attempts) == (["a", "x", "y", "z"], [1, 2, 3])


# -- failures -----------------------------------------------------------------------------


async def test_items_that_have_not_started_are_skipped_when_the_generator_fails() -> None:
    release = asyncio.Event()
    job = Job("j")

    @job.task
    def source() -> Iterator[int]:
        yield from range(5)
        raise TaskFailed("no more")

    @job.task(map_over="source", max_parallel=2)
    async def work(source: int) -> int:
        await release.wait()
        return source

    @job.task(map_over="work")
    async def after(work: int) -> int:
        return work

    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: now(engine, id).tasks["source"].state is State.FAILED)
        release.set()
        found = tasks(await ended(engine, id))
    assert found["work"].items == {"total": 5, "successful": 2, "skipped": 3}
    assert found["work"].skip.reason == found["after"].skip.reason == "upstream failed"
    assert found["after"].items == {"total": 5, "successful": 2, "skipped": 3}


async def test_a_task_that_bears_failures_works_on_the_items_that_there_are() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[int]:
        yield from range(5)
        raise TaskFailed("no more")

    @job.task(map_over="source", trigger_rule="allDone", max_parallel=1)
    async def work(source: int) -> int:
        return source

    execution = job.run()
    assert execution.tasks["work"].state == "successful"
    assert execution.tasks["work"].result == [0, 1, 2, 3, 4]


async def test_a_generator_that_skips_itself_skips_the_rest() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[int]:
        yield 1
        raise Skip("nothing more")

    @job.task(map_over="source")
    async def work(source: int) -> int:
        return source

    execution = job.run()
    assert execution.state == "successful"
    assert execution.tasks["work"].state == "skipped"


async def test_an_item_that_fails_does_not_stop_the_generator() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[int]:
        yield from range(50)

    @job.task(map_over="source")
    async def work(source: int) -> int:
        if source == 3:
            raise TaskFailed("not this one")
        return source

    execution = job.run()
    assert execution.tasks["source"].state == "successful"
    assert execution.tasks["work"].items == {"total": 50, "successful": 49, "failed": 1}
    assert "1 of 50 items failed\nitem 3: not this one" in str(execution.tasks["work"].error)


async def test_later_items_count_their_attempts_from_one() -> None:
    job, gate = Job("j"), asyncio.Event()
    seen = list[tuple[int, int]]()

    @job.task
    async def source() -> AsyncIterator[int]:
        yield 0
        await gate.wait()
        yield 1

    @job.task(map_over="source", retries=1, retry_delay=ConstantDelay(0))
    async def work(context: Context, source: int) -> None:
        seen.append((source, context.attempt))
        if context.attempt == 1:
            raise ValueError("not at once")
        gate.set()

    async with running(job) as engine:
        id = (await done(engine)).id
        assert seen == [(0, 1), (0, 2), (1, 1), (1, 2)]
        # Items made anew count on, since logs and results are kept by attempt.
        await engine.control.retry(id, task="source")
        assert (await ended(engine, id)).state == State.SUCCESSFUL
    assert seen[4:] == [(0, 3), (1, 3)]


async def test_the_failed_items_alone_are_retried() -> None:
    job, bad, seen = Job("j"), {3}, list[int]()

    @job.task
    def source() -> Iterator[int]:
        yield from range(6)

    @job.task(map_over="source")
    async def work(source: int) -> int:
        seen.append(source)
        if source in bad:
            raise TaskFailed("not this one")
        return source

    async with running(job) as engine:
        id = (await done(engine)).id
        bad.clear()
        seen.clear()
        await engine.control.retry(id)
        detail = await ended(engine, id)
    assert (seen, detail.state) == ([3], State.SUCCESSFUL)
    assert msgspec.json.decode(tasks(detail)["work"].result) == list(range(6))


# -- results that are too large together -----------------------------------------------------


async def test_results_that_are_too_large_together_are_not_joined_and_mapped_over() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[int]:
        yield from range(10)

    @job.task(map_over="source")
    def grow(source: int) -> str:
        return str(source) * 500

    @job.task(map_over="grow", retries=1)
    def shrink(grow: str, context: Context) -> int:
        if context.index == 3 and context.attempt == 1:
            raise ValueError("once")
        return int(grow[0])

    @job.task
    def total(shrink: list[int]) -> int:
        return sum(shrink)

    @job.task
    def whole(grow: list[str]) -> int:
        return len(grow)

    async with running(job, limits=Limits(result=1000)) as engine:
        id = await submitted(engine)
        found = tasks(await ended(engine, id))
        assert found["grow"].state is State.SUCCESSFUL
        assert found["grow"].result_bytes == 10 * 503 + 1
        assert msgspec.json.decode(found["grow"].result) is None
        assert msgspec.json.decode(found["total"].result) == 45
        assert found["whole"].state is State.FAILED
        told = "the result of task 'grow' are 10 results of items with 5,031 bytes as JSON"
        assert found["whole"].error.startswith(told)
        with pytest.raises(NotFound, match="map a task over it"):
            await engine.reader.result(id, "grow")
        item = await engine.reader.result(id, Item("grow", 7))
        assert msgspec.json.decode(item.body) == "7" * 500
        # Retries read the single results from the facts and the store.
        await engine.control.retry(id, task="shrink")
        found = tasks(await ended(engine, id))
        assert found["shrink"].items == {"total": 10, "successful": 10}
        assert msgspec.json.decode(found["total"].result) == 45
        await engine.control.retry(id, task=Item("grow", 2))
        found = tasks(await ended(engine, id))
        assert found["grow"].state is State.SUCCESSFUL
        assert msgspec.json.decode(found["total"].result) == 45


# -- cancels ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_generator_that_yields_for_ever_ends_when_it_is_cancelled(kind: str) -> None:
    job, closed = Job("j"), list[str]()

    if kind == "sync":

        @job.task
        def source() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                closed.append("sync")

    else:

        @job.task(name="source")
        async def later() -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
            finally:
                closed.append("async")

    @job.task(map_over="source")
    async def work(source: int) -> int:
        return source

    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: now(engine, id).tasks["source"].stream.items > 1200)
        await engine.control.cancel(id)
        detail = await ended(engine, id)
        assert detail.state is State.CANCELLED
        assert not engine.abandoned
        assert {task.state for task in detail.tasks} == {State.CANCELLED}
        assert engine.slots.taken == 0
    assert closed == [kind]


async def test_a_generator_that_waits_for_its_tasks_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 3)
    job, closed = Job("j"), list[int]()
    release = asyncio.Event()

    @job.task(timeout=2)  # it has to begin in this time, on a busy machine too
    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(1)

    @job.task(map_over="source", trigger_rule="allDone")
    async def work(source: int) -> int:
        await release.wait()
        return source

    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: now(engine, id).tasks["source"].state is State.FAILED)
        await until(lambda: closed == [1])
        await until(lambda: not engine.abandoned)
        release.set()
        found = tasks(await ended(engine, id))
    assert found["source"].error == "timed out after 2 s"
    assert found["work"].state is State.SUCCESSFUL


async def test_a_cancelled_task_does_not_hold_up_the_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 3)
    job, release = Job("j"), asyncio.Event()

    @job.task
    def source() -> Iterator[int]:
        yield from range(100)

    @job.task(map_over="source")
    async def work(source: int) -> int:
        await release.wait()
        return source

    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: engine.runners.waiting(id, "source"))
        await engine.control.cancel_task(id, "work")
        found = tasks(await ended(engine, id))
        assert found["source"].state is State.SUCCESSFUL
        assert found["source"].yielded == 100
        assert found["work"].state is State.CANCELLED
        # A retry makes the items that are missing.
        release.set()
        await engine.control.retry(id)
        found = tasks(await ended(engine, id))
        assert found["work"].items == {"total": 100, "successful": 100}
        assert found["source"].attempts[-1].attempt == 1


async def test_a_cancel_ends_tasks_whose_items_have_ended_while_more_might_have_come() -> None:
    gate = Gate([1, 2, 3])
    job, seen = gated(gate, "async")

    @job.task(map_over="work", when="item > 5")
    async def over(work: int) -> int:
        return work

    @job.task(map_over="over", trigger_rule="allSkipped")
    async def last(over: None) -> int:
        return 1

    gate.open(0, 1)
    async with running(job) as engine:
        id = await submitted(engine)
        counts = now(engine, id).tasks["last"].items.counts
        await until(lambda: counts[State.SUCCESSFUL] == 2)
        await engine.control.cancel(id)
        detail = await ended(engine, id)
    assert seen == [1, 2]
    assert detail.state is State.CANCELLED
    assert {name: task.state.value for name, task in tasks(detail).items()} == {
        "gate_": "cancelled",
        "work": "cancelled",
        "over": "skipped",
        "last": "successful",  # by its rule
    }


# -- bad input ----------------------------------------------------------------------------


def failure_of(function: Any, **options: Any) -> str:
    job = Job("j")
    job.task(name="source")(function)

    @job.task(map_over="source")
    def work(source: Any) -> Any:
        return source

    execution = job.run()
    source = execution.tasks["source"]
    assert source.state == "failed"
    assert execution.tasks["work"].state == "skipped"
    return str(source.error)


def test_an_item_that_json_cannot_hold_fails_with_its_place() -> None:
    def source() -> Iterator[Any]:
        yield 1
        yield {"rows": [float("nan")]}

    error = failure_of(source)
    assert "item 1 that the generator yields cannot be stored as JSON: at `rows[0]`" in error


async def test_an_item_over_the_limit_fails_with_its_size() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[str]:
        yield "small"
        yield "y" * 2000

    @job.task(map_over="source")
    async def work(source: str) -> int:
        return len(source)

    async with running(job, limits=Limits(result=1000)) as engine:
        found = tasks(await done(engine))
    assert "item 1 that the generator yields is 2,002 bytes as JSON" in found["source"].error


def test_more_items_than_a_task_may_yield_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "ITEMS", 5)

    def source() -> Iterator[int]:
        while True:
            yield 1

    assert "yields more than 5 items" in failure_of(source)


async def test_items_that_are_too_many_bytes_for_an_execution_fail() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[str]:
        for _ in range(100):
            yield "y" * 1000

    @job.task(map_over="source")
    async def work(source: str) -> None: ...

    async with running(job, limits=Limits(results=20_000)) as engine:
        found = tasks(await done(engine))
    assert "more than the 20,000 that are kept (max_results)" in found["source"].error


# -- the result ---------------------------------------------------------------------------


async def test_the_whole_list_is_joined_on_demand() -> None:
    items = [f"{one} {'y' * 100}" for one in range(100)]
    job, _, _ = failing([items])

    @job.task
    def whole(source: list[str]) -> bool:
        return source == items

    async with running(job) as engine:
        detail = await done(engine)
        assert tasks(detail)["source"].result_bytes == len(msgspec.json.encode(items)) > SMALL
        found = await engine.reader.result(detail.id, "source")
    assert msgspec.json.decode(found.body) == items
    assert tasks(detail)["whole"].result == msgspec.Raw(b"true")


async def test_a_stream_of_any_size_succeeds_while_nobody_takes_the_whole() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[str]:
        for _ in range(100):
            yield "y" * 100

    @job.task(map_over="source")
    async def work(source: str) -> None: ...

    @job.task
    def after(work: list[None]) -> int:
        return len(work)

    @job.task
    def whole(source: list[str]) -> int:
        return len(source)

    async with running(job, limits=Limits(result=2000)) as engine:
        detail = await done(engine)
        found = tasks(detail)
        with pytest.raises(NotFound, match="a list of 100 items with 10,301 bytes") as refused:
            await engine.reader.result(detail.id, "source")
    assert refused.value.code == "result-too-large"
    assert found["source"].state is found["after"].state is State.SUCCESSFUL
    assert found["whole"].state is State.FAILED
    assert "map a task over it" in found["whole"].error


async def test_an_item_can_be_looked_at_and_logged_like_any_other() -> None:
    job = Job("j")

    @job.task
    def source() -> Iterator[str]:
        yield from ("a", "b")

    @job.task(map_over="source")
    def work(source: str, context: Context) -> str:
        context.log(f"on {source}")
        return source

    async with running(job) as engine:
        id = (await done(engine)).id
        log = await engine.reader.log_of(id, Item("work", 1), 1)
        assert "".join([text async for text in log.texts]) == "on b\n"
        assert (await engine.reader.result(id, Item("work", 1))).body == b'"b"'
