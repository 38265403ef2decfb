"""Hooks: functions that run when all tasks of an execution have ended."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import (
    Command,
    ConstantDelay,
    Context,
    Job,
    Later,
    Outcome,
    SqliteStore,
    State,
    Task,
    Template,
)
from goflow.core.catchup import Overlap
from goflow.core.events import OnRetryEnded, TaskFailed, TaskStarted
from goflow.core.execution import INTERRUPTED
from goflow.core.keys import Item
from goflow.engine.attempts.hooks import ERRORS_TOLD, last_errors
from goflow.errors import Conflict, InvalidJob, NotFound
from goflow.testing import FakeClock, run
from tests.core.histories import NOW
from tests.engine.scripted import Gated, Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


class Told:
    """A hook's operator that notes the outcomes it is told, and follows a script."""

    def __init__(self, *script: str) -> None:
        self.outcomes: list[Outcome] = []
        self._scripted = Scripted([*script])

    async def run(self, context: Context) -> Any:
        assert context.outcome is not None
        self.outcomes.append(context.outcome)
        return await self._scripted.run(context)

    @property
    def attempts(self) -> list[int]:
        return self._scripted.runs

    def release(self) -> None:
        self._scripted.release.set()


def with_hooks(*tasks: Task, **operators: Any) -> tuple[Job, dict[str, Told]]:
    """A job with a hook for each of `success`, `failure` and `finish` that is given, or all."""
    job = job_of("j", *(tasks or (Task("a", Scripted()),)))
    told = {name: operators.get(name) or Told() for name in ("success", "failure", "finish")}
    for name, operator in told.items():
        getattr(job, f"on_{name}")(Task(f"on {name}", operator))
    return job, told


async def ended(engine: Any, id: str) -> Any:
    await engine.runners.finished(id)
    return await engine.reader.execution(id)


def hooks(detail: Any) -> dict[str, str]:
    return {hook.name: str(hook.state) for hook in detail.hooks}


def ran(told: dict[str, Told]) -> list[str]:
    return [name for name, operator in told.items() if operator.outcomes]


# -- which hooks run, and what they are told ---------------------------------------------


async def test_after_a_success_the_hooks_for_it_run_and_the_others_are_skipped() -> None:
    job, told = with_hooks()
    async with running(job) as engine:
        detail = await ended(engine, (await engine.submissions.submit("j")).id)
    assert ran(told) == ["success", "finish"]
    assert detail.state is State.SUCCESSFUL
    assert hooks(detail) == {
        "on success": "successful",
        "on failure": "skipped",
        "on finish": "successful",
    }
    assert [task.name for task in detail.tasks] == ["a"]


async def test_a_hook_is_told_which_tasks_failed_and_why() -> None:
    tasks = (Task("a", Scripted(["fail", "fail"]), retries=1), Task("b", Scripted(["fail"])))
    job, told = with_hooks(*tasks, Task("c", Scripted(), after=["a"]), Task("d", Scripted()))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j", {"x": 1})).id
        detail = await ended(engine, id)
    assert ran(told) == ["failure", "finish"]
    (outcome,) = told["failure"].outcomes
    assert outcome == told["finish"].outcomes[0]
    assert (outcome.execution, outcome.job, outcome.state) == (id, "j", State.FAILED)
    assert outcome.failed == ["a", "b"]
    first = {name: error.partition("\n")[0] for name, error in outcome.errors.items()}
    assert first == {
        "a": "ValueError: scripted to fail attempt 2",
        "b": "ValueError: scripted to fail attempt 1",
    }
    assert outcome.params == {"x": 1}
    assert outcome.reason is None
    assert outcome.submitted_at == detail.submitted
    assert outcome.started_at == detail.started
    assert outcome.finished_at == max(task.finished for task in detail.tasks)


async def test_hooks_run_once_after_all_tasks_and_before_the_end() -> None:
    job, told = with_hooks(finish=Told("hang"))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: told["finish"].outcomes)
        live = engine.live.get(id)
        assert live is not None
        assert live.state is State.RUNNING
        assert live.counts == {State.SUCCESSFUL: 1}
        told["finish"].release()
        detail = await ended(engine, id)
    assert [len(one.outcomes) for one in told.values()] == [1, 0, 1]
    assert detail.state is State.SUCCESSFUL


