"""Converts results and parameters to JSON: the types that msgspec encodes, and pydantic's models.

The rule that must not be broken: a value is stored unchanged, or refused with the place that JSON
cannot hold. Nothing is converted silently: infinity does not become null.

Instances of subclasses of builtins (numpy, pandas and lxml have such classes) are stored as the
builtin value. So are the scalars of numpy and pandas. They are recognised by their module's name,
and models by an attribute, so none of these packages needs to be installed.
"""

import enum
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec

from goflow.shown import shown, tame

KEY_SHOWN = 60  # characters of a key in the path of a value
NESTING_LIMIT = 200  # levels; deeper values might not be readable again

_EXACT = (type(None), bool, int, str, datetime, date, time, timedelta, bytes, Decimal)
_NAMES = (str, int, float, date, time, timedelta, Decimal)
# The encoder's output for keys that are numbers that JSON does not have; as values they are null.
_SUSPICIOUS = (b'"nan"', b'"inf"', b'"-inf"')
_CONTAINERS = (list, dict, tuple)

# The steps from a value to one of its parts: names, indices, and attributes as `_Attribute`.
Steps = tuple[Any, ...]


class _Attribute(str):
    """The name of an attribute, as opposed to a key of a dict."""


class Unfit(ValueError):
    """A value cannot be stored as JSON.

    `place` is the path of the part that does not fit, such as `a.b[0]`; "" for the value itself.
    """

    def __init__(self, steps: Steps, reason: str) -> None:
        self._steps = steps
        self.reason = reason
        self.place = "".join(
            f"[{one}]" if isinstance(one, int) else f".{one}" for one in steps
        ).removeprefix(".")
        super().__init__(f"at `{self.place}`: {reason}" if self.place else reason)

    def path(self, root: str) -> str:
        """The part as Python code has it, such as `root["rows"][3].price`."""
        told = [root]
        for one in self._steps:
            if isinstance(one, _Attribute):
                told.append(f".{one}")
            elif isinstance(one, str):
                told.append(f"[{_quoted(one)}]")
            else:
                told.append(f"[{one}]")
        return "".join(told)


def _quoted(key: str) -> str:
    key = tame(key, KEY_SHOWN).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{key}"'


def encode(value: object) -> bytes:
    """Encode a value as JSON. Raises `Unfit`, and whatever the value's own methods raise."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        pass  # the encoder does not know the type, or does not say where the value is
    else:
        if type(value) in _EXACT or _is_sound(value, encoded):
            return encoded
    plain = _plain(value, (), [])
    try:
        return _encoder.encode(plain)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise Unfit((), str(error)) from None


def _is_sound(value: object, encoded: bytes) -> bool:
    """Whether an encoded value certainly has only numbers that JSON has, and is not too deep."""
    if any(mark in encoded for mark in _SUSPICIOUS):
        return False
    is_small = encoded.count(b"[") + encoded.count(b"{") <= NESTING_LIMIT
    if is_small and b"null" not in encoded:
        return True
    try:
        level: list[Any] = [[msgspec.to_builtins(value, enc_hook=_dumped)]]
    except Exception:
        return False
    # By levels, not by values: ten times faster than a visit to each value.
    for _ in range(NESTING_LIMIT + 1):
        found = list(
            chain.from_iterable(one.values() if type(one) is dict else one for one in level)
        )
        if not all(map(math.isfinite, [one for one in found if isinstance(one, float)])):
            return False
        level = [one for one in found if type(one) in _CONTAINERS]
        if not level:
            return True
    return False


def as_json(value: object) -> Any:
    """A copy of the value that has only JSON's types. Raises like `encode`."""
    return msgspec.json.decode(encode(value))


def _dumped(value: Any) -> Any:
    """A model of pydantic as builtins, from which it can be validated again."""
    if not _is_model(value):
        raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
    return value.model_dump(mode="json", by_alias=True, round_trip=True)


def _is_model(value: Any) -> bool:
    return hasattr(type(value), "__pydantic_serializer__") and hasattr(type(value), "model_dump")


_encoder = msgspec.json.Encoder(enc_hook=_dumped)


def _plain(value: Any, place: Steps, around: list[int]) -> Any:
    """The value with builtin types only. `around` are the identities of the values it is in."""
    value = _leaf(value, place)
    if type(value) in _EXACT:
        if type(value) is str and not value.isascii():
            _check_text(value, place)
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(place, f"{value!r} is not a number that JSON has")
        return value
    if id(value) in around:
        raise Unfit(place, "it contains itself")
    if len(around) > NESTING_LIMIT:
        raise Unfit((), f"it is nested deeper than {NESTING_LIMIT} levels")
    around.append(id(value))
    try:
        return _parts(value, place, around)
    finally:
        around.pop()


