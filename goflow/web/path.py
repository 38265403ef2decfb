"""Paths as sent: a name in a path may hold any character, a slash too, percent-encoded.

The rule: routes are matched on the encoded path, and decoded one segment at a time. The
server's decoded path cannot tell `a%2Fb` from `a/b`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_LETTER = re.compile(rb"%[0-9A-Fa-f]{2}|.", re.DOTALL)


def route_path(scope: Mapping[str, Any], own: Collection[str] = ()) -> str:
    """The path below where this application is mounted, still encoded; empty if that is all.

    `own` are the first segments of this application's paths. Servers put the root in front of
    the path. If a proxy left it there as well, it is there twice, and both are taken off,
    unless a path of ours might begin like it.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        raw = quote(scope["path"], safe="/:@!$&'()*+,;=~").encode("ascii")
    raw = raw.partition(b"?")[0]
    root: bytes = scope.get("root_path", "").rstrip("/").encode("utf-8", "surrogateescape")
    if root and (below := _below(root, raw)) is not None:
        raw = below
        if root.split(b"/")[1].decode("utf-8", "replace") not in own:
            again = _below(root, raw)
            raw = raw if again is None else again
    return raw.decode("latin-1")


def _below(root: bytes, raw: bytes) -> bytes | None:
    """The rest of the path `raw`, if it begins with `root`.

    It may begin with the root encoded: with as many letters, each encoded or not, as the root
    has bytes. It may also begin with the root as it was configured, which uvicorn puts in
    front.
    """
    for start in (root, b"".join(_LETTER.findall(raw)[: len(root)])):
        rest = raw[len(start) :]
        begins = raw.startswith(start) and rest[:1] in (b"", b"/")
        if begins and root in (start, unquote_to_bytes(start)):
            return rest
    return None


def decode(segment: str) -> str | None:
    """The text that a segment of an encoded path stands for; None if it is not UTF-8."""
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None
