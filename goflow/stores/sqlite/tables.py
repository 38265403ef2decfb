"""A store on SQLite tables, wherever the database is: in a file, or in memory.

The rule: a batch is written between one BEGIN IMMEDIATE and one COMMIT.
"""

import sqlite3
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from goflow.stores.base import Change, Outcome, Remark
from goflow.stores.logs import Logs, LogStore
from goflow.stores.sqlite.backup import write_copy
from goflow.stores.sqlite.logs import TableLogs
from goflow.stores.sqlite.reads import Reads
from goflow.stores.sqlite.schema import transaction
from goflow.stores.sqlite.writes import Writes


class SqliteTables(Reads):
    """What all stores on these tables share; a subclass provides the connections.

    `logs` is another place for logs; by default they are in the tables.
    """

    def __init__(self, logs: LogStore | None = None) -> None:
        self._writes = Writes(logs)
        self._logs: Logs = TableLogs(self._reading) if logs is None else logs
        self._epoch = ""

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def size(self) -> int: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes. Errors as for `_reading`."""

    @property
    def file(self) -> Path | None:
        return None

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def logs(self) -> Logs:
        return self._logs

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        if not batch:
            return []
        with self._writing() as connection:
            try:
                with transaction(connection):
                    return self._write(connection, batch)
            except BaseException:
                self._forget()
                raise

    def _write(self, connection: sqlite3.Connection, batch: Sequence[Change]) -> list[Outcome]:
        return self._writes.write(connection, batch)

    def _forget(self) -> None:
        self._writes.forget()

    def backup(self, path: str) -> None:
        with self._reading() as connection:
            write_copy(connection, path)

    def check(self) -> list[Remark]:
        return []
