"""The allowance of a rendering: characters, items and steps.

The rule that must not be broken: rendering ends soon and in bounded memory, whatever a template
says and whatever the values are.

Jinja2's sandbox does not bound time and memory: `'x' * 10**9` is one operation. So each operation
pays in advance for the characters and items that it reads and makes, and a loop pays for its body.
This is counted, not measured, so a template fails on every machine or on none.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import Context

from goflow.shown import kind

ALLOWANCE = 5_000_000  # characters, items and steps that one rendering may take
STEP = 20  # what an operation takes besides its characters and items
LOOP_STEP = 5  # what a part of a loop's body takes each time, besides its operations

_SCALARS = (str, int, float, bool, type(None), datetime, date, time, timedelta)
_LISTS = (list, tuple, dict, range)


class TooMuch(TemplateRuntimeError):
    """A rendering takes more than its allowance."""

    def __init__(self) -> None:
        super().__init__(
            f"it takes more than the {ALLOWANCE:,} characters, items and steps allowed; "
            "do this in a Python task, and use its result"
        )


class Rendering(Context):
    """The context of one rendering: its values, and what is left of its allowance."""

    left = ALLOWANCE
    made: list[str]  # the texts of the expressions so far
    sites: tuple[Any, ...] = ()  # the places in shell text, by their number

    def spend(self, size: int) -> None:
        """Pay for an operation. Raises `TooMuch`."""
        self.left -= size + STEP
        if self.left < 0:
            raise TooMuch

    def spend_all(self, value: Any) -> None:
        """Pay for everything inside a value: it may hold the same list a thousand times."""
        pending = [value]
        while pending:
            one = pending.pop()
            self.spend(size_of(one))
            if isinstance(one, Mapping):
                pending.extend(chain.from_iterable(one.items()))
            elif isinstance(one, list | tuple):
                pending.extend(one)
            elif not isinstance(one, _SCALARS) and type(one) is not range:
                self.text(one)  # raises

    def text(self, value: Any) -> str:
        """The value as text, as Jinja2 prints it."""
        if type(value) is str:
            self.spend(len(value))
            return value
        if isinstance(value, Undefined):
            return str(value)  # raises, unless it is an inline if without an else
        if isinstance(value, _LISTS):
            self.spend_all(value)
        elif not isinstance(value, _SCALARS):
            hint = "; call it with ()" if callable(value) else ""
            raise TemplateRuntimeError(f"{name_of(value)} is not a value{hint}")
        text = str(value)
        self.spend(len(text))
        return text


def is_value(value: object) -> bool:
    """Whether templates handle values of this type. They do not handle generators or functions."""
    return isinstance(value, _SCALARS + _LISTS)


def size_of(value: Any) -> int:
    """The characters or items of a value, without those inside its items."""
    if isinstance(value, str | list | tuple | dict):
        return len(value)
    if type(value) is int:
        return value.bit_length() // 8
    if type(value) is range:
        return _count(value)
    return 0


def _count(numbers: range) -> int:
    """`len` fails for more numbers than fit into a machine word."""
    step = numbers.step
    distance = numbers.stop - numbers.start if step > 0 else numbers.start - numbers.stop
    return max(0, -(-distance // abs(step)))


def name_of(value: Any) -> str:
    """The name for messages of a function, or of a value of another type."""
    name = getattr(value, "__name__", None)
    return f"the function {name!r}" if isinstance(name, str) else f"a {kind(value)}"
