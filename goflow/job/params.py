"""The parameters of a job: their names, types and defaults, and the checks of a submit's values.

The rule that must not be broken: an execution's parameters are JSON, however they were declared,
since they are stored and shown. A refusal names every wrong field and changes nothing.
"""

import contextlib
import copy
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import FunctionType, UnionType
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, inspect

from goflow.errors import InvalidJob, InvalidParams, WrongField
from goflow.job.patterns import Doubtful, doubtful
from goflow.plain import Unfit, as_json
from goflow.shown import reason, shown
from goflow.typed import is_pydantic

Json = dict[str, Any]

ERRORS_TOLD = 50  # wrong fields

_PLACE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|missing required) field `(.*?)`", re.DOTALL)
_UNFIT = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)


class Wrong(NamedTuple):
    """A part of the parameters that does not fit: its path, such as `a.b[0]`, and why."""

    place: str
    reason: str


def explain(error: msgspec.ValidationError) -> tuple[str, str]:
    """The path of the invalid part of a value, such as `a.b[0]` ("" for the whole), and why."""
    place, named = _PLACE.search(str(error)), _NAMED.search(str(error))
    parts = [place[1] if place else "", named[1] if named else ""]
    return ".".join(filter(None, parts)), _PLACE.sub("", str(error))


def declare(where: str, given: object) -> "Params":
    """Read the argument of `Job(params=…)`. Raises `InvalidJob`; `where` names the job."""
    if isinstance(given, FunctionType) or is_pydantic(given):
        from goflow.job.model_params import ModelParams, class_of  # most jobs do not need it

        kind = class_of(where, given) if isinstance(given, FunctionType) else given
        assert isinstance(kind, type)
        return ModelParams(where, kind) if is_pydantic(kind) else TypedParams(where, kind)
    if given is None:
        return AnyParams()
    if isinstance(given, Mapping):
        return DefaultParams(where, given)
    if isinstance(given, type):
        return TypedParams(where, given)
    raise InvalidJob(
        f"{where}: params must map names to defaults, or be a class with fields or a function, "
        f"not {shown(given)}"
    )


class Params(ABC):
    """The declared parameters. `names` is None if a submit may set any."""

    names: Collection[str] | None
    declared: "type | None" = None  # the class that declares them

    @property
    @abstractmethod
    def defaults(self) -> Json | None:
        """Defaults of the parameters that have one; None if a submit may set any parameter."""

    @abstractmethod
    def schema(self, hints: Mapping[str, Any]) -> Json | None:
        """JSON Schema of the parameters; None if a submit may set any.

        `hints` are the annotations of the job's functions, by parameter.
        """

    @abstractmethod
    def check(self, job: str, values: Json) -> Json:
        """The values, and defaults for the rest. Raises `InvalidParams`, which has every wrong
        field."""

    def verify(self, job: str, filled: Json, given: Collection[str]) -> None:
        """Check the defaults that factories have just made; the `given` values were checked."""
        return

    @property
    def required(self) -> list[str]:
        """Names of the parameters without a default."""
        return [name for name in self.names or () if name not in (self.defaults or {})]

    def doubtful(self, values: Json) -> list[Doubtful]:
        """The values whose match against a pattern may take long."""
        return []

    def fill(self, job: str, given: Mapping[str, Any] | None) -> Json:
        """The parameters of an execution: a submit's values, and defaults for the rest."""
        return self.check(job, self.given(job, given))

    def given(self, job: str, given: Mapping[str, Any] | None) -> Json:
        """A submit's values as JSON, unchecked."""
        try:
            if not all(isinstance(name, str) for name in given or {}):
                raise TypeError("names must be text")
            values: Json = as_json(dict(given or {}))
        except Unfit as error:
            refuse(job, [Wrong(error.place, f"it cannot be kept as JSON: {error.reason}")])
        except _UNFIT as error:
            refuse(job, [Wrong("", f"they cannot be kept as JSON: {error}")])
        return values


