"""Parameters of a job: declarations, schemas and refusals."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from jsonschema_rs import Draft202012Validator, meta
from msgspec import UNSET, Meta, UnsetType

from goflow import Command, Context, InvalidJob, Job, Task
from goflow.errors import InvalidParams, InvalidRequest
from goflow.testing import run

TODAY = [date(2026, 11, 21)]


class Region(enum.Enum):
    EU = "eu"
    US = "us"


class Owner(msgspec.Struct):
    name: str
    mail: str | None = None


class Report(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What a report is of."""

    day: Annotated[date, Meta(description="the day it is of")]
    region: Region = Region.EU
    row_limit: Annotated[int, Meta(ge=1, le=100)] = 10
    kind: Literal["short", "long"] = "short"
    owners: list[Owner] = []
    note: str | UnsetType = UNSET


@dataclass
class Span:
    begin: date = field(default_factory=lambda: TODAY[0])
    days: int = 1

    def __post_init__(self) -> None:
        if self.days > 31:
            raise ValueError("a span has at most 31 days")
        if self.days == 13:
            raise KeyError("thirteen")


class Pair(TypedDict):
    left: int
    right: NotRequired[float]


def job_with(params: Any, **options: Any) -> Job:
    return Job("j", params=params, tasks=[Task("t", Command("true"))], **options)


# -- a class -----------------------------------------------------------------------


def test_defaults_are_filled_in_as_json() -> None:
    job = job_with(Report)
    full = {"region": "eu", "rowLimit": 10, "kind": "short", "owners": []}
    assert job.params == full
    assert job.fill_params({"day": "2026-01-02"}) == {"day": "2026-01-02"} | full
    given = {"day": date(2026, 1, 2), "rowLimit": 3, "owners": [{"name": "Ada"}], "note": "x"}
    assert job.fill_params(given) == {
        "day": "2026-01-02",
        "region": "eu",
        "rowLimit": 3,
        "kind": "short",
        "owners": [{"name": "Ada", "mail": None}],
        "note": "x",
    }


