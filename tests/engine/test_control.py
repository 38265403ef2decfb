"""Overlap, limits, timeouts, and users' commands."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from goflow import Context, Goflow, InvalidJob, Job, MemoryStore, SqliteStore, Task
from goflow.core.states import State
from goflow.engine.principal import Principal
from goflow.engine.slots import Kind
from goflow.errors import Conflict, InvalidRequest, NotFound
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Blocking, Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


# -- overlap -----------------------------------------------------------------------


async def test_overlap_skip_creates_no_second_execution_and_the_ledger_has_the_reason() -> None:
    clock = FakeClock(BEGINNING + timedelta(seconds=59))
    operator = Scripted(["hang"])
    job = job_of("j", Task("t", operator), schedule="* * * * *", active=True, overlap="skip")
    async with running(job, clock=clock) as engine:
        first = (await engine.submissions.submit("j", key="k")).id
        await until(lambda: operator.runs)
        with pytest.raises(Conflict, match=first):
            await engine.submissions.submit("j")
        assert (await engine.submissions.submit("j", key="k")).id == first
        clock.advance(seconds=1)
        await until(lambda: engine.schedules.due("j") == BEGINNING + timedelta(minutes=2))
        (tick,) = await engine.reader.ticks("j", None, 10)
        assert (tick.outcome, tick.execution) == ("skipped", None)
        assert first in tick.reason
        operator.release.set()
        await engine.runners.finished(first)


async def test_overlap_queue_runs_executions_in_turn_up_to_a_limit(tmp_path: Path) -> None:
    operator = Scripted(["hang"] * 3)

    def job() -> object:
        return job_of("j", Task("t", operator, retries=1), overlap="queue", max_queued=2)

    path = tmp_path / "s"
    async with running(job(), store=SqliteStore(path)) as engine:  # type: ignore[arg-type]
        ids = [(await engine.submissions.submit("j")).id for _ in range(3)]
        with pytest.raises(Conflict, match="2 executions wait already"):
            await engine.submissions.submit("j")
        await until(lambda: operator.runs == [1])
        assert engine.runners.waiting(ids[1], "t") == "earlier executions of the job have not ended"
    async with running(job(), store=SqliteStore(path)) as engine:  # type: ignore[arg-type]
        await until(lambda: operator.runs == [1, 2])
        await asyncio.sleep(0)
        assert (await states(engine, ids[1]))["t"] == "notstarted", "the wait outlives a restart"
        operator.release.set()
        for id in ids:
            await engine.runners.finished(id)
        assert operator.runs == [1, 2, 1, 1]


async def test_a_queue_keeps_its_order_after_a_restart_and_clock_changes(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    free = asyncio.Event()
    job = Job("j", overlap="queue", tasks=[Task("other", Scripted())])

    @job.task(after=["other"])
    async def note(context: Context) -> None:
        ran.append(context.execution_id)
        await free.wait()

    free.set()
    clock = FakeClock()
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        again = (await engine.submissions.submit("j")).id
        await engine.runners.finished(again)
        free.clear()
        running_one = (await engine.submissions.submit("j")).id
        await until(lambda: ran[1:] == [running_one])
        clock.set(BEGINNING - timedelta(hours=1))
        second = (await engine.submissions.submit("j")).id
        clock.set(BEGINNING - timedelta(hours=2))
        await engine.control.retry(again, task="other")
        clock.set(BEGINNING - timedelta(hours=3))
        last = (await engine.submissions.submit("j")).id
        await engine.control.mark(second, "other", State.SUCCESSFUL)
    del ran[:]
    free.set()
    async with running(job, store=SqliteStore(tmp_path / "s"), clock=clock) as engine:
        await engine.runners.finished(last)
        assert ran == [second, again, last], "the one that ran was interrupted, and has failed"


async def test_overlap_replace_cancels_the_earlier_execution_and_waits_for_its_end() -> None:
    operator = Scripted(["hang", "ok"])
    async with running(job_of("j", Task("t", operator), overlap="replace")) as engine:
        first = (await engine.submissions.submit("j")).id
        await until(lambda: operator.runs)
        second = (await engine.submissions.submit("j")).id
        await engine.runners.finished(second)
        assert (await states(engine, first))[""] == "cancelled"
        assert (await states(engine, second))[""] == "successful"
        assert operator.ended == ["cancelled"]
        detail = await engine.reader.execution(first)
        assert detail.actions[-1].by == f"replaced by {second}"


# -- limits ------------------------------------------------------------------------


async def test_a_pool_limits_its_tasks_and_delays_no_others() -> None:
    pooled = [Blocking() for _ in range(4)]
    other = Scripted()
    tasks = [Task(f"p{n}", operator, pool="db") for n, operator in enumerate(pooled)]
    async with running(job_of("j", *tasks, Task("other", other)), pools={"db": 2}) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: other.runs and sum(len(o.runs) for o in pooled) == 2)
        reasons = [engine.runners.waiting(id, task.name) for task in tasks]
        assert reasons.count("pool 'db': 2 of 2 in use") == 2
        for operator in pooled:
            operator.release.set()
        await engine.runners.finished(id)


async def test_max_running_limits_the_tasks_of_all_executions_of_a_job() -> None:
    operators = [Blocking() for _ in range(2)]
    tasks = [Task(f"t{n}", operator) for n, operator in enumerate(operators)]
    async with running(job_of("j", *tasks, max_running=1)) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(2)]
        for done in (1, 2):
            await until(lambda done=done: sum(len(o.runs) for o in operators) == done)
            assert engine.slots.usage()[-1][:4] == (Kind.JOB, "j", 1, 1)
            next(o for o in operators if o.runs and not o.release.is_set()).release.set()
        for id in ids:
            await engine.runners.finished(id)
        assert [len(o.runs) for o in operators] == [2, 2]


def test_an_unknown_pool_is_refused_when_the_job_is_registered() -> None:
    job = job_of("j", Task("t", Scripted(), pool="db"))
    with pytest.raises(InvalidJob, match=r"'j'.*'t'.*no pool 'db'.*'cpu'"):
        Goflow(MemoryStore(), ui_path=None, pools={"cpu": 1}).add_job(job)


async def test_a_low_priority_does_not_starve() -> None:
    clock = FakeClock()
    first, low = Blocking(), Blocking()
    high = [Blocking() for _ in range(3)]
    jobs = [job_of("first", Task("t", first)), job_of("low", Task("t", low))]
    jobs += [job_of(f"high{n}", Task("t", o, priority=1)) for n, o in enumerate(high)]
    async with running(*jobs, clock=clock, max_running=1) as engine:
        ids = [(await engine.submissions.submit("first")).id]
        await until(lambda: first.runs)
        ids.append((await engine.submissions.submit("low")).id)
        await until(lambda: engine.runners.waiting(ids[1], "t"))
        clock.advance(seconds=61)
        for n in range(3):
            ids.append((await engine.submissions.submit(f"high{n}")).id)
            await until(lambda: engine.runners.waiting(ids[-1], "t"))
        first.release.set()
        await until(lambda: low.runs)
        assert not any(operator.runs for operator in high)
        for operator in [low, *high]:
            operator.release.set()
        for id in ids:
            await engine.runners.finished(id)


# -- timeouts ----------------------------------------------------------------------


async def test_an_execution_that_exceeds_its_timeout_fails() -> None:
    clock = FakeClock()
    hanging = Scripted(["hang"])
    job = job_of("j", Task("a", hanging), Task("b", Scripted(), after=["a"]), timeout=60)
    async with running(job, clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        await asyncio.sleep(0.01)
        clock.advance(seconds=59)
        await asyncio.sleep(0.01)
        assert hanging.ended == []
        clock.advance(seconds=1)
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
        assert (detail.state, detail.reason) == ("failed", "timed out after 60 s")
        assert [task.state for task in detail.tasks] == ["cancelled", "cancelled"]


# -- users' commands ---------------------------------------------------------------


async def test_one_task_can_be_cancelled_and_the_others_continue() -> None:
    hanging, sibling, after = Scripted(["hang"]), Scripted(["hang"]), Scripted()
    job = job_of(
        "j",
        Task("a", hanging, retries=3),
        Task("b", sibling),
        Task("c", after, after=["a"], trigger_rule="allDone"),
    )
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs and sibling.runs)
        with pytest.raises(NotFound, match="'x'"):
            await engine.control.cancel_task(id, "x")
        assert await engine.control.cancel_task(id, "a", by=Principal("ada")) is True
        await until(lambda: after.runs)
        assert await engine.control.cancel_task(id, "a") is False
        sibling.release.set()
        await engine.runners.finished(id)
        found = await states(engine, id)
        assert found == {"": "cancelled", "a": "cancelled", "b": "successful", "c": "successful"}
        action = (await engine.reader.execution(id)).actions[1]
        assert (action.action, action.by, action.task) == ("cancel task", "ada", "a")


async def test_a_failed_task_can_be_marked_and_the_tasks_after_it_retried() -> None:
    bad, after = Scripted(["fail"] * 9), Scripted()
    async with running(job_of("j", Task("a", bad), Task("b", after, after=["a"]))) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        await engine.control.mark(id, "a", State.SUCCESSFUL, by=Principal("ada"))
        assert await states(engine, id) == {"": "successful", "a": "successful", "b": "skipped"}
        page = await engine.reader.page("j", State.SUCCESSFUL, 10, None)
        assert len(page.executions) == 1
        with pytest.raises(Conflict, match="already has that state"):
            await engine.control.mark(id, "a", State.SUCCESSFUL)
        await engine.control.retry(id)
        await engine.runners.finished(id)
        assert after.runs == [1]
        assert (await states(engine, id))["b"] == "successful"


async def test_a_running_task_cannot_be_marked() -> None:
    hanging = Scripted(["hang"])
    async with running(job_of("j", Task("a", hanging))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        with pytest.raises(Conflict, match="cannot be marked"):
            await engine.control.mark(id, "a", State.SKIPPED)
        hanging.release.set()
        await engine.runners.finished(id)


async def test_a_waiting_task_can_be_marked_and_the_tasks_after_it_run() -> None:
    first, second, third = Scripted(["hang"]), Scripted(), Scripted()
    job = job_of(
        "j", Task("a", first), Task("b", second, after=["a"]), Task("c", third, after=["b"])
    )
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.runs)
        await engine.control.mark(id, "b", State.SUCCESSFUL)
        await until(lambda: third.runs)
        first.release.set()
        await engine.runners.finished(id)
        assert second.runs == []
        assert (await states(engine, id))[""] == "successful"


@pytest.mark.parametrize(("following", "ran"), [(True, [2, 2, 2]), (False, [1, 2, 1])])
async def test_a_finished_execution_can_be_retried_from_a_task(
    following: bool, ran: list[int]
) -> None:
    a, b, c = Scripted(), Scripted(), Scripted()
    job = job_of("j", Task("a", a), Task("b", b, after=["a"]), Task("c", c, after=["b"]))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        await engine.control.retry(id, task="a" if following else "b", following=following)
        await engine.runners.finished(id)
        assert [len(operator.runs) for operator in (a, b, c)] == ran


async def test_a_retry_can_have_other_params() -> None:
    job = job_of("j", Task("t", Scripted()), params={"n": 1})
    async with running(job) as engine:
        id = (await engine.submissions.submit("j", {"n": 2})).id
        await engine.runners.finished(id)
        with pytest.raises(InvalidRequest, match="'n'"):
            await engine.control.retry(id, task="t", params={"n": "x"})
        await engine.control.retry(id, task="t", params={"n": 3})
        await engine.runners.finished(id)
        assert (await engine.reader.execution(id)).params == {"n": 3}


async def test_acknowledged_commands_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "s"
    hanging = Scripted(["hang"] * 9)
    job = job_of("j", Task("a", hanging, retries=9), Task("b", Scripted()))
    async with running(job, store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        assert await engine.control.cancel_task(id, "a")
    async with running(job, store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        assert (await states(engine, id))["a"] == "cancelled"
        assert hanging.runs == [1]
