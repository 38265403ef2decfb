"""A retry by the definition that the execution ran by, or by the newest one."""

import json
from pathlib import Path
from typing import Any

import pytest

from goflow import Context, Job, SqliteStore, Task
from goflow.core.states import State
from goflow.engine.control import Definition
from goflow.engine.engine import Engine
from goflow.errors import Conflict, InvalidRequest, NotFound
from tests.engine.scripted import Scripted, job_of, running, states, until
from tests.engine.test_watched import Merged, look, whole

pytestmark = pytest.mark.anyio

NEWEST = Definition.NEWEST


async def ended(engine: Engine, job: str = "j") -> str:
    """A submitted execution that has ended."""
    id = (await engine.submissions.submit(job)).id
    await engine.runners.finished(id)
    return id


async def again(engine: Engine, id: str, **options: Any) -> None:
    await engine.control.retry(id, **options)
    await engine.runners.finished(id)


def first_version() -> Job:
    """`a >> b >> c`, and b fails once."""
    return job_of(
        "j",
        Task("a", Scripted(result="from a")),
        Task("b", Scripted(["fail"]), after=["a"]),
        Task("c", Scripted(), after=["b"]),
    )


def second_version(b: Scripted, d: Scripted) -> Job:
    """Without c, with `d`, and b runs whatever happens before."""
    return job_of(
        "j",
        Task("a", Scripted(["fail"])),
        Task("d", d, after=["a"]),
        Task("b", b, after=["a", "d"], retries=2, trigger_rule="allDone"),
        timeout=900,
    )


async def test_the_newest_definition_drops_adds_and_changes_tasks(tmp_path: Path) -> None:
    b, d = Scripted(["fail", "fail"]), Scripted()
    path = tmp_path / "s"
    async with running(first_version(), store=SqliteStore(path)) as engine:
        id = await ended(engine)
        engine.registry.register(second_version(b, d), replace=True)
        await again(engine, id, definition=NEWEST)
        assert await states(engine, id) == {
            "a": "successful",
            "d": "successful",
            "b": "successful",
            "": "successful",
        }
        assert (b.runs, d.runs) == ([2, 3, 4], [1])
    # after a restart
    async with running(second_version(b, d), store=SqliteStore(path)) as engine:
        detail = await engine.reader.execution(id)
        assert detail.dag == {"a": ["d", "b"], "d": ["b"], "b": []}
        assert [(task.name, task.retries) for task in detail.tasks] == [
            ("a", 0), ("d", 0), ("b", 2)
        ]  # fmt: skip
        assert detail.actions[-1].definition == "newest"
        assert detail.plan == engine.registry.jobs["j"].plan.id


async def test_a_task_that_succeeded_keeps_its_result() -> None:
    told: list[Any] = []
    async with running(first_version()) as engine:
        id = await ended(engine)
        newest = job_of("j", Task("a", Scripted(["fail"])))

        @newest.task
        async def b(a: str) -> None:
            told.append(a)

        engine.registry.register(newest, replace=True)
        await again(engine, id, definition=NEWEST)
        assert told == ["from a"]


async def test_the_attempts_of_a_dropped_task_stay_readable() -> None:
    job = job_of("j", Task("a", Scripted(["fail"])), Task("gone", Noisy(), after=[]))
    async with running(job) as engine:
        id = await ended(engine)
        engine.registry.register(job_of("j", Task("a", Scripted())), replace=True)
        await again(engine, id, definition=NEWEST)
        detail = await engine.reader.execution(id)
        assert [task.name for task in detail.tasks] == ["a"]
        (dropped,) = detail.dropped
        assert (dropped.name, dropped.state, len(dropped.attempts)) == ("gone", "successful", 1)
        attempt = await engine.reader.attempt(id, "gone", None)
        log = await engine.reader.log_of(*attempt.place)
        assert [text async for text in log.texts] == ["said by gone\n"]
        assert json.loads((await engine.reader.result(id, "gone")).body) == "its result"
        assert (await engine.reader.result(id, "gone", 1)).attempt == 1
        for refused in (
            engine.control.retry(id, task="gone"),
            engine.control.cancel_task(id, "gone"),
            engine.control.mark(id, "gone", State.SKIPPED),
            engine.reader.attempt(id, "nobody", None),
        ):
            with pytest.raises(NotFound):
                await refused


