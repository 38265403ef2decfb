"""The engine commits before it answers, and finishes every execution it starts."""

import asyncio
import copy
import json
import random
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import ConstantDelay, Context, Job, Task
from goflow.core.states import State
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.engine.threads import Threads
from goflow.errors import (
    Conflict,
    InvalidJob,
    InvalidRequest,
    NotFound,
    Stopping,
    StoreUnavailable,
    Unavailable,
)
from goflow.stores.base import Change, Outcome, Record
from goflow.stores.memory import MemoryStore
from goflow.stores.sqlite import SqliteStore
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Blocking, Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio


async def test_a_submitted_job_runs_its_tasks_in_order() -> None:
    first, second = Scripted(result={"rows": 3}), Scripted()
    job = job_of("j", Task("a", first), Task("b", second, after=["a"]))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert await states(engine, id) == {"": "successful", "a": "successful", "b": "successful"}
        detail = await engine.reader.execution(id)
        assert json.loads(bytes(detail.tasks[0].result)) == {"rows": 3}


async def test_independent_tasks_run_concurrently() -> None:
    a, b = Scripted(["hang"]), Scripted(["hang"])
    async with running(job_of("j", Task("a", a), Task("b", b))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: a.runs and b.runs)
        a.release.set()
        b.release.set()
        await engine.runners.finished(id)


async def test_a_failed_attempt_is_retried_and_every_attempt_is_kept() -> None:
    flaky = Scripted(["fail", "fail", "ok"])
    job = job_of("j", Task("t", flaky, retries=2, retry_delay=ConstantDelay(60)))
    async with running(job, clock=FakeClock(jumps=True)) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        task = (await engine.reader.execution(id)).tasks[0]
        assert [one.state for one in task.attempts] == ["failed", "failed", "successful"]
        assert "scripted to fail attempt 1" in (task.attempts[0].error or "")
        assert flaky.runs == [1, 2, 3]


async def test_attempts_never_exceed_retries_plus_one() -> None:
    flaky = Scripted(["fail"] * 10)
    async with running(job_of("j", Task("t", flaky, retries=2))) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert flaky.runs == [1, 2, 3]
        assert (await states(engine, id))[""] == "failed"


async def test_a_wait_for_a_retry_blocks_no_sibling_and_holds_no_slot() -> None:
    clock = FakeClock()
    flaky, sibling = Scripted(["fail"]), Scripted()
    job = job_of(
        "j",
        Task("flaky", flaky, retries=1, retry_delay=ConstantDelay(3600)),
        Task("sibling", sibling),
    )
    async with running(job, clock=clock, max_running=1) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: sibling.runs)
        live = engine.live.get(id)
        assert live is not None
        await until(lambda: live.tasks["sibling"].state == State.SUCCESSFUL)
        assert live.tasks["flaky"].state == State.UPFORRETRY
        clock.advance(seconds=3599.999)
        await asyncio.sleep(0)
        assert flaky.runs == [1]
        clock.advance(seconds=0.001)
        await engine.runners.finished(id)
        assert flaky.runs == [1, 2]


async def test_no_more_attempts_run_than_there_are_slots() -> None:
    operators = [Blocking() for _ in range(6)]
    job = job_of("j", *(Task(f"t{n}", operator) for n, operator in enumerate(operators)))
    async with running(job, max_running=2) as engine:
        id = (await engine.submissions.submit("j")).id
        for done in range(0, 6, 2):
            await until(lambda done=done: sum(len(o.runs) for o in operators) == done + 2)
            assert engine.slots.taken == 2
            for operator in operators[done : done + 2]:
                operator.release.set()
        await engine.runners.finished(id)
        assert engine.slots.taken == 0


