"""Encoded paths. A name in a path may contain any percent-encoded character, even a slash.

The rule: routes match the encoded path, and each segment is decoded by itself. The server's decoded
path does not distinguish `a%2Fb` from `a/b`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_LETTER = re.compile(rb"%[0-9A-Fa-f]{2}|.", re.DOTALL)


def route_path(scope: Mapping[str, Any], own: Collection[str] = ()) -> str:
    """The encoded path below the root path of this application; empty if there is no more.

    `own` has the first segments of this application's paths. Servers prepend the root path to
    the path. If a proxy has not stripped it, the path has it twice, and both are removed, unless
    the second could be the beginning of an own path.
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
    """The rest of the path `raw` if it begins with `root`, else None.

    The root may be partly percent-encoded, or, if uvicorn prepended it, as configured.
    """
    for start in (root, b"".join(_LETTER.findall(raw)[: len(root)])):
        rest = raw[len(start) :]
        begins = raw.startswith(start) and rest[:1] in (b"", b"/")
        if begins and root in (start, unquote_to_bytes(start)):
            return rest
    return None


def decode(segment: str) -> str | None:
    """A decoded path segment; None if it is not UTF-8."""
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None
