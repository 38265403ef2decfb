"""Operators and methods of templates, which pay before they work; `spending` gives the reason."""

import operator
import re
from _string import formatter_field_name_split  # type: ignore[import-not-found] # as in `string`
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from itertools import chain
from string import Formatter
from typing import Any

from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.runtime import LoopContext

from goflow.shown import shown
from goflow.templates.spending import STEP, Rendering, TooMuch, is_value, name_of, size_of

WIDEST = 10_000  # the largest number that a method or filter of text takes
LARGEST = 20_000  # bits of a whole number
PRINTED = 256  # the most characters that `strftime` makes of one

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda item, items: item in items,
    "notin": lambda item, items: item not in items,
}

_TIME = {"hour", "minute", "second", "microsecond", "fold", "utcoffset", "tzname"}
_DATE = {"year", "month", "day", "weekday", "isoweekday", "isocalendar", "toordinal"}
_PRINTS = {"isoformat", "strftime", "replace"}
# The attributes and methods of each type that a template may use.
ATTRIBUTES: dict[type, set[str]] = {
    str: {
        *("capitalize", "casefold", "center", "count", "endswith", "find", "format", "index"),
        *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
        *("isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower"),
        *("lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex"),
        *("rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
        *("swapcase", "title", "upper", "zfill"),
    },
    dict: {"get", "items", "keys", "values"},
    list: {"count", "index"},
    tuple: {"count", "index", "grouper", "list"},  # `groupby` makes tuples with the last two
    float: {"is_integer"},
    datetime: _TIME | _DATE | _PRINTS | {"date", "time", "timestamp"},
    date: _DATE | _PRINTS,
    time: _TIME | _PRINTS,
    timedelta: {"days", "seconds", "microseconds", "total_seconds"},
    LoopContext: {
        *("changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length"),
        *("nextitem", "previtem", "revindex", "revindex0"),
    },
}

_TOO_WIDE = re.compile(r"\d{5,}|\*")
_WIDE = re.compile(r"%[^%]*?\d{3}")


def attributes_of(value: object) -> set[str]:
    """The attributes and methods of a value that a template may use."""
    for one in type(value).__mro__:
        if one in ATTRIBUTES:
            return ATTRIBUTES[one]
    return set()


def size_of_operation(context: Rendering, operator: str, left: Any, right: Any) -> int:
    """The size of the value that an operator makes, at most. Raises `TooMuch`."""
    if isinstance(left, int) and isinstance(right, int):
        bits = max(left.bit_length(), right.bit_length())
        if operator == "*":
            bits = left.bit_length() + right.bit_length()
        elif operator == "**" and right > 0:
            bits = left.bit_length() * right
        if bits > LARGEST:
            raise TooMuch
        return bits // 8
    if operator == "*":
        for one, times in ((left, right), (right, left)):
            if isinstance(one, str | list | tuple) and isinstance(times, int):
                return len(one) * max(times, 0)
    if operator == "%" and isinstance(left, str):
        return _size_of_formatted(context, left, right)
    return size_of(left) + size_of(right)


def _size_of_formatted(context: Rendering, form: str, values: Any) -> int:
    """The size of `form % values`, at most."""
    if _TOO_WIDE.search(form):
        raise TemplateRuntimeError(f"the format {shown(form, 80)} has a width above 9999, or a *")
    if isinstance(values, Mapping):
        given: Iterable[Any] = values.values()
    else:
        given = values if isinstance(values, tuple) else (values,)
    largest = max((len(context.text(one)) for one in given), default=0)
    if _WIDE.search(form):
        largest += WIDEST
    return len(form) + form.count("%") * largest


def called(
    context: Rendering, method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The result of a method of a value."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if name not in attributes_of(owner):
        raise SecurityError(f"a template must not call {name_of(method)}")
    context.spend(size_of(owner))
    pay_for_arguments(context, args, kwargs)
    if isinstance(owner, str):
        check_widths(args, kwargs)
        match name, args:
            case "format", _:
                return _Format(context).vformat(owner, args, kwargs)
            case "join", (items,):
                return joined(context, owner, items)
            case "replace", (str(old), str(new), *_):
                context.spend(size_of_replaced(owner, old, new))
    elif name == "strftime":
        context.spend(PRINTED * sum(map(size_of, args)))
    value = method(*args, **kwargs)
    if not (value is None or is_value(value)) and hasattr(value, "__iter__"):
        value = list(value)  # of the views of a dict
    context.spend(size_of(value))
    return value


def pay_for_arguments(context: Rendering, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    for one in chain(args, kwargs.values()):
        context.spend(size_of(one))


def check_widths(args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse large numbers among arguments that may be widths."""
    for one in chain(args, kwargs.values()):
        if isinstance(one, int) and abs(one) > WIDEST:
            raise TemplateRuntimeError(f"{shown(one, 40)} is too large here; the most is {WIDEST}")


def joined(context: Rendering, between: str, items: Any) -> str:
    """The texts of the items of a list, with a text between them."""
    if not is_value(items) or isinstance(items, int | float | None):
        context.text(items)  # raises, if it is no value
        raise TemplateRuntimeError(f"{shown(items, 80)} is not a list")
    context.spend(size_of(items) * (len(between) + STEP))
    return between.join([context.text(item) for item in items])


def size_of_replaced(text: str, old: str, new: str) -> int:
    return len(text) + text.count(old) * len(new)


class _Format(Formatter):
    """`str.format` with the attributes and the widths that a template may use."""

    def __init__(self, context: Rendering) -> None:
        self._context = context

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = formatter_field_name_split(field_name)
        found = self.get_value(first, args, kwargs)
        environment = self._context.environment
        for is_attribute, name in rest:
            get = environment.getattr if is_attribute else environment.getitem
            found = get(found, name)
        return found, first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        self._context.spend_all(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if _TOO_WIDE.search(format_spec):
            raise TemplateRuntimeError(f"the format {shown(format_spec, 80)} is too wide")
        self._context.spend(PRINTED * len(format_spec))
        if not isinstance(value, str | int | float | date | time):
            value = self._context.text(value)
        text = format(value, format_spec)
        self._context.spend(len(text))
        return text
