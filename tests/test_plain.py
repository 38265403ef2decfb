"""Conversion to JSON: subclasses and numpy values become plain values, and NaN is refused."""

import enum
import json
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import InvalidJob, Job, Task, plain
from goflow.errors import InvalidRequest
from goflow.plain import NESTING_LIMIT, Unfit, as_json, encode
from goflow.testing import run

NOON = datetime(2030, 1, 2, 12, 0, 0, 5, tzinfo=UTC)


class Text(str):
    """A str subclass whose __str__ differs from its value, as in lxml."""

    def __str__(self) -> str:
        return "something else"


class Whole(int):
    def __int__(self) -> int:
        return 99


class Real(float):
    def __float__(self) -> float:
        return 99.0


class Instant(datetime):
    pass


class Day(date):
    pass


class Clock(time):
    pass


class Span(timedelta):
    pass


class Raw(bytes):
    pass


class Exact(Decimal):
    pass


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Odd(enum.Enum):
    REAL = Real(2.5)


@dataclass
class Row:
    a: Any
    b: Any = None


class Record(msgspec.Struct):
    a: Any
    b: Any = None


Pair = namedtuple("Pair", "a b")

SCALARS: list[tuple[Any, Any]] = [
    (Text("x"), "x"),
    (Whole(3), 3),
    (Real(1.5), 1.5),
    (Instant(2030, 1, 2, 12, 0, 0, 5, tzinfo=UTC), "2030-01-02T12:00:00.000005Z"),
    (Day(2030, 1, 2), "2030-01-02"),
    (Clock(12, 30), "12:30:00"),
    (Span(days=1), "P1D"),
    (Raw(b"ab"), "YWI="),
    (Exact("1.10"), "1.10"),
    (Level.LOW, 1),
    (Colour.RED, "red"),
    (Odd.REAL, 2.5),
    (True, True),
    (np.float64(1.5), 1.5),
    (np.float32(0.5), 0.5),
    (np.float16(2), 2.0),
    (np.longdouble(1.5), 1.5),
    (np.int64(-3), -3),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.int8(1), 1),
    (np.bool_(False), False),
    (np.str_("x"), "x"),
    (np.bytes_(b"ab"), "YWI="),
    (np.array(7), 7),
    (np.datetime64("2030-01-02"), "2030-01-02"),
    (np.datetime64("2030-01-02T12:00:00.000005678"), "2030-01-02T12:00:00.000005"),
    (np.timedelta64(90, "s"), "PT90S"),
    (np.timedelta64(86_400 * 10**9, "ns"), "P1D"),
]


@pytest.mark.parametrize(("value", "kept"), SCALARS, ids=lambda value: type(value).__name__)
def test_a_value_of_a_subclass_is_kept_by_its_value(value: Any, kept: Any) -> None:
    assert as_json(value) == kept
    assert type(as_json(value)) is type(kept)
    assert as_json([value, (value,)]) == [kept, [kept]]
    if not isinstance(value, np.ndarray):
        assert as_json({value}) == [kept]
    assert as_json({"a": {"b": [value]}}) == {"a": {"b": [kept]}}
    assert as_json(OrderedDict(a=value)) == {"a": kept}
    assert as_json(Row(value, Row(value))) == {"a": kept, "b": {"a": kept, "b": None}}
    assert as_json(Record(value, [value])) == {"a": kept, "b": [kept]}
    assert as_json(Pair(value, 1)) == [kept, 1]


@pytest.mark.parametrize(("value", "kept"), SCALARS, ids=lambda value: type(value).__name__)
def test_a_key_of_a_subclass_is_kept_by_its_value(value: Any, kept: Any) -> None:
    if isinstance(kept, bool) or isinstance(
        value, bytes | time | timedelta | np.timedelta64 | np.ndarray
    ):
        return
    assert as_json({"in": [{value: 1}]}) == {"in": [{str(kept): 1}]}


NUMBERS = [math.nan, math.inf, -math.inf, Real("nan"), Real("inf"), np.float64("nan"),
           np.float32("inf"), np.float16("nan"), np.longdouble("-inf")]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda value: f"{type(value).__name__} {value}")
