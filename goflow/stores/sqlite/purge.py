"""Deletes old rows in small steps.

The rule: a purge blocks the writer only for a moment, for any amount of rows. It counts its effort
and stops at a limit; the next purge continues.

A tick outlives its execution: it names it by id, and is purged by the age of its own record, so
that a backfilled tick stays as long as its execution. Once a tick is purged, nothing in the ledger
keeps its due time from firing again; `accounted` does, because it never goes back.
"""

import sqlite3
from collections import Counter
from typing import Any

from msgspec import Struct

from goflow.stores.base import Purge
from goflow.stores.sqlite import chunks, costs, logs, results
from goflow.stores.sqlite.codec import QUARTER, to_micros
from goflow.stores.sqlite.schema import TALLY

# An index is named where a wrong guess of the planner would read the whole table.
_OLDER = """SELECT number, id, job, plan FROM executions INDEXED BY executions_submitted
    WHERE finished = 1 AND submitted < ? ORDER BY submitted LIMIT ?"""
_OLDER_OF_JOB = """SELECT number, id, job, plan FROM executions
    INDEXED BY executions_job_submitted
    WHERE finished = 1 AND job = ? AND submitted < ? ORDER BY submitted LIMIT ?"""
_FIRST = """SELECT number, id, job, plan FROM executions NOT INDEXED
    WHERE finished = 1 ORDER BY number LIMIT ?"""
_FIRST_OF_JOB = """SELECT number, id, job, plan FROM executions INDEXED BY executions_job
    WHERE finished = 1 AND job = ? ORDER BY number LIMIT ?"""
_COUNT = """SELECT coalesce((SELECT sum(executions) FROM tallies), 0)
    - (SELECT count(*) FROM executions INDEXED BY executions_unfinished WHERE finished = 0)"""
_COUNT_OF_JOB = """SELECT
    coalesce((SELECT sum(executions) FROM tallies WHERE job = ?1), 0)
    - (SELECT count(*) FROM executions INDEXED BY executions_unfinished
        WHERE finished = 0 AND job = ?1)"""
_OLD_TICKS = """SELECT job, due, run FROM ticks INDEXED BY ticks_at
    WHERE at < ? ORDER BY at LIMIT ?"""
_OLD_TICKS_OF_JOB = """SELECT job, due, run FROM ticks INDEXED BY ticks_job_at
    WHERE job = ? AND at < ? ORDER BY at LIMIT ?"""
_FORGET_TICK = "DELETE FROM ticks WHERE job = ? AND due = ? AND run = ?"
# Job by job, each found by a search for the next name: an index by time would double the table.
_OLD_ACTIVITY = """WITH RECURSIVE jobs (job) AS (
        SELECT min(job) FROM activity
        UNION ALL SELECT (SELECT min(job) FROM activity WHERE job > jobs.job) FROM jobs
        WHERE jobs.job IS NOT NULL)
    SELECT a.job, a.quarter, a.outcome FROM jobs JOIN activity a
    ON a.job = jobs.job AND a.quarter < ? LIMIT ?"""
_FORGET_ACTIVITY = "DELETE FROM activity WHERE job = ? AND quarter = ? AND outcome = ?"
_FORGET_EXECUTION = (
    "DELETE FROM executions WHERE number = ?",
    "DELETE FROM summaries WHERE execution = ?",
    "DELETE FROM idempotency WHERE execution = ?",
)
# Each with the number of rows to delete between two looks at the freed pages.
_FORGET_SOME = (
    (
        """DELETE FROM facts WHERE version IN
        (SELECT version FROM facts WHERE execution = ? LIMIT ?)""",
        50,
    ),
    (logs.FORGET_SOME, 50),
    (results.FORGET_SOME, 1),  # hundreds of pages each
    (chunks.FORGET_SOME, 1),  # likewise
)
_FORGET_PLAN = """DELETE FROM plans WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM tallies WHERE plan = ?1)"""

# The most that one purge does: about 250 pages, which take a disk longer than the processor. The
# unit is a deleted row, about 2 microseconds; benchmarks/retention.py measured the other weights.
_EFFORT = 2_000
_FREED = 4  # a page
_EACH = 12  # an execution: a row of eight indexes
_AWAY = 60  # an execution apart from the last one: pages of its own in every table
_TICK = 10  # a row of three indexes
_ANOTHER = 30  # the first execution of another job: pages of its own in every index by job
_GIVEN_BACK = 100  # pages at a time; each may have to change places with another
_SPARE = 1_000  # free pages that are not worth giving back


class Purged(Struct):
    """What a purge has deleted: `count` as its outcome says, ids of executions, and plans that
    may be gone."""

    count: int = 0
    executions: list[str] = []
    plans: set[str] = set()


