"""What attempts report: their progress, their counts and their cost."""

import asyncio
import decimal
import math
import resource
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from goflow import Command, Context, Job, Later, Task
from goflow.core.cost import COUNTS, TEXT, Bar, Cost
from goflow.core.detail import Detail, TaskDetail
from goflow.core.keys import Item
from goflow.core.states import State
from goflow.core.summary import Listed
from goflow.engine.attempts import bars
from goflow.engine.broadcast import Event
from goflow.engine.clock import SystemClock
from goflow.engine.engine import Engine
from goflow.operators.meter import Meter
from goflow.operators.program import UNIT
from goflow.run import FinishedExecution, run_job
from goflow.stores.memory import MemoryStore
from goflow.testing import FakeClock
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

Act = Callable[[Context], Any]


class Sync:
    """Calls a function in a thread, or in a process of its own."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def run(self, context: Context) -> Any:
        return self.act(context)


class Async:
    """Calls a function on the event loop."""

    def __init__(self, act: Act) -> None:
        self.act = act

    async def run(self, context: Context) -> Any:
        return self.act(context)


class Gated:
    """Reports, and goes on when it is let."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.gate = threading.Event()

    def run(self, context: Context) -> None:
        self.act(context)
        assert self.gate.wait(60)


KINDS: list[tuple[str, Callable[[Act], Any], dict[str, Any]]] = [
    ("thread", Sync, {}),
    ("loop", Async, {}),
    ("process", Sync, {"isolation": "process"}),
]
everywhere = pytest.mark.parametrize(
    ("operator", "options"), [pytest.param(*rest, id=name) for name, *rest in KINDS]
)


async def run(*tasks: Task, clock: Any = None, **options: Any) -> FinishedExecution:
    return await run_job(Job("j", tasks=tasks, **options), clock=clock or FakeClock(jumps=True))


async def submitted(engine: Engine) -> str:
    return (await engine.submissions.submit("j")).id


async def watched(engine: Engine, id: str, since: int | None = None) -> Detail:
    """The execution as its page has it."""

    def annotate(detail: Detail, tasks: Any) -> None:
        for task in tasks:
            task.progress = engine.bars.of(id, task.name) or msgspec.UNSET

    return msgspec.json.decode(await engine.reader.watch(id, since, annotate), type=Detail)


def task_of(detail: Detail, name: str) -> TaskDetail:
    return next(task for task in detail.tasks if task.name == name)


# -- counts --------------------------------------------------------------------------------


def count_rows(context: Context) -> None:
    for _ in range(3):
        context.count("rows", 40)
    context.count("files")
    context.count("share", 0.5)
    context.progress(3, 3, "done")


@everywhere
async def test_counts_are_summed_wherever_the_operator_runs(
    operator: Callable[[Act], Any], options: dict[str, Any]
) -> None:
    finished = await run(Task("load", operator(count_rows), **options), Task("other", Scripted()))
    counts = {"rows": 120, "files": 1, "share": 0.5}
    assert finished.tasks["load"].counts == finished.counts == counts
    assert type(finished.counts["rows"]) is int
    assert finished.tasks["other"].cost is None
    (attempt,) = finished.tasks["load"].attempts
    assert attempt.cost is not msgspec.UNSET
    assert attempt.cost.counts == counts