def test_nan_and_infinity_are_refused_with_their_path(number: Any) -> None:
    for value, place in (
        (number, ""),
        ([1, number], "[1]"),
        ({"a": {"b": [None, number]}}, "a.b[1]"),
        (Row(1, [number]), "b[0]"),
        ({"a": {number: 1}}, "a"),
    ):
        with pytest.raises(Unfit) as refused:
            encode(value)
        assert refused.value.place == place
    with pytest.raises(Unfit):
        encode(Record(1, number))


@pytest.mark.parametrize(
    "value",
    [np.datetime64("NaT", "s"), np.timedelta64("NaT", "s"), np.complex128(1j), 1j, object(),
     np.array([1, 2]), np.zeros((2, 2)), {(1, 2): 3}, {None: 1}, {True: 1}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_without_json_are_refused(value: Any) -> None:
    with pytest.raises(Unfit):
        encode(value)
    with pytest.raises(Unfit, match=r"^at `x\[0\]"):
        encode({"x": [value]})


def test_deeply_nested_values_are_refused() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(Unfit, match="nested deeper"):
        encode(deep)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)  # fmt: skip
def test_plain_json_values_are_unchanged(value: Any) -> None:
    assert as_json(value) == json.loads(json.dumps(value))


def one(function: Any, **options: Any) -> Any:
    job = Job("j", **options)
    job.task(name="t")(function)
    return run(job).tasks["t"]


def test_a_task_may_return_numpy_values() -> None:
    returned = one(lambda: {np.str_("mean"): np.mean([1, 2]), "n": np.int64(2), "at": [Text("x")]})
    assert (returned.state, returned.result) == ("successful", {"mean": 1.5, "n": 2, "at": ["x"]})
    failed = one(lambda: {"rows": [{"mean": np.mean(np.array([math.nan]))}]})
    assert failed.state == "failed"
    assert 'at `result["rows"][0]["mean"]`' in failed.error


@dataclass
class Typed:
    rate: float = 1.0
    names: list[str] | None = None


@dataclass
class Broken:
    rate: float = math.nan


@pytest.mark.parametrize("declared", [None, {"rate": 1.0, "names": None}, Typed], ids=str)
def test_params_are_converted_or_refused_with_their_path(declared: Any) -> None:
    job = Job("j", params=declared, tasks=[Task("t", Say())])
    given = {"rate": np.float64(2.5), "names": [Text("x"), Colour.RED]}
    assert job.fill_params(given) == {"rate": 2.5, "names": ["x", "red"]}
    for bad, field in (
        ({"rate": math.nan}, "params.rate"),
        ({"rate": np.float32("inf")}, "params.rate"),
        ({"names": ["x", {"deep": [-math.inf]}]}, "params.names[1].deep[0]"),
        ({"names": object()}, "params.names"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            job.run(bad)
        assert refused.value.field == field


def test_nan_as_a_default_is_refused_when_defined() -> None:
    for declared in ({"rate": math.nan}, {"a": [1, {"b": math.inf}]}, Broken):
        with pytest.raises(InvalidJob, match="not a number that JSON has"):
            Job("j", params=declared)  # type: ignore[arg-type]
    assert Job("j", params={"n": np.int64(3)}).params == {"n": 3}


def test_defaults_cannot_be_changed_through_a_returned_value() -> None:
    job = Job("j", params={"list": [1]})
    assert job.params is not None
    job.params["list"].append(2)
    assert job.fill_params(None) == {"list": [1]}


class Say:
    def run(self) -> None:
        return None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["null", "nan", '"inf"', Whole(3), Real(math.nan), NOON]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.floats(), inner) | st.tuples(inner, inner)
    ),
)


@given(VALUES, st.booleans())
def test_long_values_are_checked_like_short_ones(value: Any, is_long: bool) -> None:
    whole = [[] for _ in range(NESTING_LIMIT)] + [value] if is_long else [value]
    assert _outcome(encode, whole) == _outcome(_visited, whole)


def _outcome(encoder: Callable[[Any], bytes], value: Any) -> bytes | str:
    try:
        return encoder(value)
    except Unfit as unfit:
        return unfit.place


def _visited(value: Any) -> bytes:
    return msgspec.json.encode(plain._plain(value, (), []))


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1000,
        [{"id": number, "price": 1.5, "note": None} for number in range(1000)],
        [None] * 1000,
        [[]] * 1000,
    ],
)
def test_rows_and_nulls_are_not_visited_one_by_one(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = msgspec.json.encode(value)
    monkeypatch.delattr(plain, "_plain")
    assert encode(value) == expected
