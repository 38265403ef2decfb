"""After kill -9 an attempt goes on if its executor finds it running."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from goflow import SqliteStore
from goflow.core.events import TaskStarted
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.engine.replay import record_of, salvage
from goflow.engine.slots import Kind
from goflow.testing import FakeClock
from tests.crash.outside import Outside, is_alive, job
from tests.engine.scripted import states, until

pytestmark = pytest.mark.anyio


def serve_and_kill(folder: Path) -> None:
    """A server works on the folder until its attempt runs, and is killed."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.outside", str(folder)], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    with server.stdout:
        assert server.stdout.readline() == b"serving\n"
        server.kill()
        server.wait()


def pid_of(folder: Path) -> int:
    (file,) = folder.glob("*.pid")
    return int(file.read_text().split()[0])


@asynccontextmanager
async def restarted(
    folder: Path, *, timeout: float | None = None, retries: int = 0, later: float = 0
) -> AsyncIterator[tuple[Engine, str]]:
    """The next server, in this process, `later` in seconds after the attempt began; and the
    execution."""
    store, outside = SqliteStore(folder / "goflow.db"), Outside(folder)
    store.open()
    (id,) = [row.id for row in store.page(job=None, state=None, before=None, limit=9)]
    history = store.history(id)
    assert history is not None
    began = next(fact.at for fact in history.facts if isinstance(fact, TaskStarted))
    store.close()
    clock = FakeClock(began + timedelta(seconds=later))
    options = Options(pools={"one": 1}, stop_timeout=0)
    engine = Engine(store, options, clock=clock, executors=lambda task: outside)
    engine.registry.register(job(timeout, retries))
    await engine.start()
    try:
        yield engine, id
    finally:
        await engine.stop()
        outside.reap()


@pytest.mark.parametrize("kills", [1, 3])
async def test_a_found_attempt_goes_on_with_its_slot_and_counts_once(
    kills: int, tmp_path: Path
) -> None:
    for _ in range(kills):
        serve_and_kill(tmp_path)
    pid = pid_of(tmp_path)
    assert is_alive(pid), "a start ended it as an orphan"
    async with restarted(tmp_path, retries=3) as (engine, id):
        assert await states(engine, id) == {"first": "running", "then": "notstarted", "": "running"}
        usage = {one.kind: one for one in engine.slots.usage()}
        assert (usage[Kind.ALL].taken, usage[Kind.POOL].taken) == (1, 1)
        (tmp_path / "go").write_text("done")
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}
        started = [fact for fact in engine.store.history(id).facts if isinstance(fact, TaskStarted)]
        assert [(fact.task, fact.attempt) for fact in started] == [("first", 1), ("then", 1)]
        detail = await engine.reader.execution(id)
        assert bytes(detail.tasks[0].result) == b'"done"'
        log = "".join(one.text for one in engine.store.logs.read(id, "first", 1, 0, 9999))
        again = "INFO the server was restarted; this attempt still runs\n"
        # A server that is killed at once may not have written its line.
        assert log.startswith("started outside\n" + again)
        assert log.replace(again, "") == "started outside\n"
        assert engine.slots.taken == 0
        assert engine.health.defect is None
    assert len((tmp_path / "starts").read_text().split()) == 2


async def test_an_attempt_that_ended_while_the_server_was_down_has_its_outcome(
    tmp_path: Path,
) -> None:
    serve_and_kill(tmp_path)
    (tmp_path / "go").write_text("done")
    await until(lambda: not is_alive(pid_of(tmp_path)))
    async with restarted(tmp_path) as (engine, id):
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}


async def test_an_attempt_that_has_gone_is_interrupted(tmp_path: Path) -> None:
    serve_and_kill(tmp_path)
    os.kill(pid_of(tmp_path), signal.SIGKILL)
    await until(lambda: not is_alive(pid_of(tmp_path)))
    (tmp_path / "go").write_text("done")
    async with restarted(tmp_path) as (engine, id):
        await engine.runners.finished(id)
        assert (await states(engine, id))["first"] == "failed"
        detail = await engine.reader.execution(id)
        assert "interrupted" in detail.tasks[0].error


@pytest.mark.parametrize("one", [True, False], ids=["of the task", "of the execution"])
async def test_a_cancel_ends_a_found_attempt(one: bool, tmp_path: Path) -> None:
    serve_and_kill(tmp_path)
    async with restarted(tmp_path, retries=3) as (engine, id):
        control = engine.control
        assert await (control.cancel_task(id, "first") if one else control.cancel(id))
        await engine.runners.finished(id)
        assert (await states(engine, id))["first"] == "cancelled"
        await until(lambda: not is_alive(pid_of(tmp_path)))  # a kill takes a moment
        assert engine.slots.taken == 0


async def test_a_cancel_from_before_the_kill_ends_a_found_attempt(tmp_path: Path) -> None:
    serve_and_kill(tmp_path)
    store = SqliteStore(tmp_path / "goflow.db")
    store.open()
    (id,) = store.unfinished()
    history = store.history(id)
    assert history is not None
    execution = salvage(history).execution
    store.commit([record_of(execution, execution.cancel(history.facts[-1].at))])
    store.close()
    async with restarted(tmp_path) as (engine, id):
        await engine.runners.finished(id)
        assert (await states(engine, id))["first"] == "cancelled"
        await until(lambda: not is_alive(pid_of(tmp_path)))  # a kill takes a moment


@pytest.mark.parametrize("later", [1800, 3601])
async def test_a_timeout_counts_from_the_start_of_a_found_attempt(
    later: float, tmp_path: Path
) -> None:
    serve_and_kill(tmp_path)
    async with restarted(tmp_path, timeout=3600, later=later) as (engine, id):
        if later < 3600:
            (tmp_path / "go").write_text("done")
        await engine.runners.finished(id)
        first = (await engine.reader.execution(id)).tasks[0]
        if later < 3600:
            assert first.state == "successful"
        else:
            assert (first.state, first.error) == ("failed", "timed out after 3600 s")
            await until(lambda: not is_alive(pid_of(tmp_path)))  # a kill takes a moment


async def test_an_executor_that_raises_interrupts_the_attempt_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(self: Outside, tag: object, /) -> None:
        raise OSError("no route to the machine")

    serve_and_kill(tmp_path)
    monkeypatch.setattr(Outside, "find", find)
    async with restarted(tmp_path) as (engine, id):
        await engine.runners.finished(id)
        assert (await states(engine, id))["first"] == "failed"
        notices = "\n".join(notice.text for notice in engine.health.notices())
        assert "no route to the machine" in notices
        assert not is_alive(pid_of(tmp_path)), "it was ended as an orphan"
