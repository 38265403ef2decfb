"""WaitForJob: a task waits for an execution of another job."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from goflow import InvalidJob, Job, SqliteStore, Task, WaitForJob
from goflow.core.states import State
from goflow.core.summary import Waiting
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.stores.memory import MemoryStore
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, pass_until, running, until

pytestmark = pytest.mark.anyio


def waiter(operator: WaitForJob, name: str = "b", **options: Any) -> Job:
    return job_of(name, Task("wait", operator), **options)


async def why(engine: Engine, id: str) -> str:
    """What the task waits for, once it has looked."""
    found: list[Waiting] = []

    def waits() -> bool:
        found[:] = [one for one in [engine.runners.waiting(id, "wait")] if isinstance(one, Waiting)]
        return bool(found) and not engine.runners[id].execution.looking

    await until(waits)
    return found[0].why


async def finished(engine: Engine, id: str) -> Any:
    await engine.runners.finished(id)
    return (await engine.reader.execution(id)).tasks[0]


async def submitted(engine: Engine, job: str) -> str:
    return (await engine.submissions.submit(job)).id


async def test_it_waits_for_the_newest_execution_to_succeed() -> None:
    clock = FakeClock()
    other = Scripted(["hang", "fail"])
    jobs = job_of("a", Task("t", other)), waiter(WaitForJob("a"))
    async with running(*jobs, clock=clock) as engine:
        id = await submitted(engine, "b")
        assert await why(engine, id) == "job 'a' has no execution"
        first = await submitted(engine, "a")
        await until(lambda: other.runs)
        clock.advance(seconds=30)
        await until(lambda: "is running" in str(engine.runners.waiting(id, "wait")))
        other.release.set()
        await engine.runners.finished(first)
        clock.advance(seconds=30)
        task = await finished(engine, id)
        assert (task.state, bytes(task.result)) == ("successful", f'"{first}"'.encode())


async def test_the_end_of_an_execution_ends_the_wait_at_once() -> None:
    other = Scripted(["hang"] * 2)
    jobs = job_of("a", Task("t", other)), waiter(WaitForJob("a", every=86_400))
    async with running(*jobs, clock=FakeClock()) as engine:
        first = await submitted(engine, "a")
        ids = [await submitted(engine, "b") for _ in range(3)]
        for id in ids:
            assert "is running" in await why(engine, id)
        cancelled = ids.pop()
        assert await engine.control.cancel(cancelled)
        await engine.runners.finished(cancelled)
        other.release.set()
        for id in ids:
            assert bytes((await finished(engine, id)).result) == f'"{first}"'.encode()
        assert not any(engine._executions._watching.values())


async def test_a_mark_that_lets_an_execution_succeed_ends_the_wait() -> None:
    jobs = job_of("a", Task("t", Scripted(["fail"]))), waiter(WaitForJob("a", every=86_400))
    async with running(*jobs, clock=FakeClock()) as engine:
        first = await submitted(engine, "a")
        await engine.runners.finished(first)
        id = await submitted(engine, "b")
        assert "is failed" in await why(engine, id)
        await engine.control.mark(first, "t", State.SUCCESSFUL)
        assert (await finished(engine, id)).state == "successful"


async def test_an_end_between_a_look_and_the_wait_is_not_missed() -> None:
    """The other execution ends when the look has read it as running."""
    other = Scripted(["hang"])
    jobs = job_of("a", Task("t", other)), waiter(WaitForJob("a", every=86_400))
    async with running(*jobs, clock=FakeClock()) as engine:
        first = await submitted(engine, "a")
        await until(lambda: other.runs)
        newest, looks = engine._executions.newest, []

        async def read_early(job: str, state: Any = None) -> Any:
            found = await newest(job, state)
            if not looks:
                other.release.set()
                await engine.runners.finished(first)
            looks.append(found)
            return found

        engine._executions.newest = read_early  # type: ignore[method-assign]
        id = await submitted(engine, "b")
        assert (await finished(engine, id)).state == "successful"
        assert len(looks) == 2


async def test_after_a_restart_it_looks_at_once(tmp_path: Any) -> None:
    store, clock = tmp_path / "s", FakeClock()
    wait = WaitForJob("a", every=86_400)
    async with running(job_of("a", Task("t", Scripted(["hang"]))), waiter(wait),
                       store=SqliteStore(store), clock=clock) as engine:  # fmt: skip
        await submitted(engine, "a")
        id = await submitted(engine, "b")
        assert "is running" in await why(engine, id)
    a = job_of("a", Task("t", Scripted(), retries=1))
    async with running(a, waiter(wait), store=SqliteStore(store), clock=clock) as engine:
        # The other execution was interrupted, and has no retries.
        await until(lambda: "is failed" in str(engine.runners.waiting(id, "wait")))
        second = await submitted(engine, "a")
        assert bytes((await finished(engine, id)).result) == f'"{second}"'.encode()


async def test_a_failed_execution_may_be_retried() -> None:
    clock = FakeClock()
    jobs = job_of("a", Task("t", Scripted(["fail"]))), waiter(WaitForJob("a"))
    async with running(*jobs, clock=clock) as engine:
        first = await submitted(engine, "a")
        await engine.runners.finished(first)
        id = await submitted(engine, "b")
        assert await why(engine, id) == f"execution {first} of job 'a' is failed"
        await engine.control.retry(first)
        await engine.runners.finished(first)
        clock.advance(seconds=30)
        assert (await finished(engine, id)).state == "successful"


async def test_it_waits_for_the_execution_of_the_same_due_time() -> None:
    clock = FakeClock(BEGINNING + timedelta(seconds=1))
    jobs = (
        job_of("a", Task("t", Scripted()), schedule="*/5 * * * *", active=True),
        waiter(WaitForJob("a"), schedule="*/10 * * * *", active=True),
    )
    async with running(*jobs, clock=clock) as engine:
        await submitted(engine, "a")  # of no due time, so it does not count
        clock.advance(seconds=600)
        async with asyncio.timeout(60):
            while not (ticks := await engine.reader.ticks("b", None, 1)):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        assert ticks[0].execution is not None
        waits = asyncio.ensure_future(finished(engine, ticks[0].execution))
        # A look may come before the other job's execution has ended.
        await pass_until(clock, waits.done, seconds=30)
        task = await waits
        others = {one.due: one.execution for one in await engine.reader.ticks("a", None, 5)}
        assert bytes(task.result) == f'"{others[ticks[0].due]}"'.encode()


async def test_it_waits_for_a_success_within_some_time() -> None:
    clock = FakeClock()
    jobs = job_of("a", Task("t", Scripted())), waiter(WaitForJob("a", within=3600, timeout=60))
    async with running(*jobs, clock=clock) as engine:
        first = await submitted(engine, "a")
        await engine.runners.finished(first)
        clock.advance(seconds=3599)
        assert (await finished(engine, await submitted(engine, "b"))).state == "successful"
        clock.advance(seconds=10)
        id = await submitted(engine, "b")
        assert await why(engine, id) == "job 'a' has not succeeded within 3600 s"
        waits = asyncio.ensure_future(finished(engine, id))
        await pass_until(clock, waits.done, seconds=30)
        error = "timed out after 60 s: job 'a' has not succeeded within 3600 s"
        assert (await waits).error == error


async def test_a_job_that_there_is_not_is_refused_when_the_server_starts(tmp_path: Any) -> None:
    engine = Engine(SqliteStore(tmp_path / "goflow.db"), Options(), clock=FakeClock())
    engine.registry.register(waiter(WaitForJob("a")))
    told = "job 'b', task 'wait': there is no job 'a'; the jobs are 'b'"
    with pytest.raises(InvalidJob, match=told):
        await engine.start()
    engine.registry.register(job_of("a", Task("t", Scripted())))
    await engine.start()
    try:
        with pytest.raises(InvalidJob, match="there is no job 'z'"):
            engine.registry.register(waiter(WaitForJob("z"), "c"))
    finally:
        await engine.stop()


async def test_a_job_that_was_removed_fails_the_attempt() -> None:
    clock = FakeClock()
    jobs = job_of("a", Task("t", Scripted())), waiter(WaitForJob("a"))
    async with running(*jobs, clock=clock, store=MemoryStore()) as engine:
        id = await submitted(engine, "b")
        await why(engine, id)
        engine.registry.remove("a")
        clock.advance(seconds=30)
        assert (await finished(engine, id)).error == "WaitForJob: there is no job 'a' here"


def test_a_job_that_runs_alone_says_that_there_is_no_other() -> None:
    task = waiter(WaitForJob("a")).run().tasks["wait"]
    assert task.error == "WaitForJob: there is no job 'a' here"


def test_a_process_of_its_own_cannot_ask() -> None:
    job = Job("b", tasks=[Task("wait", WaitForJob("a"), isolation="process")])
    told = "WaitForJob runs in the server's process; do without isolation="
    assert job.run().tasks["wait"].error == told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"job": ""}, "job name '' has 0 characters"),
        ({"job": 7}, "a job's name must be a string, not 7"),
        ({"job": "a", "which": "any"}, "which must be 'due' or 'newest', not 'any'"),
        ({"job": "a", "within": 0}, "WaitForJob: within must be above 0 seconds"),
        ({"job": "a", "every": -1}, "WaitForJob: every must be above 0 seconds"),
    ],
)
def test_a_mistake_is_found_when_it_is_made(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        WaitForJob(**options)
    assert told in str(refused.value)
