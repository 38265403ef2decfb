"""Jobs and tasks: every mistake raises an error at its line."""

from dataclasses import dataclass
from typing import Any, TypedDict
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

import goflow
from goflow import Command, ConstantDelay, Context, Goflow, InvalidJob, Job, MemoryStore, Task
from goflow.errors import InvalidRequest, TaskFailed


@dataclass(frozen=True)
class Wanted(TypedDict):
    n: int


class Nothing:
    def run(self) -> None:
        return None


def task(name: str, **options: Any) -> Task:
    return Task(name, Nothing(), **options)


def edges(job: Job) -> set[tuple[str, str]]:
    return {(upstream, task.name) for task in job.tasks for upstream in task.after}


def abc() -> tuple[Job, Task, Task, Task]:
    job = Job("j")
    return job, job.add(task("a")), job.add(task("b")), job.add(task("c"))


def test_add_returns_the_task_and_tasks_keep_their_order() -> None:
    job, a, b, c = abc()
    assert job.tasks == [a, b, c]
    assert job.task("b") is b


def test_edges_can_be_written_in_every_way() -> None:
    job, a, b, c = abc()
    job.set_downstream(a, b)
    assert edges(job) == {("a", "b")}
    job, a, b, c = abc()
    assert (a >> b >> c) is c
    assert edges(job) == {("a", "b"), ("b", "c")}
    job, a, b, c = abc()
    assert (a >> [b, c]) == [b, c]
    assert edges(job) == {("a", "b"), ("a", "c")}
    job, a, b, c = abc()
    [a, b] >> c
    assert edges(job) == {("a", "c"), ("b", "c")}
    job, a, b, c = abc()
    b << a
    assert edges(job) == {("a", "b")}
    job, a, b, c = abc()
    c << [a, b]
    assert edges(job) == {("a", "c"), ("b", "c")}
    job = Job("j", tasks=[task("a"), task("b", after=["a", "a"])])
    assert edges(job) == {("a", "b")}


def test_a_duplicate_edge_is_one_edge() -> None:
    job, a, b, _ = abc()
    a >> b
    a >> b
    job.set_downstream(a, b)
    assert job.task("b").after == ["a"]


