"""Regular expressions that parameters must match: tried within bounds before they are relied on.

Python's `re` may take a time that grows with the square of a text's length, or doubles with every
letter, and holds the whole interpreter meanwhile: in a thread it would freeze the server as well.

The rule that must not be broken: what came with a request is matched in this process only if that
is known to be quick, because pattern and text are plain and short, or because it was tried before
in another process, which can be killed.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from msgspec import inspect

SECONDS = 1.0  # that all patterns of a request may take together, the start of a process included
SHORT = 16  # characters that any pattern is matched against at once
PLAIN = 1000  # characters that a plain pattern is
FEW = 20  # repetitions that are none to speak of

_TRY = """
import json, re, sys
for place, pattern, text in json.load(sys.stdin):
    print(json.dumps(place), flush=True)
    re.search(pattern, text)
"""


class Doubtful(NamedTuple):
    """A text that must match a pattern, which may take long. `place` is such as `a.b[0]`."""

    place: str
    pattern: str
    text: str


def doubtful(described: inspect.Type, value: object) -> list[Doubtful]:
    """What of a value may take long to be matched against the patterns of its type."""
    return [
        one
        for one in _texts(described, value, "")
        if len(one.text) > (PLAIN if _is_plain(one.pattern) else SHORT)
    ]


def too_slow(found: list[Doubtful]) -> Doubtful | None:
    """The first that takes too long, None if none does. Waits for that; not for an event loop."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY],
            input=json.dumps(found).encode("utf-8", "surrogatepass"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as expired:
        reached = (expired.stdout or b"").count(b"\n")
        return found[max(reached, 1) - 1]
    return None


_LISTS = inspect.ListType | inspect.SetType | inspect.FrozenSetType | inspect.VarTupleType


def _texts(described: inspect.Type, value: object, place: str) -> Iterator[Doubtful]:
    """Every text of a value that a pattern is for. What does not fit its type is passed over."""
    match described:
        case inspect.Metadata():
            yield from _texts(described.type, value, place)
        case inspect.StrType() if described.pattern is not None and isinstance(value, str):
            yield Doubtful(place, described.pattern, value)
        case inspect.UnionType():
            for each in described.types:
                yield from _texts(each, value, place)
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            if isinstance(value, dict):
                for field in described.fields:
                    name = field.encode_name
                    if name in value:
                        yield from _texts(field.type, value[name], _joined(place, name))
        case inspect.DictType() if isinstance(value, dict):
            for key, item in value.items():
                yield from _texts(described.key_type, key, place)
                yield from _texts(described.value_type, item, _joined(place, key))
        case inspect.TupleType() if isinstance(value, list):
            for number, (each, item) in enumerate(zip(described.item_types, value, strict=False)):
                yield from _texts(each, item, f"{place}[{number}]")
        case (
            inspect.ListType()
            | inspect.SetType()
            | inspect.FrozenSetType()
            | inspect.VarTupleType()
        ) if isinstance(value, list):
            for number, item in enumerate(value):
                yield from _texts(described.item_type, item, f"{place}[{number}]")


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


@lru_cache(maxsize=256)
def _is_plain(pattern: str) -> bool:
    """Whether it takes at most the square of a text's length: with one long repetition, of one
    character at a time."""
    try:
        return _long_repetitions(parser.parse(pattern)) <= 1
    except (re.error, RecursionError, OverflowError):
        return False


def _long_repetitions(parsed: Any) -> float:
    """How many there are; infinite if something is repeated that is no single character."""
    found = 0.0
    for op, argument in parsed:
        match op:
            case ops.LITERAL | ops.NOT_LITERAL | ops.IN | ops.ANY | ops.AT | ops.CATEGORY:
                pass
            case ops.SUBPATTERN:
                found += _long_repetitions(argument[-1])
            case ops.BRANCH:
                found += sum(_long_repetitions(branch) for branch in argument[1])
            case ops.MAX_REPEAT | ops.MIN_REPEAT | ops.POSSESSIVE_REPEAT:
                _, most, repeated = argument
                single = len(repeated) == 1 and repeated[0][0] in _SINGLE
                if not single:
                    return float("inf")
                found += most > FEW
                # many short ones in a row are as many ways to divide a text
                found += 0.25 if most <= FEW else 0
            case _:
                return float("inf")
    return found


_SINGLE = {ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY}