async def test_a_task_of_higher_priority_goes_before_older_ones() -> None:
    big = [Blocking() for _ in range(20)]
    small = Blocking()
    big_job = job_of("big", *(Task(f"t{n}", operator) for n, operator in enumerate(big)))
    small_job = job_of("small", Task("t", small, priority=1))
    async with running(big_job, small_job, max_running=2) as engine:
        first = (await engine.submissions.submit("big")).id
        await until(lambda: sum(len(o.runs) for o in big) == 2)
        second = (await engine.submissions.submit("small")).id
        await until(lambda: engine.runners.waiting(second, "t"))
        assert engine.runners.waiting(second, "t") == "all tasks: 2 of 2 in use"
        big[0].release.set()
        await until(lambda: small.runs)
        for operator in [*big, small]:
            operator.release.set()
        await engine.runners.finished(first)
        await engine.runners.finished(second)


async def test_cancel_stops_running_and_waiting_tasks() -> None:
    hanging = Scripted(["hang"])
    job = job_of("j", Task("a", hanging), Task("b", Scripted(), after=["a"]))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
        assert await engine.control.cancel(id) is True
        await engine.runners.finished(id)
        assert await states(engine, id) == {"": "cancelled", "a": "cancelled", "b": "cancelled"}
        assert hanging.ended == ["cancelled"]
        assert await engine.control.cancel(id) is False


async def test_cancel_of_an_unknown_execution_is_not_found() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        with pytest.raises(NotFound, match="nope"):
            await engine.control.cancel("nope")


async def test_retry_runs_only_unsuccessful_tasks_again() -> None:
    good, bad, after = Scripted(), Scripted(["fail"]), Scripted()
    job = job_of(
        "j", Task("good", good), Task("bad", bad), Task("after", after, after=["good", "bad"])
    )
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        assert await states(engine, id) == {
            "": "failed",
            "good": "successful",
            "bad": "failed",
            "after": "skipped",
        }
        await engine.control.retry(id)
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}
        assert (good.runs, bad.runs, after.runs) == ([1], [1, 2], [1])
        with pytest.raises(Conflict, match="nothing to retry"):
            await engine.control.retry(id)


async def test_retry_of_an_unfinished_execution_is_refused() -> None:
    hanging = Scripted(["hang"])
    async with running(job_of("j", Task("t", hanging))) as engine:
        id = (await engine.submissions.submit("j")).id
        with pytest.raises(Conflict, match="unfinished"):
            await engine.control.retry(id)
        hanging.release.set()
        await engine.runners.finished(id)


async def test_two_retries_at_once_make_one_round() -> None:
    bad = Scripted(["fail"])
    async with running(job_of("j", Task("t", bad))) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        answers = await asyncio.gather(
            engine.control.retry(id), engine.control.retry(id), return_exceptions=True
        )
        await engine.runners.finished(id)
        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "NoneType"]
        assert bad.runs == [1, 2]


async def test_submits_with_the_same_key_create_one_execution() -> None:
    operator = Scripted()
    async with running(job_of("j", Task("t", operator))) as engine:
        answers = await asyncio.gather(
            *(engine.submissions.submit("j", key="k") for _ in range(20))
        )
        assert len({answer.id for answer in answers}) == 1
        assert sum(answer.created for answer in answers) == 1
        await engine.runners.finished(answers[0].id)
        assert operator.runs == [1]
        with pytest.raises(Conflict, match="other params"):
            await engine.submissions.submit("j", {"n": 1}, key="k")


async def test_params_reach_the_tasks_and_bad_ones_are_refused() -> None:
    job = Job("j", params={"n": 1, "label": "x"})

    @job.task
    def show(n: int, label: str) -> list[object]:
        return [n, label]

    async with running(job) as engine:
        id = (await engine.submissions.submit("j", {"n": 5})).id
        await engine.runners.finished(id)
        assert bytes((await engine.reader.execution(id)).tasks[0].result) == b'[5,"x"]'
        for params, field in [
            ({"m": 1}, "params.m"),
            ({"n": "5"}, "params.n"),
            ({"n": True}, "params.n"),
            ({"label": float("nan")}, "params.label"),
        ]:
            with pytest.raises(InvalidRequest) as caught:
                await engine.submissions.submit("j", params)
            assert caught.value.field == field
        assert len((await engine.reader.page("j", None, 100, None)).executions) == 1


