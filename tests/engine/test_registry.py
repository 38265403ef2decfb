"""Jobs are registered, replaced and removed while the engine runs."""

from datetime import timedelta

import pytest

from goflow import InvalidJob, Task
from goflow.engine.options import Options
from goflow.engine.registry import Registry
from goflow.engine.slots import Kind, Slots
from goflow.errors import Conflict, NotFound
from goflow.stores.base import Accounted
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


async def test_a_running_execution_keeps_its_definition() -> None:
    first, old, new = Scripted(["hang"]), Scripted(), Scripted()
    async with running(job_of("j", Task("a", first), Task("b", old, after=["a"]))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.runs)
        engine.registry.register(job_of("j", Task("b", new)), replace=True)
        first.release.set()
        await engine.runners.finished(id)
        assert await states(engine, id) == {"a": "successful", "b": "successful", "": "successful"}
        assert (old.runs, new.runs) == ([1], [])
        await engine.runners.finished((await engine.submissions.submit("j")).id)
        assert (old.runs, new.runs) == ([1], [1])


async def test_a_registered_name_needs_replace_and_an_invalid_job_replaces_nothing() -> None:
    job = job_of("j", Task("a", Scripted()))
    async with running(job) as engine:
        with pytest.raises(InvalidJob, match="registered already"):
            engine.registry.register(job_of("j", Task("b", Scripted())))
        for bad in (job_of("j"), job_of("j", Task("b", Scripted(), pool="nope"))):
            with pytest.raises(InvalidJob):
                engine.registry.register(bad, replace=True)
        assert engine.registry.jobs == {"j": job}


async def test_a_replacement_fires_nothing_and_an_unchanged_schedule_keeps_its_phase() -> None:
    clock, operator = FakeClock(), Scripted()
    job = job_of("j", Task("t", Scripted()), schedule="@every 10m", active=True)
    async with running(job, clock=clock) as engine:
        due = engine.schedules.due("j")
        clock.advance(minutes=4)
        same = job_of("j", Task("t", operator), schedule="@every 10m", active=True)
        engine.registry.register(same, replace=True)
        assert engine.schedules.due("j") == due
        edited = job_of("j", Task("t", operator), schedule="@every 7m", active=True)
        engine.registry.register(edited, replace=True)
        assert engine.schedules.due("j") == BEGINNING + 11 * MINUTE
        assert not engine.runners
        clock.advance(minutes=7)
        await until(lambda: operator.runs and not engine.runners)
        assert [tick.due for tick in await engine.ledger.ticks("j", None, 9)] == [
            BEGINNING + 11 * MINUTE
        ]
        assert engine.health.defect is None


async def test_a_replaced_job_keeps_its_switch() -> None:
    job = job_of("j", Task("t", Scripted()), schedule="* * * * *", active=True)
    async with running(job) as engine:
        await engine.schedules.toggle("j", False)
        same = job_of("j", Task("t", Scripted()), schedule="* * * * *", active=True)
        engine.registry.register(same, replace=True)
        assert engine.schedules.due("j") is None
        assert not engine.schedules.active("j")
        without = job_of("j", Task("t", Scripted()))
        engine.registry.register(without, replace=True)
        await engine.schedules.toggle("j", True)
        assert engine.schedules.due("j") is None


async def test_a_job_registered_while_running_fires_from_then_on() -> None:
    clock, operator = FakeClock(), Scripted()
    async with running(clock=clock) as engine:
        clock.advance(minutes=5)
        job = job_of("late", Task("t", operator), schedule="* * * * *", active=True)
        engine.registry.register(job)
        assert engine.schedules.due("late") == BEGINNING + 6 * MINUTE
        clock.advance(minutes=1)
        await until(lambda: operator.runs)
        assert len(await engine.ledger.ticks("late", None, 9)) == 1