def _check_text(value: str, place: Steps) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise Unfit(place, str(error)) from None


def _parts(value: Any, place: Steps, around: list[int]) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, (*place, i), around) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return _members(value, place, around)
    if hasattr(type(value), "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if hasattr(value, name)]
        return {
            name: _plain(getattr(value, name), (*place, _Attribute(name)), around) for name in names
        }
    if isinstance(value, msgspec.Struct):  # a part that does not fit is found by its attribute
        for name in value.__struct_fields__:
            if (part := getattr(value, name)) is not msgspec.UNSET:
                _plain(part, (*place, _Attribute(name)), around)
    try:
        if _is_model(value):
            found = _dumped(value)
        else:
            found = msgspec.to_builtins(value, enc_hook=lambda part: _known(part, place))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Unfit(place, str(error)) from None
    return _plain(found, place, around)


def _known(value: Any, place: Steps) -> Any:
    return _dumped(value) if _is_model(value) else _leaf(value, place, known=True)


def _members(value: Mapping[Any, Any], place: Steps, around: list[int]) -> dict[Any, Any]:
    members: dict[Any, Any] = {}
    for key, item in value.items():
        name = _leaf(key, place)
        named = isinstance(name, _NAMES) or type(name).__module__ == "uuid"
        if isinstance(name, bool) or not named:
            raise Unfit(
                place,
                "Only dicts with str-like or number-like keys are supported, "
                f"and {shown(key)} is another one",
            )
        if isinstance(name, float) and not math.isfinite(name):
            raise Unfit(place, f"the name {shown(key)} is not a number that JSON has")
        members[name] = _plain(item, (*place, str(name)), around)
    return members


def _leaf(value: Any, place: Steps, known: bool = False) -> Any:
    """The builtin value of an instance of a subclass or of a scalar of numpy or pandas.

    Other values are returned unchanged; with `known` they raise `TypeError`.
    """
    kind = type(value)
    if kind in _EXACT or kind is float:
        return value
    if isinstance(value, enum.Enum):
        return _leaf(value.value, place)
    if kind.__module__.partition(".")[0] in ("numpy", "pandas"):
        value = _scalar(value, place)
        kind = type(value)
        if kind is bool:  # bool cannot have subclasses, but is one of int
            return value
    for base, exact in _BASES:
        if isinstance(value, base):
            return value if kind is base else exact(value)
    if known:
        raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")
    return value


def _scalar(value: Any, place: Steps) -> Any:
    """The builtin value of a scalar of numpy or pandas."""
    kind = type(value).__name__
    if kind in ("NaTType", "NAType"):
        raise Unfit(place, f"{shown(value)} is no value")
    if isinstance(value, datetime | timedelta):  # pandas's types are subclasses of these
        return value
    if getattr(value, "ndim", 0) != 0 or not hasattr(value, "item"):
        hint = "; its tolist() is" if hasattr(value, "tolist") else ""
        raise Unfit(place, f"a {kind} is not a value that JSON has{hint}")
    item = value.item()
    letter = str(getattr(getattr(value, "dtype", None), "kind", "-"))
    if letter in "mM" and not isinstance(item, date | timedelta):
        # A time finer than microseconds, or out of range, comes as a number, and NaT as None.
        item = value.astype(f"{letter}8[us]").item()
        if not isinstance(item, date | timedelta):
            raise Unfit(place, f"{shown(value)} is no time that can be kept")
    if type(item).__module__ == "numpy":  # item() of a longdouble returns a longdouble
        item = float(item)
    if isinstance(item, complex):
        raise Unfit(place, f"{item!r} is not a number that JSON has")
    return item


def _exact_datetime(value: datetime) -> datetime:
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond, value.tzinfo, fold=value.fold,
    )  # fmt: skip


def _exact_time(value: time) -> time:
    return time(
        value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold
    )


# Subclasses come before their bases. The base's own methods are called, since a subclass may
# override them.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: bytes(memoryview(value))),
    (datetime, _exact_datetime),
    (date, lambda value: date(value.year, value.month, value.day)),
    (time, _exact_time),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
    (Decimal, lambda value: Decimal(value.as_tuple())),
)
