"""Results that are no JSON, and files of tasks: kept, passed on, and refused."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

from goflow import Context, InvalidJob, Job, Task, TaskFailed
from goflow.core.result import Artifact
from goflow.testing import run


class Model:
    """An object that JSON does not know."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.weights == self.weights

    def __hash__(self) -> int:
        return 0


FRAME = pd.DataFrame({"city": ["Rome", "Kyiv"], "people": [2.8, None]}, index=["a", "b"])
TABLE = pa.table({"n": [1, 2, 3]})
BOTH = pytest.mark.parametrize("isolation", ["thread", "process"])


def chained(value: Any, kept: str, **options: Any) -> Any:
    job = Job("j")

    @job.task(result=kept, **options)
    def make() -> Any:
        return value

    @job.task(result="pickle", **options)
    def take(make: Any) -> Any:
        return make

    @job.task(result="pickle", **options)
    async def again(take: Any, context: Context) -> Any:
        return [take, context.results["take"]]

    return run(job).tasks


@BOTH
@pytest.mark.parametrize(
    "value", [Model([1.5]), {1, 2}, {"a": object}, [Model([])] * 2, 3, None], ids=repr
)
def test_a_pickled_result_is_passed_on_as_the_object(value: Any, isolation: str) -> None:
    tasks = chained(value, "pickle", isolation=isolation)
    assert tasks["make"].result == value, tasks["make"].error
    assert tasks["again"].result == [value, value], tasks["again"].error


@BOTH
def test_data_frames_and_tables_are_passed_on(isolation: str) -> None:
    for value in (FRAME, FRAME.reset_index(), TABLE):
        tasks = chained(value, "arrow", isolation=isolation)
        assert tasks["make"].error is None
        for found in (tasks["make"].result, *tasks["again"].result):
            assert type(found) is type(value)
            assert found.equals(value)
    [batch] = TABLE.to_batches()
    assert chained(batch, "arrow")["make"].result == TABLE


def test_a_table_keeps_its_own_metadata() -> None:
    table = TABLE.replace_schema_metadata({"source": "census"})
    assert chained(table, "arrow")["make"].result.schema.metadata == {b"source": b"census"}


class Opaque:
    def __reduce__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    ("value", "kept", "error"),
    [
        (threading.Lock(), "pickle", "the result, of type lock, cannot be pickled: TypeError: "),
        (Opaque(), "pickle", "the result, of type Opaque, cannot be pickled: SystemExit"),
        (
            [1],
            "arrow",
            'must be a data frame of pandas or polars, or a pyarrow.Table, for result="',
        ),
        (pd.DataFrame({"a": [1, "x", Model([])]}), "arrow", "cannot be an Arrow table: Arrow"),
    ],
)
def test_a_result_that_does_not_fit_its_format_fails(value: Any, kept: str, error: str) -> None:
    tasks = chained(value, kept)
    assert tasks["make"].state == "failed"
    assert error in tasks["make"].error
    assert tasks["take"].state == "skipped"


class Bomb:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_an_object_that_cannot_be_made_again_fails_only_its_receiver() -> None:
    tasks = chained(Bomb(), "pickle")
    assert tasks["make"].state == "successful"
    assert tasks["take"].error == (
        "the result of task 'make' cannot be read from pickle: ValueError: invalid literal for "
        "int() with base 10: 'not a number'"
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"result": "parquet"}, "task 't': result must be one of json, pickle, arrow; not"),
        ({"result": "pickle", "map_over": "u"}, "the result of a mapped task is a list as JSON"),
        ({"map_over": "p"}, "task 't' maps over task 'p', whose result must be JSON, not pickle"),
    ],
)
def test_a_wrong_format_is_refused_when_defined(options: dict[str, Any], error: str) -> None:
    job = Job("j")
    job.task(name="u")(lambda: [1])
    job.task(name="p", result="pickle")(lambda: [1])
    with pytest.raises(InvalidJob, match=error):
        job.task(name="t", **options)(lambda: None)


def test_arrow_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidJob, match=r'needs pyarrow: pip install "goflow\[arrow\]"'):
        Task("t", Says(), result="arrow")


class Says:
    def run(self) -> str:
        return "said"


@BOTH
def test_files_of_a_successful_attempt_are_kept(isolation: str) -> None:
    job = Job("j")

    @job.task(isolation=isolation, retries=1, result="pickle")
    def make(context: Context) -> Any:
        context.artifact("report.csv").write_text("a,b\n")
        context.artifact("отчёт 1.bin").write_bytes(b"\0" * 10)
        if context.attempt == 1:
            raise ValueError
        assert context.artifact("report.csv").read_text() == "a,b\n"
        return {1}

    @job.task
    async def leave(context: Context) -> None:
        context.artifact("empty.txt").touch()
        await asyncio.sleep(0)
        raise SystemExit(0)

    tasks = run(job).tasks
    assert tasks["make"].result == {1}, tasks["make"].error
    assert [(one.name, one.size) for one in tasks["make"].artifacts] == [
        ("report.csv", 4), ("отчёт 1.bin", 10), ("result.pickle", 18),
    ]  # fmt: skip
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert tasks["leave"].artifacts in ([Artifact("empty.txt", 0, empty)], [])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", ".hidden", "a\n", "a\0b",
             "result.pickle", "x" * 201, " a", 'a"b', "c:d", 7, None]
)  # fmt: skip
def test_an_unsafe_name_of_a_file_is_refused(name: Any) -> None:
    job = Job("j")

    @job.task
    def make(context: Context) -> None:
        context.artifact(name)

    error = run(job).tasks["make"].error
    assert "ValueError: the name of an artifact must be" in str(error)


@pytest.mark.parametrize("kind", ["link", "folder", "many"])
def test_only_some_regular_files_are_kept(kind: str) -> None:
    job = Job("j")

    @job.task
    def make(context: Context) -> None:
        path = context.artifact("x")
        if kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "folder":
            path.mkdir()
        else:
            for number in range(101):
                context.artifact(f"{number}").touch()

    task = run(job).tasks["make"]
    assert (task.state, task.artifacts) == ("failed", [])
    assert task.error in (
        "the artifact 'x' is no regular file",
        "it made 101 files, more than the 100 that are kept",
    )


def test_a_typed_parameter_receives_an_object_as_it_is() -> None:
    job = Job("j")

    @job.task(result="pickle")
    def make() -> Any:
        return [Row(1)]

    @job.task
    def take(make: list[Row]) -> int:
        return make[0].n

    assert run(job).tasks["take"].result == 1


class Row(msgspec.Struct):
    n: int


def test_goflow_does_not_import_pyarrow_for_other_jobs(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, goflow.testing; from goflow import Job; job = Job('j')\n"
        "@job.task\ndef make(): return 1\n"
        "goflow.testing.run(job)\n"
        "assert not {'pyarrow', 'pandas', 'obstore', 'cloudpickle'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_failed_task_may_say_why_itself() -> None:
    job = Job("j")

    @job.task(result="pickle")
    def make() -> None:
        raise TaskFailed("no data")

    assert run(job).tasks["make"].error == "no data"