async def test_a_limit_can_change_while_tasks_run_and_wait() -> None:
    operator = Scripted(["hang"] * 6)

    def limited(most: int) -> None:
        tasks = [Task(f"t{n}", operator) for n in range(6)]
        engine.registry.register(job_of("j", *tasks, max_running=most), replace=True)

    async with running() as engine:
        limited(1)
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(operator.runs) == 1)
        limited(3)
        await until(lambda: len(operator.runs) == 3)
        limited(2)
        usage = {one.kind: one for one in engine.slots.usage()}[Kind.JOB]
        assert (usage.taken, usage.size, usage.waiting) == (3, 2, 3)
        operator.release.set()
        await engine.runners.finished(id)
        assert engine.slots.taken == 0


async def test_a_removed_job_starts_nothing_and_its_executions_finish_normally() -> None:
    clock, operator = FakeClock(), Scripted(["hang", "hang"])
    job = job_of(
        "j", Task("a", operator), Task("b", operator), max_running=1, schedule="* * * * *",
        active=False,
    )  # fmt: skip
    async with running(job, clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(operator.runs) == 1)
        engine.registry.remove("j")
        with pytest.raises(NotFound, match="'j'"):
            await engine.submissions.submit("j")
        with pytest.raises(NotFound):
            await engine.schedules.toggle("j", True)
        with pytest.raises(NotFound):
            engine.registry.remove("j")
        assert [usage.name for usage in engine.slots.usage()] == ["all tasks", "j"]
        assert len(operator.runs) == 1, "its limit applies to the running execution"
        operator.release.set()
        await engine.runners.finished(id)
        assert (await states(engine, id))[""] == "successful"
        await until(lambda: [usage.name for usage in engine.slots.usage()] == ["all tasks"])
        with pytest.raises(Conflict, match="no longer registered with this server"):
            await engine.control.retry(id)
        assert len((await engine.reader.page("j", None, 9, None)).executions) == 1
        assert engine.health.defect is None


async def test_the_schedule_of_a_removed_job_counts_as_off_until_it_returns() -> None:
    clock, operator = FakeClock(), Scripted()

    def job() -> None:
        engine.registry.register(
            job_of("j", Task("t", operator), schedule="* * * * *", active=True)
        )

    async with running(clock=clock) as engine:
        job()
        engine.registry.remove("j")
        assert engine.schedules.due("j") is None
        clock.advance(minutes=5)
        job()
        await until(lambda: engine.ledger.states["j"].accounted == BEGINNING + 5 * MINUTE)
        [tick] = await engine.ledger.ticks("j", None, 9)
        assert (tick.outcome, tick.count, tick.reason) == ("missed", 5, "the schedule was off")
        assert operator.runs == []


async def test_a_due_time_of_a_removed_job_is_skipped() -> None:
    async with running() as engine:
        reason = await engine._due_times.fire("gone", Accounted(BEGINNING, BEGINNING), False)
        assert reason == "the job was removed"


class Waits:
    def __init__(self) -> None:
        self.granted_to: list[str] = []

    def granted(self, request: object) -> None:
        self.granted_to.append(request.task)  # type: ignore[attr-defined]


def test_a_removed_limit_is_forgotten_when_it_is_unused() -> None:
    slots, waiter = Slots(10), Waits()
    slots.limit(Kind.JOB, "j", 1)
    limit = slots.use(Kind.JOB, "j")
    lane = ("tasks of job 'j'",)
    first = slots.request(waiter, "a", lane, 0, BEGINNING)
    second = slots.request(waiter, "b", lane, 0, BEGINNING)
    slots.grant()
    slots.lift(Kind.JOB, "j")
    assert waiter.granted_to == ["a"], "it still applies to the execution that uses it"
    slots.release(first)
    slots.release(second)
    assert len(slots.usage()) == 2
    slots.leave(limit)
    assert len(slots.usage()) == 1
    slots.request(waiter, "c", lane, 0, BEGINNING)
    slots.grant()
    assert waiter.granted_to == ["a", "b", "c"]