@pytest.mark.parametrize(
    ("params", "given", "place", "reason"),
    [
        (Report, {}, "day", "missing"),
        (Report, {"day": "2026-13-01"}, "day", "date"),
        (Report, {"day": 5}, "day", "date"),
        (Report, {"day": "2026-01-01", "rowLimit": 0}, "rowLimit", ">= 1"),
        (Report, {"day": "2026-01-01", "rowLimit": 101}, "rowLimit", "<= 100"),
        (Report, {"day": "2026-01-01", "rowLimit": "7"}, "rowLimit", "`int`"),
        (Report, {"day": "2026-01-01", "rowLimit": True}, "rowLimit", "`int`"),
        (Report, {"day": "2026-01-01", "row_limit": 7}, "row_limit", "no such parameter"),
        (Report, {"day": "2026-01-01", "region": "mars"}, "region", "'mars'"),
        (Report, {"day": "2026-01-01", "kind": 1}, "kind", "`str`"),
        (Report, {"day": "2026-01-01", "owners": [{}]}, "owners[0].name", "missing"),
        (Report, {"day": "2026-01-01", "owners": [{"name": 1}]}, "owners[0].name", "`str`"),
        (Span, {"days": None}, "days", "`int`"),
        (Span, {"days": 32}, "", "at most 31 days"),
        (Span, {"days": 13}, "", "KeyError: 'thirteen'"),
        (Span, {"end": "2026-01-01"}, "end", "'begin', 'days'"),
        (Pair, {"right": 1.5}, "left", "missing"),
        (Pair, {"left": 1, "right": "x"}, "right", "`float`"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_refused_by_name(
    params: type, given: dict[str, Any], place: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match="job 'j'") as refusal:
        job_with(params).fill_params(given)
    assert refusal.value.code == "invalid-params"
    assert refusal.value.field == ".".join(filter(None, ["params", place]))
    assert reason in str(refusal.value)


def test_a_default_factory_is_called_for_each_execution() -> None:
    job = job_with(Span, schedule="@daily")
    for day in (date(2026, 11, 22), date(2026, 11, 23)):
        TODAY[0] = day
        assert job.params == job.fill_params(None) == {"begin": day.isoformat(), "days": 1}


def test_optional_keys_of_a_typed_dict_may_be_missing() -> None:
    job = job_with(Pair)
    assert job.params == {}
    assert job.fill_params({"left": 1}) == {"left": 1}
    assert job.fill_params({"left": 1, "right": 2}) == {"left": 1, "right": 2.0}


def test_functions_receive_the_values_as_json() -> None:
    job = Job("j", params=Report)

    @job.task
    def make(day: str, rowLimit: int, note: str = "none") -> list[Any]:
        return [day, rowLimit, note]

    assert job.run({"day": "2026-01-02"}).tasks["make"].result == ["2026-01-02", 10, "none"]
    with pytest.raises(InvalidRequest, match="'day'"):
        job.run()


class Positional(msgspec.Struct, array_like=True):
    a: int = 1


class Untellable(msgspec.Struct):
    a: object = None


class Uncallable(msgspec.Struct):
    a: Callable[[], int]


class Wrong(msgspec.Struct):
    a: Annotated[int, Meta(ge=5)] = 3


@dataclass
class Long(Span):
    days: int = 40


@dataclass
class Unwritable:
    a: Any = field(default_factory=lambda: object())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (int, "class whose fields"),
        (dict, "class whose fields"),
        (Job, "class whose fields"),
        (Positional, "class whose fields"),
        (Untellable, "Untellable"),
        (Uncallable, "Uncallable"),
        (Wrong, "default of 'a'.*>= 5"),
        (Long, "at most 31"),
        (Unwritable, "cannot be JSON"),
        (Report(date.today()), "params must"),  # noqa: DTZ011
        ("day", "params must"),
    ],
)
def test_an_invalid_class_is_refused_when_defined(params: Any, reason: str) -> None:
    with pytest.raises(InvalidJob, match=rf"(?s)job 'j'.*{reason}"):
        job_with(params)


def test_a_scheduled_job_needs_a_default_for_every_parameter() -> None:
    with pytest.raises(InvalidJob, match=r"job 'j'.*schedule.*'day'.*none"):
        job_with(Report, schedule="@daily")


# -- every wrong field at once -----------------------------------------------------


def wrong_fields(params: Any, given: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidParams, match="job 'j'") as refused:
        job_with(params).fill_params(given)
    assert refused.value.field == refused.value.errors[0].field
    for one in refused.value.errors:
        assert one.message in str(refused.value)
    return [one.field.removeprefix("params.") for one in refused.value.errors]


def test_every_wrong_field_of_a_class_is_named() -> None:
    owners = [{}, {"name": "Ada", "mail": 1}, {"name": 2, "mail": None}, 7]
    given = {"rowLimit": 0, "kind": "odd", "owners": owners, "more": 1}
    assert wrong_fields(Report, given) == [
        "more", "day", "rowLimit", "kind", "owners[0].name", "owners[1].mail", "owners[2].name",
        "owners[3]",
    ]  # fmt: skip
    assert wrong_fields(Pair, {"right": "x"}) == ["left", "right"]
    assert wrong_fields(Span, {"begin": 1, "days": "x"}) == ["begin", "days"]


def test_every_wrong_field_beside_defaults_is_named() -> None:
    given = {"n": "x", "s": 1, "other": 2, "any": []}
    assert wrong_fields({"n": 1, "s": "", "any": None}, given) == ["n", "s", "other"]


def test_a_refusal_of_many_fields_is_bounded() -> None:
    given = {f"p{n}": n for n in range(1000)}
    for params in (Report, {}, Export):
        with pytest.raises(InvalidParams) as refused:
            job_with(params).fill_params(given | {"x" * 1000: 1})
        assert len(refused.value.errors) == 50
    assert "and 9" in str(refused.value)


# -- a pydantic model --------------------------------------------------------------


class Export(pydantic.BaseModel):
    """What to export."""

    day: date = pydantic.Field(alias="exportDay", description="the day it is of")
    rows: pydantic.PositiveInt = 10
    kind: Literal["short", "long"] = "short"
    owner: "Owned | None" = None
    tags: set[str] = pydantic.Field(default_factory=lambda: {"a"})

    @pydantic.field_validator("rows")
    @classmethod
    def check(cls, rows: int) -> int:
        if rows == 13:
            raise KeyError("thirteen")
        if rows == 14:
            raise SystemExit
        return rows


class Owned(pydantic.BaseModel):
    name: str
    mail: str | None = None


class Nested(pydantic.BaseModel):
    children: "list[Nested]" = []


@pydantic.dataclasses.dataclass
class Interval:
    begin: date = date(2026, 1, 1)
    days: int = 1


class Moved(pydantic.BaseModel):
    n: int = pydantic.Field(1, validation_alias="in", serialization_alias="out")


def test_a_model_fills_in_defaults_and_converts() -> None:
    job = job_with(Export)
    full = {"rows": 10, "kind": "short", "owner": None, "tags": ["a"]}
    assert job.params == full
    assert job._params.required == ["exportDay"]
    assert job.fill_params({"exportDay": "2026-01-02"}) == {"exportDay": "2026-01-02"} | full
    given = {"exportDay": date(2026, 1, 2), "rows": "3", "owner": Owned(name="Ada"), "tags": []}
    assert job.fill_params(given) == {
        "exportDay": "2026-01-02",
        "rows": 3,
        "kind": "short",
        "owner": {"name": "Ada", "mail": None},
        "tags": [],
    }
    assert job_with(Interval, schedule="@daily").fill_params(None) == {
        "begin": "2026-01-01",
        "days": 1,
    }
    assert job_with(Moved).fill_params({"in": 2}) == {"in": 2}


def test_every_wrong_field_of_a_model_is_named() -> None:
    assert wrong_fields(Export, {"rows": 0, "kind": "x", "owner": {"mail": 1}, "more": 1}) == [
        "more", "exportDay", "rows", "kind", "owner.name", "owner.mail",
    ]  # fmt: skip
    assert wrong_fields(Nested, {"children": [{"children": 1}]}) == ["children[0].children"]
    assert wrong_fields(Interval, {"begin": "x", "days": "y"}) == ["begin", "days"]


@pytest.mark.parametrize("rows", [13, 14])
def test_a_validator_that_raises_something_odd_refuses_the_request(rows: int) -> None:
    with pytest.raises(InvalidParams, match=r"KeyError: 'thirteen'|SystemExit"):
        job_with(Export).fill_params({"exportDay": "2026-01-02", "rows": rows})


def test_the_schema_of_a_model_is_pydantics() -> None:
    for params in (Export, Nested, Interval):
        schema = job_with(params).params_schema
        assert schema is not None
        meta.validate(schema)
        assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    schema = job_with(Export).params_schema
    assert schema is not None
    assert schema["properties"]["exportDay"] == {
        "description": "the day it is of",
        "format": "date",
        "title": "Exportday",
        "type": "string",
    }
    assert schema["required"] == ["exportDay"]


class Unset(pydantic.BaseModel):
    n: int = "x"  # type: ignore[assignment]

    model_config = {"validate_default": True}


class Opaque(pydantic.BaseModel, arbitrary_types_allowed=True):
    value: object = object()


class Hidden(pydantic.BaseModel):
    password: pydantic.SecretStr = pydantic.SecretStr("x")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (Unset, "the defaults are refused: n: Input should be a valid integer"),
        (Opaque, "'value' cannot be made or kept as JSON"),
        (Hidden, "'password' cannot be made or kept as JSON"),
    ],
)
def test_an_invalid_model_is_refused_when_defined(params: Any, reason: str) -> None:
    with pytest.raises(InvalidJob, match=rf"job 'j': params={params.__name__}: .*{reason}"):
        job_with(params)


