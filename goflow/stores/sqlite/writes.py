"""Writing a batch of changes.

The rule: nothing kept in memory outlives a rollback. What a batch needs from the store is
remembered until a batch fails.

Executions that ended, and due times that fired none, are counted by the quarter hour in the
transaction that writes them, so that the counts agree with the rows and survive a purge.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence

import msgspec

from goflow.core.events import encode_facts
from goflow.errors import NotFound
from goflow.stores.base import (
    Accounted,
    Change,
    Created,
    Existing,
    KeepChunk,
    KeepResult,
    Outcome,
    Purge,
    Put,
    Record,
    RecordTicks,
    Submit,
    Tick,
    Touch,
)
from goflow.stores.logs import AppendLog, LogStore
from goflow.stores.sqlite import chunks, costs, entries, logs, results
from goflow.stores.sqlite.codec import QUARTER, item_column, micros_or_null, to_instant, to_micros
from goflow.stores.sqlite.purge import purge
from goflow.stores.sqlite.schema import KEYED, TALLY, TOOK, find_number, last_version

_CLAIMED = """SELECT execution, at, NULL FROM ticks
    WHERE job = ? AND due = ? AND run = 0 AND outcome = 'fired'"""
_CLAIM = "INSERT OR REPLACE INTO ticks VALUES (?, ?, 0, 'fired', ?, ?, 1, NULL, ?, NULL)"
# An edited schedule may have a due time at an instant that was merged before.
_ADD_TICK = """INSERT OR REPLACE INTO ticks SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
    WHERE NOT EXISTS (SELECT 1 FROM ticks WHERE job = ?1 AND due = ?2 AND run = ?3
        AND (outcome <> 'merged' OR ?4 = 'merged'))"""
# `accounted` only grows for the same anchor, and resets with a new one.
_ACCOUNT = """INSERT INTO accounted VALUES (?, ?, ?) ON CONFLICT (job) DO UPDATE SET
    anchor = excluded.anchor,
    upto = max(excluded.upto, iif(anchor = excluded.anchor, upto, 0))"""
_ADD_EXECUTION = """INSERT INTO executions
    (id, job, plan, submitted, state, finished, modified, version)
    VALUES (?, ?, ?, ?, 'notstarted', 0, ?, ?)"""
_ADD_FACTS = "INSERT INTO facts (version, execution, body) VALUES (?, ?, ?)"
_MODIFY = """UPDATE executions SET modified = ?, version = ?, started = ?, ended = ?
    WHERE number = ?"""
# Apart from `_MODIFY`, since setting a column rewrites its indexes, changed or not.
_MOVE = """UPDATE executions SET state = ?2, finished = ?3
    WHERE number = ?1 AND (state <> ?2 OR finished <> ?3)"""
_ALSO = """ON CONFLICT (job, quarter, outcome) DO UPDATE SET
    count = count + excluded.count, took = took + excluded.took"""
# Add (1) or subtract (-1) a finished execution, or a due time that fired none.
_COUNT_FINISHED = f"""INSERT INTO activity
    SELECT job, submitted / {QUARTER}, state, ?2, ?2 * {TOOK}
    FROM executions WHERE number = ?1 AND finished = 1 {_ALSO}"""
_COUNT_TICK = f"""INSERT INTO activity SELECT job, due / {QUARTER}, outcome, ?4 * count, 0
    FROM ticks WHERE job = ?1 AND due = ?2 AND run = ?3
        AND outcome IN ('missed', 'skipped') {_ALSO}"""
_SUMMARISE = "INSERT OR REPLACE INTO summaries VALUES (?, ?)"

_REMEMBERED = 10_000  # ids and plans in memory; others are looked up


class _Pending(msgspec.Struct):
    """Rows that a batch writes at its end: all at once is much faster than one by one."""

    facts: list[tuple[int, int, bytes]] = []
    listed: dict[int, tuple[Record, int]] = {}
    created: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)  # by job and plan
    chunks: list[AppendLog] = []  # for logs that are kept elsewhere


class Writes:
    """Writes batches on the one connection that writes."""

    def __init__(self, logs_elsewhere: LogStore | None = None) -> None:
        self._logs_elsewhere = logs_elsewhere
        self._numbers: dict[str, int] = {}
        self._plans: set[str] = set()

    def forget(self) -> None:
        """Clear the caches, since changes may have been rolled back."""
        self._numbers.clear()
        self._plans.clear()

    def write(self, connection: sqlite3.Connection, batch: Sequence[Change]) -> list[Outcome]:
        """Write a batch inside the caller's transaction; an outcome for each change."""
        version = last_version(connection)
        pending = _Pending()
        outcomes: list[Outcome] = []
        for change in batch:
            outcome: Outcome = None
            match change:
                case Record():
                    outcome = version = version + 1
                    number = self._number(connection, change.execution)
                    pending.facts.append((version, number, encode_facts(change.facts)))
                    pending.listed[number] = change, version
                case AppendLog():
                    number = self._number(connection, change.execution)
                    if self._logs_elsewhere is None:
                        logs.append(connection, number, change)
                    else:
                        pending.chunks.append(change)
                case Submit():
                    outcome = _existing(connection, change)
                    if outcome is None:
                        version += 1
                        number = self._create(connection, change, version)
                        pending.facts.append((version, number, encode_facts([change.fact])))
                        pending.created[change.fact.job, change.plan.id] += 1
                        outcome = Created(version)
                    _account(connection, change.fact.job, change.accounted)
                case KeepResult():
                    number = self._number(connection, change.execution)
                    place = number, change.task, item_column(change.item), change.attempt
                    connection.execute(results.ADD, (*place, change.body))
                case KeepChunk():
                    number = self._number(connection, change.execution)
                    place = number, change.task, change.round, change.first
                    connection.execute(chunks.ADD, (*place, change.items, change.body))
                case Put():
                    _put(connection, change)
                case Touch():
                    connection.execute(
                        "INSERT OR REPLACE INTO meta VALUES ('touched', ?)",
                        (str(to_micros(change.at)),),
                    )
                case RecordTicks():
                    _add_ticks(connection, change.job, change.ticks)
                    _account(connection, change.job, change.accounted)
                case Purge():
                    self._write_pending(connection, pending)
                    pending = _Pending()
                    outcome = self._purge(connection, change)
            outcomes.append(outcome)
        self._write_pending(connection, pending)
        return outcomes

    def _write_pending(self, connection: sqlite3.Connection, pending: _Pending) -> None:
        connection.executemany(_ADD_FACTS, pending.facts)
        self._list(connection, pending.listed)
        connection.executemany(
            TALLY, [(job, plan, count) for (job, plan), count in pending.created.items()]
        )
        if self._logs_elsewhere is not None and pending.chunks:
            self._logs_elsewhere.append(pending.chunks)

    def _create(self, connection: sqlite3.Connection, submit: Submit, version: int) -> int:
        """Insert the execution, its tick and its key; its number."""
        fact, plan = submit.fact, submit.plan
        if plan.id not in self._plans:
            connection.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (plan.id, plan.encoded))
            _remember(self._plans)
            self._plans.add(plan.id)
        at = to_micros(fact.at)
        number = connection.execute(
            _ADD_EXECUTION, (fact.id, fact.job, plan.id, at, at, version)
        ).lastrowid
        assert number is not None
        _remember(self._numbers)
        self._numbers[fact.id] = number
        if submit.tick:
            assert fact.scheduled_at is not None
            due = to_micros(fact.scheduled_at)
            connection.execute(_COUNT_TICK, (fact.job, due, 0, -1))
            connection.execute(_CLAIM, (fact.job, due, at, submit.reason, fact.id))
            if submit.merged is not None:
                _add_ticks(connection, fact.job, [submit.merged])
        if (asked := submit.idempotency) is not None:
            connection.execute(
                "INSERT INTO idempotency VALUES (?, ?, ?, ?)",
                (fact.job, asked.key, asked.fingerprint, number),
            )
        return number

    def _list(self, connection: sqlite3.Connection, listed: dict[int, tuple[Record, int]]) -> None:
        """Update the rows of executions from the last record of each in the batch."""
        connection.executemany(_COUNT_FINISHED, [(number, -1) for number in listed])
        connection.executemany(
            _MODIFY,
            [
                (to_micros(record.modified), version, micros_or_null(record.started),
                 micros_or_null(record.finished), number)
                for number, (record, version) in listed.items()
            ],
        )  # fmt: skip
        connection.executemany(
            _MOVE,
            [
                (number, record.state.value, record.summary is not None)
                for number, (record, _) in listed.items()
            ],
        )
        for number, (record, _) in listed.items():
            if record.cost is not None and record.summary is not None:
                costs.add(connection, number, record.cost)
        connection.executemany(
            _SUMMARISE,
            [
                (number, record.summary)
                for number, (record, _) in listed.items()
                if record.summary is not None
            ],
        )
        connection.executemany(
            _COUNT_FINISHED,
            [(number, 1) for number, (record, _) in listed.items() if record.summary is not None],
        )

    def _number(self, connection: sqlite3.Connection, execution: str) -> int:
        number = self._numbers.get(execution)
        if number is None:
            number = find_number(connection, execution)
            if number is None:
                raise NotFound(f"there is no execution {execution!r}", field="id")
            _remember(self._numbers)
            self._numbers[execution] = number
        return number

    def _purge(self, connection: sqlite3.Connection, change: Purge) -> int:
        purged = purge(connection, change)
        for execution in purged.executions:
            self._numbers.pop(execution, None)
        self._plans -= purged.plans
        if self._logs_elsewhere is not None and purged.executions:
            self._logs_elsewhere.forget(purged.executions)
        return purged.count


