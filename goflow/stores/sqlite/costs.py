"""The costs of executions, summed per job and quarter hour.

The rule: an execution counts with its cost at its last end. If a retry has reopened it, the next
end replaces that by the new cost; the old one is in the summary of the last end.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from goflow.core.cost import COUNTS_SUMMED, Cost, Number
from goflow.stores.sqlite.codec import QUARTER

PROCESSOR, MEMORY, LOG, COUNT = range(4)  # values of `kind`

CREATE = (
    # `name` is that of a count, and empty for others. Of the memory it is the highest peak.
    """CREATE TABLE costs (
        job TEXT NOT NULL,
        quarter INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        amount NUMERIC NOT NULL,
        PRIMARY KEY (job, quarter, kind, name)) WITHOUT ROWID""",
)
_ENDED = f"""SELECT e.job, e.submitted / {QUARTER}, s.body FROM executions e
    LEFT JOIN summaries s ON s.execution = e.number WHERE e.number = ?"""
_NAMES = f"SELECT name FROM costs WHERE job = ? AND quarter = ? AND kind = {COUNT}"
_ADD = f"""INSERT INTO costs VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (job, quarter, kind, name) DO UPDATE SET amount =
    iif(kind = {MEMORY}, max(amount, excluded.amount), amount + excluded.amount)"""
_READ = f"""SELECT kind, name, sum(amount), max(amount) FROM costs
    WHERE job = ? AND quarter >= ? AND quarter < ?
    GROUP BY kind, name ORDER BY kind, name LIMIT {COUNT + COUNTS_SUMMED}"""
# Job by job, as activity.
_OLD = """WITH RECURSIVE jobs (job) AS (
        SELECT min(job) FROM costs
        UNION ALL SELECT (SELECT min(job) FROM costs WHERE job > jobs.job) FROM jobs
        WHERE jobs.job IS NOT NULL)
    SELECT c.job, c.quarter, c.kind, c.name FROM jobs JOIN costs c
    ON c.job = jobs.job AND c.quarter < ? LIMIT ?"""
_FORGET = "DELETE FROM costs WHERE job = ? AND quarter = ? AND kind = ? AND name = ?"


class _Ended(msgspec.Struct):
    """The part of a summary that matters here."""

    cost: Cost = Cost()


def add(connection: sqlite3.Connection, number: int, cost: Cost) -> None:
    """Count the cost of an execution that ends, before its new summary is written."""
    job, quarter, summary = connection.execute(_ENDED, (number,)).fetchone()
    before = _cost_of(summary)
    seconds = round(cost.processor_seconds - before.processor_seconds, 3)
    rows: list[tuple[int, str, Number]] = [
        (PROCESSOR, "", seconds),
        (MEMORY, "", cost.peak_memory),
        (LOG, "", cost.log_bytes - before.log_bytes),
    ]
    if cost.counts or before.counts:
        known = {name for (name,) in connection.execute(_NAMES, (job, quarter))}
        for name in dict.fromkeys([*before.counts, *cost.counts]):
            if name in known or (name not in before.counts and len(known) < COUNTS_SUMMED):
                known.add(name)
                rows.append((COUNT, name, cost.counts.get(name, 0) - before.counts.get(name, 0)))
    changed = [(job, quarter, *row) for row in rows if row[2]]
    connection.executemany(_ADD, changed)


def _cost_of(summary: bytes | None) -> Cost:
    try:
        return Cost() if summary is None else msgspec.json.decode(summary, type=_Ended).cost
    except msgspec.MsgspecError:  # damaged
        return Cost()


def read(connection: sqlite3.Connection, job: str, begin: int, end: int) -> Cost | None:
    """The sum from one quarter hour up to, not including, another; None without any."""
    rows = connection.execute(_READ, (job, begin, end)).fetchall()
    return _sum(rows) if rows else None


def _sum(rows: Iterable[tuple[int, str, Number, Number]]) -> Cost:
    seconds, peak, log = 0.0, 0, 0
    counts: dict[str, Number] = {}
    for kind, name, total, highest in rows:
        if kind == PROCESSOR:
            seconds = round(float(total), 3)
        elif kind == MEMORY:
            peak = int(highest)
        elif kind == LOG:
            log = int(total)
        elif total:
            counts[name] = total
    return Cost(seconds, peak, log, counts)


def forget(connection: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete sums of quarter hours before this one, at most `limit`; returns their number."""
    old = connection.execute(_OLD, (before, limit)).fetchall()
    connection.executemany(_FORGET, old)
    return len(old)
