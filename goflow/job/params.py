"""The parameters of a job: their names, types and defaults, and the checks of a submit's values.

The rule that must not be broken: an execution's parameters are JSON, however they were declared,
since they are stored and shown. A refusal names the field and changes nothing.
"""

import contextlib
import copy
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NoReturn

import msgspec
from msgspec import UNSET, inspect

from goflow.errors import InvalidJob, InvalidRequest
from goflow.job.patterns import Doubtful, doubtful
from goflow.plain import Unfit, as_json
from goflow.shown import reason

Json = dict[str, Any]

_PLACE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|missing required) field `(.*?)`", re.DOTALL)
_UNFIT = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)


def explain(error: msgspec.ValidationError) -> tuple[str, str]:
    """The path of the invalid part of a value, such as `a.b[0]` ("" for the whole), and why."""
    place, named = _PLACE.search(str(error)), _NAMED.search(str(error))
    parts = [place[1] if place else "", named[1] if named else ""]
    return ".".join(filter(None, parts)), _PLACE.sub("", str(error))


def declare(where: str, given: object) -> "Params":
    """Read the argument of `Job(params=…)`. Raises `InvalidJob`; `where` names the job."""
    if given is None:
        return AnyParams()
    if isinstance(given, Mapping):
        return DefaultParams(where, given)
    if isinstance(given, type):
        return TypedParams(where, given)
    raise InvalidJob(
        f"{where}: params must map names to defaults, or be a class with fields, not {given!r}"
    )


class Params(ABC):
    """The declared parameters. `names` is None if a submit may set any."""

    names: Collection[str] | None

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
        """The values, and defaults for the rest. Raises `InvalidRequest`, which names the field."""

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
            self._refuse(job, error.place, f"it cannot be kept as JSON: {error.reason}")
        except _UNFIT as error:
            raise InvalidRequest(
                f"job {job!r}: the params cannot be kept as JSON: {error}",
                code="invalid-params",
                field="params",
            ) from None
        return values

    @staticmethod
    def _refuse(job: str, place: str, reason: str) -> NoReturn:
        about = f"parameter {place!r}" if place else "the params"
        raise InvalidRequest(
            f"job {job!r}: {about}: {reason}",
            code="invalid-params",
            field=".".join(filter(None, ("params", place))),
        )


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
        for name, value in values.items():
            if name not in self._defaults:
                raise InvalidRequest(
                    f"job {job!r} has no parameter {name!r}; it has {_listed(self._defaults)}",
                    code="unknown-parameter",
                    field=f"params.{name}",
                )
            if not _same_type(self._defaults[name], value):
                raise InvalidRequest(
                    f"job {job!r}: parameter {name!r} must be "
                    f"{_type_name(self._defaults[name])}, not {value!r}",
                    code="invalid-parameter",
                    field=f"params.{name}",
                )
        # a copy, so that a task that changes a value does not affect other executions
        return copy.deepcopy(self._defaults) | values


class TypedParams(Params):
    """Parameters declared by a class: a `msgspec.Struct`, a dataclass or a TypedDict."""

    def __init__(self, where: str, given: type) -> None:
        self._type = given
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
                f"a msgspec.Struct, a dataclass or a TypedDict"
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
        """Defaults of the parameters, without those whose factory fails now."""
        found: Json = {}
        for name in self._fields:
            with contextlib.suppress(InvalidJob):
                found |= self._defaults(self._type.__name__, [name])
        return found

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
        for name, value in filled.items():
            if name not in given:
                try:
                    msgspec.convert(value, self._hints[name])
                except msgspec.ValidationError as error:
                    self._refuse(job, name, f"its default is wrong: {error}")

    def check(self, job: str, values: Json) -> Json:
        for name in values:
            if name not in self._fields:
                known = _listed(self._fields)
                self._refuse(job, name, f"there is no such parameter; there is {known}")
        try:
            fitting: Any = msgspec.convert(values, self._type)
            return self._values(fitting)
        except msgspec.ValidationError as error:
            self._refuse(job, *explain(error))
        except Unfit as error:
            self._refuse(job, error.place, error.reason)
        except Exception as error:  # the class may have checks of its own
            self._refuse(job, "", f"{type(error).__name__}: {error}")

    def _values(self, fitting: Any) -> Json:
        """An instance as JSON, field by field, so that defaults are included and no tag is."""
        if isinstance(fitting, dict):
            return typing.cast(Json, as_json(fitting))
        values = {name: getattr(fitting, field.name) for name, field in self._fields.items()}
        return typing.cast(
            Json, as_json({name: value for name, value in values.items() if value is not UNSET})
        )


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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