async def test_after_a_cancel_only_the_hooks_for_every_end_run() -> None:
    job, told = with_hooks(Task("a", Scripted(["hang"])))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.live.get(id).running)  # type: ignore[union-attr]
        assert await engine.control.cancel(id)
        detail = await ended(engine, id)
    assert ran(told) == ["finish"]
    assert told["finish"].outcomes[0].state is State.CANCELLED
    assert detail.state is State.CANCELLED


async def test_hooks_of_an_execution_cancelled_in_the_queue_do_not_wait_for_others() -> None:
    job, told = with_hooks(Task("a", Scripted(["hang"])))
    job.overlap = type(job.overlap)("queue")
    async with running(job) as engine:
        first = (await engine.submissions.submit("j")).id
        await until(lambda: engine.live.get(first).running)  # type: ignore[union-attr]
        second = (await engine.submissions.submit("j")).id
        await engine.control.cancel(second)
        detail = await ended(engine, second)
        assert [one.execution for one in told["finish"].outcomes] == [second]
        assert detail.state is State.CANCELLED
        assert detail.started is None


async def test_a_timeout_of_the_execution_is_a_failure_and_has_a_reason() -> None:
    clock = FakeClock()
    job, told = with_hooks(Task("a", Scripted(["hang"])), failure=Told("hang"))
    job.timeout = 5
    async with running(job, clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.live.get(id).running)  # type: ignore[union-attr]
        clock.advance(seconds=6)
        await until(lambda: told["failure"].outcomes)
        assert told["failure"].outcomes[0].reason == "timed out after 5 s"
        clock.advance(seconds=30)  # the time of hooks is not limited by that of the tasks
        told["failure"].release()
        detail = await ended(engine, id)
    assert hooks(detail)["on failure"] == "successful"


def test_long_errors_are_cut_when_there_are_many() -> None:
    facts = [TaskFailed(NOW, f"t{number}", 1, "x" * 16_000) for number in range(40)]
    told = last_errors([fact.task for fact in facts], facts)
    assert len(told) == 40
    assert sum(map(len, told.values())) < 2 * ERRORS_TOLD


# -- hooks that fail -----------------------------------------------------------------------


async def test_a_failed_hook_is_shown_and_changes_nothing_else() -> None:
    job, _ = with_hooks(success=Told("fail"))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        failed = detail.hooks[0]
        assert failed.state is State.FAILED
        assert failed.error.startswith("ValueError: scripted to fail attempt 1")
        attempt = await engine.reader.attempt(id, "on success", None)
        log = await engine.reader.log_of(*attempt.place)
        assert "scripted to fail" in "".join([text async for text in log.texts])


def test_a_hook_is_retried() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])

    @job.on_finish(retries=2, retry_delay=ConstantDelay(3600))
    def tell(context: Context, outcome: Outcome) -> int:
        if context.attempt < 3:
            raise ValueError("not yet")
        return context.attempt

    hook = run(job).hooks["tell"]
    assert (hook.state, hook.result, len(hook.attempts)) == (State.SUCCESSFUL, 3, 3)


def test_a_hook_that_hangs_is_ended_by_its_timeout() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])

    @job.on_finish(timeout=0.05)
    async def hang() -> None:
        await asyncio.sleep(3600)

    @job.on_finish
    async def good() -> None: ...

    assert [hook.timeout for hook in job.hooks] == [0.05, 60]
    execution = job.run()
    assert execution.state is State.SUCCESSFUL
    assert execution.hooks["hang"].error == "timed out after 0.05 s"
    assert execution.hooks["good"].state is State.SUCCESSFUL


def test_a_hook_may_wait() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])
    looks: list[float] = []

    @job.on_finish
    def wait(context: Context) -> None:
        looks.append(context.waited)
        if len(looks) < 3:
            raise Later(10, "no answer")

    assert run(job).hooks["wait"].state is State.SUCCESSFUL
    assert len(looks) == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_hook_may_raise_anything(error: BaseException) -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])

    @job.on_finish
    async def odd() -> None:
        raise error

    execution = job.run()
    assert execution.state is State.SUCCESSFUL
    assert execution.hooks["odd"].state is State.FAILED


# -- requests ------------------------------------------------------------------------------


async def test_a_cancel_while_hooks_run_ends_the_hooks_and_not_the_success() -> None:
    job, _ = with_hooks(success=Told("hang"), finish=Told("hang"))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.runners[id].execution.closing)
        assert await engine.control.cancel(id)
        detail = await ended(engine, id)
    assert detail.state is State.SUCCESSFUL
    assert set(hooks(detail).values()) == {"cancelled", "skipped"}