async def test_toggle_answers_after_the_commit_and_survives_a_restart(tmp_path: Path) -> None:
    def job() -> Job:
        return job_of("j", Task("t", Scripted()), schedule="@hourly", active=False)

    path = tmp_path / "goflow.db"
    async with running(job(), store=SqliteStore(path)) as engine:
        assert engine.schedules.active("j") is False
        assert await engine.schedules.toggle("j") is True
        assert engine.schedules.due("j") == BEGINNING + timedelta(hours=1)
        assert await engine.schedules.toggle("j", active=True) is True
    async with running(job(), store=SqliteStore(path)) as engine:
        assert engine.schedules.active("j") is True
        assert await engine.schedules.toggle("j") is False
        assert engine.schedules.due("j") is None


async def test_a_due_job_fires_once_at_its_instant_and_never_before() -> None:
    clock = FakeClock(BEGINNING + timedelta(seconds=30))
    operator = Scripted()
    job = job_of("j", Task("t", operator), schedule="* * * * *", active=True)
    async with running(job, clock=clock) as engine:
        clock.advance(seconds=29.999)
        await asyncio.sleep(0.01)
        assert operator.runs == []
        for minute, seconds in ((1, 0.001), (2, 60), (3, 60)):
            clock.advance(seconds=seconds)
            await until(lambda minute=minute: len(operator.runs) == minute)
        await until(lambda: not engine.runners)
        page = await engine.reader.page("j", None, 100, None)
        due = [json.loads(execution)["scheduled_at"] for execution in page.executions]
        assert due == ["2030-01-01T00:03:00Z", "2030-01-01T00:02:00Z", "2030-01-01T00:01:00Z"]


async def test_a_process_blocked_over_many_due_times_fires_one_late() -> None:
    clock = FakeClock()
    operator = Scripted()
    job = job_of("j", Task("t", operator), schedule="@every 1s", active=True)
    async with running(job, clock=clock) as engine:
        clock.advance(days=365 * 174)
        await until(lambda: operator.runs and not engine.runners)
        due = engine.schedules.due("j")
        assert operator.runs == [1]
        assert due == clock.now() + timedelta(seconds=1)


async def test_every_keeps_its_phase_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    clock = FakeClock()

    def job() -> Job:
        return job_of("j", Task("t", Scripted()), schedule="@every 10m", active=True)

    async with running(job(), store=SqliteStore(path), clock=clock) as engine:
        assert engine.schedules.due("j") == BEGINNING + timedelta(minutes=10)
    clock.advance(minutes=37)
    async with running(job(), store=SqliteStore(path), clock=clock) as engine:
        await until(lambda: engine.schedules.due("j") == BEGINNING + timedelta(minutes=40))


async def test_a_tick_fires_once_even_for_two_schedulers_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    runs = []
    for _ in range(2):
        clock = FakeClock(BEGINNING + timedelta(seconds=59))
        operator = Scripted()
        job = job_of("j", Task("t", operator), schedule="* * * * *", active=True)
        async with running(job, store=SqliteStore(path), clock=clock) as engine:
            clock.advance(seconds=1)
            await until(lambda: engine.schedules.due("j") == BEGINNING + timedelta(minutes=2))
            await until(lambda: not engine.runners)
        runs.append(len(operator.runs))
    assert runs == [1, 0]


