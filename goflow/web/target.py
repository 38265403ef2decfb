"""Normalizes the request target to origin form.

A client may send a whole URL in the request line, as to a proxy. Then the host in that URL
overrides the Host header (RFC 9112, section 3.2.2). `OPTIONS *`, which is about the server as a
whole, becomes a request for its root.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def origin_form(scope: Any) -> Any:
    """The scope with a path that begins with a slash, and the effective Host."""
    raw: bytes | None = scope.get("raw_path")
    root: str = scope.get("root_path", "")
    # Servers prepend the root path to the target; some encode it.
    roots = (
        root.encode("utf-8", "surrogateescape"),
        quote(root, errors="surrogateescape").encode(),
    )
    prefix = next((one for one in roots if raw is not None and raw.startswith(one)), None)
    if raw is None or prefix is None:
        return scope
    if raw[len(prefix) :] == b"*":
        return {**scope, "path": f"{root}/", "raw_path": prefix + b"/"}
    matched = _ABSOLUTE.fullmatch(raw, len(prefix))
    if matched is None:
        return scope
    path = matched["path"] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": root + unquote(path.decode("latin-1")),
        "raw_path": prefix + path,
        "headers": [(b"host", matched["authority"]), *others],
    }