@pytest.mark.parametrize("params", [Export, Interval, Report, Span])
def test_a_parameter_annotated_with_the_class_receives_an_instance(params: Any) -> None:
    job = Job("j", params=params)

    def take(given: Any) -> str:
        return repr(given)

    take.__annotations__["given"] = params
    job.task(take)
    day = {"day": "2026-01-02"} if params is Report else {"exportDay": "2026-01-02"}
    required = day if params in (Export, Report) else {}
    task = run(job, required).tasks["take"]
    assert task.result is not None, task.error
    assert task.result.startswith(f"{params.__name__}(")
    assert "datetime.date(2026, " in task.result


# -- a function --------------------------------------------------------------------


def test_a_functions_signature_declares_parameters() -> None:
    def export(
        day: date,
        context: Context,
        rows: Annotated[int, Meta(ge=1)] = 10,
        tags: list[str] = ["a"],  # noqa: B006
        anything=None,  # type: ignore[no-untyped-def]
    ) -> Any:
        """Exports a day."""
        tags.append("b")
        return [repr(day), rows, tags, anything, context.attempt]

    job = Job("j", params=export)
    job.task(export)
    assert job.params == {"rows": 10, "tags": ["a"], "anything": None}
    assert wrong_fields(export, {"rows": 0, "tags": 1, "more": 1}) == [
        "more", "day", "rows", "tags",
    ]  # fmt: skip
    for _ in range(2):
        assert run(job, {"day": "2026-01-02"}).tasks["export"].result == [
            "datetime.date(2026, 1, 2)", 10, ["a", "b"], None, 1,
        ]  # fmt: skip
    assert job.params_schema is not None
    assert job.params_schema["description"] == "Exports a day."
    assert job.params_schema["required"] == ["day"]


