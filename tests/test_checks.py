"""The checks of values: valid values, invalid values, and their messages."""

import enum
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from goflow import checks
from goflow.errors import InvalidJob


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError("a subclass may do anything")


class Whole(int):
    def __int__(self) -> int:
        raise RuntimeError("a subclass may do anything")


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (checks.flag, True, True),
        (lambda s, v: checks.count(s, v, 0, 5), 0, 0),
        (lambda s, v: checks.count(s, v, 0, 5), 5, 5),
        (lambda s, v: checks.count(s, v, 1), 10**30, 10**30),
        (lambda s, v: checks.count(s, v, 1), Whole(3), 3),
        (lambda s, v: checks.number(s, v, -1, 1), -1, -1),
        (lambda s, v: checks.number(s, v, -1, 1), 0.5, 0.5),
        (checks.seconds, 1, 1.0),
        (checks.seconds, 0.001, 0.001),
        (checks.text, Text("words"), "words"),
        (checks.os_text, "\udcff.txt", "\udcff.txt"),
        (lambda s, v: checks.choice(s, Colour, v), "blue", Colour.BLUE),
        (lambda s, v: checks.items(s, "things", v), (one for one in "ab"), ["a", "b"]),
        (lambda s, v: checks.texts(s, "names", v), (Text("a"), "b"), ["a", "b"]),
        (checks.mapping, None, {}),
        (checks.mapping, {"a": 1}, {"a": 1}),
    ],
)
def test_a_valid_value_is_returned_as_an_exact_builtin(
    check: Callable[[str, Any], Any], value: Any, expected: Any
) -> None:
    found = check("it", value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.flag, 1, "it must be True or False, not 1"),
        (lambda s, v: checks.count(s, v, 0, 5), 6, "it must be a whole number, 0 to 5, not 6"),
        (lambda s, v: checks.count(s, v, 1), 0, "it must be a whole number, 1 or more, not 0"),
        (lambda s, v: checks.count(s, v, 1), True, "it must be a whole number, 1 or more, not"),
        (lambda s, v: checks.count(s, v, 1), 1.0, "it must be a whole number, 1 or more, not 1.0"),
        (lambda s, v: checks.number(s, v, 0, 1e6), "1", "it must be a number, not '1'"),
        (lambda s, v: checks.number(s, v, 0, 1e6), -1, "it must be from 0 to 1000000, not -1"),
        (lambda s, v: checks.number(s, v, 0, 1e6), math.nan, "it must be from 0 to 1000000"),
        (checks.seconds, None, "it must be a number of seconds, not None"),
        (checks.seconds, 0, "it must be above 0 seconds and finite, not 0"),
        (checks.seconds, math.inf, "it must be above 0 seconds and finite, not inf"),
        (checks.seconds, math.nan, "it must be above 0 seconds and finite, not nan"),
        (checks.seconds, 10**400, "it must be above 0 seconds and finite, not"),
        (lambda s, v: checks.seconds(s, v, 60), 61, "it must be at most 60 seconds, not 61"),
        (checks.text, b"x", "it must be a str, not b'x'"),
        (checks.os_text, "a\0b", "it must not contain a NUL character"),
        (checks.os_text, "\ud800", "it has characters that cannot be encoded"),
        (lambda s, v: checks.choice(s, Colour, v), "green", "it must be one of red, blue; not"),
        (lambda s, v: checks.items(s, "names", v), "ab", "it must be a list of names, not the"),
        (lambda s, v: checks.items(s, "names", v), 7, "it must be a list of names, not 7: Type"),
        (lambda s, v: checks.items(s, "n", v), itertools.count(), "it must list at most 1000000 n"),
        (lambda s, v: checks.texts(s, "names", v), ["a", 1], "it must be a list of names, and 1"),
        (checks.mapping, [1], "it must be a mapping, not"),
    ],
)
def test_an_invalid_value_is_named_in_the_message(
    check: Callable[..., Any], value: Any, message: str
) -> None:
    with pytest.raises(InvalidJob) as raised:
        check("it", value)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "check",
    [
        checks.flag,
        lambda s, v, error: checks.count(s, v, 1, error=error),
        lambda s, v, error: checks.number(s, v, 0, 1, error=error),
        checks.seconds,
        checks.text,
        lambda s, v, error: checks.items(s, "names", v, error=error),
        lambda s, v, error: checks.texts(s, "names", v, error=error),
        checks.mapping,
    ],
)
def test_the_caller_chooses_the_exception(check: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"^max_log must be") as raised:
        check("max_log", 7j, error=ValueError)
    assert type(raised.value) is ValueError
