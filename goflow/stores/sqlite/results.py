"""Results that are too large for a fact, each in its own row.

The rule: the row is written before the fact that refers to it, or in the same transaction.
"""

import sqlite3

import msgspec

from goflow.core.events import AnyFact, TaskSucceeded, decode_facts, encode_facts
from goflow.core.result import SMALL, digest

CREATE = (
    """CREATE TABLE results (
        execution INTEGER NOT NULL,
        task TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX results_place ON results (execution, task, attempt)",
)
# For schema 7: results of items. -1 stands for a task without items.
ADD_ITEM = (
    "ALTER TABLE results ADD COLUMN item INTEGER NOT NULL DEFAULT -1",
    "DROP INDEX results_place",
    "CREATE UNIQUE INDEX results_place ON results (execution, task, item, attempt)",
)
# An attempt ends once, so a row that is there already is the same one.
ADD = "INSERT OR REPLACE INTO results (execution, task, item, attempt, body) VALUES (?, ?, ?, ?, ?)"
READ = "SELECT body FROM results WHERE execution = ? AND task = ? AND item = ? AND attempt = ?"
FORGET_SOME = """DELETE FROM results WHERE rowid IN
    (SELECT rowid FROM results WHERE execution = ? LIMIT ?)"""

# Used by a migration, before there were items.
_MOVE = "INSERT OR REPLACE INTO results (execution, task, attempt, body) VALUES (?, ?, ?, ?)"

# A fact is longer than its result. SQLite reads only the length of rows that are not large.
_LARGE = f"""SELECT version, execution FROM facts
    WHERE version > ? AND length(body) > {SMALL} ORDER BY version LIMIT 1"""


def move_out_of_facts(connection: sqlite3.Connection) -> None:
    """Move large results out of the facts of an earlier version, into rows of their own.

    One row of facts is in memory at a time.
    """
    version = 0
    while found := connection.execute(_LARGE, (version,)).fetchone():
        version, execution = found
        _move(connection, version, execution)


def _move(connection: sqlite3.Connection, version: int, execution: int) -> None:
    (body,) = connection.execute("SELECT body FROM facts WHERE version = ?", (version,)).fetchone()
    facts: list[AnyFact] = []
    moved = False
    try:
        known = decode_facts(body)
    except msgspec.MsgspecError:  # damaged; a read of the execution reports it
        return
    for fact in known:
        if isinstance(fact, TaskSucceeded) and len(fact.result) > SMALL:
            result = bytes(fact.result)
            connection.execute(_MOVE, (execution, fact.task, fact.attempt, result))
            fact = TaskSucceeded(
                fact.at, fact.task, fact.attempt, size=len(result), sha256=digest(result)
            )
            moved = True
        facts.append(fact)
    if moved:
        connection.execute(
            "UPDATE facts SET body = ? WHERE version = ?", (encode_facts(facts), version)
        )
