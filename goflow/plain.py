"""Converts results and parameters to JSON.

The rule that must not be broken: a value is stored unchanged, or refused with the place that JSON
cannot hold. Nothing is converted silently: infinity does not become null.

Instances of subclasses of builtins (numpy, pandas and lxml have such classes) are stored as the
builtin value. So are the scalars of numpy and pandas. They are recognised by their module's name,
so neither package needs to be installed.
"""

import enum
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from goflow.shown import shown

NESTING_LIMIT = 200  # levels; deeper values might not be readable again

_encoder = msgspec.json.Encoder()
_EXACT = (type(None), bool, int, str, datetime, date, time, timedelta, bytes, Decimal)
_NAMES = (str, int, float, date, time, timedelta, Decimal)
# The encoder's output for numbers that JSON does not have, as values and as keys.
_SUSPICIOUS = (b"null", b'"nan"', b'"inf"', b'"-inf"')


class Unfit(ValueError):
    """A value cannot be stored as JSON. `place` is its path, such as `a.b[0]`."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"at `{place}`: {reason}" if place else reason)
        self.place = place
        self.reason = reason


def encode(value: object) -> bytes:
    """Encode a value as JSON. Raises `Unfit`, and whatever the value's own methods raise."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        pass  # the encoder does not know the type, or does not say where the value is
    else:
        deep = encoded.count(b"[") + encoded.count(b"{") > NESTING_LIMIT
        if not (deep or any(mark in encoded for mark in _SUSPICIOUS)):
            return encoded
    plain = _plain(value, "", 0)
    try:
        return _encoder.encode(plain)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise Unfit("", str(error)) from None


def as_json(value: object) -> Any:
    """A copy of the value that has only JSON's types. Raises like `encode`."""
    return msgspec.json.decode(encode(value))


def _plain(value: Any, place: str, depth: int) -> Any:
    """The value with builtin types only."""
    if depth > NESTING_LIMIT:
        raise Unfit("", f"it is nested deeper than {NESTING_LIMIT} levels")
    value = _leaf(value, place)
    if type(value) in _EXACT:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(place, f"{value!r} is not a number that JSON has")
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return _members(value, place, depth)
    if hasattr(type(value), "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if hasattr(value, name)]
        return _members({name: getattr(value, name) for name in names}, place, depth)
    try:
        found = msgspec.to_builtins(value, enc_hook=lambda part: _leaf(part, place, known=True))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise Unfit(place, str(error)) from None
    return _plain(found, place, depth + 1)


def _members(value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
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
        members[name] = _plain(item, f"{place}.{name}" if place else str(name), depth + 1)
    return members


def _leaf(value: Any, place: str, known: bool = False) -> Any:
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


def _scalar(value: Any, place: str) -> Any:
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
