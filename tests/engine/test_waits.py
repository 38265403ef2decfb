"""Tasks that look in vain and wait: they hold no slot, survive restarts, and cost no commits."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import Context, Job, Later, MemoryStore, SqliteStore, Task, WaitFor
from goflow.core.events import TaskPostponed
from goflow.core.keys import Item
from goflow.core.states import State
from goflow.core.summary import Waiting
from goflow.engine.alarm import Alarm
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.clock import LONGEST_NAP
from goflow.engine.engine import Engine
from goflow.errors import Conflict
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Gated, Scripted, job_of, pass_until, running, states, until

pytestmark = pytest.mark.anyio


class Sensor:
    """Looks in vain for the reasons in `script`, one by one, then succeeds. "hang" hangs until
    `release` is set, and "fail" fails. Items of a mapped task take turns."""

    def __init__(self, *script: str, every: float = 30, lines: int = 0) -> None:
        self.script = list(script)
        self.every = every
        self.lines = lines
        self.looks = 0
        self.waited: list[float] = []
        self.release = asyncio.Event()
        self.contexts: list[Context] = []

    async def run(self, context: Context) -> Any:
        self.looks += 1
        self.waited.append(context.waited)
        self.contexts.append(context)
        for number in range(self.lines):
            context.log(f"look {self.looks}, line {number}")
        if not self.script:
            return "found"
        word = self.script.pop(0)
        if word == "hang":
            await self.release.wait()
            return "found"
        if word == "fail":
            raise ValueError("scripted to fail")
        raise Later(self.every, word)


async def waiting(engine: Engine, id: str, task: str = "a") -> Waiting | None:
    """Why and until when a task waits, as the API shows it."""
    found = engine.runners.waiting(id, task)
    return found if isinstance(found, Waiting) else None


async def begun(engine: Engine, sensor: Sensor, looks: int = 1, job: str = "j") -> str:
    """Submit the job; returns when it waits after so many looks."""
    id = (await engine.submissions.submit(job)).id
    await looked(engine, id, sensor, looks)
    return id


async def looked(engine: Engine, id: str, sensor: Sensor, looks: int) -> None:
    runner = engine.runners[id]
    await until(lambda: sensor.looks == looks and not runner.execution.looking)
    await until(lambda: isinstance(engine.runners.waiting(id, "a"), Waiting))


async def result(engine: Engine, id: str, task: str = "a") -> Any:
    await engine.runners.finished(id)
    return {one.name: one for one in (await engine.reader.execution(id)).tasks}[task]


def facts(engine: Engine, id: str) -> list[TaskPostponed]:
    history = engine.store.history(id)
    assert history is not None
    return [fact for fact in history.facts if isinstance(fact, TaskPostponed)]


async def test_a_waiting_task_looks_again_and_ends_in_one_attempt() -> None:
    clock, sensor = FakeClock(), Sensor("no file", "no file", "an empty file")
    async with running(job_of("j", Task("a", sensor)), clock=clock) as engine:
        id = await begun(engine, sensor)
        shown = await waiting(engine, id)
        assert shown == Waiting("no file", BEGINNING + timedelta(seconds=30), 30.0)
        for looks in (2, 3):
            clock.advance(seconds=30)
            await looked(engine, id, sensor, looks)
        clock.advance(seconds=30)
        task = await result(engine, id)
        assert (task.state, len(task.attempts)) == ("successful", 1)
        assert bytes(task.result) == b'"found"'
        assert sensor.waited == [0.0, 30.0, 60.0, 90.0]
        assert {one.started_at for one in sensor.contexts} == {BEGINNING}
        assert [fact.why for fact in facts(engine, id)] == ["no file", "an empty file"]


async def test_a_look_for_the_same_reason_commits_nothing_and_shows_the_next_one() -> None:
    clock, sensor = FakeClock(), Sensor(*["no file"] * 50)
    async with running(job_of("j", Task("a", sensor)), clock=clock) as engine:
        id = await begun(engine, sensor)
        await until(lambda: facts(engine, id))
        version = engine.store.version()
        for looks in range(2, 20):
            clock.advance(seconds=30)
            await looked(engine, id, sensor, looks)
        assert engine.store.version() == version
        live = engine.live.get(id)
        assert live is not None
        shown = Waiting("no file", clock.now() + timedelta(seconds=30), 30.0)
        await until(lambda: live.summary().tasks[0].waiting == shown)
        again = shown.again.isoformat().replace("+00:00", "Z").encode()
        await until(lambda: again in live.encoded())
        await engine.control.cancel(id)
        assert (await result(engine, id)).state == "cancelled"


async def test_a_waiting_task_holds_no_slot_and_no_place_in_its_pool() -> None:
    sensors = [Sensor(*["no file"] * 9) for _ in range(20)]
    tasks = [Task(f"s{number}", one, pool="p") for number, one in enumerate(sensors)]
    job = job_of("j", *tasks, Task("last", Scripted(), pool="p"), max_running=1)
    clock = FakeClock()
    async with running(job, clock=clock, pools={"p": 1}, max_running=1) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: all(one.looks == 1 for one in sensors))
        live = engine.live.get(id)
        assert live is not None
        await until(lambda: live.tasks["last"].state is State.SUCCESSFUL)
        await until(lambda: engine.slots.taken == 0)
        assert all(usage.taken == 0 for usage in engine.slots.usage())
        clock.advance(seconds=30)
        await until(lambda: all(one.looks == 2 for one in sensors))
        await until(lambda: engine.slots.taken == 0)


async def test_a_look_waits_for_a_slot_like_any_attempt() -> None:
    clock, sensor, other = FakeClock(), Sensor("no file"), Scripted(["hang"])
    jobs = job_of("j", Task("a", sensor)), job_of("k", Task("b", other))
    async with running(*jobs, clock=clock, max_running=1) as engine:
        id = await begun(engine, sensor)
        await engine.submissions.submit("k")
        await until(lambda: other.runs)
        clock.advance(seconds=30)
        await until(lambda: engine.slots.usage()[0].waiting == 1)
        assert sensor.looks == 1
        assert await waiting(engine, id) is not None
        other.release.set()
        assert (await result(engine, id)).state == "successful"


@pytest.mark.parametrize("looking", [False, True])
async def test_a_cancel_ends_a_wait_at_once(looking: bool) -> None:
    clock, sensor = FakeClock(), Sensor("no file", "hang")
    job = job_of("j", Task("a", sensor), Task("b", Scripted(), after=["a"]))
    async with running(job, clock=clock) as engine:
        id = await begun(engine, sensor)
        if looking:
            clock.advance(seconds=30)
            await until(lambda: sensor.looks == 2)
        assert await engine.control.cancel_task(id, "a")
        await engine.runners.finished(id)
        assert await states(engine, id) == {"a": "cancelled", "b": "skipped", "": "cancelled"}
        assert engine.slots.taken == 0


async def test_a_cancel_ends_the_wait_for_a_slot_of_a_look() -> None:
    clock, sensor, other = FakeClock(), Sensor("no file", "no file"), Scripted(["hang"])
    jobs = job_of("j", Task("a", sensor)), job_of("k", Task("b", other))
    async with running(*jobs, clock=clock, max_running=1) as engine:
        id = await begun(engine, sensor)
        await engine.submissions.submit("k")
        await until(lambda: other.runs)
        clock.advance(seconds=30)
        await until(lambda: engine.slots.usage()[0].waiting == 1)
        await engine.control.cancel(id)
        assert (await result(engine, id)).state == "cancelled"
        assert engine.slots.usage()[0].waiting == 0
        other.release.set()


async def test_a_timeout_of_the_job_ends_a_wait() -> None:
    clock, sensor = FakeClock(), Sensor(*["no file"] * 9, every=3600)
    async with running(job_of("j", Task("a", sensor), timeout=60), clock=clock) as engine:
        id = await begun(engine, sensor)
        ends = asyncio.ensure_future(engine.runners.finished(id))
        await pass_until(clock, ends.done, seconds=LONGEST_NAP.total_seconds())
        assert (await engine.reader.execution(id)).reason == "timed out after 60 s"


async def test_the_timeout_of_a_task_bounds_each_look_and_not_the_wait() -> None:
    clock, sensor = FakeClock(), Sensor("no file", "no file", "hang", "no file")
    job = job_of("j", Task("a", sensor, timeout=0.5, retries=1))
    async with running(job, clock=clock) as engine:
        id = await begun(engine, sensor)
        clock.advance(seconds=30)
        await looked(engine, id, sensor, 2)
        clock.advance(seconds=30)
        await looked(engine, id, sensor, 4)
        clock.advance(seconds=30)
        task = await result(engine, id)
        assert [one.state for one in task.attempts] == ["failed", "successful"]
        assert task.attempts[0].error == "timed out after 0.5 s"


async def test_a_check_that_never_returns_is_bounded_by_the_timeout_and_gives_its_slot_back() -> (
    None
):
    release, looks = threading.Event(), []

    class Hangs:
        def run(self) -> None:
            looks.append(1)
            if len(looks) == 1:
                raise Later(30, "no file")
            assert release.wait(60)

    clock = FakeClock()
    # The first look has to end in time, on a busy machine too.
    async with running(job_of("j", Task("a", Hangs(), timeout=2)), clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: isinstance(engine.runners.waiting(id, "a"), Waiting))
        clock.advance(seconds=30)
        task = await result(engine, id)
        assert task.error.startswith("timed out after 2 s")
        assert engine.slots.taken == 1  # as long as the thread really runs
        release.set()
        await until(lambda: engine.slots.taken == 0)


async def test_the_retries_apply_when_a_look_raises_something_else() -> None:
    clock, sensor = FakeClock(), Sensor("no file", "fail", "no file")
    async with running(job_of("j", Task("a", sensor, retries=1)), clock=clock) as engine:
        id = await begun(engine, sensor)
        clock.advance(seconds=30)
        await looked(engine, id, sensor, 3)
        assert sensor.waited[2] == 0.0  # a new attempt waits from its own start
        clock.advance(seconds=30)
        task = await result(engine, id)
        assert [one.state for one in task.attempts] == ["failed", "successful"]


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (lambda: Later(-1), "Later: seconds must be from 0 to 3162240000, not -1"),
        (lambda: Later(float("inf")), "Later: seconds must be from 0 to 3162240000, not inf"),
        (lambda: Later(float("nan")), "Later: seconds must be from 0 to 3162240000, not nan"),
        (lambda: Later("x"), "Later: seconds must be a number, not 'x'"),
        (lambda: Later(True), "Later: seconds must be a number, not True"),
        (lambda: Later(10**400), "Later: seconds must be from 0 to 3162240000, not 1"),
        (lambda: Later(1, 7), "Later: why must be a str, not 7"),
        (
            lambda: Later(timedelta(days=-1)),
            "Later: seconds must be from 0 to 3162240000, not -86400.0",
        ),
    ],
)
async def test_an_invalid_wait_fails_the_attempt_with_a_sentence(
    later: Callable[[], Later], told: str
) -> None:
    class Broken:
        def run(self) -> None:
            raise later()

    class Fine:
        def run(self) -> int:
            return 1

    async with running(job_of("j", Task("a", Broken()), Task("b", Fine()))) as engine:
        id = (await engine.submissions.submit("j")).id
        assert (await result(engine, id)).error.startswith(told)
        assert (await result(engine, id, "b")).state == "successful"


async def test_a_subclass_whose_fields_raise_fails_the_attempt() -> None:
    class Odd(Later):
        @property
        def seconds(self) -> float:  # type: ignore[override]
            raise SystemExit(3)

        @seconds.setter
        def seconds(self, value: float) -> None: ...

    class Raises:
        def run(self) -> None:
            raise Odd(1)

    async with running(job_of("j", Task("a", Raises()))) as engine:
        id = (await engine.submissions.submit("j")).id
        assert (await result(engine, id)).error.startswith("SystemExit: 3")


async def test_the_reason_is_one_line_of_bounded_length() -> None:
    sensor = Sensor("no\n file " + "x" * 1000)
    async with running(job_of("j", Task("a", sensor))) as engine:
        id = await begun(engine, sensor)
        shown = await waiting(engine, id)
        assert shown is not None
        assert shown.why.startswith("no file xxx")
        assert len(shown.why) == 301


async def test_a_wait_of_no_seconds_does_not_spin() -> None:
    clock, sensor = FakeClock(), Sensor("now", "now", every=0)
    async with running(job_of("j", Task("a", sensor)), clock=clock) as engine:
        await begun(engine, sensor)
        await asyncio.sleep(0.05)
        assert sensor.looks == 1  # until the clock moves


async def test_a_look_begins_when_the_results_that_it_gets_are_committed() -> None:
    store, clock, before, sensor = Gated(), FakeClock(), Scripted(["hang"]), Sensor("no file")
    after = Task("a", sensor, after=["b"], trigger_rule="always")
    job = job_of("j", Task("b", before), after)
    async with running(job, store=store, clock=clock) as engine:
        await begun(engine, sensor)
        await until(lambda: before.runs)
        store.gate.clear()
        before.release.set()
        await until(lambda: store.waiting)
        clock.advance(seconds=30)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sensor.looks == 1
        store.gate.set()
        await until(lambda: sensor.looks == 2)


# -- restarts --------------------------------------------------------------------------


async def test_a_wait_survives_a_restart_and_looks_at_once_if_its_time_has_passed(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "goflow.db", FakeClock()
    first = Sensor(*["no file"] * 9)
    async with running(
        job_of("j", Task("a", first)), store=SqliteStore(path), clock=clock
    ) as engine:
        id = await begun(engine, first)
    clock.set(BEGINNING + timedelta(seconds=20))
    second = Sensor("no file")
    async with running(
        job_of("j", Task("a", second)), store=SqliteStore(path), clock=clock
    ) as engine:
        assert await waiting(engine, id) == Waiting(
            "no file", BEGINNING + timedelta(seconds=30), 30.0
        )
        await asyncio.sleep(0.02)
        assert second.looks == 0
    clock.set(BEGINNING + timedelta(seconds=300))
    third = Sensor("no file")
    async with running(
        job_of("j", Task("a", third)), store=SqliteStore(path), clock=clock
    ) as engine:
        await looked(engine, id, third, 1)
        assert third.waited == [300.0]
        clock.advance(seconds=30)
        task = await result(engine, id)
        assert (task.state, len(task.attempts)) == ("successful", 1)


async def test_a_stop_during_a_look_interrupts_no_wait(tmp_path: Path) -> None:
    """Also without retries: the look is repeated at the next start."""
    path, clock = tmp_path / "goflow.db", FakeClock()
    sensor = Sensor("no file", "hang")
    async with running(
        job_of("j", Task("a", sensor)), store=SqliteStore(path), clock=clock
    ) as engine:
        id = await begun(engine, sensor)
        clock.advance(seconds=30)
        await until(lambda: sensor.looks == 2)
    again = Sensor()
    async with running(
        job_of("j", Task("a", again)), store=SqliteStore(path), clock=clock
    ) as engine:
        assert (await result(engine, id)).state == "successful"


async def test_a_stop_during_the_first_look_does_not_end_the_wait_of_an_operator_for_that(
    tmp_path: Path,
) -> None:
    path, looks = tmp_path / "goflow.db", 0

    async def hangs() -> None:
        nonlocal looks
        looks += 1
        await asyncio.Event().wait()

    def job(check: Callable[[], Any]) -> Job:
        return job_of("j", Task("a", WaitFor(check)))

    async with running(job(hangs), store=SqliteStore(path), stop_timeout=0) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: looks)
    async with running(job(lambda: "found"), store=SqliteStore(path)) as engine:
        task = await result(engine, id)
        assert (task.state, [one.interrupted for one in task.attempts]) == (
            "successful",
            [True, False],
        )


async def test_a_stop_does_not_wait_for_waiting_tasks() -> None:
    sensor = Sensor(*["no file"] * 9)
    async with running(job_of("j", Task("a", sensor)), stop_timeout=60) as engine:
        await begun(engine, sensor)


async def test_a_waiting_task_of_a_job_that_is_gone_fails_at_its_next_look(tmp_path: Path) -> None:
    path, clock, sensor = tmp_path / "goflow.db", FakeClock(), Sensor("no file")
    async with running(
        job_of("j", Task("a", sensor)), store=SqliteStore(path), clock=clock
    ) as engine:
        id = await begun(engine, sensor)
    clock.advance(seconds=30)
    async with running(store=SqliteStore(path), clock=clock) as engine:
        assert "not registered" in (await result(engine, id)).error
        assert engine.slots.taken == 0


# -- marks, items, and looks at once ---------------------------------------------------


async def test_a_waiting_task_can_be_marked_but_not_while_it_looks() -> None:
    clock, sensor = FakeClock(), Sensor("no file", "hang", "no file")
    job = job_of("j", Task("a", sensor), Task("b", Scripted(), after=["a"]))
    async with running(job, clock=clock) as engine:
        id = await begun(engine, sensor)
        await engine.control.mark(id, "a", State.SUCCESSFUL)
        await engine.runners.finished(id)
        assert await states(engine, id) == {"a": "successful", "b": "successful", "": "successful"}
        sensor.script.insert(0, "no file")
        id = await begun(engine, sensor, 2)
        clock.advance(seconds=30)
        await until(lambda: sensor.looks == 3)
        with pytest.raises(Conflict):
            await engine.control.mark(id, "a", State.SUCCESSFUL)
        sensor.release.set()
        assert (await result(engine, id)).state == "successful"


async def test_items_of_a_mapped_task_wait_each_for_itself() -> None:
    clock = FakeClock()

    class PerItem:
        async def run(self, context: Context) -> Any:
            if context.waited < context.item:
                raise Later(30, f"item {context.index}")
            return context.waited

    job = job_of(
        "j",
        Task("list", Scripted(result=[0, 30, 60, 90])),
        Task("m", PerItem(), map_over="list"),
    )
    async with running(job, clock=clock) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(engine.runners[id].execution.waits) == 3)
        assert engine.runners.waiting(id, Item("m", 2)) == Waiting(
            "item 2", BEGINNING + timedelta(seconds=30), 30.0
        )
        assert await engine.control.cancel_task(id, Item("m", 3))
        await until(lambda: len(engine.runners[id].execution.waits) == 2)
        for left in (1, 0):
            clock.advance(seconds=30)
            await until(
                lambda left=left: (  # type: ignore[misc]
                    id not in engine.runners or len(engine.runners[id].execution.waits) == left
                )
            )
        page = await engine_items(engine, id)
        assert [item.state for item in page] == [*["successful"] * 3, "cancelled"]


async def engine_items(engine: Engine, id: str) -> Any:
    await engine.runners.finished(id)
    return (await engine.reader.items(id, "m", None, 0, 100)).items


async def test_a_cancelled_map_ends_its_waiting_items() -> None:
    sensor = Sensor(*["no file"] * 9)
    job = job_of("j", Task("list", Scripted(result=[1, 2])), Task("m", sensor, map_over="list"))
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(engine.runners[id].execution.waits) == 2)
        assert await engine.control.cancel_task(id, "m")
        assert (await result(engine, id, "m")).items == {"total": 2, "cancelled": 2}


async def test_a_task_can_be_made_to_look_again_at_once() -> None:
    clock, sensor = FakeClock(), Sensor("no child", "no child", "no child", every=3600)
    async with running(job_of("j", Task("a", sensor)), clock=clock) as engine:
        id = await begun(engine, sensor)
        engine.runners[id].look_now("a")
        await looked(engine, id, sensor, 2)
        await until(lambda: len(facts(engine, id)) == 1)
        await engine.control.cancel(id)
        await engine.runners.finished(id)


async def test_a_wake_during_a_look_is_not_lost() -> None:
    sensor = Sensor("hang", every=3600)

    class Wakes:
        async def run(self, context: Context) -> str:
            sensor.looks += 1
            if sensor.looks == 1:
                engine.runners[context.execution_id].look_now("a")
                raise Later(3600, "no child")
            return "child"

    async with running(job_of("j", Task("a", Wakes()))) as engine:
        id = (await engine.submissions.submit("j")).id
        assert bytes((await result(engine, id)).result) == b'"child"'


# -- logs ------------------------------------------------------------------------------


async def log_of(engine: Engine, id: str) -> str:
    log = await engine.reader.log_of(id, "a", 1)
    return "".join([text async for text in log.texts])


async def test_all_looks_write_to_the_log_of_their_attempt() -> None:
    clock, sensor = FakeClock(), Sensor("no file", "no file", lines=1)
    async with running(job_of("j", Task("a", sensor)), clock=clock) as engine:
        id = await begun(engine, sensor)
        clock.advance(seconds=30)
        await looked(engine, id, sensor, 2)
        clock.advance(seconds=30)
        await engine.runners.finished(id)
        lines = ["look 1, line 0", "look 2, line 0", "look 3, line 0"]
        assert (await log_of(engine, id)).splitlines() == lines


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_log_of_many_looks_is_bounded(tmp_path: Path, restarts: bool) -> None:
    limit, path, clock = 4000, tmp_path / "goflow.db", FakeClock()
    limits = Limits(log=limit)
    id, total = "", 0
    for _ in range(8 if restarts else 1):
        sensor = Sensor(*["no file"] * 90, lines=20)
        job = job_of("j", Task("a", sensor))
        async with running(job, store=SqliteStore(path), clock=clock, limits=limits) as engine:
            if not id:
                id = (await engine.submissions.submit("j")).id
            for looks in range(1, 6 if restarts else 40):
                await looked(engine, id, sensor, looks)
                total += 20
                clock.advance(seconds=30)
            await looked(engine, id, sensor, looks + 1)
            total += 20
            await until(lambda: engine.store.logs.end(id, "a", 1) == total)  # noqa: B023
            text = await log_of(engine, id)
            assert text.startswith("look 1, line 0\nlook 1, line 1\n")
            assert text.endswith(f"look {looks + 1}, line 19\n")
            kept = engine.store.logs.read(id, "a", 1, 0, 10**9)
            assert sum(len(chunk.text) for chunk in kept) <= limit * 1.1
            clock.advance(seconds=30)


# -- the alarm -------------------------------------------------------------------------


async def ringing(clock: FakeClock, *seconds: float) -> tuple[Alarm, list[float], Any]:
    rung: list[float] = []
    tasks: list[asyncio.Task[None]] = []
    alarm = Alarm(clock, lambda run: tasks.append(asyncio.ensure_future(run())))  # type: ignore[arg-type]
    for one in seconds:
        alarm.set(clock.now() + timedelta(seconds=one), lambda one=one: rung.append(one))
    await asleep(alarm, clock)
    return alarm, rung, tasks[0]


async def asleep(alarm: Alarm, clock: FakeClock) -> None:
    """Wait until the alarm has rung for all that is due, and sleeps if anything is left."""
    await until(lambda: not alarm or any(not woken.done() for *_, woken in clock._sleepers))


async def test_the_alarm_rings_in_order_of_time() -> None:
    clock = FakeClock()
    alarm, rung, task = await ringing(clock, 5, 1, 3, 0)
    assert rung == [0]
    for second in (1, 2, 3, 4):
        clock.advance(seconds=1)
        await asleep(alarm, clock)
        assert rung == [one for one in (0, 1, 3) if one <= second]
    clock.advance(seconds=1)
    await until(lambda: rung == [0, 1, 3, 5])
    task.cancel()


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_clock_that_is_set_delays_no_alarm(step: float) -> None:
    clock = FakeClock()
    alarm, rung, task = await ringing(clock, 100, 50)
    clock.set(clock.now() + timedelta(seconds=step))
    alarm.set(clock.now() + timedelta(seconds=70), lambda: rung.append(70))
    for _ in range(5):
        await asleep(alarm, clock)
        clock.advance(seconds=20)
    await until(lambda: sorted(rung) == [50, 70, 100])
    task.cancel()


async def test_cancelled_alarms_do_not_ring_and_do_not_pile_up() -> None:
    clock = FakeClock()
    alarm, rung, task = await ringing(clock, 10)
    for _ in range(1000):
        alarm.set(clock.now() + timedelta(seconds=5), lambda: rung.append(5)).cancel()
    assert len(alarm) == 1
    assert len(alarm._entries) < 200
    clock.advance(seconds=10)
    await until(lambda: rung == [10])
    task.cancel()


async def test_a_thousand_waits_cost_nothing_between_looks() -> None:
    """One sleeper for all: the work of a nap does not depend on their number."""
    clock, sensor = FakeClock(), Sensor(*["no file"] * 5000, every=86_400)
    job = job_of(
        "j", Task("list", Scripted(result=[*range(1000)])), Task("m", sensor, map_over="list")
    )
    async with running(job, clock=clock, store=MemoryStore()) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(engine.runners[id].execution.waits) == 1000)
        await until(lambda: engine.slots.taken == 0)
        await until(lambda: len(asyncio.all_tasks()) < 50)
        version = engine.store.version()
        for _ in range(10):
            clock.advance(seconds=60)
            await asyncio.sleep(0.002)
        assert (sensor.looks, engine.store.version()) == (1000, version)
        await engine.control.cancel(id)
        await engine.runners.finished(id)