async def test_one_hook_can_be_cancelled_and_none_marked() -> None:
    job, told = with_hooks(finish=Told("hang"))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: told["finish"].outcomes)
        with pytest.raises(Conflict, match="or hooks run"):
            await engine.control.mark(id, "a", State.SKIPPED)
        with pytest.raises(Conflict):
            await engine.control.mark(id, "on finish", State.SUCCESSFUL)
        assert await engine.control.cancel_task(id, "on finish")
        detail = await ended(engine, id)
        assert hooks(detail)["on finish"] == "cancelled"
        with pytest.raises(NotFound):
            await engine.control.retry(id, task="unknown")


async def test_a_retry_runs_the_hooks_again_with_the_new_outcome() -> None:
    job, told = with_hooks(Task("a", Scripted(["fail"])))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        assert (await ended(engine, id)).state is State.FAILED
        await engine.control.retry(id)
        detail = await ended(engine, id)
    assert ran(told) == ["success", "failure", "finish"]
    assert [one.state for one in told["finish"].outcomes] == [State.FAILED, State.SUCCESSFUL]
    assert hooks(detail)["on failure"] == "skipped"
    assert told["finish"].attempts == [1, 2]


async def test_a_hook_that_failed_runs_again_alone_and_is_told_the_same() -> None:
    failing, other = Told("fail"), Told()
    job, told = with_hooks(Task("a", Scripted(["fail"])), failure=failing, finish=other)
    job.overlap = Overlap.SKIP
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        first = await ended(engine, id)
        assert hooks(first)["on failure"] == "failed"
        await engine.control.retry(id, task="on failure")
        detail = await ended(engine, id)
        assert detail.state is State.FAILED
        assert hooks(detail) == hooks(first) | {"on failure": "successful"}
        assert failing.attempts == [1, 2]
        assert failing.outcomes[0] == failing.outcomes[1]
        assert other.attempts == [1]
        assert detail.tasks[0].attempts == first.tasks[0].attempts
        assert (detail.actions[-1].action, detail.actions[-1].task) == ("retry", "on failure")
        with pytest.raises(Conflict, match="'on success' is not for an execution that is failed"):
            await engine.control.retry(id, task="on success")
        with pytest.raises(Conflict, match="retry it without others"):
            await engine.control.retry(id, task="on failure", params={})
        assert (await ended(engine, id)).version == detail.version
        assert told["success"].outcomes == []


async def test_a_retry_of_a_hook_does_not_wait_for_other_executions() -> None:
    operator = Scripted(["ok", "hang"])
    job, told = with_hooks(Task("a", operator), finish=Told("fail"))
    job.overlap = Overlap.REPLACE
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await ended(engine, id)
        other = (await engine.submissions.submit("j")).id
        await until(lambda: len(operator.runs) == 2)
        await engine.control.retry(id, task="on finish")
        await ended(engine, id)
        assert told["finish"].attempts == [1, 2]
        assert not engine.runners[other].execution.cancelling
        operator.release.set()
        await ended(engine, other)


async def test_a_retry_of_a_hook_outlives_a_restart(tmp_path: Path) -> None:
    def build(told: Told) -> Job:
        job = job_of("j", Task("a", Scripted()))
        job.on_finish(Task("tell", told, retries=1))
        return job

    store = tmp_path / "goflow.db"
    first, second = Told("ok", "hang"), Told()
    async with running(build(first), store=SqliteStore(store)) as engine:
        id = (await engine.submissions.submit("j")).id
        await ended(engine, id)
        await engine.control.retry(id, task="tell")
        await until(lambda: first.attempts == [1, 2])
    async with running(build(second), store=SqliteStore(store)) as engine:
        detail = await ended(engine, id)
    assert (detail.state, hooks(detail)) == (State.SUCCESSFUL, {"tell": "successful"})
    assert second.attempts == [3]


def test_templates_in_the_operator_of_a_hook_know_the_outcome() -> None:
    job = Job("j", tasks=[Task("a", Command("false")), Task("b", Command("true"))])
    text = "{{ outcome.state }}: {{ outcome.failed | join(' ') }}: {{ outcome.errors.a }}"
    job.on_finish(Task("tell", Command("echo", [Template(text)])))
    assert job.run().hooks["tell"].result == "failed: a: exit code 1\n"
    with pytest.raises(InvalidJob, match="'outcome' exists only in a hook"):
        Job("k", tasks=[Task("a", Command("echo", [Template("{{ outcome.state }}")]))])


