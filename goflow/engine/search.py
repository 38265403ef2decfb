"""Which lines of a stretch of log hold a text, or look like trouble.

The rule: the cost is that of the stretch, whatever is in it and whatever is looked for.
"""

import re
from collections.abc import Callable, Iterator

# The numbers, from 0, of the lines found in whole lines, each ended by a newline.
Search = Callable[[str], Iterator[int]]

_WORDS = ("traceback", "error", "exception", "fatal", "panic", "failed")
_SIGN = re.compile(
    # a word, but not where there is none of it: "no error", "0 failed", "failed=0"
    r"(?i:(?<!\bno )(?<!\b0 )(?<!\bwithout )\b[a-z]+\b(?!\s*[:=]\s*0\b))"
    # or the last part of a name: "ValueError"
    r"|(?<=[a-z])(?:Error|Exception)\b"
)


def containing(text: str) -> Search:
    """Lines that contain `text`, a part of a line, in upper or lower case."""
    wanted = text.casefold()

    def found(stretch: str) -> Iterator[int]:
        # Folding may change the length of lines, never their number.
        folded = stretch.casefold()
        return _lines(folded, lambda at: folded.find(wanted, at))

    return found


def trouble(stretch: str) -> Iterator[int]:
    """Lines that look like a first sign of trouble."""
    # The one letter that would become two goes first, so that places stay the same.
    lowered = stretch.replace("\u0130", "I").lower()
    # Where each word comes next. It is found much faster than the pattern, which is asked
    # there only.
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
    """The line of each place that `find` finds from a place on, at most one a line."""
    number = at = 0
    while (place := find(at)) >= 0:
        number += text.count("\n", at, place)
        yield number
        number += 1
        at = text.index("\n", place) + 1
