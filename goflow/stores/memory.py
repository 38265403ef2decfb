"""A store that keeps nothing: the tables of the real one, in memory.

The rule: it must behave like the real one, so it has no logic of its own.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from goflow.errors import StoreUnavailable
from goflow.stores.tables import SqlStore, migrate, read_epoch


class MemoryStore(SqlStore):
    """Keeps everything in memory and loses it when it is closed.

    Examples:
        >>> from goflow import Goflow, MemoryStore
        >>> gf = Goflow(MemoryStore())
    """

    def __init__(self) -> None:
        super().__init__()
        # Writer and readers share one connection: a database in memory is its connection.
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        with self._turn:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                migrate(self._connection)
                self._epoch = read_epoch(self._connection)

    def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._forget()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            if self._connection is None:
                raise StoreUnavailable("the store in memory is not open")
            yield self._connection

    _writing = _reading

    def size(self) -> int:
        with self._reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (each,) = connection.execute("PRAGMA page_size").fetchone()
            return int(pages) * int(each)
