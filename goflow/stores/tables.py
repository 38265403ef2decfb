"""The tables, and every statement that writes or reads them, whichever way the connection came.

The rule: a batch is written between one BEGIN IMMEDIATE and one COMMIT, and nothing kept
in memory outlives a rollback.

Instants are whole microseconds since 1970 in UTC: exact, sortable, small. An index ends
in the rowid, so the one on (job) is also in the order of `number`.

What a job did is counted by the quarter hour, in the transaction that writes it down, so
that counts are what the rows were, also when those are purged.

A tick outlives its execution: it names it by id, and is purged by its own age, that of its
record, so that a backfilled one stays as long as what it made. Once it is gone, nothing
here keeps its due time from firing again; that what is accounted for never goes back does.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec

from goflow.core.events import AnyFact, Retried, Submitted, decode_facts, encode_facts
from goflow.core.graph import Plan, decode_plan
from goflow.core.states import State
from goflow.core.summary import Mark
from goflow.errors import NotFound
from goflow.stores import results
from goflow.stores.backup import write_copy
from goflow.stores.base import (
    Activity,
    AppendLog,
    Change,
    Created,
    Existing,
    History,
    KeepResult,
    LogChunk,
    Outcome,
    Purge,
    Record,
    RecordTicks,
    Remark,
    Row,
    SetSwitch,
    SetWatch,
    Submit,
    Tick,
    TickOutcome,
    Touch,
    Watch,
)

APPLICATION_ID = 0x676F666C  # "gofl"

QUARTER = 15 * 60 * 1_000_000  # microseconds

# An execution's time between start and end; a clock that was set back makes none of it.
_TOOK = "max(coalesce(ended - started, 0), 0)"


def _micros_in(key: str) -> str:
    """SQL for the microseconds of an instant in the JSON in column `text`."""
    at = f"json_extract(text, '$.{key}')"
    return (
        f"strftime('%s', substr({at}, 1, 19)) * 1000000"
        f" + CASE length({at}) WHEN 27 THEN CAST(substr({at}, 21, 6) AS INTEGER) ELSE 0 END"
    )


Step = str | Callable[[sqlite3.Connection], None]

# What leads from each schema version to the next one. Only ever append.
MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        # Only possible before anything is written; leaves room to give space back one day.
        "PRAGMA auto_vacuum = INCREMENTAL",
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))))",
        "CREATE TABLE plans (id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)",
        """CREATE TABLE executions (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            job TEXT NOT NULL,
            plan TEXT NOT NULL,
            submitted INTEGER NOT NULL,
            state TEXT NOT NULL,
            finished INTEGER NOT NULL,
            modified INTEGER NOT NULL,
            version INTEGER NOT NULL)""",
        "CREATE INDEX executions_job ON executions (job)",
        "CREATE INDEX executions_state ON executions (state)",
        "CREATE INDEX executions_job_state ON executions (job, state)",
        "CREATE INDEX executions_unfinished ON executions (finished) WHERE finished = 0",
        "CREATE INDEX executions_finished ON executions (version) WHERE finished = 1",
        "CREATE INDEX executions_job_finished ON executions (job, version) WHERE finished = 1",
        # Apart from `executions`, so that lists without them read few pages.
        "CREATE TABLE summaries (execution INTEGER PRIMARY KEY, body BLOB NOT NULL)",
        """CREATE TABLE facts (
            version INTEGER PRIMARY KEY AUTOINCREMENT,
            execution INTEGER NOT NULL,
            body BLOB NOT NULL)""",
        "CREATE INDEX facts_execution ON facts (execution)",
        """CREATE TABLE logs (
            execution INTEGER NOT NULL,
            task TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            first INTEGER NOT NULL,
            lines INTEGER NOT NULL,
            text TEXT NOT NULL)""",
        "CREATE INDEX logs_place ON logs (execution, task, attempt, first)",
        """CREATE TABLE ticks (
            job TEXT NOT NULL,
            due INTEGER NOT NULL,
            execution INTEGER NOT NULL,
            PRIMARY KEY (job, due)) WITHOUT ROWID""",
        """CREATE TABLE idempotency (
            job TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            execution INTEGER NOT NULL,
            PRIMARY KEY (job, key)) WITHOUT ROWID""",
        """CREATE TABLE switches (
            job TEXT PRIMARY KEY,
            active INTEGER NOT NULL,
            at INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE anchors (
            job TEXT PRIMARY KEY,
            interval REAL NOT NULL,
            at INTEGER NOT NULL) WITHOUT ROWID""",
    ),
    (
        # `run` is 1 for a summary of several, which may begin at a due time claimed later.
        "ALTER TABLE ticks RENAME TO claims",
        """CREATE TABLE ticks (
            job TEXT NOT NULL,
            due INTEGER NOT NULL,
            run INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            at INTEGER NOT NULL,
            reason TEXT NOT NULL,
            count INTEGER NOT NULL,
            until INTEGER,
            execution TEXT,
            PRIMARY KEY (job, due, run)) WITHOUT ROWID""",
        """INSERT INTO ticks SELECT c.job, c.due, 0, 'fired', e.submitted, '', 1, NULL, e.id
            FROM claims c JOIN executions e ON e.number = c.execution ORDER BY c.job, c.due""",
        "DROP TABLE claims",
        "CREATE INDEX ticks_at ON ticks (at)",
        "CREATE INDEX ticks_job_at ON ticks (job, at)",
        "DROP TABLE anchors",
        """CREATE TABLE watches (
            job TEXT PRIMARY KEY,
            schedule TEXT NOT NULL,
            anchor INTEGER NOT NULL,
            accounted INTEGER NOT NULL) WITHOUT ROWID""",
        # How many executions there are: counted here, never in the table itself.
        """CREATE TABLE tallies (
            job TEXT NOT NULL,
            plan TEXT NOT NULL,
            executions INTEGER NOT NULL,
            PRIMARY KEY (job, plan)) WITHOUT ROWID""",
        "INSERT INTO tallies SELECT job, plan, count(*) FROM executions GROUP BY job, plan",
        "CREATE INDEX tallies_plan ON tallies (plan)",
        "DROP INDEX executions_unfinished",
        "CREATE INDEX executions_unfinished ON executions (job) WHERE finished = 0",
        "CREATE INDEX executions_submitted ON executions (submitted) WHERE finished = 1",
        """CREATE INDEX executions_job_submitted ON executions (job, submitted)
            WHERE finished = 1""",
        "CREATE INDEX idempotency_execution ON idempotency (execution)",
        # Purged executions whose facts and logs were too many to go at once.
        "CREATE TABLE remains (execution INTEGER PRIMARY KEY)",
    ),
    (
        "ALTER TABLE ticks ADD COLUMN merged_into INTEGER",
        "ALTER TABLE switches ADD COLUMN who TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE executions ADD COLUMN started INTEGER",
        "ALTER TABLE executions ADD COLUMN ended INTEGER",
        # From the summaries of the newest ones, which are what a list of marks shows.
        f"""UPDATE executions SET (started, ended) = (
                SELECT {_micros_in("started")}, {_micros_in("finished")} FROM
                    (SELECT CAST(body AS TEXT) AS text FROM summaries WHERE execution = number)
                WHERE json_valid(text))
            WHERE finished = 1 AND number > (SELECT max(number) FROM executions) - 100000""",
        # `quarter` counts quarter hours since 1970: with them the days of every zone are exact.
        """CREATE TABLE activity (
            job TEXT NOT NULL,
            quarter INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            count INTEGER NOT NULL,
            took INTEGER NOT NULL,
            PRIMARY KEY (job, quarter, outcome)) WITHOUT ROWID""",
        f"""INSERT INTO activity SELECT job, submitted / {QUARTER}, state, count(*), sum({_TOOK})
            FROM executions WHERE finished = 1 GROUP BY 1, 2, 3""",
        f"""INSERT INTO activity SELECT job, due / {QUARTER}, outcome, sum(count), 0
            FROM ticks WHERE outcome IN ('missed', 'skipped') GROUP BY 1, 2, 3""",
    ),
    (
        *results.CREATE,
        results.move_out_of_facts,
    ),
    ("ALTER TABLE logs ADD COLUMN times BLOB NOT NULL DEFAULT x''",),
)
SCHEMA = len(MIGRATIONS)

_VERSION = "SELECT seq FROM sqlite_sequence WHERE name = 'facts'"
_NUMBER = "SELECT number FROM executions WHERE id = ?"
_CLAIMED = """SELECT execution, at, NULL FROM ticks
    WHERE job = ? AND due = ? AND run = 0 AND outcome = 'fired'"""
_CLAIM = "INSERT OR REPLACE INTO ticks VALUES (?, ?, 0, 'fired', ?, ?, 1, NULL, ?, NULL)"
# An edited schedule may make a due time of what was merged by the one before.
_ADD_TICK = """INSERT OR REPLACE INTO ticks SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
    WHERE NOT EXISTS (SELECT 1 FROM ticks WHERE job = ?1 AND due = ?2 AND run = ?3
        AND (outcome <> 'merged' OR ?4 = 'merged'))"""
# What is accounted for stays so, since a tick may be written between a watch's making and this;
# but it was so for the due times from that anchor, and says nothing of those from another one.
_WATCH = """INSERT INTO watches VALUES (?, ?, ?, ?) ON CONFLICT (job) DO UPDATE SET
    schedule = excluded.schedule, anchor = excluded.anchor,
    accounted = max(excluded.accounted, iif(anchor = excluded.anchor, accounted, 0))"""
_ACCOUNT = "UPDATE watches SET accounted = ?2 WHERE job = ?1 AND accounted < ?2"
_TICKS = """SELECT due, outcome, at, reason, count, until, execution, merged_into FROM ticks
    WHERE job = ? AND due < ? ORDER BY due DESC, run DESC LIMIT ?"""
_KEYED = """SELECT e.id, e.submitted, k.fingerprint FROM idempotency k JOIN executions e
    ON e.number = k.execution WHERE k.job = ? AND k.key = ?"""
_ADD_EXECUTION = """INSERT INTO executions
    (id, job, plan, submitted, state, finished, modified, version)
    VALUES (?, ?, ?, ?, 'notstarted', 0, ?, ?)"""
_ADD_FACTS = "INSERT INTO facts (version, execution, body) VALUES (?, ?, ?)"
_MODIFY = """UPDATE executions SET modified = ?, version = ?, started = ?, ended = ?
    WHERE number = ?"""
# Apart from `_MODIFY`, since setting a column rewrites its indexes, changed or not.
_MOVE = """UPDATE executions SET state = ?2, finished = ?3
    WHERE number = ?1 AND (state <> ?2 OR finished <> ?3)"""
_TALLY = """INSERT INTO tallies VALUES (?, ?, ?)
    ON CONFLICT (job, plan) DO UPDATE SET executions = executions + excluded.executions"""
_ALSO = """ON CONFLICT (job, quarter, outcome) DO UPDATE SET
    count = count + excluded.count, took = took + excluded.took"""
# What is finished, and what fired no execution, count once (1), or not any more (-1).
_COUNT_FINISHED = f"""INSERT INTO activity
    SELECT job, submitted / {QUARTER}, state, ?2, ?2 * {_TOOK}
    FROM executions WHERE number = ?1 AND finished = 1 {_ALSO}"""
_COUNT_TICK = f"""INSERT INTO activity SELECT job, due / {QUARTER}, outcome, ?4 * count, 0
    FROM ticks WHERE job = ?1 AND due = ?2 AND run = ?3
        AND outcome IN ('missed', 'skipped') {_ALSO}"""
_SUMMARISE = "INSERT OR REPLACE INTO summaries VALUES (?, ?)"
_ADD_LOG = "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?)"
_REPLACE_LOG = """DELETE FROM logs WHERE execution = ? AND task = ? AND attempt = ?
    AND first = ? AND lines = 0"""
_FORGET_LOG = """DELETE FROM logs WHERE execution = ?1 AND task = ?2 AND attempt = ?3
    AND first >= ?4 AND first < ?5 AND first + lines <= ?5"""

# The index is named where a wrong guess of the planner would read the whole table.
_UNFINISHED = """SELECT id FROM executions INDEXED BY executions_unfinished
    WHERE finished = 0 ORDER BY number"""
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
# Job by job, by a search for the next one: an index by time would double the table.
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
# Each with how many rows to delete between two looks at the pages freed.
_FORGET_SOME = (
    (
        """DELETE FROM facts WHERE version IN
        (SELECT version FROM facts WHERE execution = ? LIMIT ?)""",
        50,
    ),
    (
        """DELETE FROM logs WHERE rowid IN
        (SELECT rowid FROM logs WHERE execution = ? LIMIT ?)""",
        50,
    ),
    (results.FORGET_SOME, 1),  # hundreds of pages each
)
_FORGET_PLAN = """DELETE FROM plans WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM tallies WHERE plan = ?1)"""

_RECENT = """SELECT id, state, submitted, modified, started, ended, version FROM executions
    WHERE job = ? ORDER BY number DESC LIMIT ?"""
_WHOLE = """SELECT e.number, e.version, e.id, e.job, e.state, e.submitted, e.modified, s.body
    FROM executions e LEFT JOIN summaries s ON s.execution = e.number AND e.finished = 1"""
_ACTIVITY = """SELECT outcome, sum(count), sum(took) FROM activity
    WHERE job = ? AND quarter >= ? AND quarter < ? GROUP BY outcome HAVING sum(count) > 0"""
_KNOWS = """SELECT EXISTS (SELECT 1 FROM tallies WHERE job = ?1)
    OR EXISTS (SELECT 1 FROM ticks WHERE job = ?1)
    OR EXISTS (SELECT 1 FROM activity WHERE job = ?1)"""
_HISTORY = """SELECT f.body, f.version FROM facts f
    WHERE f.execution = ? ORDER BY f.version"""
_LOG_END = """SELECT first + lines FROM logs WHERE execution = ? AND task = ? AND attempt = ?
    ORDER BY first DESC LIMIT 1"""
_LOG_LAST = """SELECT first, lines, text, times FROM logs
    WHERE execution = ? AND task = ? AND attempt = ? ORDER BY first DESC LIMIT 1"""
_LOG = """SELECT first, lines, text, times FROM logs
    WHERE execution = ?1 AND task = ?2 AND attempt = ?3 AND first + lines > ?4
    AND first >= coalesce((SELECT max(first) FROM logs
        WHERE execution = ?1 AND task = ?2 AND attempt = ?3 AND first <= ?4), 0)
    ORDER BY first"""

_STATES = {state.value: state for state in State}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HIGHEST = 2**63 - 1
_REMEMBERED = 10_000

# What a purge does at most before it lets others write: about 250 pages, which take a disk
# longer than the processor. The unit is a row deleted, about 2 microseconds; what costs more
# is weighed as measured by benchmarks/retention.py.
_EFFORT = 2_000
_FREED = 4  # a page
_EACH = 12  # an execution: a row of eight indexes
_AWAY = 60  # one that is not beside the last one: pages of their own in every table
_TICK = 10  # a row of three indexes
_ANOTHER = 30  # a job not met before: pages of their own in every index by job
_GIVEN_BACK = 100  # pages at a time; each may have to change places with another
_SPARE = 1_000  # free pages that are not worth giving back


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to `SCHEMA`, each step in a transaction of its own."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    for version, steps in enumerate(MIGRATIONS[current:], current + 1):
        # DEFERRED, since IMMEDIATE writes, and a new file must hear of auto_vacuum before that.
        with transaction(connection, "BEGIN DEFERRED"):
            for step in steps:
                take(connection, step)
            connection.execute(f"PRAGMA user_version = {version}")


def take(connection: sqlite3.Connection, step: Step) -> None:
    """Take one step of a migration."""
    if isinstance(step, str):
        connection.execute(step)
    else:
        step(connection)


def read_epoch(connection: sqlite3.Connection) -> str:
    """The random word made with the store."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the store has no epoch")
    return str(found[0])


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commit what happens inside, or, if it raises, nothing of it."""
    # IMMEDIATE: an upgrade from reading to writing would ignore the busy timeout.
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@dataclass
class _Pending:
    """What a batch writes last, all at once: it is much faster than one by one."""

    facts: list[tuple[int, int, bytes]] = field(default_factory=list)
    listed: dict[int, tuple[Record, int]] = field(default_factory=dict)
    created: Counter[tuple[str, str]] = field(default_factory=Counter)  # by job and plan


class SqlStore(ABC):
    """A store on SQL tables; what implements it knows where connections come from."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._plans: set[str] = set()
        self._epoch = ""

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes. Turns errors that may pass into `StoreUnavailable`."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile. Errors as for `_writing`."""

    # -- writing -------------------------------------------------------------------

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

    def _forget(self) -> None:
        """What is remembered may have been rolled back."""
        self._numbers.clear()
        self._plans.clear()

    def _write(self, connection: sqlite3.Connection, batch: Sequence[Change]) -> list[Outcome]:
        version = _last_version(connection)
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
                    self._append_log(connection, change)
                case Submit():
                    outcome = _existing(connection, change)
                    if outcome is None:
                        version += 1
                        number = self._create(connection, change, version)
                        pending.facts.append((version, number, encode_facts([change.fact])))
                        pending.created[change.fact.job, change.plan.id] += 1
                        outcome = Created(version)
                    if change.accounts:
                        assert change.fact.scheduled_at is not None
                        due = _to_micros(change.fact.scheduled_at)
                        connection.execute(_ACCOUNT, (change.fact.job, due))
                case KeepResult():
                    number = self._number(connection, change.execution)
                    place = number, change.task, change.attempt
                    connection.execute(results.ADD, (*place, change.body))
                case SetSwitch():
                    connection.execute(
                        "INSERT OR REPLACE INTO switches VALUES (?, ?, ?, ?)",
                        (change.job, change.active, _to_micros(change.at), change.by),
                    )
                case Touch():
                    connection.execute(
                        "INSERT OR REPLACE INTO meta VALUES ('touched', ?)",
                        (str(_to_micros(change.at)),),
                    )
                case RecordTicks():
                    _add_ticks(connection, change.job, change.ticks)
                    connection.execute(_ACCOUNT, (change.job, _to_micros(change.accounted)))
                case SetWatch(job, watch):
                    connection.execute(
                        _WATCH,
                        (job, watch.schedule, _to_micros(watch.anchor),
                         _to_micros(watch.accounted)),
                    )  # fmt: skip
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
            _TALLY, [(job, plan, count) for (job, plan), count in pending.created.items()]
        )

    def _create(self, connection: sqlite3.Connection, submit: Submit, version: int) -> int:
        """Insert the execution, and what leads to it; its number."""
        fact, plan = submit.fact, submit.plan
        if plan.id not in self._plans:
            connection.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (plan.id, plan.encoded))
            _remember(self._plans)
            self._plans.add(plan.id)
        at = _to_micros(fact.at)
        number = connection.execute(
            _ADD_EXECUTION, (fact.id, fact.job, plan.id, at, at, version)
        ).lastrowid
        assert number is not None
        _remember(self._numbers)
        self._numbers[fact.id] = number
        if submit.tick:
            assert fact.scheduled_at is not None
            due = _to_micros(fact.scheduled_at)
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

    def _append_log(self, connection: sqlite3.Connection, change: AppendLog) -> None:
        place = self._number(connection, change.execution), change.task, change.attempt
        if change.replaces is not None:
            connection.execute(_REPLACE_LOG, (*place, change.replaces))
        chunk = change.first, change.lines, change.text, change.times
        connection.execute(_ADD_LOG, (*place, *chunk))
        if change.forget is not None:
            connection.execute(_FORGET_LOG, (*place, *change.forget))

    def _list(self, connection: sqlite3.Connection, listed: dict[int, tuple[Record, int]]) -> None:
        """Set the rows of executions as the last record of each in the batch says."""
        connection.executemany(_COUNT_FINISHED, [(number, -1) for number in listed])
        connection.executemany(
            _MODIFY,
            [
                (_to_micros(record.modified), version, _micros_or_null(record.started),
                 _micros_or_null(record.finished), number)
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
            number = _find_number(connection, execution)
            if number is None:
                raise NotFound(f"there is no execution {execution!r}", field="id")
            _remember(self._numbers)
            self._numbers[execution] = number
        return number

    # -- forgetting ----------------------------------------------------------------

    def _purge(self, connection: sqlite3.Connection, purge: Purge) -> int:
        before = None if purge.before is None else _to_micros(purge.before)
        effort, gone = _sweep_remains(connection, purge.limit)
        if before is not None and effort < _EFFORT:
            outdated = _of_job(connection, purge.job, _OLDER, _OLDER_OF_JOB, before, purge.limit)
            effort, older = self._drop(connection, outdated, effort)
            gone += older
        if purge.keep is not None and effort < _EFFORT and gone < purge.limit:
            [(count,)] = _of_job(connection, purge.job, _COUNT, _COUNT_OF_JOB)
            beyond = max(0, min(count - purge.keep, purge.limit - gone))
            first = _of_job(connection, purge.job, _FIRST, _FIRST_OF_JOB, beyond)
            effort, beyond = self._drop(connection, first, effort)
            gone += beyond
        if before is not None and effort < _EFFORT:
            some = min(purge.limit, (_EFFORT - effort) // _TICK + 1)
            old = _of_job(connection, purge.job, _OLD_TICKS, _OLD_TICKS_OF_JOB, before, some)
            connection.executemany(_FORGET_TICK, old)
            effort += _TICK * len(old)
            gone += len(old)
        if purge.activity_before is not None and effort < _EFFORT:
            quarter = _to_micros(purge.activity_before) // QUARTER
            old = connection.execute(_OLD_ACTIVITY, (quarter, purge.limit)).fetchall()
            connection.executemany(_FORGET_ACTIVITY, old)
            effort += len(old)
            gone += len(old)
        if effort >= _EFFORT:
            return gone
        return gone + _give_back(connection)

    def _drop(
        self,
        connection: sqlite3.Connection,
        executions: list[tuple[int, str, str, str]],
        effort: int,
    ) -> tuple[int, int]:
        """Delete executions until the effort is spent; the effort since, and how many went."""
        gone: Counter[tuple[str, str]] = Counter()
        last = 0
        for number, execution, job, plan in executions:
            if effort >= _EFFORT:
                break
            effort += (
                _EACH + _AWAY * (abs(number - last) > 8) + _ANOTHER * ((job, plan) not in gone)
            )
            last = number
            for statement in _FORGET_EXECUTION:
                connection.execute(statement, (number,))
            effort = _sweep(connection, number, effort)
            if effort >= _EFFORT:
                connection.execute("INSERT INTO remains VALUES (?)", (number,))
            self._numbers.pop(execution, None)
            gone[job, plan] += 1
        connection.executemany(_TALLY, [(job, plan, -count) for (job, plan), count in gone.items()])
        connection.executemany(
            "DELETE FROM tallies WHERE job = ? AND plan = ? AND executions = 0", list(gone)
        )
        plans = {plan for _, plan in gone}
        connection.executemany(_FORGET_PLAN, [(plan,) for plan in plans])
        self._plans -= plans
        return effort, gone.total()

    # -- reading -------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        return self._epoch

    def version(self) -> int:
        with self._reading() as connection:
            return _last_version(connection)

    def switches(self) -> dict[str, SetSwitch]:
        with self._reading() as connection:
            rows = connection.execute("SELECT job, active, at, who FROM switches")
            return {
                job: SetSwitch(job, bool(active), _to_instant(at), who)
                for job, active, at, who in rows.fetchall()
            }

    def watches(self) -> dict[str, Watch]:
        with self._reading() as connection:
            rows = connection.execute("SELECT job, schedule, anchor, accounted FROM watches")
            return {
                job: Watch(schedule, _to_instant(anchor), _to_instant(accounted))
                for job, schedule, anchor, accounted in rows.fetchall()
            }

    def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        below = _HIGHEST if before is None else _to_micros(before)
        with self._reading() as connection:
            rows = connection.execute(_TICKS, (job, below, limit + 1)).fetchall()
        # A summary and the tick at its beginning are not parted: pages go on by `due`.
        if len(rows) > limit and rows[limit][0] != rows[limit - 1][0]:
            del rows[limit]
        return [
            Tick(_to_instant(due), TickOutcome(outcome), _to_instant(at), reason, count,
                 _instant_or_none(until), execution, _instant_or_none(into))
            for due, outcome, at, reason, count, until, execution, into in rows
        ]  # fmt: skip

    def activity(self, job: str, bounds: Sequence[datetime]) -> list[Activity]:
        quarters = [_to_micros(bound) // QUARTER for bound in bounds]
        with self._reading() as connection:
            spans = [
                connection.execute(_ACTIVITY, (job, *span)).fetchall()
                for span in pairwise(quarters)
            ]
        return [
            Activity(
                {outcome: count for outcome, count, _ in span},
                sum((took for _, _, took in span)) * _MICROSECOND,
            )
            for span in spans
        ]

    def unfinished(self) -> list[str]:
        with self._reading() as connection:
            rows = connection.execute(_UNFINISHED)
            return [execution for (execution,) in rows.fetchall()]

    def history(self, execution: str) -> History | None:
        with self._reading() as connection:
            found = connection.execute(
                """SELECT e.number, e.version, e.job, e.submitted, e.plan, p.body
                FROM executions e LEFT JOIN plans p ON p.id = e.plan WHERE e.id = ?""",
                (execution,),
            ).fetchone()
            if found is None:
                return None
            number, last, job, submitted, plan_id, plan = found
            facts: list[AnyFact] = []
            opened, damage = 0, None
            with closing(connection.execute(_HISTORY, (number,))) as rows:
                for body, version in rows:
                    try:
                        batch = decode_facts(body)
                    except msgspec.MsgspecError as error:
                        damage = damage or f"the facts of version {version} cannot be read: {error}"
                        continue
                    facts += batch
                    if any(isinstance(fact, Submitted | Retried) for fact in batch):
                        opened = version
        if not facts or not isinstance(facts[0], Submitted):
            damage = damage or "its first fact is missing"
            at = _to_instant(submitted)
            facts.insert(0, Submitted(at, id=execution, job=job, plan=plan_id, cause="api"))
        try:
            shape = decode_plan(plan)
        except (TypeError, msgspec.MsgspecError) as error:  # TypeError if there is none
            damage, shape = f"its plan cannot be read: {error}", Plan(())
        return History(shape, facts, last, opened, damage)

    def jobs(self) -> list[str]:
        with self._reading() as connection:
            return [job for (job,) in connection.execute("SELECT DISTINCT job FROM tallies")]

    def knows(self, job: str) -> bool:
        with self._reading() as connection:
            (known,) = connection.execute(_KNOWS, (job,)).fetchone()
        return bool(known)

    def submitted_with(self, job: str, key: str) -> Existing | None:
        with self._reading() as connection:
            found = connection.execute(_KEYED, (job, key)).fetchone()
        return None if found is None else Existing(found[0], _to_instant(found[1]), found[2])

    def find(self, execution: str) -> Row | None:
        found = self._rows(f"{_WHOLE} WHERE e.id = ?", (execution,))
        return found[0] if found else None

    def page(
        self,
        *,
        job: str | None,
        state: State | None,
        before: int | None,
        limit: int,
        room: int | None = None,
    ) -> list[Row]:
        below = _HIGHEST if before is None else before
        where, values = _where(("e.job =", job), ("e.state =", state and state.value))
        return self._rows(
            f"{_WHOLE} WHERE {where} e.number < ? ORDER BY e.number DESC LIMIT ?",
            (*values, below, limit),
            room,
        )

    def finished_since(
        self, version: int, upto: int, limit: int, job: str | None, room: int | None = None
    ) -> list[Row]:
        where, values = _where(("e.job =", job))
        return self._rows(
            f"""{_WHOLE} WHERE {where} e.finished = 1 AND e.version > ? AND e.version <= ?
            ORDER BY e.version LIMIT ?""",
            (*values, version, upto, limit),
            room,
        )

    def recent(self, jobs: Sequence[str], last: int) -> dict[str, list[Mark]]:
        return {job: self._marks(job, last) for job in jobs}

    def _marks(self, job: str, last: int) -> list[Mark]:
        with self._reading() as connection:
            rows = connection.execute(_RECENT, (job, last)).fetchall()
        return [
            Mark(execution, _STATES[state], _to_instant(submitted), _to_instant(modified),
                 _instant_or_none(started), _instant_or_none(ended), version)
            for execution, state, submitted, modified, started, ended, version in rows
        ]  # fmt: skip

    def _rows(
        self, statement: str, values: Sequence[str | int], room: int | None = None
    ) -> list[Row]:
        found: list[Row] = []
        with (
            self._reading() as connection,
            closing(connection.execute(statement, _in_range(values))) as rows,
        ):
            for number, version, id, job, state, submitted, modified, summary in rows:
                if room is not None:
                    room -= len(summary or b"")
                    if room < 0 and found:
                        break
                found.append(
                    Row(number, version, id, job, _STATES[state], _to_instant(submitted),
                        _to_instant(modified), summary)
                )  # fmt: skip
        return found

    def log(
        self, execution: str, task: str, attempt: int, after: int, limit: int
    ) -> list[LogChunk]:
        chunks: list[LogChunk] = []
        with self._reading() as connection:
            number = _find_number(connection, execution)
            if number is None:
                return chunks
            place = _in_range((number, task, attempt, after))
            room = limit
            with closing(connection.execute(_LOG, place)) as rows:
                for first, lines, text, times in rows:
                    chunks.append(LogChunk(first, lines, text, times))
                    room -= len(text)
                    if room <= 0:
                        break
        return chunks

    def result(self, execution: str, task: str, attempt: int) -> bytes | None:
        with self._reading() as connection:
            number = _find_number(connection, execution)
            if number is None:
                return None
            place = _in_range((number, task, attempt))
            row = connection.execute(results.READ, place).fetchone()
        return None if row is None else bytes(row[0])

    def log_end(self, execution: str, task: str, attempt: int) -> int:
        with self._reading() as connection:
            number = _find_number(connection, execution)
            if number is None:
                return 0
            place = _in_range((number, task, attempt))
            row = connection.execute(_LOG_END, place).fetchone()
        return 0 if row is None else int(row[0])

    def log_unfinished(self, execution: str, task: str, attempt: int) -> LogChunk | None:
        with self._reading() as connection:
            number = _find_number(connection, execution)
            if number is None:
                return None
            place = _in_range((number, task, attempt))
            row = connection.execute(_LOG_LAST, place).fetchone()
        chunk = None if row is None else LogChunk(*row)
        return None if chunk is None or chunk.lines else chunk

    def backup(self, path: str) -> None:
        with self._reading() as connection:
            write_copy(connection, path)

    def check(self) -> list[Remark]:
        return []

    @abstractmethod
    def size(self) -> int: ...


def _existing(connection: sqlite3.Connection, submit: Submit) -> Existing | None:
    """Where the submit's tick or key led before."""
    found = None
    if submit.tick:
        assert submit.fact.scheduled_at is not None
        due = _to_micros(submit.fact.scheduled_at)
        found = connection.execute(_CLAIMED, (submit.fact.job, due)).fetchone()
    if found is None and submit.idempotency is not None:
        asked = submit.fact.job, submit.idempotency.key
        found = connection.execute(_KEYED, asked).fetchone()
    if found is None:
        return None
    execution, submitted, fingerprint = found
    return Existing(execution, _to_instant(submitted), fingerprint)


def _add_ticks(connection: sqlite3.Connection, job: str, ticks: Sequence[Tick]) -> None:
    for tick in ticks:
        place = job, _to_micros(tick.due), tick.count > 1
        added = connection.execute(
            _ADD_TICK,
            (*place, tick.outcome.value, _to_micros(tick.at), tick.reason, tick.count,
             _micros_or_null(tick.until), tick.execution, _micros_or_null(tick.into)),
        )  # fmt: skip
        if added.rowcount:
            connection.execute(_COUNT_TICK, (*place, 1))


def _of_job(
    connection: sqlite3.Connection, job: str | None, of_all: str, of_one: str, *values: int
) -> list[Any]:
    """The rows of the one statement or the other."""
    if job is None:
        return connection.execute(of_all, values).fetchall()
    return connection.execute(of_one, (job, *values)).fetchall()


def _sweep_remains(connection: sqlite3.Connection, limit: int) -> tuple[int, int]:
    """Go on with what earlier purges left; the effort, and how many were worked at."""
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
    """Delete an execution's facts, logs and results until the effort is spent; the effort
    since."""
    for some, most in _FORGET_SOME:
        deleted = most
        while deleted == most and effort < _EFFORT:
            free = _free_pages(connection)
            deleted = connection.execute(some, (number, most)).rowcount
            effort += deleted + _FREED * max(0, _free_pages(connection) - free)
    return effort


def _give_back(connection: sqlite3.Connection) -> int:
    """Shorten the file a little if much of it is free; 1 if it did, else 0."""
    free = _free_pages(connection)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    surplus = free - _SPARE - pages // 8
    for _ in range(min(surplus, _GIVEN_BACK)):
        # One by one: the module would stop after the first one anyway.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return int(_free_pages(connection) < free)


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _last_version(connection: sqlite3.Connection) -> int:
    found = connection.execute(_VERSION).fetchone()
    return 0 if found is None else int(found[0])


def _find_number(connection: sqlite3.Connection, execution: str) -> int | None:
    found = connection.execute(_NUMBER, (execution,)).fetchone()
    return None if found is None else int(found[0])


def _where(*conditions: tuple[str, str | None]) -> tuple[str, list[str]]:
    """The conditions whose value is not None, as the beginning of a WHERE; their values."""
    asked = [(condition, value) for condition, value in conditions if value is not None]
    return "".join(f"{condition} ? AND " for condition, _ in asked), [value for _, value in asked]


def _in_range(values: Sequence[str | int]) -> list[str | int]:
    """The values with numbers that no row can have brought to ones that SQLite can hold."""
    return [
        min(max(value, -_HIGHEST), _HIGHEST) if isinstance(value, int) else value
        for value in values
    ]


def _remember(known: set[str] | dict[str, int]) -> None:
    """Keep what is remembered bounded; what was forgotten is looked up again."""
    if len(known) >= _REMEMBERED:
        known.clear()


def _to_micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _to_instant(micros: int) -> datetime:
    # Several times as fast, and exact as long as a double tells microseconds apart.
    if 0 <= micros < 2**52:
        return datetime.fromtimestamp(micros / 1_000_000, UTC)
    return _EPOCH + timedelta(microseconds=micros)


def _micros_or_null(at: datetime | None) -> int | None:
    return None if at is None else _to_micros(at)


def _instant_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else _to_instant(micros)
