"""RunJob: a task starts an execution of another job, and waits for it without a slot."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import ConstantDelay, Context, InvalidJob, Job, RunJob, SqliteStore, Task, Template
from goflow.core.detail import Detail
from goflow.core.events import CancelRequested
from goflow.engine.engine import Engine
from goflow.engine.families import DEEPEST
from goflow.stores.memory import MemoryStore
from goflow.testing import FakeClock
from tests.engine.copied import Copied
from tests.engine.scripted import Scripted, job_of, pass_until, running, until

pytestmark = pytest.mark.anyio


class Double:
    async def run(self, context: Context) -> Any:
        return context.params["x"] * 2


def child(**options: Any) -> Job:
    return job_of("child", Task("double", Double()), params={"x": 1}, **options)


def parent(operator: RunJob, **options: Any) -> Job:
    return job_of("parent", Task("go", operator, **options))


async def submitted(engine: Engine, job: str = "parent", **options: Any) -> str:
    return (await engine.submissions.submit(job, **options)).id


async def ended(engine: Engine, id: str) -> Detail:
    await engine.runners.finished(id)
    return await engine.reader.execution(id)


def of_child(engine: Engine, job: str = "child") -> list[str]:
    return [row.id for row in engine.store.page(job=job, state=None, before=None, limit=1000)]


async def test_the_results_of_the_other_job_are_the_result_and_no_slot_is_held() -> None:
    operator = RunJob("child", params={"x": Template("{{ params.by }}")})
    job = job_of("parent", Task("go", operator), params={"by": 21})
    async with running(job, child(), max_running=1) as engine:
        detail = await ended(engine, await submitted(engine))
        (task,) = detail.tasks
        assert (task.state, msgspec.json.decode(task.result)) == ("successful", {"double": 42})
        (link,) = detail.children
        assert (link.job, link.task, link.item) == ("child", "go", None)
        other = await engine.reader.execution(link.execution)
        assert other.cause == "job"
        assert other.parent is not None
        assert (other.parent.execution, other.parent.task) == (detail.id, "go")
        assert detail.parent is None


async def test_without_wait_the_result_is_the_id_and_a_cancel_leaves_the_other_execution() -> None:
    other = Scripted(["hang"])
    jobs = parent(RunJob("child", wait=False)), job_of("child", Task("t", other))
    async with running(*jobs) as engine:
        detail = await ended(engine, await submitted(engine))
        (id,) = of_child(engine)
        assert msgspec.json.decode(detail.tasks[0].result) == id
        await until(lambda: other.runs)
        other.release.set()
        assert (await ended(engine, id)).state == "successful"


async def test_a_failure_fails_the_task_and_a_retry_starts_another_execution() -> None:
    jobs = (
        parent(RunJob("child"), retries=1, retry_delay=ConstantDelay(0)),
        job_of("child", Task("t", Scripted(["fail"]))),
    )
    async with running(*jobs) as engine:
        detail = await ended(engine, await submitted(engine))
        second, first = of_child(engine)
        assert [one.execution for one in detail.children] == [first, second]
        assert detail.state == "successful"
        told = f"execution {first} of job 'child' is failed"
        assert detail.tasks[0].attempts[0].error == told


async def test_a_cancel_reaches_the_other_execution() -> None:
    other = Scripted(["hang"])
    jobs = parent(RunJob("child")), job_of("child", Task("t", other))
    async with running(*jobs) as engine:
        id = await submitted(engine)
        await until(lambda: other.runs)
        await until(lambda: engine.runners.waiting(id, "go") is not None)
        await engine.control.cancel_task(id, "go")
        assert (await ended(engine, id)).state == "cancelled"
        assert (await ended(engine, of_child(engine)[0])).state == "cancelled"


async def test_items_of_a_mapped_task_start_one_execution_each() -> None:
    job = Job("parent")
    job.add(Task("xs", Scripted(result=[1, 2, 3])))
    params = {"x": Template("{{ item }}")}
    job.add(Task("go", RunJob("child", params=params), after=["xs"], map_over="xs"))
    async with running(job, child()) as engine:
        detail = await ended(engine, await submitted(engine))
        found = msgspec.json.decode(detail.tasks[1].result)
        assert found == [{"double": 2}, {"double": 4}, {"double": 6}]
        assert sorted(one.item for one in detail.children) == [0, 1, 2]


async def test_a_kill_after_any_commit_leaves_one_execution(tmp_path: Path) -> None:
    clock, store = FakeClock(), Copied(tmp_path)

    def jobs() -> tuple[Job, Job]:
        return parent(RunJob("child")), job_of("child", Task("t", Scripted(), retries=1))

    async with running(*jobs(), store=store, clock=clock) as engine:
        id = await submitted(engine, key="once")
        assert (await ended(engine, id)).state == "successful"
    assert len(store.copies) > 5
    for copy in store.copies:
        async with running(*jobs(), store=SqliteStore(copy), clock=clock) as engine:
            id = await submitted(engine, key="once")
            await until(lambda: of_child(engine))
            await engine.runners.finished(of_child(engine)[0])
            ends = asyncio.ensure_future(ended(engine, id))
            await pass_until(clock, ends.done, seconds=31)  # in case the end was before the restart
            assert (await ends).state == "successful"
            assert len(of_child(engine)) == 1


async def test_a_child_whose_task_was_cancelled_before_a_crash_is_cancelled_at_the_restart(
    tmp_path: Path,
) -> None:
    clock, store = FakeClock(), Copied(tmp_path)
    other = Scripted(["hang"])
    jobs = parent(RunJob("child")), job_of("child", Task("t", other, retries=1))
    async with running(*jobs, store=store, clock=clock) as engine:
        id = await submitted(engine)
        await until(lambda: other.runs)
        await until(lambda: engine.runners.waiting(id, "go") is not None)
        before = len(store.copies)
        await engine.control.cancel(id)
        await ended(engine, of_child(engine)[0])
    seen = 0
    for copy in store.copies[before:]:
        # A commit that was under way may come before that of the cancel.
        kept = SqliteStore(copy)
        kept.open()
        history = kept.history(id)
        kept.close()
        assert history is not None
        if not any(isinstance(fact, CancelRequested) for fact in history.facts):
            continue
        again = parent(RunJob("child")), job_of("child", Task("t", Scripted(["hang"]), retries=1))
        async with running(*again, store=SqliteStore(copy), clock=clock) as engine:
            assert (await ended(engine, id)).state == "cancelled"
            assert (await ended(engine, of_child(engine)[0])).state == "cancelled"
            seen += 1
    assert seen


async def test_a_child_that_is_retried_after_its_task_has_failed_goes_on_after_a_restart(
    tmp_path: Path,
) -> None:
    path, first, second = tmp_path / "goflow.db", Scripted(["fail", "fail", "hang"]), Scripted()
    jobs_before = parent(RunJob("child")), job_of("child", Task("t", first, retries=1))
    async with running(*jobs_before, store=SqliteStore(path)) as engine:
        id = await submitted(engine)
        assert (await ended(engine, id)).state == "failed"
        (child,) = of_child(engine)
        await engine.control.retry(child)
        await until(lambda: len(first.runs) == 3)
    jobs_after = parent(RunJob("child")), job_of("child", Task("t", second, retries=1))
    async with running(*jobs_after, store=SqliteStore(path)) as engine:
        detail = await ended(engine, child)
        assert [one.action for one in detail.actions] == ["submit", "retry"]
        assert (detail.state, (await ended(engine, id)).state) == ("successful", "failed")


@pytest.mark.parametrize("then", ["retry", "cancel"])
async def test_a_child_that_is_retried_by_hand_goes_on_whatever_becomes_of_its_task(
    then: str,
) -> None:
    clock, other = FakeClock(), Scripted(["fail", "hang", "ok"])
    go = parent(RunJob("child"), retries=1, retry_delay=ConstantDelay(3600))
    async with running(go, job_of("child", Task("t", other)), clock=clock) as engine:
        id = await submitted(engine)
        await until(lambda: id in engine.runners and engine.runners[id].execution.next_retry())
        (child,) = of_child(engine)
        await engine.control.retry(child)
        await until(lambda: len(other.runs) == 2)
        if then == "retry":
            clock.advance(seconds=3600)
            assert (await ended(engine, id)).state == "successful"
        else:
            await engine.control.cancel(id)
            assert (await ended(engine, id)).state == "cancelled"
        await until(lambda: not engine.errands.under_way)
        other.release.set()
        assert (await ended(engine, child)).state == "successful"
        assert len(of_child(engine)) == 1 + (then == "retry")


async def test_jobs_that_run_each_other_end_at_a_limit() -> None:
    jobs = (
        job_of("a", Task("go", RunJob("b"))),
        job_of("b", Task("go", RunJob("a"))),
    )
    async with running(*jobs) as engine:
        detail = await ended(engine, await submitted(engine, "a"))
        assert detail.state == "failed"
        assert len(of_child(engine, "a")) + len(of_child(engine, "b")) == DEEPEST + 1
        (last,) = [
            one
            for one in of_child(engine, "a") + of_child(engine, "b")
            if not (await engine.reader.execution(one)).children
        ]
        error = (await engine.reader.execution(last)).tasks[0].error
        assert error is not None
        assert f"would run {DEEPEST + 1} executions deep" in error


async def test_bad_params_and_a_job_that_is_gone_fail_the_task() -> None:
    jobs = (
        parent(RunJob("child", params={"y": 2})),
        job_of("child", Task("t", Double()), params={"x": 1}),
    )
    async with running(*jobs) as engine:
        error = (await ended(engine, await submitted(engine))).tasks[0].error
        assert error is not None
        assert error.startswith("job 'child' refuses the params: ")
        assert "'y'" in error
        engine.registry.remove("child")
        detail = await ended(engine, await submitted(engine))
        assert detail.tasks[0].error == "there is no job 'child' here"


async def test_itself_and_an_unknown_job_are_refused() -> None:
    with pytest.raises(InvalidJob, match="job 'parent', task 'go': the job would run itself"):
        parent(RunJob("parent")).seal()
    engine = Engine(MemoryStore(), clock=FakeClock())
    engine.registry.register(parent(RunJob("gone")))
    with pytest.raises(InvalidJob, match="job 'parent', task 'go': there is no job 'gone'"):
        await engine.start()
    for arguments in ({"job": ""}, {"job": "a", "params": 3}, {"job": "a", "wait": 1}):
        with pytest.raises(InvalidJob):
            RunJob(**arguments)  # type: ignore[arg-type]


def test_a_job_that_runs_without_a_server_runs_no_others() -> None:
    found = parent(RunJob("child")).run()
    assert found.tasks["go"].error == "there is no job 'child' here"
