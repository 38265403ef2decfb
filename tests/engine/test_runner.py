"""A defect of goflow in one execution fails that execution visibly, and no other."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from goflow import Task
from goflow.core.events import TaskStarted
from goflow.core.execution import Execution
from goflow.core.states import State
from goflow.engine.attempts.attempt import Attempt
from goflow.engine.engine import Engine
from goflow.engine.executors.base import Work
from goflow.engine.runner import Runner
from goflow.errors import Unavailable
from goflow.stores.base import Change, Outcome, Record
from goflow.stores.memory import MemoryStore
from goflow.testing import FakeClock
from tests.engine.scripted import Blocking, Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


class Picky(MemoryStore):
    """A real store that cannot write certain facts about a task called "odd"."""

    refuses: tuple[type, ...] = (TaskStarted,)

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        for one in batch:
            if isinstance(one, Record):
                odd = [fact for fact in one.facts if getattr(fact, "task", "") == "odd"]
                if any(isinstance(fact, self.refuses) for fact in odd):
                    raise TypeError("it cannot be encoded")
        return super().commit(batch)


async def ended(engine: Engine, id: str) -> dict[str, str]:
    async with asyncio.timeout(60):
        await engine.runners.finished(id)
        await until(lambda: engine.runners.get(id) is None)
    return await states(engine, id)


async def test_an_execution_whose_facts_cannot_be_written_fails_and_frees_its_slots() -> None:
    hanging = Scripted(["hang"])
    bad = job_of("bad", Task("a", hanging), Task("odd", Scripted()), max_running=2)
    good = job_of("good", Task("t", Scripted(), pool="p"))
    async with running(bad, good, store=Picky(), max_running=2, pools={"p": 1}) as engine:
        id = (await engine.submissions.submit("bad")).id
        found = await ended(engine, id)
        assert found == {"a": "cancelled", "odd": "cancelled", "": "failed"}
        detail = await engine.reader.execution(id)
        assert detail.reason == "a defect in goflow: TypeError: it cannot be encoded"
        assert engine.slots.taken == 0
        assert len(engine.live) == 0
        assert engine.health.defect is not None
        assert id in engine.health.defect
        assert "TypeError: it cannot be encoded" in engine.health.defect
        assert any(id in notice.text for notice in engine.health.notices())
        other = (await engine.submissions.submit("good")).id
        assert (await ended(engine, other))[""] == "successful"


async def test_attempts_running_at_a_defect_are_ended_with_the_reason() -> None:
    hanging = Scripted(["hang"])
    job = job_of(
        "j", Task("a", hanging), Task("b", Scripted()), Task("odd", Scripted(), after=["b"])
    )
    async with running(job, store=Picky()) as engine:
        id = (await engine.submissions.submit("j")).id
        found = await ended(engine, id)
        assert found == {"a": "failed", "b": "failed", "odd": "cancelled", "": "failed"}
        assert hanging.ended == ["cancelled"]
        (task,) = [t for t in (await engine.reader.execution(id)).tasks if t.name == "a"]
        assert "was not recorded, because of a defect in goflow: TypeError" in str(task.error)
        assert engine.slots.taken == 0


async def test_commands_to_an_execution_with_a_defect_are_answered() -> None:
    hanging = Scripted(["hang"])
    job = job_of("j", Task("odd", hanging))
    store = Picky()
    async with running(job, store=store) as engine:
        store.refuses = ()
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        store.refuses = (object,)
        answers = await asyncio.gather(
            asyncio.wait_for(engine.control.cancel_task(id, "odd"), 60),
            asyncio.wait_for(engine.control.cancel(id), 60),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Unavailable] * 2
        assert "defect" in str(answers[0])
        # even its end cannot be written: it is left to the next start, and no caller waits
        assert await ended(engine, id) == {"odd": "running", "": "running"}
        for asked in (
            engine.control.cancel(id),
            engine.control.cancel_task(id, "odd"),
            engine.control.retry(id),
        ):
            with pytest.raises(Unavailable, match="stopped by a defect"):
                await asked
        assert engine.slots.taken == 0


async def test_a_command_that_raises_is_answered_and_the_execution_continues() -> None:
    hanging = Scripted(["hang"])
    async with running(job_of("j", Task("t", hanging))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        runner = engine.runners.get(id)
        assert runner is not None

        def command(execution: Execution, now: Any) -> Any:
            raise LookupError("nothing")

        with pytest.raises(LookupError):
            await asyncio.wait_for(runner.command(command), 60)
        hanging.release.set()
        assert (await ended(engine, id))[""] == "successful"
        assert "LookupError: nothing" in str(engine.health.defect)


@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), MemoryError()], ids=repr)
async def test_an_attempt_ended_by_a_defect_fails_and_is_retried(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = Attempt.perform
    begun: list[str] = []

    async def raising(attempt: Attempt, executor: Any, work: Work, spent: float) -> Any:
        begun.append(work.context.task)
        if begun == ["t"]:
            raise error
        return await perform(attempt, executor, work, spent)

    monkeypatch.setattr(Attempt, "perform", raising)
    async with running(job_of("j", Task("t", Scripted(), retries=1))) as engine:
        id = (await engine.submissions.submit("j")).id
        assert (await ended(engine, id)) == {"t": "successful", "": "successful"}
        (task,) = (await engine.reader.execution(id)).tasks
        assert [one.state for one in task.attempts] == [State.FAILED, State.SUCCESSFUL]
        assert type(error).__name__ in str(task.attempts[0].error)
        assert engine.slots.taken == 0


async def test_executions_waiting_for_one_with_a_defect_continue() -> None:
    hanging = Scripted(["hang", "hang"])
    job = job_of("j", Task("a", hanging), Task("odd", Scripted(), after=["a"]), overlap="queue")
    store = Picky()
    async with running(job, store=store) as engine:
        first = (await engine.submissions.submit("j")).id
        second = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        of_first, hanging.release = hanging.release, asyncio.Event()
        of_first.set()
        assert (await ended(engine, first))[""] == "failed"
        store.refuses = ()
        hanging.release.set()
        assert (await ended(engine, second))[""] == "successful"


async def test_a_thread_that_survives_a_defect_keeps_its_slot_until_it_ends() -> None:
    blocking, before = Blocking(), Scripted(["hang"])
    job = job_of("j", Task("a", blocking), Task("b", before), Task("odd", Scripted(), after=["b"]))
    async with running(job, store=Picky()) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: blocking.runs)
        before.release.set()
        assert (await ended(engine, id))[""] == "failed"
        assert engine.slots.taken == 1
        blocking.release.set()
        await until(lambda: engine.slots.taken == 0)


async def test_a_submit_whose_execution_cannot_be_created_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def raising(self: Runner) -> bool:
        raise KeyError("x")

    good = job_of("good", Task("t", Scripted()))
    async with running(good) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(Runner, "_open", raising)
            with pytest.raises(KeyError):
                await asyncio.wait_for(engine.submissions.submit("good"), 60)
        id = (await engine.submissions.submit("good")).id
        assert (await ended(engine, id))[""] == "successful"


async def test_the_live_state_drops_finished_executions_even_after_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from goflow.engine.live import LiveExecution

    apply = LiveExecution.apply

    def raising(self: LiveExecution, transition: Any, version: int) -> None:
        if self.job == "bad":
            raise KeyError("x")
        apply(self, transition, version)

    monkeypatch.setattr(LiveExecution, "apply", raising)
    jobs = [job_of(name, Task("t", Scripted())) for name in ("bad", "good")]
    async with running(*jobs, clock=FakeClock()) as engine:
        ids = [(await engine.submissions.submit(job.name)).id for job in jobs]
        for id in ids:
            assert (await ended(engine, id))[""] == "successful"
        assert len(engine.live) == 0
        assert "KeyError: 'x'" in str(engine.health.defect)
