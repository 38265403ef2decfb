"""Logs in the store's own tables.

The rule: a chunk is written in the transaction of its batch.
"""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing

from goflow.stores.logs import AppendLog, LogChunk
from goflow.stores.sqlite.codec import in_range, item_column
from goflow.stores.sqlite.schema import find_number

FORGET_SOME = """DELETE FROM logs WHERE rowid IN
    (SELECT rowid FROM logs WHERE execution = ? LIMIT ?)"""

_ADD_LOG = """INSERT INTO logs (execution, task, item, attempt, first, lines, text, times)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_REPLACE_LOG = """DELETE FROM logs WHERE execution = ? AND task = ? AND item = ? AND attempt = ?
    AND first = ? AND lines = 0"""
_FORGET_LOG = """DELETE FROM logs WHERE execution = ?1 AND task = ?2 AND item = ?3 AND attempt = ?4
    AND first >= ?5 AND first < ?6 AND first + lines <= ?6"""
_LOG_LAST = """SELECT first, lines, text, times FROM logs
    WHERE execution = ? AND task = ? AND item = ? AND attempt = ? ORDER BY first DESC LIMIT 1"""
_LOG = """SELECT first, lines, text, times FROM logs
    WHERE execution = ?1 AND task = ?2 AND item = ?3 AND attempt = ?4 AND first + lines > ?5
    AND first >= coalesce((SELECT max(first) FROM logs
        WHERE execution = ?1 AND task = ?2 AND item = ?3 AND attempt = ?4 AND first <= ?5), 0)
    ORDER BY first"""


def append(connection: sqlite3.Connection, number: int, change: AppendLog) -> None:
    place = number, change.task, item_column(change.item), change.attempt
    if change.replaces is not None:
        connection.execute(_REPLACE_LOG, (*place, change.replaces))
    chunk = change.first, change.lines, change.text, change.times
    connection.execute(_ADD_LOG, (*place, *chunk))
    if change.forget is not None:
        connection.execute(_FORGET_LOG, (*place, *change.forget))


class TableLogs:
    """Reads the logs in the tables; see `goflow.stores.logs.Logs`."""

    def __init__(self, reading: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._reading = reading

    def read(
        self,
        execution: str,
        task: str,
        attempt: int,
        after: int,
        limit: int,
        item: int | None = None,
    ) -> list[LogChunk]:
        chunks: list[LogChunk] = []
        with self._reading() as connection:
            number = find_number(connection, execution)
            if number is None:
                return chunks
            place = in_range((number, task, item_column(item), attempt, after))
            with closing(connection.execute(_LOG, place)) as rows:
                for first, lines, text, times in rows:
                    chunks.append(LogChunk(first, lines, text, times))
                    limit -= len(text)
                    if limit <= 0:
                        break
        return chunks

    def end(self, execution: str, task: str, attempt: int, item: int | None = None) -> int:
        last = self._last(execution, task, attempt, item)
        return 0 if last is None else last.first + last.lines

    def unfinished(
        self, execution: str, task: str, attempt: int, item: int | None = None
    ) -> LogChunk | None:
        last = self._last(execution, task, attempt, item)
        return None if last is None or last.lines else last

    def _last(self, execution: str, task: str, attempt: int, item: int | None) -> LogChunk | None:
        with self._reading() as connection:
            number = find_number(connection, execution)
            if number is None:
                return None
            place = in_range((number, task, item_column(item), attempt))
            row = connection.execute(_LOG_LAST, place).fetchone()
        return None if row is None else LogChunk(*row)