def refuse(job: str, wrong: Sequence[Wrong], code: str | None = None) -> NoReturn:
    """Raise `InvalidParams` for these places, at most `ERRORS_TOLD` of them."""
    told = wrong[:ERRORS_TOLD]
    if len(wrong) == 1:
        about = f"parameter {wrong[0].place!r}" if wrong[0].place else "the params"
        message = f"job {job!r}: {about}: {wrong[0].reason}"
    else:
        each = "; ".join(f"{one.place!r}: {one.reason}" for one in told)
        more = f"; and {len(wrong) - len(told)} more" if len(wrong) > len(told) else ""
        message = f"job {job!r}: {len(wrong)} parameters are wrong: {each}{more}"
    errors = [WrongField(".".join(filter(None, ("params", one.place))), one.reason) for one in told]
    raise InvalidParams(message, errors=errors, code=code)


class AnyParams(Params):
    """Undeclared parameters: any JSON object, unchecked."""

    names = None
    defaults = None

    def schema(self, hints: Mapping[str, Any]) -> None:
        return None

    def check(self, job: str, values: Json) -> Json:
        return values


class DefaultParams(Params):
    """Parameters declared by defaults: a value must have its default's JSON type."""

    def __init__(self, where: str, given: Mapping[Any, Any]) -> None:
        if not all(isinstance(name, str) for name in given):
            raise InvalidJob(f"{where}: params must map names to defaults, not {given!r}")
        try:
            self._defaults: Json = as_json(dict(given))
        except _UNFIT as error:
            raise InvalidJob(f"{where}: params must be JSON: {error}") from None
        self.names = self._defaults

    @property
    def defaults(self) -> Json:
        return copy.deepcopy(self._defaults)  # changes to the copy do not affect executions

    def schema(self, hints: Mapping[str, Any]) -> Json:
        properties = {
            name: _described(default, hints.get(name, Any)) | {"default": default}
            for name, default in self._defaults.items()
        }
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def check(self, job: str, values: Json) -> Json:
        wrong: list[Wrong] = []
        code = "invalid-parameter"
        for name, value in values.items():
            if name not in self._defaults:
                known = listed(self._defaults)
                code = code if wrong else "unknown-parameter"
                wrong.append(Wrong(name, f"there is no such parameter; there is {known}"))
            elif not _same_type(self._defaults[name], value):
                kind = _type_name(self._defaults[name])
                wrong.append(Wrong(name, f"it must be {kind}, not {shown(value)}"))
        if wrong:
            refuse(job, wrong, code)
        # a copy, so that a task that changes a value does not affect other executions
        return copy.deepcopy(self._defaults) | values


