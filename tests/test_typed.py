"""Typed results: what a task returns, and what a downstream parameter with an annotation gets."""

from __future__ import annotations

import collections.abc
import enum
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from goflow import Context, Job
from goflow.run import FinishedExecution
from goflow.testing import run
from goflow.typed import Mismatch, typed


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Row:
    price: float
    tags: set[str] = field(default_factory=set)


class Point(msgspec.Struct):
    x: int
    when: datetime


class Sale(pydantic.BaseModel):
    id: uuid.UUID
    day: date = pydantic.Field(alias="saleDay")
    rows: list[Row] = []

    @pydantic.computed_field
    def count(self) -> int:
        return len(self.rows)


class Closed(pydantic.BaseModel, extra="forbid", strict=True):
    day: date


@pydantic.dataclasses.dataclass
class Checked:
    even: int

    @pydantic.field_validator("even")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it is odd")
        return value


class Part(TypedDict):
    size: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclass
class Holder:
    sale: Closed
    rows: list[Row]


ID = uuid.UUID(int=7)
NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
SALE = Sale(id=ID, saleDay=date(2030, 1, 2), rows=[Row(1.5, {"a"})])

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (Row(1.5, {"a"}), Row),
    ([Row(1.5), Row(2.0)], list[Row]),
    (None, Row | None),
    (Row(1.0), Row | None),
    (Point(1, NOON), Point),
    ({"a": Point(1, NOON)}, dict[str, Point]),
    ({ID: Row(1.0)}, dict[uuid.UUID, Row]),
    ({3: "c"}, dict[int, str]),
    (NOON, datetime),
    (timedelta(hours=1), timedelta),
    (Decimal("1.10"), Decimal),
    (Colour.RED, Colour),
    (ID, uuid.UUID),
    (b"\x00\xff", bytes),
    ({1, 2}, set[int]),
    ((1, "x"), tuple[int, str]),
    (Pair(1), Pair),
    ({"size": 1}, Part),
    ("a", Literal["a", "b"]),
    (3, Annotated[int, msgspec.Meta(ge=1)]),
    (SALE, Sale),
    ([SALE, SALE], list[Sale]),
    (Closed(day=date(2030, 1, 2)), Closed),
    (Closed(day=date(2030, 1, 2)), Sale | Closed),
    (Checked(2), Checked),
    (Holder(Closed(day=date(2030, 1, 2)), [Row(1.0)]), Holder),
]


def chained(value: Any, annotation: Any, **options: Any) -> FinishedExecution:
    """Run a job whose task `take` receives the result of `make`, annotated."""
    job = Job("j")

    def make() -> Any:
        return value

    def take(make: Any, context: Context) -> Any:
        return [type(make).__qualname__, repr(make)]

    take.__annotations__["make"] = annotation
    job.task(**options)(make)
    job.task(**options)(take)
    return run(job)


@pytest.mark.parametrize(
    ("value", "annotation"), ROUND_TRIPS, ids=[str(kind) for _, kind in ROUND_TRIPS]
)
def test_a_parameter_with_an_annotation_receives_an_instance(value: Any, annotation: Any) -> None:
    tasks = chained(value, annotation).tasks
    assert tasks["take"].result == [type(value).__qualname__, repr(value)], tasks["take"].error


def test_without_an_annotation_a_result_is_plain_json() -> None:
    job = Job("j")

    @job.task
    def make():  # type: ignore[no-untyped-def]
        return {"rows": [Row(1.5, {"a"})], "at": NOON, "sale": SALE}

    @job.task
    def take(make):  # type: ignore[no-untyped-def]
        return make

    made = {
        "rows": [{"price": 1.5, "tags": ["a"]}],
        "at": "2030-01-02T12:00:00Z",
        "sale": {
            "id": str(ID),
            "saleDay": "2030-01-02",
            "rows": [{"price": 1.5, "tags": ["a"]}],
        },
    }
    assert run(job).tasks["take"].result == made


def test_string_annotations_of_local_classes_are_resolved() -> None:
    @dataclass
    class Local:
        n: int

    job = Job("j")

    @job.task
    def make() -> Local:
        return Local(1)

    @job.task
    def take(make: Local) -> bool:
        return make.n == 1

    @job.task
    def listed(make: "list[Local] | Local | dict[str, int]") -> str:  # noqa: UP037
        return type(make).__name__

    tasks = run(job).tasks
    assert tasks["take"].result is True, tasks["take"].error
    assert tasks["listed"].result == "dict"  # msgspec cannot tell a dataclass from a dict


