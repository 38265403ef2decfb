"""The filters and tests of templates: those of Jinja2, which pay here, and replacements."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any

from jinja2 import Undefined, pass_context
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.tests import TESTS as JINJA_TESTS

from goflow.shown import shown
from goflow.templates.operations import (
    COMPARISONS,
    check_widths,
    joined,
    pay_for_arguments,
    size_of_operation,
    size_of_replaced,
)
from goflow.templates.spending import STEP, Rendering, is_value, name_of, size_of

_USED = (
    *("abs", "batch", "capitalize", "center", "count", "d", "default", "dictsort"),
    *("filesizeformat", "first", "float", "groupby", "indent", "int", "items", "last", "length"),
    *("list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select"),
    *("selectattr", "slice", "sort", "string", "title", "trim", "truncate", "unique", "upper"),
    *("urlencode", "wordcount"),
)
_UNUSED_TESTS = ("callable", "escaped", "filter", "test")

# Filters that handle items, or the characters of a text, one by one, which takes a step each.
_HANDLE_ITEMS = {
    *("batch", "dictsort", "groupby", "items", "map", "max", "min", "reject", "rejectattr"),
    *("select", "selectattr", "slice", "sort", "title", "unique", "urlencode"),
}
# Filters that read what is inside the items, too.
_READ_ALL = {
    *("capitalize", "center", "dictsort", "groupby", "indent", "lower", "max", "min", "sort"),
    *("string", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
}
# Filters that make their argument once for each line or item.
_MULTIPLY = {"batch", "indent", "slice"}
# Filters whose arguments are values, not widths.
_TAKE_ANY_NUMBER = {
    *("d", "default", "float", "int", "map", "reject", "rejectattr", "select", "selectattr")
}


def _guarded(name: str) -> Callable[..., Any]:
    """One of Jinja2's filters, which pays for what it is given and what it makes."""
    function = JINJA_FILTERS[name]
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def filter(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> Any:
        if name in _READ_ALL:
            context.spend_all(value)
        context.spend(size_of(value) * (STEP if name in _HANDLE_ITEMS else 1))
        pay_for_arguments(context, args, kwargs)
        if name not in _TAKE_ANY_NUMBER:
            check_widths(args, kwargs)
        if name in _MULTIPLY:
            context.spend(_parts(value) * _widest(args, kwargs))
        if passed == "context":
            args = (context, value, *args)
        elif passed == "environment":
            args = (context.environment, value, *args)
        elif passed == "eval_context":
            args = (context.eval_ctx, value, *args)
        else:
            args = (value, *args)
        made = function(*args, **kwargs)
        if not is_value(made) and not isinstance(made, Undefined):
            made = list(made)  # a generator would do its work unpaid
        context.spend(size_of(made))
        return str.__str__(made) if isinstance(made, str) else made

    return filter


def _parts(value: Any) -> int:
    """The lines of a text, or the items of a list, and one more."""
    return (value.count("\n") if isinstance(value, str) else size_of(value)) + 1


def _widest(args: Iterable[Any], kwargs: Mapping[str, Any]) -> int:
    given = chain(args, kwargs.values())
    return max((abs(one) if isinstance(one, int) else size_of(one) for one in given), default=1)


def _guarded_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def test(context: Rendering, value: Any, *args: Any) -> Any:
        context.spend(size_of(value))
        pay_for_arguments(context, args, {})
        return function(value, *args)

    return test


# -- replacements ------------------------------------------------------------------


@pass_context
def _escape(context: Rendering, value: Any) -> str:
    text = context.text(value)
    context.spend(6 * len(text))
    return str.__str__(JINJA_FILTERS["escape"](text))


@pass_context
def _format(context: Rendering, value: Any, *args: Any, **kwargs: Any) -> str:
    form = context.text(value)
    if args and kwargs:
        raise TemplateRuntimeError("format takes values by position or by name, not both")
    context.spend(size_of_operation(context, "%", form, kwargs or args))
    return form % (kwargs or args)


@pass_context
def _join(context: Rendering, value: Any, d: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = list(JINJA_FILTERS["map"](context, value, attribute=attribute))
    return joined(context, context.text(d), value)


@pass_context
def _replace(context: Rendering, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = context.text(value), context.text(old), context.text(new)
    context.spend(size_of_replaced(text, old, new))
    return text.replace(old, new, -1 if count is None else count)


@pass_context
def _sum(context: Rendering, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    context.spend(size_of(value) * STEP)
    if not isinstance(start, int | float | timedelta):  # adding up lists copies them each time
        raise TemplateRuntimeError(f"sum adds up numbers, and cannot start with {shown(start, 80)}")
    return JINJA_FILTERS["sum"](context.environment, value, attribute, start)


@pass_context
def _tojson(context: Rendering, value: Any, indent: int | None = None) -> str:
    """The value as JSON, without the escapes that HTML needs."""
    context.spend_all(value)
    check_widths((indent,), {})
    depth = None if indent is None else min(indent, 16)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=depth, default=_as_json)
    context.spend(len(text))
    return text


def _as_json(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, range):
        return list(value)
    raise TemplateRuntimeError(f"{name_of(value)} cannot be JSON")


@pass_context
def _raw(context: Rendering, value: Any) -> Any:
    """The value; in shell text `shell` gives it a meaning."""
    return value


# -- for other syntax than filters, see `compiled` ---------------------------------


@pass_context
def _each(context: Rendering, value: Any, weight: int) -> Any:
    """The list of a loop, which pays here for its body, once for each item."""
    if isinstance(value, Undefined):
        return iter(value)  # raises, unless it is an inline if without an else
    if not isinstance(value, str | list | tuple | dict | range):
        raise TemplateRuntimeError(f"a loop needs a list, not {shown(value, 80)}")
    context.spend(size_of(value) * weight)
    return value


@pass_context
def _concat(context: Rendering, value: Any, *more: Any) -> str:
    return "".join([context.text(one) for one in (value, *more)])


@pass_context
def _compare(context: Rendering, value: Any, *rest: Any) -> bool:
    """`value < b <= c`, given as the names of the operators and their right sides."""
    context.spend(size_of(value))
    for name, right in zip(rest[::2], rest[1::2], strict=True):
        context.spend(size_of(right))
        if not COMPARISONS[name](value, right):
            return False
        value = right
    return True


@pass_context
def _slice(context: Rendering, value: Any, start: Any, stop: Any, step: Any) -> Any:
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    if not isinstance(value, str | list | tuple | range):
        raise TemplateRuntimeError(f"{shown(value, 80)} has no parts; texts and lists have")
    context.spend(size_of(value))
    return value[start:stop:step]


@pass_context
def _plain(context: Rendering, value: Any) -> Any:
    """The value with JSON's types only."""
    context.spend_all(value)
    return _of_json(value)


def _of_json(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case dict():
            return {name: _of_json(one) for name, one in value.items()}
        case list() | tuple() | range():
            return [_of_json(one) for one in value]
    raise TemplateRuntimeError(f"{shown(value, 80)} is not a value of JSON")


FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _guarded(name) for name in _USED},
    "e": _escape,
    "escape": _escape,
    "format": _format,
    "join": _join,
    "raw": _raw,
    "replace": _replace,
    "sum": _sum,
    "tojson": _tojson,
    "_compare": _compare,
    "_concat": _concat,
    "_each": _each,
    "_plain": _plain,
    "_slice": _slice,
}
TESTS: dict[str, Callable[..., Any]] = {
    name: _guarded_test(function)  # type: ignore[arg-type] # of Jinja2's list
    for name, function in JINJA_TESTS.items()
    if name not in _UNUSED_TESTS
}
