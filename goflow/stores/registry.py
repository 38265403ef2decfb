"""The kinds of stores that a path or URL can name.

To add one, write a function that makes a store from its URL, importing the store inside, so that
its dependencies load only when somebody uses it; then add its scheme to `SCHEMES`. Nothing else in
goflow knows a kind of store by name.
"""

import os
from collections.abc import Callable

from goflow.stores.base import Store

DEFAULT = "goflow.db"
"""The store that is used if none is chosen, in the working directory."""


def _sqlite(url: str) -> Store:
    """A path alone, or `sqlite:///path`; an absolute path makes four slashes."""
    from goflow.stores.sqlite import SqliteStore

    _, separator, rest = url.partition("://")
    if not separator:
        return SqliteStore(url)
    if rest in ("", "/"):
        raise ValueError(
            f"store {url!r} names no file: give a path; goflow.MemoryStore() keeps nothing"
        )
    if not rest.startswith("/"):
        raise ValueError(f"store {url!r} names a host: write sqlite:///path, with three slashes")
    return SqliteStore(rest[1:])


SCHEMES: dict[str, Callable[[str], Store]] = {"sqlite": _sqlite}


def find_store(store: object) -> Store:
    """The store that a path, a URL, an object or None stands for, not opened. Raises
    `ValueError`."""
    if store is None:
        return _sqlite(DEFAULT)
    if isinstance(store, str | os.PathLike):
        return _named(os.fspath(store))
    missing = [name for name in ("open", "commit", "history") if not hasattr(store, name)]
    if isinstance(store, type) or missing:
        raise ValueError(f"store must be a path, a URL or a store such as MemoryStore(): {store!r}")
    return store  # type: ignore[return-value]


def _named(name: str | bytes) -> Store:
    if not isinstance(name, str):
        raise ValueError(f"store must be a path as text, not {name!r}")
    scheme, separator, _ = name.partition("://")
    if not separator:
        return _sqlite(name)
    if scheme not in SCHEMES:
        # The URL may contain a password, so the message shows the scheme alone.
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise ValueError(
            f"store {scheme}://… is of an unknown kind: give a path, or one of {known}"
        )
    return SCHEMES[scheme](name)