async def test_executions_running_at_a_stop_continue_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    done, hanging = Scripted(), Scripted(["hang"])

    def job(retries: int) -> Job:
        return job_of(
            "j",
            Task("done", done),
            Task("hang", hanging, after=["done"], retries=retries),
            Task("end", Scripted(), after=["hang"], trigger_rule="allDone"),
        )

    async with running(job(1), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
    async with running(job(1), store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        assert set((await states(engine, id)).values()) == {"successful"}
        detail = await engine.reader.execution(id)
        assert "interrupted" in (detail.tasks[1].attempts[0].error or "")
    assert (done.runs, hanging.runs) == ([1], [1, 2])


async def test_an_interrupted_task_without_retries_fails_visibly(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    hanging = Scripted(["hang"])
    async with running(job_of("j", Task("t", hanging)), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: hanging.runs)
    async with running(job_of("j", Task("t", hanging)), store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
        assert (detail.state, detail.tasks[0].error) != (State.RUNNING, None)
        assert detail.state == "failed"
        assert "interrupted" in (detail.tasks[0].error or "")


async def test_an_execution_of_a_removed_job_fails_visibly(tmp_path: Path) -> None:
    path = tmp_path / "goflow.db"
    hanging = Scripted(["hang"])
    job = job_of("gone", Task("a", hanging, retries=3), Task("b", Scripted(), after=["a"]))
    async with running(job, store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("gone")).id
        await until(lambda: hanging.runs)
    async with running(store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        detail = await engine.reader.execution(id)
        assert [task.state for task in detail.tasks] == ["failed", "skipped"]
        assert "not registered" in (detail.tasks[0].error or "")


class Slow(MemoryStore):
    """The real store, but it commits the start of an attempt only when allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        if any(isinstance(change, Record) for change in batch):
            self.asked.set()
            assert self.may.wait(30)
        return super().commit(batch)


async def test_an_attempt_whose_start_is_being_committed_does_not_delay_a_stop() -> None:
    store, hanging = Slow(), Scripted(["hang"])
    async with running(job_of("j", Task("t", hanging)), store=store) as engine:
        await engine.submissions.submit("j")
        await until(store.asked.is_set)
        stopping = asyncio.create_task(engine.stop())
        await until(lambda: all(runner._interrupted for runner in engine.runners.values()))
        store.may.set()
        async with asyncio.timeout(10):
            await stopping
    assert hanging.runs in ([], [1])


async def test_a_graceful_stop_lets_short_tasks_end() -> None:
    operator = Scripted(["hang"])
    store = MemoryStore()
    engine = Engine(store, Options(stop_timeout=30), clock=FakeClock())
    engine.registry.register(
        job_of("j", Task("t", operator), Task("next", Scripted(), after=["t"]))
    )
    await engine.start()
    id = (await engine.submissions.submit("j")).id
    await until(lambda: operator.runs)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    with pytest.raises(Stopping):
        await engine.submissions.submit("j")
    live = engine.live.get(id)
    operator.release.set()
    await stopping
    assert live is not None
    assert [task.state for task in live.tasks.values()] == ["successful", "notstarted"]


async def test_submits_above_the_limit_of_unfinished_executions_are_refused() -> None:
    hanging = Scripted(["hang", "hang"])
    async with running(job_of("j", Task("t", hanging)), max_unfinished=2) as engine:
        await engine.submissions.submit("j")
        await engine.submissions.submit("j")
        with pytest.raises(Unavailable, match="2 executions are unfinished"):
            await engine.submissions.submit("j")
        hanging.release.set()
        await until(lambda: not engine.runners)
        await engine.submissions.submit("j")
        await until(lambda: not engine.runners)


async def test_the_params_of_all_unfinished_executions_are_limited_together() -> None:
    hanging = Scripted(["hang", "hang", "hang"])
    job, large = job_of("j", Task("t", hanging)), {"text": "x" * 600}
    async with running(job, limits=Limits(params=1000)) as engine:
        await engine.submissions.submit("j", large)
        with pytest.raises(Unavailable, match="params of 1 unfinished executions use 611 of"):
            await engine.submissions.submit("j", large)
        await engine.submissions.submit("j", {"text": "short"})
        hanging.release.set()
        await until(lambda: not engine.runners)
        await engine.submissions.submit("j", large)
        await until(lambda: not engine.runners)


async def test_a_retry_delay_that_raises_fails_the_task_with_the_reason() -> None:
    class Broken:
        def delay(self, attempt: int) -> float:
            raise RuntimeError("no idea")

    job = job_of("j", Task("t", Scripted(["fail"]), retries=5, retry_delay=Broken()))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        error = (await engine.reader.execution(id)).tasks[0].error or ""
        assert "scripted to fail" in error
        assert "RuntimeError: no idea" in error


async def test_pages_contain_every_execution_once_newest_first() -> None:
    rng = random.Random(7)
    async with running(
        job_of("a", Task("t", Scripted())), job_of("b", Task("t", Scripted(["fail"] * 99)))
    ) as engine:
        ids = [(await engine.submissions.submit(rng.choice("ab"))).id for _ in range(25)]
        await until(lambda: not engine.runners)
        for job, state in [(None, None), ("a", None), (None, State.FAILED), ("b", State.FAILED)]:
            walked, cursor = [], None
            while True:
                page = await engine.reader.page(job, state, 4, cursor)
                walked += [json.loads(execution) for execution in page.executions]
                cursor = page.next
                if cursor is None:
                    break
            expected = [e for e in reversed(ids) if any(w["id"] == e for w in walked)]
            assert [w["id"] for w in walked] == expected
            assert all(job in (None, w["job"]) and state in (None, w["state"]) for w in walked)
            if job is None and state is None:
                assert expected == ids[::-1]


async def test_registering_twice_or_without_tasks_is_refused() -> None:
    engine = Engine(MemoryStore())
    engine.registry.register(job_of("j", Task("t", Scripted())))
    with pytest.raises(InvalidJob, match="'j' is registered already"):
        engine.registry.register(job_of("j", Task("t", Scripted())))
    with pytest.raises(InvalidJob, match="'empty' has no tasks"):
        engine.registry.register(Job("empty"))
    with pytest.raises(InvalidJob, match="with_seconds"):
        engine.registry.register(job_of("s", Task("t", Scripted()), schedule="* * * * * *"))


class Damaged(SqliteStore):
    """A store that opens, but fails one kind of read."""

    bad = "watches"

    def __getattribute__(self, name: str) -> Any:
        if name == type(self).bad:
            raise StoreUnavailable("an I/O error")
        return super().__getattribute__(name)


@pytest.mark.parametrize("bad", ["version", "epoch", "unfinished", "entries", "jobs"])
async def test_a_failed_start_releases_everything(
    tmp_path: Path, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    monkeypatch.setattr(Damaged, "bad", bad)
    before = sys.stdout, sys.stderr
    store = Damaged(path)
    engine = Engine(store, Options(), clock=FakeClock())
    engine.registry.register(job_of("j", Task("t", Scripted())))
    with pytest.raises(StoreUnavailable):
        await engine.start()
    assert (sys.stdout, sys.stderr) == before
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("goflow-writer")]
    async with running(job_of("j", Task("t", Scripted())), store=SqliteStore(path)) as other:
        await other.runners.finished((await other.submissions.submit("j")).id)
    monkeypatch.setattr(Damaged, "bad", "")
    await engine.start()  # the same engine, now that the store can be read
    await engine.runners.finished((await engine.submissions.submit("j")).id)
    await engine.stop()


async def test_a_cancelled_start_releases_the_store(tmp_path: Path) -> None:
    class Slow(Threads):
        async def end_orphans(self, wanted: Any) -> Any:
            await asyncio.Event().wait()

    path = tmp_path / "s"
    hanging = Scripted(["hang"])
    job = job_of("j", Task("t", hanging, retries=1))
    async with running(job, store=SqliteStore(path)) as engine:
        await engine.submissions.submit("j")
        await until(lambda: hanging.runs)
    slow = Engine(SqliteStore(path), Options(), clock=FakeClock(), threads=Slow())
    starting = asyncio.ensure_future(slow.start())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not starting.done()
    starting.cancel()
    await asyncio.wait([starting])
    async with running(job, store=SqliteStore(path)) as engine:
        await until(lambda: not engine.runners)


async def test_a_retry_for_a_removed_job_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with running(job_of("j", Task("t", Scripted(["fail"]))), store=SqliteStore(path)) as e:
        id = (await e.submissions.submit("j")).id
        await e.runners.finished(id)
    async with running(store=SqliteStore(path)) as engine:
        for options in ({}, {"task": "t"}, {"params": {"n": 1}}, {"task": "nope"}):
            with pytest.raises(Conflict, match="'j' is no longer registered with this server"):
                await engine.control.retry(id, **options)  # type: ignore[arg-type]
        assert (await states(engine, id))[""] == "failed"
        assert (await engine.reader.execution(id)).actions[-1].action == "submit"


async def test_each_attempt_has_its_own_copy_of_params_and_results() -> None:
    seen: list[Any] = []

    async def spoil(context: Context) -> list[int]:
        seen.append(copy.deepcopy([context.params, context.results]))
        context.params["list"].append("spoilt")
        context.params["deep"]["a"]["b"].append("spoilt")
        context.params["new"] = "spoilt"  # type: ignore[index]
        for result in context.results.values():
            result.append("spoilt")
        if context.attempt == 1:
            raise ValueError
        return [1]

    job = Job("j", params={"list": [1], "deep": {"a": {"b": []}}})
    job.task(name="first", retries=1)(spoil)
    for name in ("left", "right"):
        job.task(name=name, retries=1, after=["first"])(spoil)
    asked = {"list": [2], "deep": {"a": {"b": [1]}}}
    async with running(job) as engine:
        for params, filled in ((asked, asked), (None, {"list": [1], "deep": {"a": {"b": []}}})):
            del seen[:]
            id = (await engine.submissions.submit("j", params)).id
            await engine.runners.finished(id)
            assert seen == [[filled, {}]] * 2 + [[filled, {"first": [1]}]] * 4
            detail = await engine.reader.execution(id)
            assert detail.params == filled
            assert [msgspec.json.decode(task.result) for task in detail.tasks] == [[1]] * 3
            await engine.control.retry(id, task="first")
            await engine.runners.finished(id)
            assert seen[6:] == [[filled, {}]] + [[filled, {"first": [1]}]] * 2
    assert asked == {"list": [2], "deep": {"a": {"b": [1]}}}
    assert job.params == {"list": [1], "deep": {"a": {"b": []}}}


@pytest.mark.parametrize("step", [timedelta(hours=1), -timedelta(hours=1)])
async def test_delays_and_timeouts_do_not_follow_clock_changes(step: timedelta) -> None:
    clock = FakeClock()
    operator, hanging = Scripted(["fail"]), Scripted(["hang"])
    delayed = job_of("delayed", Task("t", operator, retries=1, retry_delay=ConstantDelay(30)))
    limited = job_of("limited", Task("t", hanging), timeout=60)
    async with running(delayed, limited, clock=clock) as engine:
        ids = [(await engine.submissions.submit(name)).id for name in ("delayed", "limited")]
        await until(lambda: hanging.runs)
        await until(lambda: engine.runners[ids[0]].execution.next_retry() is not None)
        clock.set(clock.now() + step)
        for seconds in (19, 10):  # 29 in all
            clock.advance(seconds=seconds)
            for _ in range(20):
                await asyncio.sleep(0)
            assert operator.runs == [1]
            assert (await states(engine, ids[1]))[""] == "running"
        clock.advance(seconds=1)
        await engine.runners.finished(ids[0])
        assert operator.runs == [1, 2]
        clock.advance(seconds=15)
        clock.advance(seconds=15)
        await engine.runners.finished(ids[1])
        detail = await engine.reader.execution(ids[1])
        assert (detail.state, detail.reason) == ("failed", "timed out after 60 s")
