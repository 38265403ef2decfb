"""A watched execution is kept up to date and answers with the changes."""

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from goflow import Context, Task
from goflow.core.detail import Detail, TaskDetail
from goflow.engine import watched
from goflow.engine.engine import Engine
from goflow.testing import FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


def nothing(detail: Detail, tasks: Iterable[TaskDetail]) -> None:
    pass


async def look(engine: Engine, id: str, since: int | None = None) -> Any:
    return json.loads(await engine.reader.watch(id, since, nothing))


async def whole(engine: Engine, id: str) -> Any:
    """The execution, replayed from its facts."""
    return json.loads(msgspec.json.encode(await engine.reader.execution(id)))


class Merged:
    """An open page, which merges changes into its copy."""

    def __init__(self, engine: Engine, id: str) -> None:
        self.engine, self.id = engine, id
        self.told: Any = None
        self.tasks: dict[str, Any] = {}

    async def look(self) -> int:
        """Request the changes; returns the number of tasks in the answer."""
        since = None if self.told is None else self.told["version"]
        told = await look(self.engine, self.id, since)
        assert told["since"] in (None, since)
        self.tasks = (self.tasks if told["since"] is not None else {}) | {
            task["name"]: task for task in told["tasks"]
        }
        dag = told["dag"] if told["since"] is None else self.told["dag"]
        self.told = {**told, "dag": dag, "since": None, "tasks": list(self.tasks.values())}
        return len(told["tasks"])


async def test_merged_changes_agree_with_a_replay() -> None:
    steps = [Scripted(["fail", "hang"], result={"n": n}) for n in range(5)]
    tasks = [
        Task(f"t{n}", step, retries=1, after=[f"t{n - 1}"] if n else [])
        for n, step in enumerate(steps)
    ]
    failing = Task("bad", Scripted(["fail"] * 9), after=["t4"])
    async with running(job_of("j", *tasks, failing)) as engine:
        id = (await engine.submissions.submit("j")).id
        page = Merged(engine, id)
        for step in steps:
            await until(lambda step=step: len(step.runs) == 2)
            assert await page.look() in ({6} if step is steps[0] else {1, 2, 3})
            assert page.told == await whole(engine, id)
            step.release.set()
        await until(lambda: not engine.runners)
        assert 1 <= await page.look() <= 3
        assert engine.live.get(id) is None
        assert page.told == await whole(engine, id)
        assert page.told["state"] == "failed"
        await engine.control.retry(id)
        await until(lambda: not engine.runners)
        await page.look()
        assert page.told == await whole(engine, id)
        assert [action["action"] for action in page.told["actions"]] == ["submit", "retry"]
        assert await page.look() == 0


async def test_the_costs_of_hooks_are_in_the_changes() -> None:
    def costly(context: Context) -> None:
        context.count("calls")
        context.log("called")

    gate = Scripted(["hang"])
    job = job_of("j", Task("gate", gate), Task("t", Scripted(["fail"]), after=["gate"]))
    for name in ("h0", "h1"):
        job.on_failure(name=name)(costly)
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        page = Merged(engine, id)
        await until(lambda: gate.runs)
        await page.look()
        gate.release.set()
        await until(lambda: not engine.runners)
        await page.look()
        assert page.told == await whole(engine, id)
        assert [hook["cost"]["counts"] for hook in page.told["hooks"]] == [{"calls": 1}] * 2


async def bytes_of_a_change(count: int) -> int:
    """The size of an answer after 4 of `count` tasks have changed."""
    first, rest = Scripted(["hang"]), [Scripted(["hang"]) for _ in range(count)]
    tasks = [Task(f"t{n}", one, after=["first"]) for n, one in enumerate(rest)]
    async with running(job_of("j", Task("first", first), *tasks), max_running=3) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.runs)
        version = (await look(engine, id))["version"]
        first.release.set()
        await until(lambda: sum(len(one.runs) for one in rest) == 3)
        answer = await engine.reader.watch(id, version, nothing)
        assert len(json.loads(answer)["tasks"]) == 4
        return len(answer)


async def test_an_answer_grows_only_with_the_changed_tasks() -> None:
    assert await bytes_of_a_change(100) == await bytes_of_a_change(200)


async def test_requests_for_one_version_share_their_bytes_and_replay_nothing() -> None:
    hang = Scripted(["hang"])
    async with running(job_of("j", Task("t", hang))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hang.runs)
        first = await engine.reader.watch(id, None, nothing)
        history = engine.store.history
        engine.store.history = None  # type: ignore[assignment,method-assign]
        assert await engine.reader.watch(id, None, nothing) is first
        engine.store.history = history  # type: ignore[method-assign]


