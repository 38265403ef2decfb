"""A start after a crash, and damaged histories."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from goflow import SqliteStore, Task
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    Finished,
    MarkedSkipped,
    MarkedSuccessful,
    TaskStarted,
    TaskSucceeded,
    encode_facts,
)
from goflow.core.states import State
from goflow.engine.engine import Engine
from goflow.errors import Conflict
from goflow.testing import BEGINNING
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio

Damage = Callable[[sqlite3.Connection], object]


def add(*facts: AnyFact) -> Damage:
    """Append facts that goflow did not write."""
    return lambda database: database.execute(
        "INSERT INTO facts (execution, body) VALUES (1, ?)", [encode_facts(facts)]
    )


def sql(statement: str) -> Damage:
    return lambda database: database.execute(statement)


ITS = "id = (SELECT plan FROM executions WHERE number = 1)"
DAMAGE: dict[str, Damage] = {
    "a task that there is not": add(TaskSucceeded(BEGINNING, "nobody", 1)),
    "an end without a beginning": add(TaskSucceeded(BEGINNING, "b", 1)),
    "an attempt that was left out": add(TaskStarted(BEGINNING, "b", 7)),
    "a retry that there was not": add(AttemptFailed(BEGINNING, "a", 1, "boom", BEGINNING)),
    "a state that there is not": add(Finished(BEGINNING, "nonsense")),
    "no facts": sql("DELETE FROM facts WHERE execution = 1"),
    "no first fact": sql("DELETE FROM facts WHERE version = 1"),
    "no JSON": sql("UPDATE facts SET body = x'00ff' WHERE version = 1"),
    "half of the JSON": sql("UPDATE facts SET body = substr(body, 1, 30) WHERE execution = 1"),
    "a fact of a later version": sql(
        """UPDATE facts SET body = '[{"fact":"Dreamt"}]' WHERE execution = 1"""
    ),
    "no plan": sql(f"DELETE FROM plans WHERE {ITS}"),
    "another plan": sql(f"""UPDATE plans SET body = '{{"tasks":[{{"name":"z"}}]}}' WHERE {ITS}"""),
    "no JSON in the plan": sql(f"UPDATE plans SET body = 'x' WHERE {ITS}"),
}


def damaged(path: Path, damage: Damage) -> None:
    with closing(sqlite3.connect(path)) as database:
        damage(database)
        database.commit()


async def readable(engine: Engine, id: str) -> None:
    """Check that everything about the execution can be read."""
    detail = await engine.reader.execution(id)
    assert detail.damage
    page = await engine.reader.page(None, None, 10, None)
    assert any(id.encode() in one for one in page.executions)
    for task in detail.tasks:
        await engine.reader.attempt(id, task.name, None)


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_execution_fails_visibly_and_the_others_continue(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "goflow.db"
    first, second = Scripted(["hang"]), Scripted()
    job = job_of("j", Task("a", first, retries=1), Task("b", second, after=["a"]))
    other = Scripted(["hang"])
    async with running(
        job, job_of("other", Task("t", other, retries=1)), store=SqliteStore(path)
    ) as engine:
        id = (await engine.submissions.submit("j")).id
        good = (await engine.submissions.submit("other")).id
        await until(lambda: first.runs and other.runs)
    damaged(path, DAMAGE[kind])
    for _ in range(2):
        async with running(
            job_of("j", Task("a", first), Task("b", second, after=["a"])),
            job_of("other", Task("t", other, retries=1)),
            store=SqliteStore(path),
        ) as engine:
            row = engine.store.find(id)
            assert row is not None
            assert row.state is State.FAILED
            await readable(engine, id)
            assert "damaged" in ((await engine.reader.execution(id)).reason or "")
            assert second.runs == []
            await engine.runners.finished(good)
            assert (await states(engine, good))[""] == "successful"
            again = (await engine.submissions.submit("other")).id
            await engine.runners.finished(again)
            assert engine.health.defect is None
    assert first.runs == [1]


async def test_a_notice_names_the_execution_that_cannot_continue(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    operator = Scripted(["hang"])
    job = job_of("j", Task("a", operator, retries=1))
    async with running(job, store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: operator.runs)
    damaged(path, add(TaskSucceeded(BEGINNING, "nobody", 1)))
    async with running(store=SqliteStore(path)) as engine:
        (notice,) = engine.health.notices()
        assert id in notice.text
        assert "'nobody'" in notice.text


async def test_an_execution_with_contradictory_marks_can_be_retried(
    tmp_path: Path,
) -> None:
    """Older versions wrote such histories when a mark was cancelled during its commit."""
    path = tmp_path / "goflow.db"
    operator = Scripted(["fail"])
    job = job_of("j", Task("a", operator))
    async with running(job, store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        await engine.control.mark(id, "a", State.SUCCESSFUL)
    damaged(path, add(MarkedSkipped(BEGINNING, "a", "", "failed")))
    damaged(path, add(MarkedSuccessful(BEGINNING, "a", "", "successful")))
    async with running(job_of("j", Task("a", operator)), store=SqliteStore(path)) as engine:
        await readable(engine, id)
        await engine.control.retry(id, task="a")
        await engine.runners.finished(id)
        assert (await states(engine, id)) == {"": "successful", "a": "successful"}
    assert operator.runs == [1, 2]


async def test_a_finished_execution_with_a_lost_end_is_readable_and_unchanged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "goflow.db"
    async with running(job_of("j", Task("a", Scripted())), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
    damaged(path, sql("UPDATE facts SET body = 'x' WHERE version > 1"))
    async with running(job_of("j", Task("a", Scripted())), store=SqliteStore(path)) as engine:
        await readable(engine, id)
        for change in (engine.control.retry(id), engine.control.mark(id, "a", State.SKIPPED)):
            with pytest.raises(Conflict, match="its history is damaged"):
                await change


async def test_twenty_interruptions_take_none_of_a_task_s_retries(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    operator = Scripted(["hang"] * 20 + ["fail"] * 5)
    for round in range(20):
        job = job_of("j", Task("t", operator, retries=5))
        async with running(job, store=SqliteStore(path)) as engine:
            if not round:
                id = (await engine.submissions.submit("j")).id
            await until(lambda round=round: len(operator.runs) == round + 1)
    job = job_of("j", Task("t", operator, retries=5))
    async with running(job, store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        (task,) = (await engine.reader.execution(id)).tasks
        assert task.state == "successful"
        assert operator.runs == [*range(1, 27)]
        assert task.interruptions == 20
        assert [one.interrupted for one in task.attempts] == [True] * 20 + [False] * 6