class Noisy:
    def run(self, context: Context) -> str:
        print(f"said by {context.task}")
        return "its result"


async def test_a_task_that_comes_back_counts_its_attempts_on() -> None:
    comes, goes = job_of("j", Task("a", Scripted(["fail"] * 9)), Task("b", Noisy())), Scripted()
    async with running(comes) as engine:
        id = await ended(engine)
        for definition in (
            job_of("j", Task("a", Scripted(["fail"] * 9))),
            job_of("j", Task("a", goes), Task("b", Noisy(), after=["a"])),
        ):
            engine.registry.register(definition, replace=True)
            await again(engine, id, definition=NEWEST)
        detail = await engine.reader.execution(id)
        assert detail.dropped == []
        assert {task.name: len(task.attempts) for task in detail.tasks} == {"a": 3, "b": 2}
        for number in (1, 2):
            attempt = await engine.reader.attempt(id, "b", number)
            log = await engine.reader.log_of(*attempt.place)
            assert [text async for text in log.texts] == ["said by b\n"]


async def test_with_the_same_definition_the_tasks_stay_and_run_the_code_of_the_registered_job() -> (
    None
):
    b, d = Scripted(), Scripted()
    async with running(first_version()) as engine:
        id = await ended(engine)
        engine.registry.register(second_version(b, d), replace=True)
        await again(engine, id)
        assert await states(engine, id) == {
            "a": "successful",
            "b": "successful",
            "c": "failed",
            "": "failed",
        }
        assert (b.runs, d.runs) == ([2], [])
        detail = await engine.reader.execution(id)
        assert "has no task 'c' any more" in (detail.tasks[2].error or "")
        assert detail.dag == {"a": ["b"], "b": ["c"], "c": []}


async def test_new_tasks_run_though_all_others_succeeded_or_only_one_is_retried() -> None:
    job = job_of("j", Task("a", Scripted()), Task("b", Scripted()))
    async with running(job) as engine:
        id = await ended(engine)
        operators = {name: Scripted() for name in "abcde"}
        a, b, c, d, e = operators.values()

        def define(names: str) -> None:
            tasks = [Task(name, operators[name]) for name in names]
            engine.registry.register(job_of("j", *tasks), replace=True)

        define("abc")
        await again(engine, id, definition=NEWEST)
        assert (a.runs, b.runs, c.runs) == ([], [], [1])
        define("abcd")
        await again(engine, id, task="b", definition=NEWEST)
        assert (a.runs, b.runs, c.runs, d.runs) == ([], [2], [1], [1])
        define("abcde")
        await again(engine, id, task="e", definition=NEWEST)
        assert (d.runs, e.runs) == ([1], [1])


async def test_a_retry_by_the_newest_definition_that_can_run_nothing_is_refused() -> None:
    job = job_of("j", Task("a", Scripted()), Task("b", Scripted()))
    async with running(job) as engine:
        id = await ended(engine)
        before = await whole(engine, id)
        with pytest.raises(Conflict, match="nothing to retry"):
            await engine.control.retry(id, definition=NEWEST)
        engine.registry.register(job_of("j", Task("b", Scripted())), replace=True)
        with pytest.raises(Conflict, match="and the newest definition adds none; there is nothing"):
            await engine.control.retry(id, definition=NEWEST)
        with pytest.raises(Conflict, match="of job 'j' has no task 'a'; retry another") as refused:
            await engine.control.retry(id, task="a", definition=NEWEST)
        assert refused.value.code == "task-gone"
        with pytest.raises(NotFound, match="has no task 'nobody'"):
            await engine.control.retry(id, task="nobody", definition=NEWEST)
        engine.registry.remove("j")
        with pytest.raises(Conflict, match="is no longer registered") as refused:
            await engine.control.retry(id, definition=NEWEST)
        assert refused.value.code == "job-gone"
        assert await whole(engine, id) == before