async def test_a_failed_attempt_keeps_its_counts_and_they_are_not_summed() -> None:
    def act(context: Context) -> None:
        context.count("rows", context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")

    finished = await run(Task("load", Sync(act), retries=2))
    kept = [attempt.cost.counts for attempt in finished.tasks["load"].attempts if attempt.cost]
    assert kept == [{"rows": 1}, {"rows": 2}, {"rows": 3}]
    assert finished.counts == {"rows": 3}


async def test_counts_of_many_threads_of_a_task_are_all_summed() -> None:
    def act(context: Context) -> None:
        def count() -> None:
            for _ in range(2000):
                context.count("rows", 1)

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (await run(Task("load", Sync(act)))).counts == {"rows": 16_000}


async def test_counts_of_items_are_summed_in_their_task() -> None:
    def act(context: Context) -> None:
        context.count("rows", context.item)

    finished = await run(
        Task("give", Scripted(result=[1, 2, 3])), Task("load", Sync(act), map_over="give")
    )
    assert finished.tasks["load"].counts == finished.counts == {"rows": 6}


async def test_the_counts_of_all_looks_of_an_attempt_are_summed() -> None:
    def act(context: Context) -> None:
        context.count("looks", 1)
        print("looked")
        if context.waited < 20:
            raise Later(10, "no file")

    finished = await run(Task("wait", Sync(act)))
    (attempt,) = finished.tasks["wait"].attempts
    assert attempt.cost
    assert attempt.cost.counts["looks"] >= 3
    assert attempt.cost.log_bytes == len("looked\n") * attempt.cost.counts["looks"]


# -- progress ------------------------------------------------------------------------------


@everywhere
async def test_progress_is_shown_without_a_commit_and_the_last_report_is_among_it(
    operator: Callable[[Act], Any], options: dict[str, Any], tmp_path: Any
) -> None:
    gate = tmp_path / "gate"

    def act(context: Context) -> None:
        for done in range(1001):
            context.progress(done, 1000, f"row {done}")

    def act_and_wait(context: Context) -> None:
        act(context)
        while not gate.exists():
            time.sleep(0.01)

    class ActAndWait:
        async def run(self, context: Context) -> None:
            act(context)
            await until(gate.exists)

    task = ActAndWait() if operator is Async else operator(act_and_wait)
    async with running(job_of("j", Task("load", task, **options))) as engine:
        id = await submitted(engine)
        last = Bar(1000, 1000, "row 1000")
        await until(lambda: engine.bars.of(id, "load") == last)
        version = engine.live.version
        live = engine.live.get(id)
        assert live is not None
        assert live.tasks["load"].progress == last
        detail = await watched(engine, id)
        assert task_of(detail, "load").progress == last
        assert engine.live.version == version
        gate.touch()
        await engine.runners.finished(id)
        assert engine.bars.of(id, "load") is None
        assert task_of(await watched(engine, id), "load").progress is msgspec.UNSET
    assert engine.bars._bars == engine.bars._new == {}


async def test_the_stream_has_progress_and_its_event_has_no_id() -> None:
    seen = threading.Event()

    def act(context: Context) -> None:
        # Its start and its progress would share an event if they came at once.
        assert seen.wait(60)
        context.progress(1, 4, "one")

    gated = Gated(act)
    async with (
        running(job_of("j", Task("load", gated))) as engine,
        aclosing(engine.broadcast.listen("j", None)) as stream,
    ):
        events: list[Event] = []

        async def listen() -> None:
            async for some in stream:
                events.extend(some)

        listening = asyncio.create_task(listen())
        id = await submitted(engine)
        await until(lambda: any(b'"running"' in event.frame for event in events[-1:]))
        await until(lambda: events[-1].version == engine.live.version)
        seen.set()
        await until(lambda: any(event.news for event in events))
        told = next(event for event in events if event.news)
        assert told.frame.startswith(b"event: message\ndata: {")
        shown = msgspec.json.decode(told.frame.split(b"data: ")[1], type=Listed)
        assert shown.tasks[0].progress == Bar(1, 4, "one")
        assert shown.version == engine.live.version
        before = [event.version for event in events if not event.news]
        assert shown.version in before  # it repeats the newest version
        gated.gate.set()
        await engine.runners.finished(id)
        await until(lambda: engine.live.version == events[-1].version)
        last = msgspec.json.decode(events[-1].frame.split(b"data: ")[1], type=Listed)
        assert last.tasks[0].progress is msgspec.UNSET
        listening.cancel()
        await asyncio.wait({listening})


async def test_a_million_reports_are_few_updates() -> None:
    def act(context: Context) -> None:
        for done in range(1_000_000):
            context.progress(done, 1_000_000)

    gated = Gated(act)
    async with running(job_of("j", Task("load", gated))) as engine:
        shown: list[Bar] = []
        show = engine.bars._show

        def count(id: str, some: Any) -> None:
            shown.extend(some.values())
            show(id, some)

        engine.bars._show = count
        begun = asyncio.get_running_loop().time()
        id = await submitted(engine)
        await until(lambda: engine.bars.of(id, "load") == Bar(999_999, 1_000_000))
        took = asyncio.get_running_loop().time() - begun
        assert len(shown) <= 2 + took / bars.PAUSE
        gated.gate.set()


async def test_progress_of_items_is_theirs_alone() -> None:
    gated = Gated(lambda context: context.progress(context.index or 0, 2))
    job = job_of("j", Task("give", Scripted(result=["a", "b"])), Task("m", gated, map_over="give"))
    async with running(job) as engine:
        id = await submitted(engine)
        await until(lambda: engine.bars.of(id, Item("m", 1)) == Bar(1, 2))
        assert engine.bars.of(id, Item("m", 0)) == Bar(0, 2)
        assert engine.bars.of(id, "m") is None
        assert task_of(await watched(engine, id), "m").progress is msgspec.UNSET
        gated.gate.set()


async def test_progress_is_in_the_changes_since_a_version() -> None:
    second = threading.Event()

    def act(context: Context) -> None:
        context.progress(1, 2)
        assert second.wait(60)
        context.progress(2, 2)

    gated = Gated(act)
    async with running(job_of("j", Task("load", gated), Task("other", Scripted()))) as engine:
        id = await submitted(engine)
        await until(lambda: engine.bars.of(id, "load") == Bar(1, 2))
        before = await watched(engine, id)
        second.set()
        await until(lambda: engine.bars.of(id, "load") == Bar(2, 2))
        changed = await watched(engine, id, before.version)
        assert changed.since == before.version
        assert task_of(changed, "load").progress == Bar(2, 2)
        gated.gate.set()


async def test_an_abandoned_thread_no_longer_shows_its_progress() -> None:
    go_on, reported = threading.Event(), threading.Event()

    def act(context: Context) -> None:
        context.progress(1, 2)
        assert go_on.wait(60)
        context.progress(2, 2)
        context.count("rows", 1)
        reported.set()

    # It has to begin in this time, on a busy machine too.
    async with running(job_of("j", Task("load", Sync(act), timeout=1))) as engine:
        id = await submitted(engine)
        await engine.runners.finished(id)
        go_on.set()
        await until(reported.is_set)
        for _ in range(5):
            await asyncio.sleep(0)
        assert engine.bars._bars == engine.bars._new == {}
        detail = await engine.reader.execution(id)
        assert detail.tasks[0].state is State.FAILED


async def test_a_context_of_a_test_takes_reports_and_checks_them() -> None:
    context = Context("j", "t", "e", 1, {}, {}, None, FakeClock().now(), None)  # type: ignore[arg-type]
    context.progress(1, 2, "half")
    context.count("rows", 3)
    with pytest.raises(ValueError, match="done must be from 0"):
        context.progress(-1)


# -- bad input -----------------------------------------------------------------------------

PROGRESS: list[tuple[tuple[Any, ...], str]] = [
    ((-1,), "done must be from 0 to .*, not -1"),
    ((math.nan,), "done must be from 0 to .*, not nan"),
    ((math.inf,), "done must be from 0 to .*, not inf"),
    ((10**400,), "done must be from 0"),
    (("3",), "done must be a number, not '3'"),
    ((True,), "done must be a number, not True"),
    ((None,), "done must be a number, not None"),
    ((decimal.Decimal(1),), r"done must be a number, not Decimal\('1'\)"),
    ((1, -5), "total must be from 0"),
    ((1, "10"), "total must be a number"),
    ((1, 2, 3), "the text must be a str, not 3"),
]
COUNT: list[tuple[tuple[Any, ...], str]] = [
    (("rows", math.nan), "the number for 'rows' must be from"),
    (("rows", math.inf), "the number for 'rows' must be from"),
    (("rows", "1"), "the number for 'rows' must be a number, not '1'"),
    (("rows", None), "the number for 'rows' must be a number, not None"),
    (("rows", True), "the number for 'rows' must be a number, not True"),
    (("rows", 2**60), "the number for 'rows' must be from"),
    (("", 1), "the name must have 1 to 64 characters"),
    (("x" * 65, 1), "the name must have 1 to 64 characters"),
    (("a\nb", 1), "the name must have 1 to 64 characters, all of them printable"),
    (("\ud800", 1), "the name must have 1 to 64 characters, all of them printable"),
    ((5, 1), "the name must be a str, not 5"),
    (([], 1), r"the name must be a str, not \[\]"),
]


def meter() -> Meter:
    return Meter(lambda meter: None, float)


@pytest.mark.parametrize(("arguments", "message"), PROGRESS)
def test_wrong_progress_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    done, total, text = (*arguments, None, "")[:3] if len(arguments) < 3 else arguments
    one = meter()
    with pytest.raises(ValueError, match=f"context.progress: {message}"):
        one.progress(done, total, text)
    assert one.bar is None


@pytest.mark.parametrize(("arguments", "message"), COUNT)
def test_a_wrong_count_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    one = meter()
    with pytest.raises(ValueError, match=f"context.count: {message}"):
        one.count(*arguments)
    assert not any((one.counts or {}).values())


async def test_a_wrong_report_fails_the_attempt_with_a_sentence() -> None:
    finished = await run(
        Task("a", Sync(lambda context: context.progress(-1))),
        Task("b", Sync(lambda context: context.count("rows", math.nan)), isolation="process"),
    )
    assert "ValueError: context.progress: done must be from 0" in (finished.tasks["a"].error or "")
    assert "ValueError: context.count: the number for 'rows'" in (finished.tasks["b"].error or "")


def test_names_of_counts_are_bounded() -> None:
    one = meter()
    for number in range(COUNTS):
        one.count(f"n{number}", 1)
    one.count("n0", 1)
    with pytest.raises(ValueError, match="may count 32 names, and 'more' would be one more"):
        one.count("more", 1)


def test_a_sum_that_json_cannot_hold_is_refused_and_kept_as_it_was() -> None:
    one = meter()
    one.count("rows", 2**53)
    with pytest.raises(ValueError, match="the sum of 'rows' would be beyond"):
        one.count("rows", 1)
    assert one.counts == {"rows": 2**53}


def test_a_long_text_is_cut_and_has_one_line() -> None:
    one = meter()
    one.progress(5, 3, "a\nb\t" + "x" * 1_000_000)
    assert one.bar is not None
    assert one.bar.done == 5  # estimates of a total may be too low
    assert one.bar.text.startswith("a b xxx")
    assert len(one.bar.text) <= TEXT + 1


def test_whole_numbers_of_other_types_are_taken() -> None:
    class Whole:
        """Like a number of NumPy."""

        def __index__(self) -> int:
            return 7

    one = meter()
    one.count("rows", Whole())
    one.progress(Whole(), 8.5, "")
    assert one.counts == {"rows": 7}
    assert one.bar == Bar(7, 8.5, "")


def test_only_a_first_report_is_announced_until_it_is_shown() -> None:
    told: list[Meter] = []
    one = Meter(told.append, float)
    for done in range(100):
        one.progress(done, None, "")
    assert told == [one]
    one.is_told = False
    one.progress(100, None, "")
    assert told == [one, one]


# -- costs ---------------------------------------------------------------------------------


class Counting(FakeClock):
    """A clock on which an attempt takes a quarter of a second of the processor. It counts how often
    it is asked."""

    def __init__(self) -> None:
        super().__init__(jumps=True)
        self.asked = 0

    def thread_time(self) -> float:
        self.asked += 1
        return self.asked * 0.25


async def test_the_processor_time_of_threads_is_measured_by_two_looks_at_the_clock() -> None:
    clock = Counting()
    finished = await run(Task("a", Sync(lambda context: None)), clock=clock)
    assert clock.asked == 2
    assert finished.cost == finished.tasks["a"].cost == Cost(0.25)


async def test_code_on_the_event_loop_is_not_measured() -> None:
    clock = Counting()
    finished = await run(Task("a", Scripted()), clock=clock)
    assert (clock.asked, finished.cost) == (0, None)


def test_a_moment_of_the_processor_is_nothing_to_say() -> None:
    one = meter()
    one.used(0.0004, 0)
    assert one.cost(0) is None
    one.used(0.0004, 0)
    assert one.cost(0) == Cost(0.001)


async def test_the_bytes_written_to_the_log_are_counted() -> None:
    def act(context: Context) -> None:
        print("grün", end="")
        print("!")
        context.log("x" * 10_000)

    finished = await run(Task("say", Sync(act)), Task("quiet", Scripted()))
    cost = finished.tasks["say"].cost
    assert cost is not None
    assert cost.log_bytes == len("grün!\n".encode()) + 10_001
    assert len(finished.tasks["say"].logs.encode()) == cost.log_bytes


async def test_the_processor_time_and_the_peak_memory_of_programs_are_kept() -> None:
    # A peak below ours may be inherited from us, so it is not told.
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    burn = f"x = bytearray({ours + 200_000_000}); sum(range(3_000_000)); print('burnt')"
    finished = await run(Task("burn", Command("python3", ["-c", burn])), clock=SystemClock())
    cost = finished.tasks["burn"].cost
    assert cost is not None
    assert 0.01 < cost.processor_seconds < 60
    assert cost.peak_memory > ours + 100_000_000
    assert cost.log_bytes == len("burnt\n")


async def test_a_small_program_does_not_get_the_peak_of_the_server() -> None:
    ours = bytearray(200_000_000)
    finished = await run(Task("nothing", Command("true")), clock=SystemClock())
    cost = finished.tasks["nothing"].cost
    assert cost is None or cost.peak_memory < 50_000_000
    assert ours


async def test_the_cost_of_a_process_is_kept_even_if_it_dies() -> None:
    def act(context: Context) -> None:
        import os

        context.count("rows", 7)
        sum(range(3_000_000))
        os._exit(3)

    finished = await run(Task("die", Sync(act), isolation="process"))
    assert finished.state is State.FAILED
    (attempt,) = finished.tasks["die"].attempts
    assert attempt.cost
    assert attempt.cost.counts == {"rows": 7}
    assert attempt.cost.processor_seconds > 0.01
    assert finished.counts == {}


async def test_the_cost_of_a_cancelled_attempt_is_kept() -> None:
    def act(context: Context) -> None:
        context.count("rows", 1)

    class Hangs:
        async def run(self, context: Context) -> None:
            act(context)
            await asyncio.Event().wait()

    async with running(job_of("j", Task("hang", Hangs()))) as engine:
        id = await submitted(engine)
        await until(lambda: engine.live.get(id) and engine.live.get(id).running)  # type: ignore[union-attr]
        await asyncio.sleep(0)
        await engine.control.cancel(id)
        await engine.runners.finished(id)
        (attempt,) = (await engine.reader.execution(id)).tasks[0].attempts
        assert attempt.state is State.CANCELLED
        assert attempt.cost in (msgspec.UNSET, Cost(counts={"rows": 1}))


async def test_the_day_of_a_job_has_the_sums_of_its_executions() -> None:
    def act(context: Context) -> None:
        context.count("rows", 5)
        if context.attempt == 1:
            raise ValueError("no")

    async with running(job_of("j", Task("load", Sync(act)))) as engine:
        for _ in range(2):
            id = await submitted(engine)
            await engine.runners.finished(id)
        assert await _day(engine) == {}
        await engine.control.retry(id)
        await engine.runners.finished(id)
        assert await _day(engine) == {"rows": 5}
        await engine.control.retry(id, task="load")
        await engine.runners.finished(id)
        assert await _day(engine) == {"rows": 5}  # of the last success


async def _day(engine: Engine) -> dict[str, Any]:
    ((_, activity),) = await engine.ledger.calendar("j", "UTC", 2)
    assert activity.cost is not None
    assert activity.cost.log_bytes > 0
    return activity.cost.counts


async def test_costs_survive_a_restart() -> None:
    store = MemoryStore()
    async with running(job_of("j", Task("load", Sync(count_rows))), store=store) as engine:
        id = await submitted(engine)
        await engine.runners.finished(id)
        kept = await engine.reader.execution(id)
        row = store.find(id)
        assert row is not None
        assert row.summary is not None
        assert b'"counts":{"rows":120,"files":1,"share":0.5}' in row.summary
    assert kept.cost == kept.tasks[0].cost
