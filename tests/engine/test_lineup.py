"""Queued executions keep their order when some end early, in memory linear in the queue."""

import asyncio
import itertools
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goflow import Context, InvalidJob, Job, MemoryStore, SqliteStore, Task
from goflow.core.events import Submitted
from goflow.engine.engine import Engine
from goflow.errors import Conflict
from goflow.stores.base import Submit
from goflow.testing import BEGINNING, FakeClock
from tests.effort import examples
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


class OneAtATime:
    """An operator that never runs twice at once, and ends on request."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running: dict[str, asyncio.Event] = {}

    async def run(self, context: Context) -> None:
        assert not self.running, "two run at once"
        self.order.append(context.execution_id)
        self.running[context.execution_id] = asyncio.Event()
        try:
            await self.running[context.execution_id].wait()
        finally:
            del self.running[context.execution_id]

    def let_end(self) -> None:
        for event in self.running.values():
            event.set()


async def settled(engine: Engine, operator: OneAtATime) -> None:
    """Wait until one runs, if there is one."""
    await until(lambda: operator.running or not engine.runners)


async def end_what_runs(engine: Engine, operator: OneAtATime) -> None:
    ending = list(operator.running)
    operator.let_end()
    for id in ending:
        await engine.runners.finished(id)
    await settled(engine, operator)


acts = st.sampled_from(["submit", "submit", "cancel", "cancel", "end", "retry"])


@given(st.lists(st.tuples(acts, st.integers(0, 100)), max_size=25))
def test_a_queue_runs_in_order_though_some_are_cancelled(
    asked: list[tuple[str, int]],
) -> None:
    async def play() -> None:
        operator = OneAtATime()
        job = job_of("j", Task("t", operator), overlap="queue", max_queued=1000)
        opened: list[str] = []
        async with running(job) as engine:
            for act, pick in asked:
                unfinished = [id for id in opened if id in engine.runners]
                finished = [id for id in opened if id not in engine.runners]
                match act:
                    case "submit":
                        opened.append((await engine.submissions.submit("j")).id)
                    case "cancel" if unfinished:
                        await engine.control.cancel(id := unfinished[pick % len(unfinished)])
                        await engine.runners.finished(id)
                    case "retry" if finished:
                        opened.remove(id := finished[pick % len(finished)])
                        await engine.control.retry(id, task="t")
                        opened.append(id)
                    case "end":
                        await end_what_runs(engine, operator)
                await settled(engine, operator)
                unfinished = [id for id in opened if id in engine.runners]
                assert list(operator.running) == unfinished[:1]
                assert len(engine.lineup.tail("j")) <= 2
            while engine.runners:
                await end_what_runs(engine, operator)
            assert engine.health.defect is None
            assert not engine.lineup.tail("j")

    asyncio.run(play())


async def test_each_execution_waits_for_the_last_one_with_a_reason() -> None:
    operator = Scripted(["hang"])
    async with running(job_of("j", Task("t", operator), overlap="queue")) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(4)]
        for before, id in itertools.pairwise(ids):
            assert (await engine.reader.execution(id)).after == (before,)
            assert engine.runners.waiting(id, "t") == "earlier executions of the job have not ended"
        operator.release.set()
        await engine.runners.finished(ids[-1])


async def test_a_cancel_in_the_queue_lets_no_execution_overtake() -> None:
    operator = OneAtATime()
    async with running(job_of("j", Task("t", operator), overlap="queue")) as engine:
        first, second, third = [(await engine.submissions.submit("j")).id for _ in range(3)]
        await until(lambda: operator.running)
        await engine.control.cancel(second)
        await engine.runners.finished(second)
        fourth = (await engine.submissions.submit("j")).id
        await engine.control.cancel(fourth)
        await engine.runners.finished(fourth)
        fifth = (await engine.submissions.submit("j")).id
        assert operator.order == [first]
        while engine.runners:
            await end_what_runs(engine, operator)
        assert operator.order == [first, third, fifth]


async def test_executions_that_are_cancelled_at_once_let_none_overtake() -> None:
    operator = OneAtATime()
    async with running(job_of("j", Task("t", operator), overlap="queue")) as engine:
        first, *others = [(await engine.submissions.submit("j")).id for _ in range(5)]
        await until(lambda: operator.running)
        await asyncio.gather(*map(engine.control.cancel, others))
        for id in others:
            await engine.runners.finished(id)
        last = (await engine.submissions.submit("j")).id
        assert (await engine.reader.execution(last)).after == (first,)
        while engine.runners:
            await end_what_runs(engine, operator)
        assert operator.order == [first, last]


async def test_a_backfill_that_waits_for_an_execution_takes_no_place_from_it() -> None:
    clock, operator = FakeClock(), Several()
    options: dict[str, Any] = {"overlap": "queue", "max_active": 2}
    job = job_of("j", Task("t", operator), schedule="* * * * *", active=True, **options)
    async with running(job, clock=clock) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(2)]
        await until(lambda: len(operator.running) == 2)
        clock.advance(seconds=60)
        await until(lambda: len(engine.runners) == 3)  # the third one waits for a place
        await engine.schedules.toggle("j", False)
        clock.advance(seconds=180)
        begin = BEGINNING + timedelta(minutes=1)
        done = await engine.backfills.run("j", begin, begin + timedelta(minutes=3))
        assert [one.created for one in done] == [False, True, True]
        for id in ids:
            operator.running[id].set()
        for one in done:
            await until(lambda id=one.execution: id in operator.running)
            operator.running[one.execution].set()
        await until(lambda: not engine.runners)


async def test_a_new_execution_waits_for_all_of_a_parallel_backfill() -> None:
    operator = Scripted(["hang"] * 3)
    job = job_of("j", Task("t", operator), schedule="* * * * *", overlap="queue")
    async with running(job) as engine:
        start = BEGINNING.replace(year=2029)
        await engine.backfills.run("j", start, start.replace(minute=3), parallel=3)
        await until(lambda: len(operator.runs) == 3)
        last = (await engine.submissions.submit("j")).id
        assert len((await engine.reader.execution(last)).after) == 3
        operator.release.set()
        await engine.runners.finished(last)


def facts_of(ids: list[str], job: Job) -> list[Submit]:
    """Facts of an older version, in which each names all executions before it."""
    return [
        Submit(
            Submitted(
                BEGINNING, id=id, job="j", plan=job.plan.id, cause="api", after=tuple(ids[:n])
            ),
            job.plan,
        )
        for n, id in enumerate(ids)
    ]


async def test_a_queue_of_an_older_version_is_read() -> None:
    store = MemoryStore()
    operator = OneAtATime()
    job = job_of("j", Task("t", operator), overlap="queue")
    job.seal()
    store.open()
    store.commit(facts_of(ids := [f"e{n}" for n in range(5)], job))
    async with running(job_of("j", Task("t", operator), overlap="queue"), store=store) as engine:
        await engine.control.cancel("e2")
        while engine.runners:
            await end_what_runs(engine, operator)
        ids.remove("e2")
        assert operator.order == ids


async def test_memory_of_a_queue_is_linear_in_its_length() -> None:
    """Four times as many take about four times the memory, not sixteen times."""

    async def taken(number: int) -> int:
        operator = Scripted(["hang"])
        job = job_of("j", Task("t", operator), overlap="queue", max_queued=100_000)
        async with running(job) as engine:
            await engine.submissions.submit("j")
            await until(lambda: operator.runs)
            tracemalloc.start()
            try:
                await asyncio.gather(*(engine.submissions.submit("j") for _ in range(number)))
                memory = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            for runner in list(engine.runners.values()):
                runner.stop()
            return memory

    few, many = await taken(150), await taken(600)
    assert many < 7 * few


async def test_a_retry_replaces_running_executions() -> None:
    operator = Scripted(["fail", "hang"])
    async with running(job_of("j", Task("t", operator), overlap="replace")) as engine:
        again = (await engine.submissions.submit("j")).id
        await engine.runners.finished(again)
        replaced = (await engine.submissions.submit("j")).id
        await until(lambda: operator.runs == [1, 1])
        await engine.control.retry(again)
        await engine.runners.finished(again)
        assert (await states(engine, replaced))[""] == "cancelled"
        assert (await states(engine, again))[""] == "successful"
        detail = await engine.reader.execution(replaced)
        assert detail.actions[-1].by == f"replaced by {again}"


async def test_a_retry_is_refused_or_waits_as_the_policy_says() -> None:
    operator = Scripted(["fail", "hang"])
    async with running(job_of("j", Task("t", operator), overlap="skip")) as engine:
        again = (await engine.submissions.submit("j")).id
        await engine.runners.finished(again)
        other = (await engine.submissions.submit("j")).id
        with pytest.raises(Conflict, match=other):
            await engine.control.retry(again)
        operator.release.set()
        await engine.runners.finished(other)
        await engine.control.retry(again)


async def test_a_restart_replaces_no_execution_of_a_backfill(tmp_path: Any) -> None:
    path = tmp_path / "s"
    operator = Scripted(["hang"] * 2)

    def job() -> Job:
        task = Task("t", operator, retries=1)
        return job_of("j", task, schedule="* * * * *", overlap="replace")

    async with running(job(), store=SqliteStore(path)) as engine:
        start = BEGINNING.replace(year=2029)
        made = await engine.backfills.run("j", start, start.replace(minute=3))
        await until(lambda: operator.runs)
    operator.release.set()
    async with running(job(), store=SqliteStore(path)) as engine:
        for one in made:
            assert one.execution is not None
            await engine.runners.finished(one.execution)
            assert (await states(engine, one.execution))[""] == "successful"


class Several(OneAtATime):
    """An operator that several executions may run at once."""

    async def run(self, context: Context) -> None:
        self.order.append(context.execution_id)
        self.running[context.execution_id] = asyncio.Event()
        try:
            await self.running[context.execution_id].wait()
        finally:
            del self.running[context.execution_id]


@settings(max_examples=examples(15))
@given(st.integers(2, 4), st.lists(st.tuples(acts, st.integers(0, 100)), max_size=25))
def test_as_many_executions_run_as_may_be_active_in_order(
    most: int, asked: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        operator = Several()
        options: dict[str, Any] = {"overlap": "queue", "max_active": most, "max_queued": 1000}
        opened: list[str] = []
        async with running(job_of("j", Task("t", operator), **options)) as engine:

            def first_ones() -> list[str]:
                return [id for id in opened if id in engine.runners][:most]

            async def expect_first() -> None:
                await until(lambda: sorted(operator.running) == sorted(first_ones()), 5)

            for act, pick in asked:
                unfinished = [id for id in opened if id in engine.runners]
                finished = [id for id in opened if id not in engine.runners]
                match act:
                    case "submit":
                        opened.append((await engine.submissions.submit("j")).id)
                    case "cancel" if unfinished:
                        await engine.control.cancel(id := unfinished[pick % len(unfinished)])
                        await engine.runners.finished(id)
                    case "retry" if finished:
                        opened.remove(id := finished[pick % len(finished)])
                        await engine.control.retry(id, task="t")
                        opened.append(id)
                    case "end" if operator.running:
                        id = sorted(operator.running)[pick % len(operator.running)]
                        operator.running[id].set()
                        await engine.runners.finished(id)
                await expect_first()
            while engine.runners:
                ending = list(operator.running)
                operator.let_end()
                for id in ending:
                    await engine.runners.finished(id)
                await expect_first()
            assert engine.health.defect is None

    asyncio.run(play())


async def test_an_execution_without_a_place_says_so_and_the_queue_is_limited() -> None:
    operator = Several()
    options: dict[str, Any] = {"overlap": "queue", "max_active": 2, "max_queued": 1}
    async with running(job_of("j", Task("t", operator), **options)) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(3)]
        told = "2 executions of the job may run at once, and as many have not ended"
        assert [engine.runners.waiting(id, "t") for id in ids][-1] == told
        with pytest.raises(Conflict, match="1 executions wait already, which is the limit"):
            await engine.submissions.submit("j")
        await until(lambda: len(operator.running) == 2)
        operator.running[ids[1]].set()
        await until(lambda: ids[2] in operator.running)
        assert engine.runners.waiting(ids[2], "t") is None
        operator.let_end()
        await until(lambda: not engine.runners)


async def test_after_a_restart_the_places_are_taken_in_the_same_order(tmp_path: Path) -> None:
    operator = Several()
    options: dict[str, Any] = {"overlap": "queue", "max_active": 2}
    store = tmp_path / "s"
    job = job_of("j", Task("t", operator, retries=1), **options)
    async with running(job, store=SqliteStore(store)) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(5)]
        await until(lambda: len(operator.running) == 2)
    operator = Several()
    job = job_of("j", Task("t", operator, retries=1), **options)
    async with running(job, store=SqliteStore(store)) as engine:
        await until(lambda: len(operator.running) == 2)
        while engine.runners:
            operator.let_end()
            await asyncio.sleep(0)
        assert operator.order == ids


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_active": 2}, "max_active=2 needs overlap='queue', not 'allow'"),
        ({"max_active": 2, "overlap": "skip"}, "needs overlap='queue', not 'skip'"),
        ({"max_active": 0, "overlap": "queue"}, "max_active must be"),
        ({"max_active": True, "overlap": "queue"}, "max_active must be"),
    ],
)
def test_an_invalid_number_of_active_executions_is_refused(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidJob, match="job 'j'") as refused:
        Job("j", **options)
    assert told in str(refused.value)