MISTAKES: list[tuple[str, Any]] = [
    ("'' has 0 characters", lambda: Job("")),
    ("251 characters", lambda: Job("x" * 251)),
    ("10000 characters", lambda: task("x" * 10_000)),
    ("control character", lambda: Job("a\nb")),
    ("control character", lambda: task("a\x00b")),
    ("surrogate", lambda: Job("a\ud800")),
    ("must be a string", lambda: Job(3)),  # type: ignore[arg-type]
    ("web address", lambda: Job("..")),
    ("active", lambda: Job("j", active="yes")),  # type: ignore[arg-type]
    ("cannot run after itself", lambda: Job("j", after="j")),
    ("after must be a list of names of jobs", lambda: Job("j", after=3)),  # type: ignore[arg-type]
    ("3 is not a str", lambda: Job("j", after=[3])),  # type: ignore[list-item]
    ("'' has 0 characters", lambda: Job("j", after="")),
    ("cannot have a schedule", lambda: Job("j", "@daily", after="k")),
    ("'n' have none", lambda: Job("j", after="k", params=Wanted)),
    ("job 'j'.*60 \\* \\* \\* \\*", lambda: Job("j", "60 * * * *")),
    ("never", lambda: Job("j", "0 0 30 2 *")),
    ("Nowhere", lambda: Job("j", "@daily", timezone="Nowhere")),
    ("Nowhere", lambda: Job("j", timezone="Nowhere")),
    ("params", lambda: Job("j", params=["n"])),  # type: ignore[arg-type]
    ("params must be JSON", lambda: Job("j", params={"n": object()})),
    ("tags", lambda: Job("j", tags="nightly")),
    ("description", lambda: Job("j", description=3)),  # type: ignore[arg-type]
    ("not an operator", lambda: Task("t", "sleep 1")),  # type: ignore[arg-type]
    ("not an operator", lambda: Task("t", Nothing)),  # type: ignore[arg-type]
    ("'t'.*retries.*-1", lambda: task("t", retries=-1)),
    ("'t'.*retries.*1.5", lambda: task("t", retries=1.5)),
    ("'t'.*retries.*True", lambda: task("t", retries=True)),
    ("retry_delay", lambda: task("t", retry_delay=3)),
    ("'t'.*trigger_rule must be one of.*'sometimes'", lambda: task("t", trigger_rule="sometimes")),
    ("timeout", lambda: task("t", timeout=0)),
    ("timeout", lambda: task("t", timeout=float("nan"))),
    ("after", lambda: task("t", after="a")),
    ("'j'.*'b'.*'a'.*not in the job", lambda: Job("j", tasks=[task("b", after=["a"])])),
    ("itself", lambda: Job("j", tasks=[task("a", after=["a"])])),
    ("'j' already has a task 'a'", lambda: Job("j", tasks=[task("a"), task("a")])),
    ("only a Task", lambda: Job("j").add("a")),  # type: ignore[arg-type]
    ("no task 'x'", lambda: Job("j").task("x")),
    ("added to a job first", lambda: task("a") >> task("b")),
    ("only tasks can be connected", lambda: abc()[1] >> "b"),  # type: ignore[operator]
    ("seconds must be from 0", lambda: ConstantDelay(-1)),
    ("base", lambda: goflow.ExponentialBackoff(base=0.5)),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_raises_at_the_line_that_makes_it(message: str, mistake: Any) -> None:
    with pytest.raises(InvalidJob, match=f"(?s){message}"):
        mistake()


def test_a_self_edge_is_refused() -> None:
    _, a, _, _ = abc()
    with pytest.raises(InvalidJob, match=r"'j'.*'a' cannot run after itself"):
        a >> a


def test_an_edge_to_another_job_is_refused() -> None:
    _, a, _, _ = abc()
    other = Job("other", tasks=[task("z")])
    with pytest.raises(InvalidJob, match="has no such task"):
        a >> other.task("z")
    with pytest.raises(InvalidJob, match="belongs to job 'j'"):
        other.add(a)


def test_a_cycle_is_refused_when_the_job_is_run_or_registered() -> None:
    job, a, b, c = abc()
    a >> b >> c >> a
    with pytest.raises(InvalidJob, match=r"'j'.*cycle.*'a'"):
        job.run()
    with pytest.raises(InvalidJob, match=r"cycle"):
        goflow.Goflow(goflow.MemoryStore(), ui_path=None).add_job(job)


def test_a_job_without_tasks_is_refused_when_registered() -> None:
    with pytest.raises(InvalidJob, match="'j' has no tasks"):
        Job("j").run()


def test_a_registered_job_cannot_be_changed() -> None:
    job, a, b, _ = abc()
    goflow.Goflow(goflow.MemoryStore(), ui_path=None).add_job(job)
    with pytest.raises(InvalidJob, match="registered already"):
        job.add(task("late"))
    with pytest.raises(InvalidJob, match="registered already"):
        a >> b


@given(st.text(min_size=1, max_size=250))
def test_any_name_is_kept_unchanged_or_refused(name: str) -> None:
    if name in (".", "..") or any(category(letter) in ("Cc", "Cs") for letter in name):
        with pytest.raises(InvalidJob, match="name"):
            Job(name, tasks=[task(name)])
    else:
        assert Job(name, tasks=[task(name)]).task(name).name == name


# -- functions as tasks ------------------------------------------------------------


def test_functions_become_tasks_with_their_dependencies() -> None:
    job = Job("etl", params={"factor": 2})

    @job.task
    def extract_rows() -> list[int]:
        print("reading")
        return [1, 2, 3]

    @job.task(retries=2, retry_delay=ConstantDelay(0))
    async def transform(extract_rows: list[int], factor: int) -> list[int]:
        return [row * factor for row in extract_rows]

    @job.task
    def load(transform: list[int], context: Context, label: str = "x") -> str:
        context.log(f"attempt {context.attempt} of {context.task}")
        return f"{label}{sum(transform)}{context.params['factor']}"

    assert [task.name for task in job.tasks] == ["extract_rows", "transform", "load"]
    assert edges(job) == {("extract_rows", "transform"), ("transform", "load")}
    run = job.run({"factor": 10})
    assert run.state == "successful"
    assert run.tasks["load"].result == "x6010"
    assert "reading" in run.tasks["extract_rows"].logs
    assert "attempt 1 of load" in run.tasks["load"].logs
    assert extract_rows() == [1, 2, 3]


def test_an_unknown_parameter_is_refused() -> None:
    job = Job("j")
    with pytest.raises(InvalidJob, match=r"(?s)'j'.*'load'.*'rows'"):

        @job.task
        def load(rows: list[int]) -> None: ...


def test_a_failed_task_does_not_raise_and_has_an_error() -> None:
    job = Job("j")

    @job.task
    def divide() -> float:
        return 1 / 0

    @job.task(trigger_rule="allDone")
    def after(divide: float | None) -> str:
        return f"got {divide}"

    run = job.run()
    assert run.state == "failed"
    assert run.tasks["divide"].state == "failed"
    assert "ZeroDivisionError: division by zero" in (run.tasks["divide"].error or "")
    assert "return 1 / 0" in (run.tasks["divide"].error or "")
    assert "ZeroDivisionError" in run.tasks["divide"].logs
    assert run.tasks["after"].result == "got None"


def test_the_log_of_a_mapped_task_is_that_of_its_items_in_order() -> None:
    job = Job("map")

    @job.task
    def find() -> list[str]:
        return ["a", "b", "c"]

    @job.task(map_over="find", retries=1)
    def load(find: str, context: Context) -> None:
        print(find, context.attempt)
        if find == "b" and context.attempt == 1:
            raise TaskFailed("not yet")

    run = job.run()
    lines = [line for line in run.tasks["load"].logs.splitlines() if line[:1] in "abc"]
    assert lines == ["a 1", "b 1", "b 2", "c 1"]


def test_a_job_runs_inside_a_running_event_loop() -> None:
    import asyncio

    async def main() -> str:
        return Job("j", tasks=[task("a")]).run().state

    assert asyncio.run(main()) == "successful"


def test_an_active_schedule_does_not_fire_in_a_single_run() -> None:
    run = Job("j", "* * * * * *", True, tasks=[task("a")]).run()
    assert run.state == "successful"


# -- params ------------------------------------------------------------------------

DECLARED = {"n": 1, "x": 0.5, "s": "a", "b": False, "l": [1], "o": {"k": 1}, "any": None}


@pytest.mark.parametrize(
    "given",
    [{"n": 2}, {"x": 1}, {"x": 2.5}, {"s": ""}, {"b": True}, {"l": []}, {"o": {}}, {"any": [1]}],
)
def test_params_of_the_declared_type_are_accepted(given: dict[str, Any]) -> None:
    job = Job("j", params=DECLARED, tasks=[task("a")])
    assert job.fill_params(given) == DECLARED | given


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n": "2"}, "params.n"), ({"n": 1.5}, "params.n"), ({"n": True}, "params.n"),
        ({"n": None}, "params.n"), ({"x": "1"}, "params.x"), ({"s": 1}, "params.s"),
        ({"b": 1}, "params.b"), ({"l": {}}, "params.l"), ({"o": []}, "params.o"),
        ({"unknown": 1}, "params.unknown"),
    ],
)  # fmt: skip
def test_other_params_are_refused_by_name(given: dict[str, Any], field: str) -> None:
    job = Job("j", params=DECLARED, tasks=[task("a")])
    with pytest.raises(InvalidRequest) as caught:
        job.fill_params(given)
    assert caught.value.field == field
    assert job.fill_params({}) == DECLARED


