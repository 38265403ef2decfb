"""Small values by kind and key, without their own tables.

The rule: a value is JSON that its writer encodes and decodes; the store only keeps it.
"""

import ast
import re
import sqlite3

import msgspec

from goflow.stores.sqlite.codec import to_instant

CREATE = (
    """CREATE TABLE entries (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (kind, key)) WITHOUT ROWID""",
)
PUT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)"
DELETE = "DELETE FROM entries WHERE kind = ? AND key = ?"
READ = "SELECT key, value FROM entries WHERE kind = ?"

# Before version 6 a schedule was kept as its `repr`, after "off " if it was switched off.
_OFF = "off "
_ZONE = re.compile(r"^[ \t]*(?:CRON_)?TZ=[^ \t]*")
_REPR = re.compile(r"Schedule\((.*), with_seconds=(?:True|False)\)", re.DOTALL)


def move_in_switches(connection: sqlite3.Connection) -> None:
    """Make entries of the rows of `switches`."""
    rows = connection.execute("SELECT job, active, at, who FROM switches").fetchall()
    for job, active, at, by in rows:
        value = {"active": bool(active), "at": to_instant(at), "by": by}
        connection.execute(PUT, ("switch", job, msgspec.json.encode(value)))


def move_in_watches(connection: sqlite3.Connection) -> None:
    """Make entries of the rows of `watches`."""
    rows = connection.execute("SELECT job, schedule, anchor FROM watches").fetchall()
    for job, text, anchor in rows:
        schedule = text_of_repr(text.removeprefix(_OFF))
        on = not text.startswith(_OFF)
        value = {"schedule": schedule, "anchor": to_instant(anchor), "on": on}
        connection.execute(PUT, ("schedule", job, msgspec.json.encode(value)))


def text_of_repr(shown: str) -> str:
    """`Schedule.text` from the `repr` of a schedule; anything else stays as it is."""
    if (found := _REPR.fullmatch(shown)) is None:
        return shown
    try:
        expression, timezone = ast.literal_eval(f"({found[1]})")
        fields = _ZONE.sub("", expression).split()
        return " ".join([f"CRON_TZ={timezone}", *fields])
    except (SyntaxError, ValueError, TypeError):
        return shown