# -- crashes and restarts ------------------------------------------------------------------


async def test_a_stop_before_a_hook_leaves_it_to_the_next_start(tmp_path: Path) -> None:
    job, told = with_hooks(finish=Told("hang"))
    async with running(job, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: told["finish"].outcomes)
    again, told = with_hooks()
    async with running(again, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
        # It had begun, and a hook without retries does not run twice.
        assert hooks(detail)["on finish"] == "failed"
        assert detail.hooks[2].error.startswith("interrupted")
        assert detail.state is State.SUCCESSFUL
        assert ran(told) == []
        assert (await states(engine, id))[""] == "successful"


async def test_a_hook_with_retries_that_was_interrupted_runs_again_and_is_told_the_same(
    tmp_path: Path,
) -> None:
    def build(told: Told) -> Job:
        job = job_of("j", Task("a", Scripted(["fail"])))
        job.on_failure(Task("tell", told, retries=1))
        return job

    first, second = Told("hang"), Told()
    async with running(build(first), store=SqliteStore(tmp_path / "goflow.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.outcomes)
    async with running(build(second), store=SqliteStore(tmp_path / "goflow.db")) as engine:
        await engine.runners.finished(id)
        history = engine.store.history(id)
        assert history is not None
        starts = [f.attempt for f in history.facts if isinstance(f, TaskStarted)]
    assert first.outcomes == second.outcomes
    assert starts == [1, 1, 2]
    assert INTERRUPTED.startswith("interrupted")


async def test_a_hook_that_the_job_no_longer_has_fails_visibly(tmp_path: Path) -> None:
    job, told = with_hooks(Task("a", Scripted(["hang"]), retries=1))
    async with running(job, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: engine.live.get(id).running)  # type: ignore[union-attr]
    bare = job_of("j", Task("a", Scripted()))
    async with running(bare, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
    assert detail.state is State.SUCCESSFUL
    assert detail.hooks[0].error == "job 'j' has no task 'on success' any more"
    assert ran(told) == []


# -- retries of a task ---------------------------------------------------------------------


def retried(on_retry: Any, **options: Any) -> Any:
    """A finished task that fails twice, and then succeeds."""
    job = Job("j", params={"x": 1})

    @job.task(on_retry=on_retry, **{"retries": 2} | options)
    def load(context: Context) -> int:
        if context.attempt < 3:
            raise ValueError(f"no {context.attempt}")
        return context.attempt

    return job.run().tasks["load"]


def test_on_retry_is_told_of_each_failure_that_is_retried() -> None:
    told: list[Outcome] = []

    def notify(outcome: Outcome, context: Context) -> None:
        told.append(outcome)
        print(f"attempt {context.attempt} again")

    task = retried(notify)
    assert task.state is State.SUCCESSFUL
    assert [outcome.errors["load"].partition("\n")[0] for outcome in told] == [
        "ValueError: no 1",
        "ValueError: no 2",
    ]
    assert {(one.state, *one.failed, one.params["x"]) for one in told} == {
        (State.UPFORRETRY, "load", 1)
    }
    assert "attempt 2 again" in task.logs


def test_on_retry_is_not_called_after_the_last_failure() -> None:
    told: list[Outcome] = []
    task = retried(lambda outcome: told.append(outcome), retries=1)
    assert task.state is State.FAILED
    assert len(told) == 1


def test_an_on_retry_that_fails_is_in_the_log_and_changes_nothing() -> None:
    async def bad() -> None:
        raise SystemExit(3)

    task = retried(bad)
    assert task.state is State.SUCCESSFUL
    assert task.logs.count("on_retry is called\nexit code 3") == 2


def test_an_on_retry_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goflow.engine.attempts.hooks.HOOK_TIMEOUT", 0.05)

    async def hang() -> None:
        await asyncio.sleep(3600)

    task = retried(hang)
    assert task.state is State.SUCCESSFUL
    assert task.logs.count("on_retry is called\n") == 2
    assert task.logs.count("\ntimed out after 0.05 s\n") == 2


class Teller:
    """An `on_retry` that notes the errors it is told, and follows a script."""

    def __init__(self, *script: str) -> None:
        self.errors: list[str] = []
        self.scripted = Scripted([*script])

    async def __call__(self, outcome: Outcome, context: Context) -> None:
        self.errors.append(outcome.errors["a"])
        await self.scripted.run(context)


def told_by(teller: Teller, operator: Any = None, **options: Any) -> Job:
    async def on_retry(outcome: Outcome, context: Context) -> None:
        await teller(outcome, context)

    operator = operator or Scripted(["fail"])
    return job_of("j", Task("a", operator, retries=1, on_retry=on_retry, **options))


async def test_the_next_attempt_waits_for_on_retry_and_its_failure_is_shown() -> None:
    teller, operator = Teller("hang"), Scripted(["fail"])
    async with running(told_by(teller, operator), max_running=1) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: teller.errors)
        assert operator.runs == [1]
        assert engine.runners.waiting(id, "a") == "its on_retry is called first"
        assert engine.slots.taken == 1
        teller.scripted.release.set()
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        assert "on_retry_error" not in json.loads(msgspec.json.encode(detail.tasks[0].attempts[0]))
    teller = Teller("fail")
    async with running(told_by(teller)) as engine:
        id = (await engine.submissions.submit("j")).id
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        failed, last = detail.tasks[0].attempts
        assert "scripted to fail attempt 1" in failed.error
        assert "scripted to fail attempt 1" in failed.on_retry_error
        assert last.on_retry_error is msgspec.UNSET
        log = await engine.reader.log_of(id, "a", 1)
        text = "".join([part async for part in log.texts])
        assert text.count("on_retry is called") == 1
        assert text.count("scripted to fail attempt 1") >= 2


async def test_an_on_retry_that_the_end_of_the_server_interrupts_is_called_again(
    tmp_path: Path,
) -> None:
    first, second, operator = Teller("hang"), Teller(), Scripted()
    path = tmp_path / "goflow.db"
    async with running(told_by(first), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.errors)
    assert first.scripted.ended == ["cancelled"]
    async with running(told_by(second, operator), store=SqliteStore(path)) as engine:
        detail = await ended(engine, id)
        history = engine.store.history(id)
    assert detail.state is State.SUCCESSFUL
    assert second.errors == first.errors
    assert operator.runs == [2]
    assert history is not None
    told = [fact for fact in history.facts if isinstance(fact, OnRetryEnded)]
    assert [(one.task, one.attempt, one.error) for one in told] == [("a", 1, "")]
    third = Teller()
    async with running(told_by(third), store=SqliteStore(path)) as engine:
        assert not engine.runners
    assert third.errors == [], "it has ended"


async def test_an_on_retry_that_the_job_no_longer_has_does_not_hold_up_the_retry(
    tmp_path: Path,
) -> None:
    path = tmp_path / "goflow.db"
    async with running(told_by(first := Teller("hang")), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: first.errors)
    bare = job_of("j", Task("a", Scripted(), retries=1))
    async with running(bare, store=SqliteStore(path)) as engine:
        detail = await ended(engine, id)
    assert detail.state is State.SUCCESSFUL
    told = detail.tasks[0].attempts[0].on_retry_error
    assert told == "the task has no on_retry any more"


@pytest.mark.parametrize("request_", ["cancel", "cancel task", "mark"])
async def test_a_task_that_does_not_run_again_ends_its_on_retry(request_: str) -> None:
    teller, operator = Teller("hang"), Scripted(["fail"])
    async with running(told_by(teller, operator)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: teller.errors)
        match request_:
            case "cancel":
                assert await engine.control.cancel(id)
            case "cancel task":
                assert await engine.control.cancel_task(id, "a")
            case _:
                await engine.control.mark(id, "a", State.SUCCESSFUL)
        detail = await ended(engine, id)
        await until(lambda: teller.scripted.ended)
        assert detail.state is (State.SUCCESSFUL if request_ == "mark" else State.CANCELLED)
        assert operator.runs == [1]
        await until(lambda: not engine.slots.taken)


async def test_an_on_retry_that_does_not_end_when_told_to_is_abandoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("goflow.engine.attempts.hooks.HOOK_TIMEOUT", 0.05)
    monkeypatch.setattr("goflow.engine.attempts.under_way.CLEANUP", 0.05)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    job = job_of("j", Task("a", Scripted(["fail"]), retries=1, on_retry=stubborn))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        assert "did not end when told to" in str(detail.tasks[0].attempts[0].on_retry_error)
        assert engine.slots.taken == 1, "it still runs"
        release.set()
        await until(lambda: not engine.slots.taken)


async def test_an_on_retry_whose_task_is_marked_while_it_waits_takes_no_slot() -> None:
    store, teller, before = Gated(), Teller(), Scripted(["hang"])
    job = told_by(teller)
    job.add(Task("b", before))
    job.add(Task("c", Scripted(), after=["b"]))
    async with running(job, store=store, max_running=1) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: before.runs and engine.runners[id].execution.is_untold("a"))
        await until(lambda: "a" in engine.runners[id]._requests)
        store.gate.clear()
        marking = asyncio.create_task(engine.control.mark(id, "a", State.SUCCESSFUL))
        await until(lambda: store.waiting)
        before.release.set()  # so there is a slot before the mark is committed
        await until(lambda: not engine.slots.taken)
        store.gate.set()
        await marking
        assert (await ended(engine, id)).state is State.SUCCESSFUL
    assert teller.errors == []


async def test_each_item_of_a_mapped_task_is_told_by_itself() -> None:
    told: list[tuple[int | None, str]] = []

    def on_retry(outcome: Outcome, context: Context) -> None:
        told.append((context.index, outcome.errors["load"].partition("\n")[0]))
        print(f"again {context.index}")

    class FailsFirst:
        def run(self, context: Context) -> None:
            if context.attempt == 1:
                raise ValueError(f"no {context.item}")

    numbers = Task("numbers", Scripted(result=[4, 5, 6]))
    load = Task("load", FailsFirst(), after=["numbers"], map_over="numbers", max_parallel=1,
                retries=1, on_retry=on_retry)  # fmt: skip
    async with running(job_of("j", numbers, load)) as engine:
        id = (await engine.submissions.submit("j")).id
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        assert sorted(told) == [(n, f"ValueError: no {n + 4}") for n in range(3)]
        log = await engine.reader.log_of(id, Item("load", 1), 1)
        assert "again 1\n" in "".join([part async for part in log.texts])


# -- definitions ---------------------------------------------------------------------------


def test_a_hook_may_run_in_a_separate_process() -> None:
    job = Job("j", tasks=[Task("a", Command("false"))])

    @job.on_failure(isolation="process")
    def tell(outcome: Outcome) -> list[Any]:
        return [outcome.state, outcome.state is State.FAILED, outcome.errors, outcome.job]

    assert job.run().hooks["tell"].result == ["failed", True, {"a": "exit code 1"}, "j"]


def test_a_hook_may_be_an_operator() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])
    hook = job.on_success(Task("say", Command("echo", ["done"])))
    assert (hook.timeout, job.hooks, job.tasks) == (60, [hook], [job.task("a")])
    assert job.run().hooks["say"].logs == "done\n"