class TypedParams(Params):
    """Parameters declared by a class: a `msgspec.Struct`, a dataclass or a TypedDict."""

    def __init__(self, where: str, given: type) -> None:
        self.declared = self._type = given
        where = f"{where}: params={given.__name__}"
        try:
            described = inspect.type_info(given)
            hints = typing.get_type_hints(given, include_extras=True)
        except Exception as error:  # annotations may be any expression, and raise anything
            raise InvalidJob(f"{where}: its fields cannot be read: {error}") from None
        if not isinstance(
            described, inspect.StructType | inspect.DataclassType | inspect.TypedDictType
        ) or (isinstance(described, inspect.StructType) and described.array_like):
            raise InvalidJob(
                f"{where} must be a class whose fields are the parameters: "
                f"a msgspec.Struct, a dataclass, a TypedDict or a pydantic model"
            )
        self._described: Final = described
        self._fields: Final = {field.encode_name: field for field in described.fields}
        self.names = self._fields
        self._hints = {name: hints[field.name] for name, field in self._fields.items()}
        try:
            self._schema = _schema_of(given) | {"additionalProperties": False}
        except TypeError as error:
            raise InvalidJob(f"{where}: {error}") from None
        for name, default in self._defaults(where).items():
            try:
                msgspec.convert(default, hints[self._fields[name].name])
            except msgspec.ValidationError as error:
                raise InvalidJob(f"{where}: the default of {name!r} is wrong: {error}") from None
        if not self.required:
            try:
                msgspec.convert({}, given)
            except Exception as error:  # the class may have checks of its own
                raise InvalidJob(f"{where}: the defaults are refused: {error}") from None

    @property
    def defaults(self) -> Json:
        return defaults_now(self._fields, lambda name: self._defaults(self._type.__name__, [name]))

    def _defaults(self, where: str, names: Iterable[str] | None = None) -> Json:
        """New defaults, since a factory may return today's date."""
        found = {}
        for name in self._fields if names is None else names:
            field = self._fields[name]
            value = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                try:
                    value = field.default_factory()
                except BaseException as error:  # users' code may raise anything, even SystemExit
                    made = f"the default of {name!r} cannot be made"
                    raise InvalidJob(f"{where}: {made}: {reason(error)}") from error
            if value is not msgspec.NODEFAULT and value is not UNSET:
                try:
                    found[name] = as_json(value)
                except _UNFIT as error:
                    raise InvalidJob(
                        f"{where}: the default of {name!r} cannot be JSON: {error}"
                    ) from None
        return found

    @property
    def required(self) -> list[str]:
        return [name for name, field in self._fields.items() if field.required]

    def schema(self, hints: Mapping[str, Any]) -> Json:
        return self._schema

    def doubtful(self, values: Json) -> list[Doubtful]:
        return doubtful(self._described, values)

    def verify(self, job: str, filled: Json, given: Collection[str]) -> None:
        wrong = []
        for name, value in filled.items():
            if name not in given:
                try:
                    msgspec.convert(value, self._hints[name])
                except msgspec.ValidationError as error:
                    wrong.append(Wrong(name, f"its default is wrong: {error}"))
        if wrong:
            refuse(job, wrong)

    def check(self, job: str, values: Json) -> Json:
        known = listed(self._fields)
        wrong = [
            Wrong(name, f"there is no such parameter; there is {known}")
            for name in values
            if name not in self._fields
        ]
        try:
            fitting: Any = msgspec.convert(values, self._type)
            if not wrong:
                return self._values(fitting)
        except msgspec.ValidationError as error:
            wrong += mistakes(self._type, values) or [Wrong(*explain(error))]
        except Unfit as error:
            wrong.append(Wrong(error.place, error.reason))
        except Exception as error:  # the class may have checks of its own
            wrong.append(Wrong("", reason(error)))
        refuse(job, wrong)

    def _values(self, fitting: Any) -> Json:
        """An instance as JSON, field by field, so that defaults are included and no tag is."""
        if isinstance(fitting, dict):
            return typing.cast(Json, as_json(fitting))
        values = {name: getattr(fitting, field.name) for name, field in self._fields.items()}
        return typing.cast(
            Json, as_json({name: value for name, value in values.items() if value is not UNSET})
        )


# -- all mistakes ------------------------------------------------------------------


