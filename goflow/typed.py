"""Converts JSON values to the types that functions declare for their parameters.

The rule that must not be broken: a value becomes an instance of its annotation, or is refused with
the part that does not fit. Only annotations that cannot be resolved, or that msgspec and pydantic
do not know, leave the value as JSON has it.

msgspec converts. An annotation that mentions pydantic is validated by pydantic, which goflow itself
never imports.
"""

import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from goflow.shown import kind, reason, shown, tame, text_of

PLACES_TOLD = 5  # of the parts that pydantic refuses
NAME_LIMIT = 200  # characters of the name of a type

Convert = Callable[[Any], Any]

_ANYTHING = (Any, object)
_BUILTIN = (str, int, float, bool, list, dict)


class Mismatch(ValueError):
    """A value that does not fit a type. The message has the part and the reason."""


class Typed:
    """A type, and the conversion to it. Pickled by its type."""

    def __init__(self, hint: Any, convert: Convert) -> None:
        self.hint = hint
        self._convert = convert

    def __reduce__(self) -> tuple[Any, ...]:
        return typed, (self.hint,)

    @property
    def name(self) -> str:
        """The type as an annotation has it."""
        return tame(_name(self.hint), NAME_LIMIT)

    def convert(self, value: Any, root: str) -> Any:
        """An instance of the type. Raises `Mismatch`, whose places begin with `root`."""
        try:
            return self._convert(value)
        except msgspec.ValidationError as error:
            raise Mismatch(_of_msgspec(error, root)) from None
        except BaseException as error:  # checks of users' classes may raise anything
            if is_of_pydantic(error):
                raise Mismatch(_of_pydantic(error, root)) from None
            raise Mismatch(f"its check raised {reason(error)}") from error


def typed(hint: Any) -> Typed | None:
    """The conversion to a type; None if values stay as JSON has them."""
    if any(hint is one for one in _ANYTHING):
        return None
    try:
        if mentions_pydantic(hint) and (convert := _by_pydantic(hint)) is not None:
            return Typed(hint, convert)
        if any(hint is one for one in _BUILTIN) or _is_known(inspect.type_info(hint), set()):
            return Typed(hint, lambda value: _by_msgspec(value, hint))
    except BaseException:  # an annotation may be any object, whose methods may raise anything
        return None
    return None


# -- msgspec -------------------------------------------------------------------------


def _by_msgspec(value: Any, hint: Any) -> Any:
    return msgspec.convert(value, hint, str_keys=True, dec_hook=_model)


def _model(hint: type, value: Any) -> Any:
    """A model of pydantic inside of a type that msgspec converts."""
    try:
        return hint.__pydantic_validator__.validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined]
    except ValueError as error:
        if is_of_pydantic(error):  # msgspec adds the place
            raise ValueError(_of_pydantic(error, hint.__name__)) from None
        raise


def _is_known(described: Any, seen: set[int]) -> bool:
    """Whether msgspec can convert to a type and to all that it consists of."""
    if isinstance(described, inspect.CustomType):
        return is_pydantic(described.cls)
    if not isinstance(described, inspect.Type | inspect.Field) or id(described) in seen:
        return True
    seen.add(id(described))
    parts: list[Any] = []
    for name in described.__struct_fields__:
        part = getattr(described, name)
        parts += part if isinstance(part, tuple) else [part]
    return all(_is_known(part, seen) for part in parts)


def _of_msgspec(error: msgspec.ValidationError, root: str) -> str:
    text, separator, place = text_of(error).rpartition(" - at `$")
    if not separator:
        return text_of(error)
    return f"{text} at {tame(root + place.removesuffix('`'), NAME_LIMIT)}"


# -- pydantic ------------------------------------------------------------------------


def is_pydantic(hint: Any) -> bool:
    """Whether a class is a model or a dataclass of pydantic."""
    return isinstance(hint, type) and hasattr(hint, "__pydantic_validator__")


def mentions_pydantic(hint: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False
    if type(hint).__module__.partition(".")[0] in ("pydantic", "annotated_types"):  # `Field(gt=0)`
        return True
    if is_pydantic(hint) or str(getattr(hint, "__module__", "")).startswith("pydantic."):
        return True
    parts = [*typing.get_args(hint), *getattr(hint, "__metadata__", ())]
    return any(mentions_pydantic(part) for part in parts)


def _by_pydantic(hint: Any) -> Convert | None:
    """The conversion by pydantic; None if it does not know a part of the type."""
    try:
        adapter = sys.modules["pydantic"].TypeAdapter(hint)
    except Exception:
        return None
    # From JSON, so that strict models accept dates and the like, which JSON has as text.
    return lambda value: adapter.validate_json(msgspec.json.encode(value))


def is_of_pydantic(error: BaseException) -> bool:
    return kind(error) == "ValidationError" and type(error).__module__.startswith("pydantic")


def pydantic_mistakes(error: Any, root: str) -> list[tuple[str, str]]:
    """The parts that pydantic refuses, each as its path and the reason."""
    try:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        return [(_path(root, one["loc"]), str(one["msg"])) for one in wrong]
    except BaseException as failure:  # the text of a validator's error may raise anything
        return [(root, f"pydantic refused it, but the reason is not available: {kind(failure)}")]


def _of_pydantic(error: Any, root: str) -> str:
    wrong = pydantic_mistakes(error, root)
    told = [f"{why} at {place}" for place, why in wrong[:PLACES_TOLD]]
    more = len(wrong) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _path(root: str, place: tuple[Any, ...]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in place]
    return tame((root + "".join(steps)).removeprefix("."), NAME_LIMIT)


# -- names ---------------------------------------------------------------------------


def _name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_name, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(shown, arguments))}]"
    if origin is not None and arguments:
        return f"{_name(origin)}[{', '.join(map(_name, arguments))}]"
    if hint is type(None):
        return "None"
    if hint is ...:
        return "..."
    return hint.__name__ if isinstance(hint, type) else shown(hint)