def test_a_functions_signature_may_have_models() -> None:
    def export(owner: Owned, rows: pydantic.PositiveInt = 1) -> str:
        return f"{owner!r} {rows}"

    job = Job("j", params=export)
    job.task(export)
    assert wrong_fields(export, {"owner": {}, "rows": 0}) == ["owner.name", "rows"]
    result = run(job, {"owner": {"name": "Ada"}}).tasks["export"].result
    assert result == "Owned(name='Ada', mail=None) 1"


def test_a_function_that_accepts_any_argument_declares_nothing() -> None:
    with pytest.raises(InvalidJob, match=r"params=<lambda>: its parameter '\*\*all' accepts any"):
        job_with(lambda **all: None)


# -- the schema --------------------------------------------------------------------


def test_the_schema_of_a_class_follows_its_annotations() -> None:
    schema = job_with(Report).params_schema
    assert schema == {
        "title": "Report",
        "description": "What a report is of.",
        "type": "object",
        "properties": {
            "day": {"description": "the day it is of", "type": "string", "format": "date"},
            "region": {"$ref": "#/$defs/Region", "default": "eu"},
            "rowLimit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
            "kind": {"enum": ["long", "short"], "default": "short"},
            "owners": {"type": "array", "items": {"$ref": "#/$defs/Owner"}, "default": []},
            "note": {"type": "string"},
        },
        "required": ["day"],
        "additionalProperties": False,
        "$defs": {
            "Region": {"title": "Region", "enum": ["eu", "us"]},
            "Owner": {
                "title": "Owner",
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "mail": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                },
                "required": ["name"],
            },
        },
    }


class Tree(msgspec.Struct):
    branches: "list[Tree]" = []


@pytest.mark.parametrize("params", [Report, Span, Pair, Tree, {}, {"a": 1, "b": None, "c": "x"}])
def test_a_schema_is_valid_and_accepts_the_defaults(params: Any) -> None:
    job = job_with(params)
    assert job.params_schema is not None
    meta.validate(job.params_schema)
    required = {name: "2026-01-01" if name == "day" else 1 for name in job._params.required}
    Draft202012Validator(job.params_schema).validate(job.fill_params(required))


def test_the_schema_of_defaults_is_their_json_types() -> None:
    job = job_with({"n": 1, "x": 0.5, "s": "a", "b": False, "l": [1], "o": {"k": 1}, "any": None})
    assert job.params_schema == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "default": 1},
            "x": {"type": "number", "default": 0.5},
            "s": {"type": "string", "default": "a"},
            "b": {"type": "boolean", "default": False},
            "l": {"type": "array", "default": [1]},
            "o": {"type": "object", "default": {"k": 1}},
            "any": {"default": None},
        },
        "additionalProperties": False,
    }


def test_annotations_of_functions_refine_the_schema_but_refuse_nothing() -> None:
    job = Job(
        "j",
        params={"kind": "short", "n": 1, "r": "eu", "any": None, "l": [], "s": "", "x": 1, "y": 2},
    )

    @job.task
    def make(
        kind: Literal["short", "long"],
        n: Annotated[int, Meta(ge=1)],
        r: Region,
        any: str | None,
        l: list[str],  # noqa: E741
        s: date,  # its default has another type
        x: float,  # more general than its default
        y: "Nowhere",  # type: ignore[name-defined]  # noqa: F821
    ) -> None: ...

    # The one unreadable annotation disables no other one.
    assert job.params_schema is not None
    assert job.params_schema["properties"]["kind"] == {
        "enum": ["long", "short"],
        "default": "short",
    }
    assert job.params_schema["properties"]["y"] == {"type": "integer", "default": 2}

    other = Job("j", params=dict(job.params or {}))

    @other.task
    def take(
        kind: Literal["short", "long"],
        n: Annotated[int, Meta(ge=1)],
        r: Region,
        any: str | None,
        l: list[str],  # noqa: E741
        s: date,
        x: float,
        y: Any,
    ) -> None: ...

    assert other.params_schema["properties"] == {
        "kind": {"enum": ["long", "short"], "default": "short"},
        "n": {"type": "integer", "minimum": 1, "default": 1},
        "r": {"title": "Region", "enum": ["eu", "us"], "default": "eu"},
        "any": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "l": {"type": "array", "items": {"type": "string"}, "default": []},
        "s": {"type": "string", "default": ""},
        "x": {"type": "integer", "default": 1},
        "y": {"type": "integer", "default": 2},
    }
    anything = {"kind": "other", "n": -1, "r": "mars", "any": 5, "l": [1]}
    assert other.fill_params(anything) == dict(job.params or {}) | anything


def test_a_job_without_declared_params_has_no_schema() -> None:
    job = job_with(None)
    assert job.params is job.params_schema is None
    assert not job.has_params
    assert job_with(Report).has_params
    assert not job_with({}).has_params