def test_a_job_without_declared_params_accepts_any_object() -> None:
    job = Job("j", tasks=[task("a")])
    assert job.fill_params({"deep": {"er": [1, None]}}) == {"deep": {"er": [1, None]}}
    with pytest.raises(InvalidRequest, match="JSON"):
        job.fill_params({"o": object()})
    with pytest.raises(InvalidRequest, match="JSON"):
        job.fill_params({1: 2})  # type: ignore[dict-item]


class Raising:
    def __iter__(self) -> Any:
        raise ZeroDivisionError("as scripted")


@pytest.mark.parametrize(
    "listed",
    ["ab", b"ab", 5, None, Raising(), [5], ["a", b"b"]],
    ids=lambda value: type(value).__name__,
)
def test_an_invalid_list_of_names_is_refused_everywhere(listed: Any) -> None:
    job = Job("j", tasks=[task("a"), task("b")])
    for make in (
        lambda: task("t", after=listed),
        lambda: job.task(after=listed)(lambda: None),
        lambda: job.task(name="t", after=listed)(lambda: None),
        lambda: Job("k", tags=listed),
        lambda: Job("k", tasks=listed),
        lambda: Command("true", listed),
    ):
        with pytest.raises(InvalidJob):
            make()
    for options in ({"allowed_hosts": listed}, {"pools": listed or 5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Goflow(MemoryStore(), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allowed_hosts"):
        Goflow(MemoryStore()).configure(allowed_hosts=listed)


def test_an_unknown_option_of_a_decorator_is_named_with_the_nearest_one() -> None:
    job = Job("j")
    with pytest.raises(
        InvalidJob,
        match="job 'j', task 'a': a task has no option 'retriess'; did you mean 'retries'",
    ):
        job.task(retriess=1, name="a")(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(InvalidJob, match="job 'j', hook 'h': a task has no option 'operator'"):
        job.on_failure(operator=1, name="h")(lambda: None)  # type: ignore[call-overload]
    assert not list(job.tasks)