async def test_the_parameters_must_be_right_for_the_newest_definition() -> None:
    def job(**params: Any) -> Job:
        return job_of("j", Task("a", Scripted(["fail"] * 9)), params=params)

    async with running(job(day="monday")) as engine:
        id = await ended(engine)
        engine.registry.register(job(day="monday", rows=3), replace=True)
        await again(engine, id, definition=NEWEST)
        assert (await engine.reader.execution(id)).params == {"day": "monday", "rows": 3}
        engine.registry.register(job(rows=3), replace=True)
        with pytest.raises(InvalidRequest, match="day"):
            await engine.control.retry(id, definition=NEWEST)
        await again(engine, id, definition=NEWEST, params={"rows": 4})
        assert (await engine.reader.execution(id)).params == {"rows": 4}


async def test_items_run_again_alone_only_if_the_task_maps_over_the_same_list() -> None:
    def job(over: str) -> Job:
        numbers = [Task(name, Scripted(result=[1, 2])) for name in ("one", "two")]
        fetch = Task("fetch", FailsFor(2), after=["one", "two"], map_over=over)
        return job_of("j", *numbers, fetch)

    async with running(job("one")) as engine:
        id = await ended(engine)
        assert (await states(engine, id))["fetch"] == "failed"
        engine.registry.register(job("two"), replace=True)
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        with pytest.raises(Conflict, match="task 'fetch' has other items; retry the whole task"):
            await engine.control.retry(id, task=page_item(1), definition=NEWEST)
        await again(engine, id, definition=NEWEST)
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [item.attempts for item in page.items] == [2, 2], "all items are new"
        engine.registry.register(job_of("j", Task("one", Scripted(["fail"]))), replace=True)
        await again(engine, id, task="one", definition=NEWEST)
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [item.state for item in page.items] == ["successful", "failed"]
        assert (await engine.reader.attempt(id, page_item(1), 2)).number == 2


def page_item(number: int) -> Any:
    from goflow.core.keys import Item

    return Item("fetch", number)


class FailsFor:
    def __init__(self, item: int) -> None:
        self.item = item

    def run(self, context: Context) -> None:
        if context.item == self.item:
            raise ValueError(f"no {self.item}")


async def test_hooks_are_those_of_the_newest_definition() -> None:
    called: list[str] = []

    def job(hook: str, *script: str) -> Job:
        job = job_of("j", Task("a", Scripted([*script])))

        def tell() -> None:
            called.append(hook)

        tell.__name__ = hook
        job.on_finish(tell)
        return job

    async with running(job("first", "fail")) as engine:
        id = await ended(engine)
        engine.registry.register(job("second"), replace=True)
        await again(engine, id, definition=NEWEST)
        assert called == ["first", "second"]
        detail = await engine.reader.execution(id)
        assert [hook.name for hook in detail.hooks] == ["second"]
        assert [hook.name for hook in detail.dropped] == ["first"]


async def test_an_open_page_follows_a_retry_by_the_newest_definition() -> None:
    b, d = Scripted(["hang"]), Scripted()
    async with running(first_version()) as engine:
        id = await ended(engine)
        await again(engine, id)
        hang = Scripted(["hang"])
        engine.registry.register(job_of("j", Task("a", hang)), replace=True)
        await engine.control.retry(id, task="a", following=False)
        page = Merged(engine, id)
        await until(lambda: hang.runs)
        await page.look()
        hang.release.set()
        await engine.runners.finished(id)
        assert engine.reader.watched.get(id) is not None
        engine.registry.register(second_version(b, d), replace=True)
        await engine.control.retry(id, task="b", definition=NEWEST)
        await until(lambda: b.runs)
        await page.look()
        told = await whole(engine, id)
        assert page.told == told
        assert [task["name"] for task in page.told["dropped"]] == ["c"]
        live = engine.live.get(id)
        assert live is not None
        assert list(live.tasks) == ["a", "d", "b"]
        b.release.set()
        await engine.runners.finished(id)
        await page.look()
        assert page.told == await whole(engine, id)
        assert await look(engine, id) == await whole(engine, id)
