"""Matches parameters against regular expressions within a bounded time.

The time of Python's `re` may grow with the square of a text's length, or exponentially, and `re`
holds the interpreter's lock meanwhile, so a thread would freeze the server too.

The rule that must not be broken: a request's text is matched in this process only if the match is
known to be fast: pattern and text are simple and short, or another process, which can be killed,
has tried the match before.
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

SECONDS = 1.0  # for all patterns of a request together, including the start of the process
SHORT = 16  # characters up to which any pattern is matched directly
PLAIN = 1000  # characters up to which a plain pattern is matched directly
FEW = 20  # repetitions that do not count as many

_TRY = """
import json, re, sys
for place, pattern, text in json.load(sys.stdin):
    print(json.dumps(place), flush=True)
    re.search(pattern, text)
"""


class Doubtful(NamedTuple):
    """A text whose match against a pattern may take long. `place` is its path: `a.b[0]`."""

    place: str
    pattern: str
    text: str


def doubtful(described: inspect.Type, value: object) -> list[Doubtful]:
    """The texts in a value whose match against the patterns of its type may take long."""
    return [
        one
        for one in _texts(described, value, "")
        if len(one.text) > (PLAIN if _is_plain(one.pattern) else SHORT)
    ]


def too_slow(found: list[Doubtful]) -> Doubtful | None:
    """The first match that takes too long, or None. Blocks: not for the event loop."""
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
    """The texts in a value that have a pattern. Parts of another type are skipped."""
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
    """Whether the time is at most quadratic: one long repetition, of single characters."""
    try:
        return _long_repetitions(parser.parse(pattern)) <= 1
    except (re.error, RecursionError, OverflowError):
        return False


def _long_repetitions(parsed: Any) -> float:
    """The number of long repetitions; infinite if more than a character is repeated."""
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
                # many short repetitions in a row divide a text in many ways, too
                found += 0.25 if most <= FEW else 0
            case _:
                return float("inf")
    return found


_SINGLE = {ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY}
