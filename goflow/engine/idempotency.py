"""Whether a submit with a key that was used before asks for the same as the first one.

The rule: what counts is what was asked, not what became of it. Defaults are not part of it:
they may be made anew each time, as today's date, or be edited, and a repeat stays a repeat.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

ASKED = "asked:"  # before a fingerprint of what was asked; older ones are of filled params


def fingerprint(given: Mapping[str, Any]) -> str:
    """Of the params of a submit as it gave them, which must be JSON."""
    return f"{ASKED}{_hash(given)}"


def agrees(kept: str | None, asked: str, filled: Callable[[], Mapping[str, Any]]) -> bool:
    """Whether the fingerprint kept with a key is that of what is asked now.

    One kept by goflow before it took fingerprints of what is asked is of `filled` params, and
    agrees as it did then: if the defaults are the same as when it was kept.
    """
    if kept is None or kept.startswith(ASKED):
        return kept == asked
    return kept == _hash(filled())


def _hash(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(params, order="sorted")).hexdigest()
