"""A store in memory, for tests and trials.

The rule: it behaves like the one on disk, so it is the same tables and has no logic of its own.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from goflow.errors import StoreError, StoreUnavailable
from goflow.stores.logs import LogStore
from goflow.stores.sqlite.schema import migrate, read_epoch
from goflow.stores.sqlite.tables import SqliteTables


class MemoryStore(SqliteTables):
    """Keeps everything in memory and loses it when it is closed.

    Args:
        logs: External logs of tasks. None keeps them in memory too.

    Examples:
        >>> from goflow import Goflow, MemoryStore
        >>> gf = Goflow(MemoryStore())
    """

    def __init__(self, logs: LogStore | None = None) -> None:
        super().__init__(logs)
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

    def backup_unopened(self, path: str) -> None:
        raise StoreError("a store in memory can only be copied while it is open")

    def size(self) -> int:
        with self._reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (each,) = connection.execute("PRAGMA page_size").fetchone()
            return int(pages) * int(each)
