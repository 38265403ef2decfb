"""The shared state of an execution: actions, the reducer, and what may go wrong with them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import Context, Job, SqliteStore, State, Task, TaskFailed
from goflow.core.events import Dispatched
from goflow.core.result import SMALL
from goflow.engine.attempts import shared
from goflow.errors import InvalidJob
from goflow.state import combine_reducers
from tests.engine.scripted import running, until

pytestmark = pytest.mark.anyio


def count(state: Any, action: Any) -> Any:
    match action["type"]:
        case "add":
            return {**state, "n": state["n"] + action.get("by", 1)}
        case "raise":
            raise SystemExit(3)
        case "mutate":
            state["n"] = 99
            return state
        case "mutate the action":
            action["type"] = "other"
            return {**state}
        case "nan":
            return {"n": [1, float("nan")]}
        case "object":
            return {"n": object()}
        case "grow":
            return {"n": 0, "text": "x" * action["by"]}
    return state


async def late(state: Any, action: Any) -> Any:
    return state


def counting(**options: Any) -> Job:
    return Job("j", **{"state": count, "initial": {"n": 0}} | options)


async def ended(engine: Any) -> Any:
    id = (await engine.submissions.submit("j")).id
    await engine.runners.finished(id)
    return id


def actions(engine: Any, id: str) -> list[tuple[str, int, int, Any]]:
    facts = [fact for fact in engine.store.history(id).facts if isinstance(fact, Dispatched)]
    return [(f.task, f.attempt, f.number, msgspec.json.decode(f.content)) for f in facts]


# -- dispatching -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "loop", "process"])
def test_a_task_of_any_isolation_changes_the_state_for_those_after_it(kind: str) -> None:
    job = counting()
    if kind == "loop":

        @job.task
        async def add(context: Context) -> list[Any]:
            before = context.state
            await context.dispatch({"type": "add", "by": 2})
            return [before, context.state]
    else:

        @job.task(name="add", isolation=kind)
        def add_(context: Context) -> list[Any]:
            before = context.state
            context.dispatch({"type": "add", "by": 2})
            return [before, context.state]

    @job.task(after=["add"])
    def look(context: Context) -> Any:
        return context.state

    execution = job.run()
    assert execution.tasks["add"].result == [{"n": 0}, {"n": 2}]
    assert execution.tasks["look"].result == {"n": 2}
    assert execution.shared_state == {"n": 2}


async def test_an_action_is_committed_before_dispatch_returns() -> None:
    job = counting()
    seen: list[Any] = []

    @job.task
    def add(context: Context) -> None:
        context.dispatch({"type": "add"})
        seen.append([len(actions(engine, context.execution_id)), context.state])

    async with running(job) as engine:
        id = await ended(engine)
        assert seen == [[1, {"n": 1}]]
        page = await engine.reader.shared_state(id, None, 10)
        assert page.last == page.changes[0]
        assert (page.last.task, bytes(page.last.state)) == ("add", b'{"n":1}')


def test_async_code_that_does_not_await_a_dispatch_still_keeps_it() -> None:
    job = counting()

    @job.task
    async def add(context: Context) -> None:
        for _ in range(20):
            context.dispatch({"type": "add"})

    @job.task
    async def bad(context: Context) -> None:
        context.dispatch({"type": "raise"})

    execution = job.run()
    assert execution.shared_state == {"n": 20}
    assert execution.tasks["bad"].error is not None
    assert execution.tasks["bad"].error.startswith("an action was not kept: ")


def test_tasks_at_once_lose_no_action() -> None:
    job = counting()
    for number in range(8):

        @job.task(name=f"t{number}")
        def add(context: Context) -> None:
            for _ in range(10):
                context.dispatch({"type": "add"})

    assert job.run().shared_state == {"n": 80}


# -- attempts that run again -------------------------------------------------------------------


async def test_a_retry_does_not_repeat_the_actions_of_the_attempt_before() -> None:
    job = counting()

    @job.task(retries=2)
    def load(context: Context) -> None:
        for row in range(context.attempt * 2):
            context.dispatch({"type": "add", "row": row})
        if context.attempt < 3:
            raise ValueError("broken off")

    async with running(job) as engine:
        id = await ended(engine)
        made = [(attempt, number) for _, attempt, number, _ in actions(engine, id)]
        assert made == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]


async def test_from_the_first_action_that_differs_all_actions_of_a_retry_are_new() -> None:
    job = counting()

    @job.task(retries=1)
    def load(context: Context) -> Any:
        context.dispatch({"type": "add"})
        context.dispatch({"type": "add", "attempt": context.attempt})
        context.dispatch({"type": "add"})
        if context.attempt == 1:
            raise ValueError("broken off")
        return context.state

    async with running(job) as engine:
        id = await ended(engine)
        made = [(attempt, number) for _, attempt, number, _ in actions(engine, id)]
        assert made == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)]
        assert (await engine.reader.result(id, "load")).body == b'{"n":5}'


async def test_items_of_a_mapped_task_have_actions_of_their_own() -> None:
    job = counting()

    @job.task
    def find() -> list[int]:
        return [1, 2, 3]

    @job.task(map_over="find")
    def load(find: int, context: Context) -> None:
        context.dispatch({"type": "add"})

    assert job.run().shared_state == {"n": 3}


@pytest.mark.parametrize("size", [10, SMALL + 1])
async def test_a_restart_neither_loses_nor_doubles_actions(tmp_path: Path, size: int) -> None:
    release = asyncio.Event()

    def build() -> Job:
        job = counting()

        @job.task(retries=1)
        async def load(context: Context) -> Any:
            await context.dispatch({"type": "grow", "by": size})
            for _ in range(3):
                await context.dispatch({"type": "add"})
            if context.attempt == 1:
                await release.wait()
            await context.dispatch({"type": "add"})
            return context.state["n"]

        return job

    async with running(build(), store=SqliteStore(tmp_path / "goflow.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(actions(engine, id)) == 4)
    async with running(build(), store=SqliteStore(tmp_path / "goflow.db")) as engine:
        await engine.runners.finished(id)
        assert (await engine.reader.result(id, "load")).body == b"4"
        assert len(actions(engine, id)) == 5


# -- bad reducers and actions ------------------------------------------------------------------


BAD: list[tuple[Any, str]] = [
    ({"type": "raise"}, "the reducer of job 'j' raised SystemExit: 3 for the action"),
    ({"type": "mutate"}, "changed the state or the action that it was given"),
    ({"type": "mutate the action"}, "changed the state or the action that it was given"),
    ({"type": "nan"}, 'state["n"][1]: nan is not a number that JSON has'),
    ({"type": "object"}, "returned a state that JSON cannot hold"),
    ({"type": "grow", "by": 300_000}, "more than the 262,144 that it may have"),
    ({"type": "add", "x": float("inf")}, 'cannot hold: action["x"]: inf is not a number'),
    ({"type": "add", "x": "x" * 70_000}, "more than the 65,536 that one may have"),
    ({"no": "type"}, "raised KeyError: 'type'"),
]


@pytest.mark.parametrize(("action", "message"), BAD)
async def test_a_refused_action_fails_its_task_and_leaves_the_state(
    action: Any, message: str
) -> None:
    job = counting()

    @job.task
    def bad(context: Context) -> None:
        context.dispatch(action)

    @job.task(after=["bad"], trigger_rule="allDone")
    def good(context: Context) -> Any:
        context.dispatch({"type": "add"})
        return context.state

    async with running(job) as engine:
        id = await ended(engine)
        detail = await engine.reader.execution(id)
        assert message in detail.tasks[0].error
        assert "Traceback" not in detail.tasks[0].error
        assert bytes(detail.tasks[1].result) == b'{"n":1}'
        assert detail.dispatched == 1


def test_an_async_reducer_is_refused() -> None:
    job = counting(state=late)

    @job.task
    def bad(context: Context) -> None:
        context.dispatch({"type": "add"})

    assert "must be an ordinary function" in (job.run().tasks["bad"].error or "")


def test_a_million_actions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "ACTIONS", 50)
    job = counting()

    @job.task
    def load(context: Context) -> None:
        for _ in range(1_000_000):
            context.dispatch({"type": "add"})

    execution = job.run()
    assert execution.tasks["load"].error == (
        "the execution has dispatched 50 actions, which is the limit; dispatch one action for many "
        "rows"
    )
    assert execution.shared_state == {"n": 50}


def test_a_reducer_that_hangs_does_not_hold_up_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PATIENT", 0.1)
    release = threading.Event()

    def hang(state: Any, action: Any) -> Any:
        release.wait(60)
        return state

    job = counting(state=hang)

    @job.task
    def first(context: Context) -> None:
        context.dispatch({"type": "add"})

    @job.task(after=["first"], trigger_rule="allDone")
    def second(context: Context) -> None:
        context.dispatch({"type": "add"})

    execution = job.run()
    release.set()
    assert "did not return within 0.1 s" in (execution.tasks["first"].error or "")
    assert "was given up" in (execution.tasks["second"].error or "")


def test_a_job_without_a_reducer_has_no_state() -> None:
    job = Job("j")

    @job.task
    def look(context: Context) -> Any:
        return context.state

    assert job.run().tasks["look"].error == (
        "job 'j' has no shared state: it needs Job(state=reducer)"
    )


def test_mistakes_in_the_definition_are_refused() -> None:
    with pytest.raises(InvalidJob, match="state must be a reducer"):
        Job("j", state=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="initial and middleware need state"):
        Job("j", initial={"n": 0})
    with pytest.raises(InvalidJob, match=r"the initial state: state\[\"n\"\]: nan"):
        counting(initial={"n": float("nan")})
    with pytest.raises(InvalidJob, match="subscribe needs a shared state"):
        Job("j").subscribe(print)
    with pytest.raises(InvalidJob, match="3 is not a function"):
        counting().subscribe(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="middleware must be functions"):
        counting(middleware=[3])


# -- subscribers, middleware and combined reducers ---------------------------------------------


def test_subscribers_hear_each_change_in_order() -> None:
    job = counting()
    heard: list[Any] = []
    job.subscribe(lambda state, action: heard.append((state["n"], action["by"])))
    job.subscribe(lambda state: heard.append(state["n"]))
    job.subscribe(lambda: heard.append("."))

    @job.subscribe
    def bad(state: Any) -> None:
        raise SystemExit(1)

    @job.task
    def add(context: Context) -> None:
        context.dispatch({"type": "add", "by": 1})
        context.dispatch({"type": "add", "by": 2})

    execution = job.run()
    assert execution.state is State.SUCCESSFUL
    assert heard == [(1, 1), 1, ".", (3, 2), 3, "."]
    assert "a subscriber of the shared state raised: SystemExit: 1" in execution.tasks["add"].logs


async def test_middleware_sees_actions_first_and_may_add_drop_and_change_them() -> None:
    def middleware(store: Any) -> Any:
        def wrap(next: Any) -> Any:
            def dispatch(action: Any) -> Any:
                if action["type"] == "drop":
                    return None
                if action["type"] == "twice":
                    next({"type": "add", "by": 10})
                    return next({"type": "add", "by": store.get_state()["n"]})
                if action["type"] == "again":
                    return store.dispatch({"type": "twice"})
                if action["type"] == "fail":
                    raise ValueError("no")
                return next(action)

            return dispatch

        return wrap

    job = counting(middleware=[middleware])

    @job.task
    def work(context: Context) -> Any:
        for kind in ("drop", "twice", "again"):
            context.dispatch({"type": kind})
        with pytest.raises(TaskFailed, match="the middleware raised ValueError: no"):
            context.dispatch({"type": "fail"})
        with pytest.raises(TaskFailed, match="the reducer of job 'j' raised"):
            context.dispatch({"type": "raise"})
        return context.state

    async with running(job) as engine:
        id = await ended(engine)
        assert (await engine.reader.result(id, "work")).body == b'{"n":60}'
        assert [one[3]["by"] for one in actions(engine, id)] == [10, 10, 10, 30]


def test_combined_reducers_begin_with_their_defaults() -> None:
    def rows(state: int = 0, action: Any = None) -> int:
        return state + action["n"] if action["type"] == "loaded" else state

    def files(state: Any = (), action: Any = None) -> Any:
        return [*state, action["file"]] if action["type"] == "loaded" else state

    job = Job("j", state=combine_reducers(rows=rows, files=files))

    @job.task
    def load(context: Context) -> Any:
        before = context.state
        context.dispatch({"type": "loaded", "file": "a", "n": 3})
        return before

    execution = job.run()
    assert execution.tasks["load"].result == {"rows": 0, "files": []}
    assert execution.shared_state == {"rows": 3, "files": ["a"]}


async def test_a_retry_of_the_execution_keeps_the_state() -> None:
    job = counting()
    failed: list[int] = []

    @job.task
    def first(context: Context) -> None:
        context.dispatch({"type": "add"})

    @job.task(after=["first"])
    def second(context: Context) -> Any:
        context.dispatch({"type": "add", "by": 10})
        failed.append(context.attempt)
        if len(failed) == 1:
            raise ValueError("once")
        return context.state

    async with running(job) as engine:
        id = await ended(engine)
        await engine.control.retry(id)
        await engine.runners.finished(id)
        assert (await engine.reader.result(id, "second")).body == b'{"n":11}'


async def test_the_pages_of_changes_are_newest_first() -> None:
    job = counting()
    job.add(Task("add", Adds(5)))
    async with running(job) as engine:
        id = await ended(engine)
        page = await engine.reader.shared_state(id, None, 2)
        assert ([one.number for one in page.changes], page.next) == ([5, 4], "4")
        page = await engine.reader.shared_state(id, 4, 10)
        assert ([one.number for one in page.changes], page.next) == ([3, 2, 1], None)
        assert page.last is not None
        assert page.last.number == 5


class Adds:
    """Dispatches some actions; a custom operator."""

    def __init__(self, times: int) -> None:
        self.times = times

    def run(self, context: Context) -> None:
        for _ in range(self.times):
            context.dispatch({"type": "add"})