def mistakes(hint: Any, value: Any, place: str = "") -> list[Wrong]:
    """Every part of a value that does not fit a type; msgspec tells only the first one."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        inner: list[Wrong] = []
        for part, each, where in _parts(hint, value, place):
            if each is _MISSING:
                inner.append(Wrong(where, f"Object missing required field `{part}`"))
            else:
                inner += mistakes(part, each, where)
            if len(inner) > ERRORS_TOLD:
                break
        if inner:
            return inner
        below, why = explain(error)
        below = below if below.startswith("[") or not place or not below else f".{below}"
        return [Wrong(place + below, why)]
    except Exception as error:  # the class may have checks of its own
        return [Wrong(place, reason(error))]
    return []


_MISSING = object()


def _parts(hint: Any, value: Any, place: str) -> Iterator[tuple[Any, Any, str]]:
    """The parts of a value, each with its type and its path; none if they are not known."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        yield from _parts(arguments[0], value, place)
    elif origin in (typing.Union, UnionType):
        others = [one for one in arguments if one is not type(None)]
        if len(others) == 1:
            yield from _parts(others[0], value, place)
    elif isinstance(value, list) and origin in (list, set, frozenset, Sequence) and arguments:
        for index, each in enumerate(value):
            yield arguments[0], each, f"{place}[{index}]"
    elif isinstance(value, dict) and isinstance(hint, type):
        described: Any = inspect.type_info(hint)
        hints = typing.get_type_hints(hint, include_extras=True)
        for field in getattr(described, "fields", ()):
            where = ".".join(filter(None, (place, field.encode_name)))
            if field.encode_name in value:
                yield _bare(hints[field.name]), value[field.encode_name], where
            elif field.required:
                yield field.encode_name, _MISSING, where


def _bare(hint: Any) -> Any:
    """The type of a TypedDict's key without `Required` or `NotRequired`."""
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return typing.get_args(hint)[0]
    return hint


# -- schemas -----------------------------------------------------------------------


def kinds_of(schema: Json, described: Json) -> set[str] | None:
    """The JSON types that `described`, a part of `schema`, allows; None for any."""
    if (reference := described.get("$ref")) is not None:
        return kinds_of(schema, schema["$defs"][reference.rpartition("/")[2]])
    if "type" in described:
        kinds = described["type"]
        return {kinds} if isinstance(kinds, str) else set(kinds)
    if "enum" in described:
        return {kind_of(value) for value in described["enum"]}
    found: set[str] = set()
    for choice in described.get("anyOf", ()):
        if (kinds := kinds_of(schema, choice)) is None:
            return None
        found |= kinds
    return found or None


def _schema_of(given: Any) -> Json:
    """JSON Schema of a type, with the type itself at the top level."""
    (top,), parts = msgspec.json.schema_components([given], ref_template="#/$defs/{name}")
    if (reference := top.pop("$ref", None)) is not None:
        name = reference.rpartition("/")[2]
        top |= parts[name]
        if f'"{reference}"' not in msgspec.json.encode(parts).decode():
            del parts[name]
    return top | ({"$defs": parts} if parts else {})


def _described(default: Any, hint: Any) -> Json:
    """JSON Schema of a parameter: its default's JSON type, or a narrower annotation that allows
    the default."""
    wide: Json = {} if default is None else {"type": kind_of(default)}
    try:
        msgspec.convert(default, hint)
        narrow = _schema_of(hint)
    except Exception:  # the annotation may be a class with checks of its own
        return wide
    if "$defs" in narrow or (wide and kinds_of(narrow, narrow) != {wide["type"]}):
        return wide
    return narrow


_KINDS: list[tuple[type, str, str]] = [
    (bool, "boolean", "true or false"),
    (int, "integer", "a whole number"),
    (float, "number", "a number"),
    (str, "string", "a text"),
    (list, "array", "a list"),
    (dict, "object", "an object"),
    (type(None), "null", "null"),
]


def kind_of(value: Any) -> str:
    """The JSON type of a value."""
    return next(kind for each, kind, _ in _KINDS if isinstance(value, each))


def _type_name(default: Any) -> str:
    return next(name for each, _, name in _KINDS if isinstance(default, each))


def _same_type(default: Any, value: Any) -> bool:
    if default is None:
        return True
    if type(default) is float:
        return type(value) in (int, float)
    return type(value) is type(default)


def defaults_now(names: Iterable[str], make: Callable[[str], Json]) -> Json:
    """Defaults of the parameters, without those whose factory fails now."""
    found: Json = {}
    for name in names:
        with contextlib.suppress(InvalidJob):
            found |= make(name)
    return found


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