def _existing(connection: sqlite3.Connection, submit: Submit) -> Existing | None:
    """The execution that the submit's tick or key has created before."""
    found = None
    if submit.tick:
        assert submit.fact.scheduled_at is not None
        due = to_micros(submit.fact.scheduled_at)
        found = connection.execute(_CLAIMED, (submit.fact.job, due)).fetchone()
    if found is None and submit.idempotency is not None:
        asked = submit.fact.job, submit.idempotency.key
        found = connection.execute(KEYED, asked).fetchone()
    if found is None:
        return None
    execution, submitted, fingerprint = found
    return Existing(execution, to_instant(submitted), fingerprint)


def _put(connection: sqlite3.Connection, put: Put) -> None:
    if put.value is None:
        connection.execute(entries.DELETE, (put.kind, put.key))
    else:
        connection.execute(entries.PUT, (put.kind, put.key, put.value))


def _add_ticks(connection: sqlite3.Connection, job: str, ticks: Sequence[Tick]) -> None:
    for tick in ticks:
        place = job, to_micros(tick.due), tick.count > 1
        added = connection.execute(
            _ADD_TICK,
            (*place, tick.outcome.value, to_micros(tick.at), tick.reason, tick.count,
             micros_or_null(tick.until), tick.execution, micros_or_null(tick.into)),
        )  # fmt: skip
        if added.rowcount:
            connection.execute(_COUNT_TICK, (*place, 1))


def _account(connection: sqlite3.Connection, job: str, accounted: Accounted | None) -> None:
    if accounted is not None:
        span = to_micros(accounted.anchor), to_micros(accounted.upto)
        connection.execute(_ACCOUNT, (job, *span))


def _remember(known: set[str] | dict[str, int]) -> None:
    """Evict entries, so that the caches stay bounded."""
    if len(known) >= _REMEMBERED:
        known.clear()
