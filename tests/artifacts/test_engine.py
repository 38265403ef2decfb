"""Artifacts over a restart, a retry and a purge."""

from pathlib import Path
from typing import Any

import pytest

from goflow import Context, Job, SqliteStore
from goflow.core.events import TaskSucceeded
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.retention import Keep
from goflow.stores.base import Touch
from goflow.testing import FakeClock
from tests.engine.scripted import running

pytestmark = pytest.mark.anyio

SEEN: list[Any] = []


def sets(fails: bool = True) -> Job:
    job = Job("sets")

    @job.task(result="pickle")
    def make(context: Context) -> Any:
        context.artifact("n.txt").write_text(context.execution_id)
        context.artifact("same.txt").write_text("same")
        return {1, 2}

    @job.task
    def take(make: Any) -> None:
        SEEN.append(make)
        if fails:
            raise ValueError

    return job


async def done(engine: Any, job: str = "sets") -> str:
    id: str = (await engine.submissions.submit(job)).id
    await engine.runners.finished(id)
    return id


async def test_a_result_is_there_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    SEEN.clear()
    async with running(sets(), store=SqliteStore(path)) as engine:
        id = await done(engine)
        [fact] = [
            fact
            for fact in engine.store.history(id).facts
            if isinstance(fact, TaskSucceeded) and fact.task == "make"
        ]
        assert fact.kept is not None
        assert [one.name for one in fact.kept.all] == ["n.txt", "same.txt", "result.pickle"]
    assert (tmp_path / "s.db.artifacts" / "executions" / id).is_dir()
    async with running(sets(fails=False), store=SqliteStore(path)) as engine:
        await engine.control.retry(id)
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
        assert [one.state for one in detail.tasks] == ["successful", "successful"]
    assert [{1, 2}, {1, 2}] == SEEN


async def test_a_lost_artifact_fails_the_task_that_needs_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    async with running(sets(), store=store) as engine:
        id = await done(engine)
        engine.artifacts.forget(id)
        await engine.control.retry(id)
        await engine.runners.finished(id)
        [_, take] = (await engine.reader.execution(id)).tasks
        assert take.error is not None
        assert take.error.startswith("the result of task 'make': 'result.pickle' is not among the")
        await engine.control.retry(id, task="make")
        await engine.runners.finished(id)
        attempt, found = await engine.reader.artifacts(id, "make")
        assert (attempt, len(found)) == (2, 3)
        assert engine.artifacts.read(id, found[0]) == id.encode()


async def test_artifacts_are_forgotten_with_their_execution(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SqliteStore(tmp_path / "s.db")
    async with running(sets(), store=store, clock=clock, keep=Keep(executions=1)) as engine:
        await done(engine)
        kept = await done(engine)
        for _ in range(400):
            clock.advance(seconds=60)
            await engine.journal.commit(Touch(clock.now()))
            if list(engine.artifacts.executions()) == [kept]:
                break
        assert list(engine.artifacts.executions()) == [kept]
        _, found = await engine.reader.artifacts(kept, "make")
        assert engine.artifacts.read(kept, found[1]) == b"same"


async def test_a_place_of_ones_own_and_a_size_limit(tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    async with running(sets(), artifacts=own, limits=Limits(artifact=10)) as engine:
        id = await done(engine)
        [make, _] = (await engine.reader.execution(id)).tasks
        assert make.error == (
            "the artifact 'result.pickle' is 20 bytes, more than the 10 that are allowed "
            "(max_artifact)"
        ) or "bytes, more than the 10 that are allowed (max_artifact)" in str(make.error)
        assert list((tmp_path / "own" / "work").iterdir()) == []


async def test_nothing_is_created_for_jobs_without_artifacts(tmp_path: Path) -> None:
    job = Job("plain")
    job.task(name="t")(lambda: 1)
    async with running(job, store=SqliteStore(tmp_path / "s.db")) as engine:
        await done(engine, "plain")
    assert not (tmp_path / "s.db.artifacts").exists()
