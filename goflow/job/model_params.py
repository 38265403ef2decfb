"""Parameters declared by a pydantic model or dataclass, and by a function's own signature.

The rule that must not be broken: pydantic is imported only if the user's code has done so.
"""

import copy
import inspect
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from goflow.errors import InvalidJob
from goflow.job.params import Json, Params, Wrong, defaults_now, listed, refuse
from goflow.operators.function import annotations_of, is_context, signature_of
from goflow.plain import Unfit, as_json
from goflow.shown import reason
from goflow.typed import is_of_pydantic, mentions_pydantic, pydantic_mistakes


class ModelParams(Params):
    """Parameters declared by a pydantic model, or by a dataclass of pydantic's."""

    def __init__(self, where: str, given: type) -> None:
        self.declared = self._type = given
        where = f"{where}: params={given.__name__}"
        try:
            self._adapter = sys.modules["pydantic"].TypeAdapter(given)
            fields: Mapping[str, Any] = given.__pydantic_fields__  # type: ignore[attr-defined]
            self._python_fields = fields
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of defaults that JSON cannot hold; checked below
                schema = self._adapter.json_schema(ref_template="#/$defs/{model}")
            self._schema = _inlined(schema)
        except Exception as error:  # a model may have any field, and any code
            raise InvalidJob(f"{where}: its fields cannot be read: {reason(error)}") from None
        self._fields = {_name(name, field): field for name, field in fields.items()}
        self._open = _config(given).get("extra") == "allow"
        if not self._open:
            self._schema["additionalProperties"] = False
        self.names = self._fields
        self._defaults(where)
        if not self.required:
            try:
                self._adapter.validate_json(b"{}")
            except BaseException as error:  # validators may raise anything
                raise InvalidJob(f"{where}: the defaults are refused: {_told(error)}") from None

    @property
    def required(self) -> list[str]:
        return [name for name, field in self._fields.items() if field.is_required()]

    @property
    def defaults(self) -> Json:
        return defaults_now(self._fields, lambda name: self._defaults(self._type.__name__, [name]))

    def _defaults(self, where: str, names: Iterable[str] | None = None) -> Json:
        found = {}
        for name in self._fields if names is None else names:
            field = self._fields[name]
            if field.is_required() or getattr(field, "default_factory_takes_validated_data", False):
                continue
            try:
                found[name] = as_json(field.get_default(call_default_factory=True))
            except BaseException as error:  # users' code may raise anything, even SystemExit
                raise InvalidJob(
                    f"{where}: the default of {name!r} cannot be made or kept as JSON: "
                    f"{reason(error)}"
                ) from None
        return found

    def schema(self, hints: Mapping[str, Any]) -> Json:
        return self._schema

    def check(self, job: str, values: Json) -> Json:
        known = listed(self._fields)
        accepted = self._accepted
        wrong = [
            Wrong(name, f"there is no such parameter; there is {known}")
            for name in values
            if not self._open and name not in accepted
        ]
        try:
            fitting = self._adapter.validate_json(msgspec.json.encode(values))
            if not wrong:
                return self._values(fitting)
        except Unfit as error:
            wrong.append(Wrong(error.place, error.reason))
        except Exception as error:  # validators may raise anything
            if is_of_pydantic(error):
                unknown = {one.place for one in wrong}
                told = pydantic_mistakes(error, "")
                wrong += [Wrong(*one) for one in told if one[0] not in unknown]
            else:
                wrong.append(Wrong("", reason(error)))
        return refuse(job, wrong)

    def _values(self, fitting: Any) -> Json:
        """An instance as JSON, under the names by which it can be validated again."""
        dumped = self._adapter.dump_python(fitting, mode="json", by_alias=True, round_trip=True)
        names = {
            field.serialization_alias or field.alias or python_name: _name(python_name, field)
            for python_name, field in self._python_fields.items()
        }
        values: Json = as_json({names.get(name, name): value for name, value in dumped.items()})
        return values

    @property
    def _accepted(self) -> Collection[str]:
        """The names that the model takes: aliases, and names of fields if it is populated by
        them."""
        config = _config(self._type)
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        return {*self._fields, *(self._python_fields if by_name else ())}


def class_of(where: str, function: Callable[..., Any]) -> type:
    """A class with the parameters of a function as its fields, without the context. Raises
    `InvalidJob`."""
    name = function.__name__
    signature = signature_of(function)
    hints = annotations_of(signature, function)
    fields: list[tuple[str, Any, Any]] = []
    for one in signature.parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise InvalidJob(
                f"{where}: params={name}: its parameter {str(one)!r} accepts any argument"
            )
        hint = hints[one.name]
        if one.name != "context" and not is_context(hint):
            hint = Any if hint is one.empty or isinstance(hint, str) else hint
            fields.append((one.name, hint, one.default))
    if any(mentions_pydantic(hint) for _, hint, _ in fields):
        given = {n: (h, ... if d is inspect.Parameter.empty else d) for n, h, d in fields}
        made: type = sys.modules["pydantic"].create_model(
            name, __doc__=function.__doc__, __module__=function.__module__, **given
        )
        return made
    return msgspec.defstruct(
        name,
        [(n, h) if d is inspect.Parameter.empty else (n, h, _default(d)) for n, h, d in fields],
        kw_only=True,
        module=function.__module__,
        namespace={"__doc__": function.__doc__},
    )


def _default(value: Any) -> Any:
    if isinstance(value, list | dict | set):
        return msgspec.field(default_factory=lambda: copy.deepcopy(value))
    return value


def _name(name: str, field: Any) -> str:
    """The name of a field in JSON."""
    for alias in (field.validation_alias, field.alias):
        if isinstance(alias, str):
            return alias
    return name


def _config(given: Any) -> Mapping[str, Any]:
    config = getattr(given, "model_config", None) or getattr(given, "__pydantic_config__", None)
    return config or {}


def _told(error: BaseException) -> str:
    if not is_of_pydantic(error):
        return reason(error)
    told = pydantic_mistakes(error, "")
    return "; ".join(f"{place}: {why}" if place else why for place, why in told)


def _inlined(schema: Json) -> Json:
    """The schema with the type itself at the top level."""
    if (reference := schema.pop("$ref", None)) is not None:
        schema |= schema["$defs"][reference.rpartition("/")[2]]
    return schema