async def test_a_pool_is_resized_with_tasks_running_and_waiting() -> None:
    operator = Scripted(["hang"] * 6)
    jobs = [
        job_of(name, *(Task(f"t{n}", operator, pool="db") for n in range(3))) for name in ("a", "b")
    ]
    async with running(*jobs, pools={"db": 1}) as engine:
        ids = [(await engine.submissions.submit(name)).id for name in ("a", "b")]
        await until(lambda: len(operator.runs) == 1)
        engine.registry.set_pool("db", 4)
        await until(lambda: len(operator.runs) == 4)
        engine.registry.set_pool("db", 2)
        usage = {one.kind: one for one in engine.slots.usage()}[Kind.POOL]
        assert (usage.taken, usage.size, usage.waiting) == (4, 2, 2)
        assert operator.ended == [], "a smaller pool ends no task"
        operator.release.set()
        for id in ids:
            await engine.runners.finished(id)
        assert len(operator.runs) == 6
        assert engine.slots.taken == 0


async def test_a_smaller_pool_starts_no_task_until_enough_have_ended() -> None:
    slow, others = Scripted(["hang"] * 3), Scripted()
    tasks = [Task(f"slow{n}", slow, pool="db", priority=5) for n in range(3)]
    async with running(
        job_of("j", *tasks, Task("other", others, pool="db")), pools={"db": 3}
    ) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(slow.runs) == 3)
        engine.registry.set_pool("db", 1)
        for cancelled in ("slow0", "slow1"):
            await engine.control.cancel_task(id, cancelled)
        full = "pool 'db': 1 of 1 in use"
        await until(lambda: engine.runners.waiting(id, "other") == full)
        assert (await states(engine, id))["other"] == "notstarted"
        slow.release.set()
        await engine.runners.finished(id)
        assert (await states(engine, id))["other"] == "successful"


async def test_a_pool_added_while_running_takes_jobs_and_is_removed_when_none_uses_it() -> None:
    job = job_of("j", Task("t", Scripted(), pool="new"))
    async with running() as engine:
        with pytest.raises(InvalidJob, match="there is no pool 'new'"):
            engine.registry.register(job)
        engine.registry.set_pool("new", 1)
        engine.registry.register(job)
        with pytest.raises(Conflict, match="pool 'new' is used by job 'j'"):
            engine.registry.remove_pool("new")
        engine.registry.remove("j")
        engine.registry.remove_pool("new")
        assert [usage.name for usage in engine.slots.usage()] == ["all tasks"]
        with pytest.raises(NotFound, match="no pool 'new'"):
            engine.registry.remove_pool("new")
        for name, size in (("new", 0), ("new", True), ("new", "2"), ("", 1), (5, 1)):
            with pytest.raises(ValueError, match="pool"):
                engine.registry.set_pool(name, size)  # type: ignore[arg-type]
        assert engine.registry.pools == {}


async def test_a_removed_pool_limits_the_executions_that_use_it_until_they_end() -> None:
    operator = Scripted(["hang", "hang"])
    tasks = Task("a", operator, pool="db"), Task("b", operator, pool="db")
    async with running(job_of("j", *tasks), pools={"db": 1}) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(operator.runs) == 1)
        engine.registry.register(job_of("j", Task("a", Scripted())), replace=True)
        engine.registry.remove_pool("db")
        assert engine.runners.waiting(id, "b") == "pool 'db': 1 of 1 in use"
        assert len(operator.runs) == 1
        operator.release.set()
        await engine.runners.finished(id)
        await until(lambda: [usage.name for usage in engine.slots.usage()] == ["all tasks"])


async def test_an_engine_without_schedules_forgets_the_pools_of_removed_jobs() -> None:
    slots, options = Slots(4), Options(max_running=4)
    registry = Registry(options, slots, keeps_time=False)
    for name in ("a", "b"):
        registry.register(job_of(name, Task("t", Scripted(), pool="any")))
    registry.remove("a")
    assert [usage.name for usage in slots.usage()] == ["all tasks", "any"]
    registry.remove("b")
    assert [usage.name for usage in slots.usage()] == ["all tasks"]
