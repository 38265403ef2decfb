"""Finds the lines of a part of a log that contain a text or look like errors.

The rule: the cost is proportional to the size of the part, for any content and any text.
"""

import re
from collections.abc import Callable, Iterator

# A search takes whole lines, and yields the numbers of those found, from 0.
Search = Callable[[str], Iterator[int]]

_WORDS = ("traceback", "error", "exception", "fatal", "panic", "failed")
_SIGN = re.compile(
    # a word, but not in "no error", "0 failed", "failed=0"
    r"(?i:(?<!\bno )(?<!\b0 )(?<!\bwithout )\b[a-z]+\b(?!\s*[:=]\s*0\b))"
    # or the last part of a name: "ValueError"
    r"|(?<=[a-z])(?:Error|Exception)\b"
)


def containing(text: str) -> Search:
    """Lines that contain `text`, case-insensitively."""
    wanted = text.casefold()

    def found(stretch: str) -> Iterator[int]:
        # Case folding may change the length of lines, but not their number.
        folded = stretch.casefold()
        return _lines(folded, lambda at: folded.find(wanted, at))

    return found


def trouble(stretch: str) -> Iterator[int]:
    """Lines that look like errors."""
    # The only letter whose lower case is two characters is replaced, so that offsets stay.
    lowered = stretch.replace("\u0130", "I").lower()
    # The next occurrence of each word. Words are found much faster than the pattern, which
    # is tried only there.
    places = {word: lowered.find(word) for word in _WORDS}

    def find(at: int) -> int:
        while True:
            for word, place in places.items():
                if 0 <= place < at:
                    places[word] = lowered.find(word, at)
            left = [(place, word) for word, place in places.items() if place >= 0]
            if not left:
                return -1
            place, word = min(left)
            match = _SIGN.match(stretch, place)
            if match is not None and match.end() == place + len(word):
                return place
            at = place + 1

    return _lines(stretch, find)


def _lines(text: str, find: Callable[[int], int]) -> Iterator[int]:
    """The lines of the offsets that `find` returns, each line once."""
    number = at = 0
    while (place := find(at)) >= 0:
        number += text.count("\n", at, place)
        yield number
        number += 1
        at = text.index("\n", place) + 1