async def test_a_changed_wait_reason_is_sent_without_a_commit() -> None:
    reasons = {"a": "full", "b": "full"}

    def annotate(detail: Detail, tasks: Iterable[TaskDetail]) -> None:
        for task in tasks:
            task.waiting = reasons.get(task.name)

    first, hang, clock = Scripted(["hang"]), Scripted(["hang"]), FakeClock()
    waiting = [Task(name, Scripted(), after=["t"]) for name in "ab"]
    job = job_of("j", Task("first", first), Task("t", hang), *waiting)
    async with running(job, clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.runs and hang.runs)
        await engine.reader.watch(id, None, annotate)
        first.release.set()
        await until(lambda: engine.live.get(id).counts.get("successful"))  # type: ignore[union-attr]
        version = json.loads(await engine.reader.watch(id, None, annotate))["version"]
        told = json.loads(await engine.reader.watch(id, version, annotate))
        assert told["tasks"] == []
        reasons["b"] = "still full"
        clock._pass(timedelta(seconds=watched.FRESH))
        told = json.loads(await engine.reader.watch(id, version, annotate))
        assert [(task["name"], task["waiting"]) for task in told["tasks"]] == [("b", "still full")]
        hang.release.set()


async def test_an_unknown_version_gets_the_whole_execution() -> None:
    hang = Scripted(["hang"])
    async with running(job_of("j", Task("t", hang), Task("u", hang))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(hang.runs) == 2)
        for since in (0, 10**9):
            told = await look(engine, id, since)
            assert (told["since"], len(told["tasks"])) == (None, 2)
        hang.release.set()
        await until(lambda: not engine.runners)
        version = (await look(engine, id))["version"]
        assert (await look(engine, id, version))["tasks"] == []
        assert (await look(engine, id, version + 1))["since"] is None


async def test_watched_executions_are_bounded_and_idle_ones_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched, "WATCHED", 2)
    hang, clock = Scripted(["hang"] * 4), FakeClock()
    async with running(job_of("j", Task("t", hang)), clock=clock) as engine:
        ids = [(await engine.submissions.submit("j")).id for _ in range(4)]
        await until(lambda: len(hang.runs) == 4)
        for id in ids:
            await look(engine, id)
        assert len(engine.reader.watched) == 2
        clock._pass(timedelta(seconds=watched.IDLE))
        await look(engine, ids[0])
        assert len(engine.reader.watched) == 1
        hang.release.set()


async def test_commits_during_the_first_request_are_not_lost() -> None:
    hang = Scripted(["hang"])
    async with running(job_of("j", Task("a", hang), Task("b", Scripted(), after=["a"]))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hang.runs)
        read = engine.reader.execution

        async def slow(id: str) -> Detail:
            detail = await read(id)
            hang.release.set()
            await until(lambda: not engine.runners)
            return detail

        engine.reader.execution = slow  # type: ignore[method-assign]
        told = await look(engine, id)
        engine.reader.execution = read  # type: ignore[method-assign]
        assert told == await whole(engine, id)
        assert not engine.reader.watched._collected


async def test_results_and_errors_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "RESULTS_SHOWN", 1000)
    monkeypatch.setattr(watched, "ERRORS_SHOWN", 1000)
    first = Scripted(["hang"])

    class Big:
        def run(self, context: Context) -> str:
            if context.attempt == 1:
                raise ValueError("e" * 2000)
            return "r" * 300

    tasks = [Task(f"t{n}", Big(), retries=1, after=["first"]) for n in range(20)]
    async with running(job_of("j", Task("first", first), *tasks)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.runs)
        await look(engine, id)
        execution = engine.reader.watched.get(id)
        assert execution is not None
        first.release.set()
        await until(lambda: not engine.runners)
        told = execution._detail
        assert sum(len(task.result) for task in told.tasks if len(task.result) > 4) <= 1000
        assert sum(len(a.error or "") for task in told.tasks for a in task.attempts) < 20_000
        assert all(task.result_bytes == 302 for task in told.tasks[1:])


async def test_following_a_log_reads_the_live_state() -> None:
    hang = Scripted(["hang"])
    async with running(job_of("j", Task("t", hang), Task("u", Scripted()))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hang.runs and engine.live.get(id).counts.get("successful"))  # type: ignore[union-attr]
        replayed = await asyncio.to_thread(engine.reader._attempt, id, "t", None)
        ended = await engine.reader.attempt(id, "u", 1)
        engine.store.history = None  # type: ignore[assignment,method-assign]
        assert await engine.reader.attempt(id, "t", None) == replayed[1]
        assert await engine.reader.attempt(id, "t", 1) == replayed[1]
        del engine.store.history  # type: ignore[method-assign]
        await look(engine, id)
        engine.store.history = None  # type: ignore[assignment,method-assign]
        assert await engine.reader.attempt(id, "u", 1) == ended
        del engine.store.history  # type: ignore[method-assign]
        hang.release.set()