@pytest.mark.parametrize(
    "annotation",
    [
        "Nowhere", "1 +", Path, socket.socket, complex, Any, object, type, Row | Point,
        list[Path], Callable[[], int], collections.abc.Iterable[int], dict[str, complex], 7,
    ],
    ids=str,
)  # fmt: skip
def test_an_annotation_that_nobody_knows_leaves_plain_json(annotation: Any) -> None:
    tasks = chained({"price": 1, "tags": []}, annotation).tasks
    assert tasks["take"].result == ["dict", "{'price': 1, 'tags': []}"], tasks["take"].error


@pytest.mark.parametrize(
    ("value", "annotation", "error"),
    [
        ("much", int, "annotated int, and the result of task 'make' does not fit: Expected `int`, "
                      "got `str`; it is 'much'"),
        ([{"price": 1}, {"price": "x"}], list[Row],
         "annotated list[Row], and the result of task 'make' does not fit: Expected `float`, "
         "got `str` at result[1].price; it is [{'price': 1}"),
        ({"tags": []}, Row | None, "annotated Row | None, and the result of task 'make' does not "
                                   "fit: Object missing required field `price`"),
        ("c", Literal["a", "b"], "annotated Literal['a', 'b'], and "),
        (None, Row, "Expected `object`, got `null`; it is None"),
        ({"id": "x", "rows": 1}, Sale, "Input should be a valid UUID, "),
        ({"id": "x", "rows": 1}, Sale, "; Field required at result.saleDay; "),
        ([{"even": 1}], list[Checked], "Value error, it is odd at result[0].even"),
        ({"sale": {}, "rows": []}, Holder, "Field required at Closed.day at result.sale"),
        (-1, Annotated[int, pydantic.Field(gt=0)], "annotated int, and the result of task 'make' "
                                                  "does not fit: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_mismatch_fails_the_attempt_with_all_that_is_needed(
    value: Any, annotation: Any, error: str
) -> None:
    execution = chained(value, annotation)
    assert execution.tasks["take"].state == "failed"
    told = str(execution.tasks["take"].error)
    assert told.startswith("task 'take': its parameter 'make' is ")
    assert error in told
    assert "Traceback" not in told


class Odd(pydantic.BaseModel):
    how: str

    @pydantic.field_validator("how")
    @classmethod
    def be_odd(cls, value: str) -> str:
        match value:
            case "exit":
                sys.exit(0)
            case "recursion":
                return cls.be_odd(value)
            case "text":
                raise Untellable
        raise KeyError(value)


class Untellable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("how", ["exit", "recursion", "text", "key"])
def test_an_odd_validator_fails_only_its_attempt(how: str) -> None:
    execution = chained({"how": how}, Odd)
    assert execution.tasks["make"].state == "successful"
    assert execution.tasks["take"].state == "failed"
    assert "its parameter 'make' is annotated Odd" in str(execution.tasks["take"].error)


def test_a_skipped_task_gives_the_default_unchecked() -> None:
    job = Job("j")

    @job.task
    def make() -> None:
        raise ValueError

    @job.task(trigger_rule="allDone")
    def take(make: list[Row] = ()) -> Any:  # type: ignore[assignment]
        return make

    @job.task(trigger_rule="allDone")
    def none(make: list[Row]) -> Any:
        return make

    tasks = run(job).tasks
    assert (tasks["take"].result, tasks["none"].result) == ([], None)


def test_items_of_a_mapped_task_are_typed() -> None:
    job = Job("j")

    @job.task
    def rows() -> list[Any]:
        return [Row(1.0), Row(2.0), {"price": "x"}]

    @job.task(map_over="rows")
    def double(rows: Row) -> float:
        return rows.price * 2

    @job.task
    def prices() -> dict[str, Row]:
        return {"a": Row(1.0)}

    @job.task(map_over="prices")
    async def pairs(prices: tuple[str, Row]) -> str:
        return f"{prices[0]} {prices[1].price}"

    tasks = run(job).tasks
    assert tasks["double"].items == {"total": 3, "successful": 2, "failed": 1}
    assert "item 2 of task 'rows' does not fit: Expected `float`, got `str` at item.price" in str(
        tasks["double"].error
    )
    assert tasks["pairs"].result == ["a 1.0"]


def test_params_are_typed_by_the_functions_annotations() -> None:
    job = Job("j", params={"day": "2030-01-02", "limit": 1, "row": {"price": 1}})

    @job.task
    def take(day: date, limit: float, row: Row, other: Row | None = None) -> str:
        return f"{day!r} {limit!r} {row!r} {other!r}"

    assert run(job).tasks["take"].result == (
        "datetime.date(2030, 1, 2) 1.0 Row(price=1.0, tags=set()) None"
    )
    wrong = run(job, {"row": {"price": "x"}}).tasks["take"]
    assert wrong.error is not None
    assert "parameter 'row' of the job does not fit: Expected `float`, got `str` at row.price" in (
        wrong.error
    )


CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"rows": [1, 2, 3, Row(float("nan"))]}, 'at `result["rows"][3].price`: nan is not a'),
        ({"point": [Point(1, NOON), Point(socket, NOON)]},  # type: ignore[arg-type]
         'at `result["point"][1].x`: Encoding objects of type module is unsupported'),
        (CYCLE, 'at `result[0]["again"]`: it contains itself'),
        ({"a": {"b": (i for i in "x")}}, 'at `result["a"]["b"]`: Encoding objects of type gener'),
        ({'q"\n': [float("inf")]}, 'at `result["q\\"\n"][0]`: inf is not a number'),
        ([Sale(id=ID, saleDay=date(2030, 1, 2), rows=[Row(float("nan"))])],
         'at `result[0]["rows"][0]["price"]`: nan is not a number'),
        ([["\ud800"]], "at `result[0][0]`: 'utf-8' codec can't encode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_value_without_json_is_refused_with_its_path(value: Any, error: str) -> None:
    told = str(chained(value, Any).tasks["make"].error)
    assert error in told
    assert told.endswith("return numbers, text, lists, dicts, dataclasses or None")


def test_an_open_socket_is_refused_with_its_path() -> None:
    with socket.socket() as open_one:
        told = str(chained({"s": [open_one]}, Any).tasks["make"].error)
    assert 'at `result["s"][0]`: Encoding objects of type socket is unsupported' in told


def test_a_conversion_is_determined_once_per_task(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("goflow.operators.function.typed", lambda hint: asked.append(hint))
    job = Job("j")

    @job.task
    def make() -> list[int]:
        return [1, 2, 3]

    @job.task(map_over="make")
    def take(make: int) -> int:
        return make

    assert run(job).tasks["take"].result == [1, 2, 3]
    assert asked == [int]


def test_a_mismatch_tells_a_bounded_text() -> None:
    known = typed(list[Odd])
    assert known is not None
    with pytest.raises(Mismatch) as refused:
        known.convert([{}] * 1000, "result")
    assert len(str(refused.value)) < 1000
    assert "and 995 more" in str(refused.value)


PROGRAM = """
from __future__ import annotations

from dataclasses import dataclass
import pydantic
from goflow import Goflow, Job

job = Job("typed")

@dataclass
class Row:
    price: float

class Sale(pydantic.BaseModel):
    rows: list[int] = []

    @pydantic.field_validator("rows")
    @classmethod
    def check(cls, value: list[int]) -> list[int]:
        return sorted(value)

@job.task(isolation="process")
def make() -> list[Row]:
    return [Row(1.5)]

@job.task(isolation="process")
def sell(make: list[Row]) -> Sale:
    return Sale(rows=[2, int(make[0].price)])

@job.task(isolation="process")
async def total(sell: Sale, make: list[Row]) -> float:
    return sum(sell.rows) + make[0].price

@job.task(isolation="process")
def wrong(make: list[int]) -> None: ...

gf = Goflow(store=None)
gf.add_job(job)
"""


def test_tasks_in_processes_receive_instances_of_the_programs_classes(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "goflow", "run", "main.py", "typed", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    tasks = {one["name"]: one for one in msgspec.json.decode(done.stdout)["tasks"]}
    assert tasks["total"]["result"] == 4.5, tasks["total"]["error"]
    assert tasks["wrong"]["error"].startswith("task 'wrong': its parameter 'make' is annotated ")


def test_goflow_never_imports_pydantic_itself() -> None:
    code = (
        "import sys, goflow.testing; from goflow import Job; job = Job('j')\n"
        "@job.task\ndef make(): return {1: {2}}\n"
        "@job.task\ndef take(make: dict[int, set[int]]): return make[1]\n"
        "assert goflow.testing.run(job).tasks['take'].result == [2]\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
