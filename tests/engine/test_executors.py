"""The contract of all executors: start, hear, end, find again."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import Context, TaskFailed
from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.engine.executors.base import Executor, Run, Work
from goflow.engine.executors.loop import LoopExecutor
from goflow.engine.executors.outcomes import raised
from goflow.engine.executors.process import ProcessExecutor
from goflow.engine.executors.thread import ThreadExecutor
from goflow.engine.threads import DaemonThreads
from goflow.operators import pickling
from goflow.operators.base import inspect_operator
from goflow.operators.process_tag import ProcessTag
from tests.operators.memory_log import MemoryLog, context_with

pytestmark = pytest.mark.anyio

Make = Callable[[], "Kind"]

MAX_RESULT = 1000
ENOUGH = 60.0  # seconds


class Kind:
    """An executor, and how work is written for it."""

    def __init__(self, executor: Executor, name: str) -> None:
        self.executor = executor
        self.name = name

    def work(self, function: Callable[[Context], Any]) -> Work:
        operator: Any = Async(function) if self.name == "loop" else Sync(function)
        call = inspect_operator(operator, "the work")
        packed = pickling.dump((operator, call), "the work") if self.name == "process" else operator
        return Work(packed, call, context_with(MemoryLog()), MAX_RESULT)

    async def heard(self, function: Callable[[Context], Any]) -> Outcome:
        try:
            run = await self.executor.start(self.work(function))
            async with asyncio.timeout(ENOUGH):
                return await run.hear()
        except BaseException as error:  # of an operator on the event loop
            return raised(error)


class Sync:
    def __init__(self, function: Callable[[Context], Any]) -> None:
        self.function = function

    def run(self, context: Context) -> Any:
        return self.function(context)


class Async(Sync):
    async def run(self, context: Context) -> Any:
        return self.function(context)


@pytest.fixture(params=["loop", "thread", "process", "pool"])
def make(request: pytest.FixtureRequest) -> Callable[[], Kind]:
    """A factory of the executor, to be called on the event loop."""

    def made() -> Kind:
        if request.param == "loop":
            return Kind(LoopExecutor(), "loop")
        if request.param == "process":
            return Kind(ProcessExecutor(), "process")
        # "pool": any executor of the standard library's kind
        pool = DaemonThreads(4) if request.param == "thread" else ThreadPoolExecutor(4)
        request.addfinalizer(lambda: pool.shutdown(wait=False))
        return Kind(ThreadExecutor(pool), request.param)

    return made


def value_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    return msgspec.json.decode(outcome.result)


async def test_a_result_is_received(make: Make) -> None:
    outcome = await make().heard(lambda context: {"task": context.task})
    assert value_of(outcome) == {"task": context_with(MemoryLog()).task}


async def test_concurrent_runs_receive_their_own_results(make: Make) -> None:
    kind = make()
    many = 3 if kind.name == "process" else 200
    runs = [kind.heard(lambda context, n=n: n) for n in range(many)]  # type: ignore[misc]
    assert [value_of(outcome) for outcome in await asyncio.gather(*runs)] == list(range(many))


async def test_an_error_is_received(make: Make) -> None:
    kind = make()

    def fails(context: Context) -> None:
        raise TaskFailed("no rain")

    assert await kind.heard(fails) == Failed("no rain")


async def test_a_system_exit_ends_the_run_and_nothing_else(make: Make) -> None:
    kind = make()

    def exits(context: Context) -> None:
        raise SystemExit(3)

    outcome = await kind.heard(exits)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("exit code 3")


async def test_a_result_that_is_too_large_is_a_failure(make: Make) -> None:
    kind = make()
    outcome = await kind.heard(lambda context: "x" * MAX_RESULT)
    assert isinstance(outcome, Failed)
    assert "more than the 1000 that are allowed" in outcome.error


async def test_end_stops_a_run_or_returns_a_future_of_its_end(make: Make, tmp_path: Path) -> None:
    kind = make()
    begun = tmp_path / "begun"
    release = threading.Event()

    def hangs(context: Context) -> None:
        begun.touch()
        release.wait(ENOUGH)

    def hangs_alone(context: Context) -> None:
        import time

        begun.touch()
        time.sleep(ENOUGH)

    if kind.name == "loop":  # a coroutine ends where it awaits
        run: Run = await kind.executor.start(_sleeping(begun))
    else:
        run = await kind.executor.start(kind.work(hangs_alone if kind.name == "process" else hangs))
    hearing = asyncio.ensure_future(run.hear())
    async with asyncio.timeout(ENOUGH):
        while not begun.exists():  # noqa: ASYNC110  another process creates the file
            await asyncio.sleep(0.01)
    hearing.cancel()
    await asyncio.wait([hearing], timeout=ENOUGH)
    assert hearing.done()
    end = run.end()
    if kind.name in ("loop", "process"):
        assert end is None
    else:
        assert end is not None
        assert not end.done()
        release.set()
        await asyncio.wait_for(end, ENOUGH)


def _sleeping(begun: Path) -> Work:
    class Sleeping:
        async def run(self) -> None:
            touch()
            await asyncio.sleep(ENOUGH)

    touch = begun.touch
    operator = Sleeping()
    call = inspect_operator(operator, "the work")
    return Work(operator, call, context_with(MemoryLog()), MAX_RESULT)


async def test_work_ended_before_it_began_never_runs() -> None:
    threads = DaemonThreads(1)
    kind = Kind(ThreadExecutor(threads), "thread")
    release = threading.Event()
    ran: list[int] = []
    first = await kind.executor.start(kind.work(lambda context: release.wait(ENOUGH)))
    second = await kind.executor.start(kind.work(lambda context: ran.append(1)))
    hearing = asyncio.ensure_future(second.hear())
    await asyncio.sleep(0)
    hearing.cancel()
    await asyncio.wait([hearing])
    assert second.end() is None
    release.set()
    assert value_of(await first.hear()) is True
    threads.shutdown()
    assert ran == []


async def test_a_run_from_before_a_crash_is_not_found(make: Make) -> None:
    kind = make()
    tag = ProcessTag("epoch", "server", "execution", "task", 1)
    assert await kind.executor.find(tag) is None


async def test_runs_that_end_together_wake_the_loop_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results return in batches: while the loop is busy, only the first one wakes it."""
    threads = DaemonThreads(8)
    kind = Kind(ThreadExecutor(threads), "thread")
    loop = asyncio.get_running_loop()
    plain = loop.call_soon_threadsafe
    woken: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        woken.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    runs = [await kind.executor.start(kind.work(lambda context: None)) for _ in range(50)]
    threads.shutdown(wait=True)  # all have ended, before the loop had a turn
    assert [await run.hear() for run in runs] == [Succeeded()] * 50
    assert len(woken) == 1