def bad_hooks() -> list[tuple[Any, str]]:
    def two(one: Any, two: Any) -> None: ...
    def many(*every: Any) -> None: ...
    def a() -> None: ...

    return [
        (two, "parameter 'two' is one too many; a hook takes one outcome, or nothing"),
        (many, "parameter '*every: Any' cannot be passed by name"),
        (a, "job 'j' already has a task 'a'; names must differ"),
        (3, "name of the hook|hook"),
        (Task("x", Scripted(), after=["a"]), "takes neither after, map_over nor trigger_rule"),
        (Task("x", Scripted(), trigger_rule="allDone"), "takes neither"),
        (Task("a", Scripted()), "already has a task 'a'"),
    ]


@pytest.mark.parametrize(("hook", "message"), bad_hooks())
def test_a_mistake_in_a_hook_is_refused_at_once(hook: Any, message: str) -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])
    with pytest.raises(InvalidJob, match=message.replace("*", r"\*")):
        job.on_failure(hook)
    assert job.hooks == []


def test_a_hook_is_for_one_end_and_after_all_tasks() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])

    @job.on_success
    def tell() -> None: ...

    with pytest.raises(InvalidJob, match="runs on success already; use on_finish"):
        job.on_failure(tell)
    with pytest.raises(InvalidJob, match="no such task"):
        job.task("a") >> tell
    with pytest.raises(InvalidJob, match="already has a hook 'tell'"):
        job.add(Task("tell", Command("true")))
    with pytest.raises(InvalidJob, match="has no task 'tell'"):
        job.task("tell")
    job.seal()
    with pytest.raises(InvalidJob, match="registered already: hook 'late'"):
        job.on_finish(Task("late", Command("true")))


def test_jobs_without_hooks_keep_their_plans() -> None:
    job = Job("j", tasks=[Task("a", Command("true"))])
    job.seal()
    assert job.plan.encoded == b'{"tasks":[{"name":"a"}]}'
