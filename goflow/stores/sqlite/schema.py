"""The tables of a store in SQLite, and the migrations that lead to them.

The rule: a released migration is never edited. A change of the schema is a new entry at the end
of `MIGRATIONS`; CONTRIBUTING.md lists what comes with it.

An index ends in the rowid, so the one on (job) is also in the order of `number`.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from goflow.stores.sqlite import chunks, costs, entries, results
from goflow.stores.sqlite.codec import QUARTER

APPLICATION_ID = 0x676F666C  # "gofl"

TOOK = "max(coalesce(ended - started, 0), 0)"
"""SQL for the microseconds an execution took; 0 where the clock was set back meanwhile."""

# Statements that several modules run.
TALLY = """INSERT INTO tallies VALUES (?, ?, ?)
    ON CONFLICT (job, plan) DO UPDATE SET executions = executions + excluded.executions"""
KEYED = """SELECT e.id, e.submitted, k.fingerprint FROM idempotency k JOIN executions e
    ON e.number = k.execution WHERE k.job = ? AND k.key = ?"""


def _micros_in(key: str) -> str:
    """SQL for the microseconds of an instant in the JSON in column `text`."""
    at = f"json_extract(text, '$.{key}')"
    return (
        f"strftime('%s', substr({at}, 1, 19)) * 1000000"
        f" + CASE length({at}) WHEN 27 THEN CAST(substr({at}, 21, 6) AS INTEGER) ELSE 0 END"
    )


Step = str | Callable[[sqlite3.Connection], None]

# The steps from each schema version to the next. Only ever append.
MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        # Only possible before the first write; lets a purge shorten the file.
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
        # From the summaries of the newest ones, which are what the overview shows.
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
        f"""INSERT INTO activity SELECT job, submitted / {QUARTER}, state, count(*), sum({TOOK})
            FROM executions WHERE finished = 1 GROUP BY 1, 2, 3""",
        f"""INSERT INTO activity SELECT job, due / {QUARTER}, outcome, sum(count), 0
            FROM ticks WHERE outcome IN ('missed', 'skipped') GROUP BY 1, 2, 3""",
    ),
    (
        *results.CREATE,
        results.move_out_of_facts,
    ),
    ("ALTER TABLE logs ADD COLUMN times BLOB NOT NULL DEFAULT x''",),
    (
        *entries.CREATE,
        # For the schedule with this anchor, every due time up to `upto` is in the ledger.
        """CREATE TABLE accounted (
            job TEXT PRIMARY KEY,
            anchor INTEGER NOT NULL,
            upto INTEGER NOT NULL) WITHOUT ROWID""",
        "INSERT INTO accounted SELECT job, anchor, accounted FROM watches",
        entries.move_in_switches,
        entries.move_in_watches,
        "DROP TABLE switches",
        "DROP TABLE watches",
    ),
    (
        # Items of mapped tasks; -1 is the task itself.
        "ALTER TABLE logs ADD COLUMN item INTEGER NOT NULL DEFAULT -1",
        "DROP INDEX logs_place",
        "CREATE INDEX logs_place ON logs (execution, task, item, attempt, first)",
        *results.ADD_ITEM,
    ),
    costs.CREATE,
    (*chunks.CREATE,),
)
SCHEMA = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to `SCHEMA`: that of a new store in one transaction, an older one version by
    version."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    if not current:
        every = [step for steps in MIGRATIONS for step in steps]
        _take_all(connection, every, len(MIGRATIONS))
        return
    for version, steps in enumerate(MIGRATIONS[current:], current + 1):
        _take_all(connection, steps, version)


def _take_all(connection: sqlite3.Connection, steps: Iterable[Step], version: int) -> None:
    """Take steps and set the version, in one transaction."""
    # DEFERRED, since IMMEDIATE writes, and auto_vacuum must be set before the first write.
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
    """The random word that was created with the store."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the store has no epoch")
    return str(found[0])


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commit the block whole, or nothing of it if it raises."""
    # IMMEDIATE: an upgrade from reading to writing would ignore the busy timeout.
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def last_version(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'facts'").fetchone()
    return 0 if found is None else int(found[0])


def find_number(connection: sqlite3.Connection, execution: str) -> int | None:
    """The number of an execution by its id."""
    found = connection.execute(
        "SELECT number FROM executions WHERE id = ?", (execution,)
    ).fetchone()
    return None if found is None else int(found[0])
