"""Branches, conditions and skips, in jobs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from goflow import Command, Context, InvalidJob, Job, Skip, SqliteStore, Task, TaskFailed, Template
from goflow.core.keys import Item
from goflow.core.states import SkipReason, State
from goflow.run import FinishedExecution
from tests.engine.scripted import Scripted, job_of, running, until

BRANCH, CONDITION, ITSELF = SkipReason.BRANCH, SkipReason.CONDITION, SkipReason.ITSELF


def states(execution: FinishedExecution) -> dict[str, str]:
    return {name: task.state.value for name, task in execution.tasks.items()}


def branching(value: Any, **options: Any) -> Job:
    """A job whose branch `pick` returns the value, before x and y."""
    job = Job("branching")

    @job.branch(**options)
    def pick() -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    for name in ("x", "y"):
        job.add(Task(name, Command("true"), after=["pick"]))
    job.add(Task("last", Command("true"), after=["x"]))
    return job


# -- branches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("x", ["x"]),
        (["x", "y"], ["x", "y"]),
        (["y", "y"], ["y"]),
        (("x",), ["x"]),
        ([], []),
        (None, []),
        (SystemExit(0), []),
    ],
)
def test_a_branch_runs_what_it_returns_and_skips_the_others(value: Any, chosen: list[str]) -> None:
    execution = branching(value).run()
    expected = {name: "successful" if name in chosen else "skipped" for name in ("x", "y")}
    assert states(execution) == {"pick": "successful", **expected, "last": expected["x"]}
    assert execution.state == State.SUCCESSFUL


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_choice_of_a_branch_is_its_result(isolation: str) -> None:
    execution = branching(["y"], isolation=isolation).run()
    assert execution.tasks["pick"].result == ["y"]
    assert states(execution)["x"] == "skipped"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("z", "the branch chose 'z', which is not directly downstream of it"),
        ("last", "chose 'last', which is not directly downstream of it; it can choose among "),
        ("", "chose '', which is not directly downstream"),
        (["x", "pick"], "chose 'pick', which is not directly downstream"),
        (["x", 3], "chose 3, which is not the name of a task"),
        (["x", ["y"]], "which is not the name of a task"),
        (3, "must return the name of a task directly downstream of it, a list of names, or None"),
        ({"x": True}, "not {'x': True}"),
        (True, "not True"),
    ],
)
def test_a_choice_that_is_none_fails_the_attempt_and_says_which(value: Any, told: str) -> None:
    execution = branching(value, retries=1).run()
    pick = execution.tasks["pick"]
    assert pick.state == State.FAILED
    assert told in (pick.error or "")
    assert told in pick.logs
    assert len(pick.attempts) == 2, "it is an error like any other"
    assert states(execution)["x"] == states(execution)["y"] == "skipped"


def test_a_branch_receives_results_and_params() -> None:
    job = Job("sizes", params={"most": 3})

    @job.task
    def rows() -> int:
        return 2

    @job.branch
    async def by_size(rows: int, most: int) -> str:
        return "small" if rows < most else "large"

    for name in ("small", "large"):
        job.add(Task(name, Command("true"), after=["by_size"]))
    assert states(job.run())["large"] == "skipped"
    assert states(job.run({"most": 1}))["small"] == "skipped"


def test_a_large_choice_is_kept_apart_and_still_counts() -> None:
    job = Job("many")
    names = [f"task {number} {'x' * 60}" for number in range(200)]

    @job.branch
    def pick() -> list[str]:
        return names[:150]

    for name in names:
        job.add(Task(name, Scripted(), after=["pick"]))
    execution = job.run()
    counted = [task.state for task in execution.tasks.values()]
    assert counted.count(State.SKIPPED) == 50
    assert counted.count(State.SUCCESSFUL) == 151


def test_a_branch_cannot_be_mapped() -> None:
    job = Job("j")
    job.add(Task("items", Command("true")))
    with pytest.raises(InvalidJob, match="job 'j', task 'pick': a branch cannot have map_over"):
        job.branch(lambda: "x", name="pick", map_over="items")


def test_the_result_of_a_branch_is_json() -> None:
    job = Job("j")
    with pytest.raises(InvalidJob, match="job 'j', task 'pick': a branch returns names of tasks"):
        job.branch(lambda: "x", name="pick", result="pickle")


@pytest.mark.anyio
async def test_a_retry_after_a_restart_keeps_the_choice(tmp_path: Any) -> None:
    path = tmp_path / "goflow.db"
    broken = Scripted(["fail"])

    def job() -> Job:
        one = Job("j")
        one.branch(lambda: "x", name="pick")
        one.add(Task("x", broken, after=["pick"]))
        one.add(Task("y", Scripted(), after=["pick"]))
        return one

    async with running(job(), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: not engine.runners)
    async with running(job(), store=SqliteStore(path)) as engine:
        await engine.control.retry(id)
        await until(lambda: not engine.runners)
        detail = await engine.reader.execution(id)
        assert {task.name: task.state.value for task in detail.tasks} == {
            "pick": "successful",
            "x": "successful",
            "y": "skipped",
        }


# -- conditions ------------------------------------------------------------------------


@dataclass(frozen=True)
class Marking:
    """An operator that must not run."""

    ran: list[int]

    def run(self) -> None:
        self.ran.append(1)


def conditional(when: str, **options: Any) -> tuple[Job, list[int]]:
    ran: list[int] = []
    job = Job("conditional", params={"full": False, "rows": [1, 2], "name": ""})
    job.add(Task("before", Command("echo", ["hello"])))
    job.add(Task("t", Marking(ran), after=["before"], when=when, **options))
    return job, ran


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("params.full", False),
        ("not params.full", True),
        ("params.rows | length > 1 and results.before.startswith('he')", True),
        ("params.name", False),
        ("params.unknown is defined", False),
        ("params.unknown | default(true)", True),
        ("attempt == 1 and job == 'conditional' and task == 't'", True),
        ("params.full\n  or\n  params.rows", True),
        ("'}}' in params.name", False),
        ("none", False),
        ("[]", False),
        ("1 if params.full else 0", False),
    ],
)
def test_a_false_condition_skips_the_task(when: str, holds: bool) -> None:
    job, ran = conditional(when, retries=3)
    execution = job.run()
    task = execution.tasks["t"]
    assert bool(ran) is holds
    assert task.state == ("successful" if holds else "skipped")
    assert len(task.attempts) == 1
    assert ("skipped: the condition is false" in task.logs) is not holds


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("params.unknown", "there is no 'unknown' among 'full', 'rows', 'name'"),
        ("params.full > 3 + 'x'", "unsupported operand"),
        ("1 / (0 * 1)", "division by zero"),
    ],
)
def test_a_condition_that_cannot_be_evaluated_fails_the_attempt(when: str, told: str) -> None:
    job, ran = conditional(when, retries=1)
    task = job.run().tasks["t"]
    assert task.state == State.FAILED
    assert (task.error or "").startswith(f"the condition {when!r} could not be evaluated: ")
    assert told in (task.error or "")
    assert len(task.attempts) == 2
    assert not ran


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("params.", "t': when, line 1: "),
        ("parms.full", "unknown name 'parms'; a template knows params, results"),
        ("params.full)", "when, line 1: "),
        ("params.full) or (params.rows", "when, line 1: "),
        ("params.full }} {{ params.rows", "when, line 1: "),
        ("params.full, params.rows", "it must be one expression"),
        ("{{ params.full }}", "when, line 1: "),
        ("params.full\n and and", "when, line 2: "),
        ("results.nobody", "results has no 'nobody'"),
        ("item > 3", "'item' exists only in a task with map_over"),
        ("params | nonsense", "there is no filter 'nonsense'"),
        ("", "when must be an expression"),
        ("  ", "when must be an expression"),
        (True, 'when must be an expression, such as "params.full", not True'),
        (Template("params.full"), "when must be an expression"),
        ("x" * 300_000, "when has 300,000 characters"),
    ],
)
def test_an_invalid_condition_is_refused_when_it_is_defined(when: Any, told: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        conditional(when)[0].seal()
    assert told in str(refused.value)


def test_a_condition_that_takes_too_long_fails_in_bounded_time() -> None:
    job, ran = conditional("(range(100000) | list | join(',') * 100000) | length")
    task = job.run().tasks["t"]
    assert task.state == State.FAILED
    assert "more than the 5,000,000 characters, items and steps allowed" in (task.error or "")
    assert not ran


def test_a_costly_condition_is_evaluated() -> None:
    job, ran = conditional("range(30000) | sum > 5")
    assert job.run().tasks["t"].state == State.SUCCESSFUL
    assert ran


def test_a_mapped_task_has_a_condition_for_each_item() -> None:
    job = Job("items")

    @job.task
    def numbers() -> list[int]:
        return [1, 2, 3, 4]

    @job.task(map_over="numbers", when="item % 2 == 0 and index < 3")
    def double(numbers: int) -> int:
        return numbers * 2

    execution = job.run()
    assert execution.tasks["double"].result == [None, 4, None, None]
    assert execution.tasks["double"].state == State.SUCCESSFUL


def test_a_condition_is_evaluated_before_a_process_starts() -> None:
    job = Job("isolated", params={"go": False})

    @job.task(isolation="process", when="params.go")
    def work() -> int:
        return 1

    assert job.run().tasks["work"].state == State.SKIPPED
    assert job.run({"go": True}).tasks["work"].result == 1


# -- skips -----------------------------------------------------------------------------


async def no_rows() -> None:
    raise Skip("no rows")


def no_more_rows() -> None:
    raise Skip("no rows")


class Odd(Skip):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("function", [no_rows, no_more_rows])
def test_an_operator_skips_its_task(function: Callable[[], Any], isolation: str) -> None:
    job = Job("skips")
    job.task(name="t", retries=3, isolation=isolation)(function)
    job.add(Task("after", Command("true"), after=["t"]))
    job.add(Task("none-failed", Command("true"), after=["t"], trigger_rule="noneFailed"))
    execution = job.run()
    task = execution.tasks["t"]
    assert states(execution) == {"t": "skipped", "after": "skipped", "none-failed": "successful"}
    assert (task.logs, task.result, len(task.attempts)) == ("skipped: no rows\n", None, 1)
    assert (task.skip.reason, task.skip.why) == (ITSELF, "no rows")


@pytest.mark.parametrize(
    ("skip", "told"),
    [
        (Skip(), "skipped\n"),
        (Skip("ä" * 1000), "skipped: " + "ä" * 300 + "…\n"),
        (Odd(), "skipped: <its text is not available: RuntimeError>\n"),
    ],
)
def test_any_skip_is_shown(skip: Skip, told: str) -> None:
    job = Job("skips")

    @job.task
    def t() -> None:
        raise skip

    assert job.run().tasks["t"].logs == told


def test_an_item_that_skips_itself_gives_null() -> None:
    job = Job("items")

    @job.task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @job.task(map_over="numbers")
    def odd(numbers: int) -> int:
        if numbers % 2 == 0:
            raise Skip(f"{numbers} is even")
        return numbers

    assert job.run().tasks["odd"].result == [1, None, 3]


@pytest.mark.anyio
async def test_a_page_of_items_says_why_an_item_was_skipped() -> None:
    job = Job("items")
    job.task(name="numbers")(lambda: [1, 2])

    @job.task(map_over="numbers", name="odd")
    async def odd(numbers: int) -> int:
        if numbers % 2 == 0:
            raise Skip(f"{numbers} is even")
        return numbers

    async with running(job) as engine:
        id = (await engine.submissions.submit("items")).id
        await until(lambda: not engine.runners)
        page = await engine.reader.items(id, "odd", State.SKIPPED, 0, 10)
        (item,) = page.items
        assert item.skip is not None
        assert (item.index, item.attempts) == (1, 1)
        assert (item.skip.reason, item.skip.why) == (ITSELF, "2 is even")  # type: ignore[union-attr]
        attempt = await engine.reader.attempt(id, Item("odd", 1), None)
        assert attempt.state is State.SKIPPED


@pytest.mark.anyio
async def test_a_skip_after_a_failed_attempt_ends_the_retries() -> None:
    class Second:
        def run(self, context: Context) -> None:
            if context.attempt == 1:
                raise TaskFailed("not yet")
            raise Skip("no longer needed")

    async with running(job_of("j", Task("t", Second(), retries=5))) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: not engine.runners)
        (task,) = (await engine.reader.execution(id)).tasks
        assert [attempt.state.value for attempt in task.attempts] == ["failed", "skipped"]
        assert task.error is None


@pytest.mark.anyio
async def test_a_stopped_attempt_is_cancelled_even_if_it_skips_then() -> None:
    begun = asyncio.Event()

    class Stubborn:
        async def run(self) -> None:
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                raise Skip("as you like")

    async with running(job_of("j", Task("t", Stubborn()))) as engine:
        id = (await engine.submissions.submit("j")).id
        await begun.wait()
        await engine.control.cancel(id)
        await until(lambda: not engine.runners)
        (task,) = (await engine.reader.execution(id)).tasks
        assert task.state is State.CANCELLED


# -- exit codes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "state", "attempts"),
    [
        ("exit 0", "successful", 1),
        ("exit 75", "failed", 3),
        ("exit 1", "failed", 1),
        ("exit 99", "skipped", 1),
        ("kill -9 $$", "failed", 3),
        ("kill -15 $$", "failed", 1),
    ],
)
def test_exit_codes_choose_between_retry_failure_and_skip(
    script: str, state: str, attempts: int
) -> None:
    command = Command.shell(script, retry_exit_codes=[75, 137], skip_exit_code=99)
    task = Job("codes", tasks=[Task("t", command, retries=2)]).run().tasks["t"]
    assert (task.state.value, len(task.attempts)) == (state, attempts)
    assert (task.skip is not None) == (state == "skipped")


def test_without_codes_all_failures_are_retried_and_with_none_no_failure_is() -> None:
    for codes, attempts in ((None, 3), ([], 1)):
        command = Command("false", retry_exit_codes=codes)
        task = Job("codes", tasks=[Task("t", command, retries=2)]).run().tasks["t"]
        assert len(task.attempts) == attempts


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry_exit_codes": [0]}, "retry_exit_codes"),
        ({"retry_exit_codes": ["75"]}, "retry_exit_codes"),
        ({"retry_exit_codes": 75}, "retry_exit_codes"),
        ({"skip_exit_code": 256}, "skip_exit_code"),
        ({"skip_exit_code": True}, "skip_exit_code"),
        ({"skip_exit_code": 75, "retry_exit_codes": [75]}, "either skip or be retried"),
    ],
)
def test_invalid_exit_codes_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidJob, match=told):
        Command("true", **options)