def purge(connection: sqlite3.Connection, change: Purge) -> Purged:
    before = None if change.before is None else to_micros(change.before)
    purged = Purged()
    effort, purged.count = _sweep_remains(connection, change.limit)
    if before is not None and effort < _EFFORT:
        outdated = _of_job(connection, change.job, _OLDER, _OLDER_OF_JOB, before, change.limit)
        effort = _drop(connection, outdated, effort, purged)
    if change.keep is not None and effort < _EFFORT and purged.count < change.limit:
        [(count,)] = _of_job(connection, change.job, _COUNT, _COUNT_OF_JOB)
        beyond = max(0, min(count - change.keep, change.limit - purged.count))
        first = _of_job(connection, change.job, _FIRST, _FIRST_OF_JOB, beyond)
        effort = _drop(connection, first, effort, purged)
    if before is not None and effort < _EFFORT:
        some = min(change.limit, (_EFFORT - effort) // _TICK + 1)
        old = _of_job(connection, change.job, _OLD_TICKS, _OLD_TICKS_OF_JOB, before, some)
        connection.executemany(_FORGET_TICK, old)
        effort += _TICK * len(old)
        purged.count += len(old)
    if change.activity_before is not None and effort < _EFFORT:
        quarter = to_micros(change.activity_before) // QUARTER
        old = connection.execute(_OLD_ACTIVITY, (quarter, change.limit)).fetchall()
        connection.executemany(_FORGET_ACTIVITY, old)
        effort += len(old)
        purged.count += len(old)
        deleted = costs.forget(connection, quarter, change.limit)
        effort += deleted
        purged.count += deleted
    if effort < _EFFORT:
        purged.count += _give_back(connection)
    return purged


def _drop(
    connection: sqlite3.Connection,
    executions: list[tuple[int, str, str, str]],
    effort: int,
    purged: Purged,
) -> int:
    """Delete executions until the effort is spent; the effort since."""
    gone: Counter[tuple[str, str]] = Counter()
    last = 0
    for number, execution, job, plan in executions:
        if effort >= _EFFORT:
            break
        effort += _EACH + _AWAY * (abs(number - last) > 8) + _ANOTHER * ((job, plan) not in gone)
        last = number
        for statement in _FORGET_EXECUTION:
            connection.execute(statement, (number,))
        effort = _sweep(connection, number, effort)
        if effort >= _EFFORT:
            connection.execute("INSERT INTO remains VALUES (?)", (number,))
        purged.executions.append(execution)
        gone[job, plan] += 1
    connection.executemany(TALLY, [(job, plan, -count) for (job, plan), count in gone.items()])
    connection.executemany(
        "DELETE FROM tallies WHERE job = ? AND plan = ? AND executions = 0", list(gone)
    )
    plans = {plan for _, plan in gone}
    connection.executemany(_FORGET_PLAN, [(plan,) for plan in plans])
    purged.plans |= plans
    purged.count += gone.total()
    return effort


def _of_job(
    connection: sqlite3.Connection, job: str | None, of_all: str, of_one: str, *values: int
) -> list[Any]:
    """The rows of the statement for all jobs, or of the one for a single job."""
    if job is None:
        return connection.execute(of_all, values).fetchall()
    return connection.execute(of_one, (job, *values)).fetchall()


def _sweep_remains(connection: sqlite3.Connection, limit: int) -> tuple[int, int]:
    """Continue with what earlier purges left; the effort, and the number of executions."""
    effort = worked_at = 0
    remains = connection.execute("SELECT execution FROM remains LIMIT ?", (limit,)).fetchall()
    for (number,) in remains:
        if effort >= _EFFORT:
            break
        effort = _sweep(connection, number, effort)
        worked_at += 1
        if effort < _EFFORT:
            connection.execute("DELETE FROM remains WHERE execution = ?", (number,))
    return effort, worked_at


def _sweep(connection: sqlite3.Connection, number: int, effort: int) -> int:
    """Delete facts, logs, results and chunks until the effort is spent; the effort since."""
    for some, most in _FORGET_SOME:
        deleted = most
        while deleted == most and effort < _EFFORT:
            free = _free_pages(connection)
            deleted = connection.execute(some, (number, most)).rowcount
            effort += deleted + _FREED * max(0, _free_pages(connection) - free)
    return effort


def _give_back(connection: sqlite3.Connection) -> int:
    """Shorten the file a little if much of it is free; 1 if that happened, else 0."""
    free = _free_pages(connection)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    surplus = free - _SPARE - pages // 8
    for _ in range(min(surplus, _GIVEN_BACK)):
        # One at a time: Python's sqlite3 steps such a statement once.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return int(_free_pages(connection) < free)


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
