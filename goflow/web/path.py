"""Paths as sent: a name in a path may hold any character, a slash too, percent-encoded.

The rule: routes are matched on the encoded path, and decoded one segment at a time. The
server's decoded path cannot tell `a%2Fb` from `a/b`.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_LETTER = re.compile(rb"%[0-9A-Fa-f]{2}|.", re.DOTALL)


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below where this application is mounted, still encoded; empty if that is all."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        raw = quote(scope["path"], safe="/:@!$&'()*+,;=~").encode("ascii")
    raw = raw.partition(b"?")[0]
    root: bytes = scope.get("root_path", "").rstrip("/").encode("utf-8", "surrogateescape")
    if root:
        # As many letters, encoded or not, as the root has bytes; or the root as it was
        # configured, which uvicorn puts in front. A server behind a proxy that strips the
        # prefix has a root that the path does not begin with.
        for start in (root, b"".join(_LETTER.findall(raw)[: len(root)])):
            rest = raw[len(start) :]
            below = raw.startswith(start) and rest[:1] in (b"", b"/")
            if below and root in (start, unquote_to_bytes(start)):
                raw = rest
                break
    return raw.decode("latin-1")


def decode(segment: str) -> str | None:
    """The text that a segment of an encoded path stands for; None if it is not UTF-8."""
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None
