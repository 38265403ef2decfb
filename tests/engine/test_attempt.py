import asyncio
import contextlib
import enum
import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from goflow import Command, Context
from goflow.core.execution import Cancelled, Failed, Outcome, Succeeded
from goflow.engine.attempts.attempt import Attempt, stop
from goflow.engine.executors.base import Work
from goflow.engine.executors.loop import LoopExecutor
from goflow.engine.executors.outcomes import ERROR_LIMIT
from goflow.engine.executors.thread import ABANDONED, ThreadExecutor
from goflow.engine.output.capture import captured
from goflow.engine.output.tasklog import CHUNK, Chunk
from goflow.engine.threads import DaemonThreads
from goflow.errors import TaskFailed
from goflow.operators.base import inspect_operator
from tests.engine.logs import task_log
from tests.operators.memory_log import context_with

MAX_RESULT = 1024 * 1024


class Sync:
    """An operator that calls a function in a thread."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def run(self) -> Any:
        return self.function()


class Async(Sync):
    """An operator that calls a function on the loop and awaits its return value."""

    async def run(self) -> Any:
        value = self.function()
        return await value if inspect.iscoroutine(value) else value


BEGUN = 1  # seconds after which a thread has started, even on a busy machine


class Trial:
    """A running attempt, with a log that keeps everything."""

    def __init__(self, operator: object, *, timeout: float | None = None, workers: int = 2) -> None:
        self._stored = ""
        self.abandoned: list[asyncio.Future[None]] = []
        self.executor: Executor = DaemonThreads(workers)
        self.log = task_log(self._append)
        call = inspect_operator(operator, "the trial")
        attempt = Attempt(timeout)
        attempt.abandoned = self.abandoned.append  # type: ignore[method-assign]
        self.task = asyncio.create_task(
            attempt.perform(
                LoopExecutor() if call.is_async else ThreadExecutor(self.executor),
                Work(operator, call, context_with(self.log), MAX_RESULT),
            )
        )

    async def _append(self, chunk: Chunk) -> None:
        self._stored += chunk.text

    @property
    def text(self) -> str:
        """The log, with the lines that are left to the caller of the attempt."""
        return self._stored + "".join(chunk.text for chunk in self.log.rest)


def tried(operator: object, *, timeout: float | None = None) -> tuple[Outcome, str]:
    async def main() -> tuple[Outcome, str]:
        trial = Trial(operator, timeout=timeout)
        outcome = await trial.task
        return outcome, trial.text

    return asyncio.run(main())


def result_of(operator: object) -> Any:
    outcome, _ = tried(operator)
    assert isinstance(outcome, Succeeded), outcome
    return msgspec.json.decode(outcome.result)


def error_of(operator: object, **options: Any) -> str:
    outcome, log = tried(operator, **options)
    assert isinstance(outcome, Failed), outcome
    assert log.endswith(f"{outcome.error}\n"), "the error is in the log"
    return outcome.error


both = pytest.mark.parametrize("kind", [Sync, Async])


# -- results -----------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float | None


@both
@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, None),
        (5, 5),
        ("größe", "größe"),
        (2**70, 2**70),
        ([None, {"a": (1, 2)}], [None, {"a": [1, 2]}]),
        ({1: "one"}, {"1": "one"}),
        (Point(1, None), {"x": 1, "y": None}),
        (Colour.RED, "red"),
        ([[i] for i in range(1000)], [[i] for i in range(1000)]),
        ("null" * 10, "null" * 10),
    ],
)
def test_the_return_value_of_run_is_the_result(
    kind: type[Sync], value: object, result: object
) -> None:
    assert result_of(kind(lambda: value)) == result


def nested(levels: int) -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(levels), [])


@both
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "of type object, cannot be stored as JSON: Encoding objects of type object is"),
        ({"a": [object()]}, "of type dict, cannot be stored as JSON: "),
        (float("nan"), "nan is not a number that JSON has"),
        ({"a": [1, {"b": float("-inf")}]}, "-inf is not a number that JSON has"),
        (Point(1, float("inf")), "inf is not a number that JSON has"),
        ({(1, 2): 3}, "cannot be stored as JSON: Only dicts with str-like or number-like keys"),
        ("\ud800", "surrogates not allowed"),
        (nested(500), "nested deeper than 200 levels"),
        (nested(100_000), "nested deeper than 200 levels"),
        ((i for i in range(3)), "of type generator, cannot be stored as JSON"),
        ("x" * MAX_RESULT, f"{MAX_RESULT + 2} bytes as JSON, more than the {MAX_RESULT} that are"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 100 else "",
)
def test_a_result_that_cannot_be_stored_fails_with_the_reason(
    kind: type[Sync], value: object, reason: str
) -> None:
    error = error_of(kind(lambda: value))
    assert reason in error
    assert "return " in error


def test_the_context_is_passed_to_a_run_that_takes_it() -> None:
    class Greedy:
        def run(self, context: Context) -> str:
            return f"{context.job}.{context.task}.{context.attempt}"

    assert result_of(Greedy()) == "j.t.1"


def test_an_awaitable_returned_by_a_sync_run_is_awaited() -> None:
    async def later() -> int:
        await asyncio.sleep(0)
        return 5

    assert result_of(Sync(later)) == 5


def test_a_sync_run_uses_a_thread_and_an_async_one_the_loop() -> None:
    name = lambda: threading.current_thread().name  # noqa: E731
    assert "goflow" in result_of(Sync(name))
    assert result_of(Async(name)) == threading.main_thread().name


# -- errors ------------------------------------------------------------------------


def add(a: int, b: int) -> int:
    if a < 0 or b < 0:
        raise ValueError("can't add negative numbers")
    return a + b


@both
def test_an_exception_fails_with_a_headline_and_the_traceback_of_user_code(
    kind: type[Sync],
) -> None:
    error = error_of(kind(lambda: add(-1, 2)))
    headline, empty, *trace = error.splitlines()
    assert (headline, empty) == ("ValueError: can't add negative numbers", "")
    assert trace[0] == "Traceback (most recent call last):"
    assert __file__ in trace[1]
    assert trace[-1] == headline


@both
def test_task_failed_fails_without_a_traceback(kind: type[Sync]) -> None:
    def run() -> None:
        raise TaskFailed("nothing to fetch today")

    assert error_of(kind(run)) == "nothing to fetch today"


class OwnFailure(TaskFailed):
    def __init__(self) -> None:
        self.final = "yes"  # type: ignore[assignment]


@both
@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (TaskFailed("revoked", final=True), True),
        (TaskFailed("revoked"), False),
        (OwnFailure(), False),
        (ValueError("revoked"), False),
    ],
    ids=repr,
)
def test_a_final_failure_is_one_that_says_so(
    kind: type[Sync], error: Exception, is_final: bool
) -> None:
    def run() -> None:
        raise error

    outcome, _ = tried(kind(run))
    assert isinstance(outcome, Failed)
    assert outcome.final is is_final


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even this")


@both
@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(1),
        StopAsyncIteration(),
        MemoryError(),
        RecursionError(),
        BaseException("base"),
        BaseExceptionGroup("several", [ValueError(1), SystemExit(2)]),
        Unspeakable(),
        OSError("\ud800"),
        TimeoutError("mine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_fails_the_attempt_and_nothing_else(
    kind: type[Sync], error: BaseException
) -> None:
    def run() -> None:
        raise error

    text = error_of(kind(run))
    assert type(error).__name__ in text.splitlines()[0]
    assert msgspec.json.encode(text)


@both
@pytest.mark.parametrize("code", [(), (None,), (0,), (False,)], ids=str)
def test_a_task_that_exits_with_code_zero_succeeds(
    kind: type[Sync], code: tuple[object, ...]
) -> None:
    assert tried(kind(lambda: sys.exit(*code))) == (Succeeded(), "")  # type: ignore[arg-type]


@both
@pytest.mark.parametrize(
    ("code", "told"),
    [(3, "exit code 3"), (True, "exit code 1"), (-1, "exit code -1"), ("no rows", "no rows"),
     (Unspeakable(), "SystemExit, whose text raises SystemExit"), (0.0, "0.0")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_task_that_exits_with_another_code_or_text_fails_with_it(
    kind: type[Sync], code: Any, told: str
) -> None:
    headline, empty, *trace = error_of(kind(lambda: sys.exit(code))).splitlines()
    assert (headline, empty) == (told, "")
    assert trace[0] == "Traceback (most recent call last):"


def test_a_cause_is_part_of_the_error() -> None:
    def run() -> None:
        try:
            add(-1, 0)
        except ValueError as cause:
            raise RuntimeError("no sum") from cause

    error = error_of(Sync(run))
    assert error.startswith("RuntimeError: no sum\n")
    assert "ValueError: can't add negative numbers" in error


@both
def test_a_long_error_keeps_its_head_and_its_tail(kind: type[Sync]) -> None:
    def run() -> None:
        raise ValueError("the start" + "x" * 10_000_000 + "the end")

    error = error_of(kind(run))
    assert error.startswith("ValueError: the start")
    assert error.endswith("the end")
    assert " characters left out …\n" in error
    assert len(error) < ERROR_LIMIT + 100


def test_an_executor_that_refuses_work_fails_the_attempt() -> None:
    async def main() -> Outcome:
        trial = Trial(Sync(int))
        trial.executor.shutdown()
        return await trial.task

    outcome = asyncio.run(main())
    assert isinstance(outcome, Failed)
    assert "shutdown" in outcome.error


# -- stopping ----------------------------------------------------------------------


def test_a_cancelled_async_operator_may_clean_up() -> None:
    async def main() -> None:
        begun, cleaned = asyncio.Event(), []

        async def run() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        trial = Trial(Async(run))
        await begun.wait()
        stop(trial.task)
        assert await trial.task == Cancelled()
        assert cleaned == [True]

    asyncio.run(main())


@pytest.mark.parametrize("swallow", ["return", "raise"])
def test_the_reaction_of_an_operator_to_its_cancellation_is_ignored(swallow: str) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def run() -> str:
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallow == "raise":
                    raise ValueError("the clean-up failed") from None
            return "done"

        trial = Trial(Async(run))
        await begun.wait()
        stop(trial.task)
        assert await trial.task == Cancelled()
        assert ("the clean-up failed" in trial.text) == (swallow == "raise")

    asyncio.run(main())


def test_an_async_operator_that_exceeds_its_timeout_is_cancelled() -> None:
    assert error_of(Async(lambda: asyncio.sleep(1000)), timeout=0.05) == "timed out after 0.05 s"


def test_a_timeout_ends_a_command_and_its_processes() -> None:
    outcome, _ = tried(Command.shell("sleep 1000 | cat"), timeout=0.2)
    assert outcome == Failed("timed out after 0.2 s")


def test_a_timeout_error_raised_by_the_operator_is_its_error() -> None:
    async def run() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1000)

    assert error_of(Async(run), timeout=1000).startswith("TimeoutError\n")


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_thread_that_does_not_return_is_abandoned_and_reported(how: str) -> None:
    async def main() -> None:
        begun, release = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def run() -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait(60)
            print("too late")

        with captured():
            trial = Trial(Sync(run), timeout=BEGUN if how == "timeout" else None)
            await begun.wait()
            if how == "cancel":
                stop(trial.task)
            outcome = await trial.task
            assert outcome == (
                Failed(f"timed out after {BEGUN} s") if how == "timeout" else Cancelled()
            )
            assert ABANDONED in trial.text
            (end,) = trial.abandoned
            await asyncio.sleep(0)
            assert not end.done()
            release.set()
            await asyncio.wait_for(end, 60)
            assert "too late" not in trial.text

    asyncio.run(main())


def test_work_waiting_for_a_thread_can_be_withdrawn() -> None:
    async def main() -> None:
        release = threading.Event()
        ran = []
        trial = Trial(Sync(lambda: ran.append(True)), workers=1)
        busy = trial.executor.submit(release.wait, 20)
        await asyncio.sleep(0)
        stop(trial.task)
        assert await trial.task == Cancelled()
        assert trial.abandoned == []
        release.set()
        await asyncio.wrap_future(busy)
        await asyncio.wrap_future(trial.executor.submit(int))
        assert ran == []

    asyncio.run(main())


def test_an_abandoned_thread_may_outlive_the_loop() -> None:
    release, end = threading.Event(), []

    async def main() -> None:
        trial = Trial(Sync(lambda: release.wait(60)), timeout=BEGUN)
        await trial.task
        end.append(trial.executor)

    asyncio.run(main())
    release.set()
    end[0].shutdown()


# -- logs --------------------------------------------------------------------------


@both
def test_print_and_logging_land_in_the_log_before_the_error(kind: type[Sync]) -> None:
    def run() -> None:
        print("printed")
        logging.getLogger("mine").info("logged")
        raise ValueError("raised")

    with captured():
        _, log = tried(kind(run))
    assert log.startswith("printed\nINFO mine: logged\nValueError: raised\n\nTraceback")


def test_the_log_is_complete_when_an_attempt_is_stopped_at_its_end() -> None:
    async def main() -> None:
        opened, asked = asyncio.Event(), asyncio.Event()
        texts = []

        async def append(chunk: Chunk) -> None:
            asked.set()
            await opened.wait()
            texts.append(chunk.text)

        log = task_log(append)
        operator = Async(lambda: log("x\n" * CHUNK + "the last word"))
        task = asyncio.create_task(
            Attempt().perform(
                LoopExecutor(),
                Work(operator, inspect_operator(operator, "t"), context_with(log), MAX_RESULT),
            )
        )
        await asked.wait()
        for _ in range(3):
            stop(task)
            await asyncio.sleep(0)
        assert not task.done()
        opened.set()
        assert await task == Succeeded()
        texts += [chunk.text for chunk in log.rest]
        assert "".join(texts) == "x\n" * CHUNK + "the last word\n"

    asyncio.run(main())


def test_a_log_that_cannot_be_written_is_reported_and_changes_no_outcome() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reported.append(report))

        async def append(*_: object) -> None:
            raise OSError("broken")

        log = task_log(append)
        operator = Async(lambda: log("x\n" * CHUNK))
        outcome = await Attempt().perform(
            LoopExecutor(),
            Work(operator, inspect_operator(operator, "t"), context_with(log), MAX_RESULT),
        )
        assert outcome == Succeeded()
        assert [str(report["exception"]) for report in reported] == ["broken"]

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(main())


def test_a_failing_task_group_in_an_operator_does_not_stop_the_attempt() -> None:
    class Groups:
        async def run(self) -> None:
            async def child() -> None:
                await asyncio.sleep(0)
                raise ValueError("of a child")

            async with asyncio.TaskGroup() as group:
                group.create_task(child())

    assert "ValueError: of a child" in error_of(Groups())
