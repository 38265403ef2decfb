"""Stores of every earlier version are migrated completely, even if the process is killed."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from goflow.core.events import (
    AnyFact,
    Finished,
    Submitted,
    TaskStarted,
    TaskSucceeded,
    encode_facts,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.engine.entries import Switch, read_switches
from goflow.stores.base import (
    Accounted,
    Activity,
    Created,
    Existing,
    Idempotency,
    Purge,
    Record,
    Submit,
    Tick,
    TickOutcome,
)
from goflow.stores.logs import AppendLog
from goflow.stores.sqlite import SqliteStore
from goflow.stores.sqlite.codec import QUARTER
from goflow.stores.sqlite.results import move_out_of_facts
from goflow.stores.sqlite.schema import MIGRATIONS, SCHEMA, migrate, take

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan((PlannedTask("a"), PlannedTask("b", ("a",))))
EPOCH = "0123456789abcdef"
RUNS = 60  # executions in an old store; every third is unfinished, every second was a tick

# Digests of released migration steps, which are never edited.
RELEASED = {
    1: "77cd03b3455d8dc5",
    2: "6342b1af49441304",
    3: "7afe2184880adc5a",
    5: "ec3f3c6a629a36c9",
}

ANCHOR = BEGIN + timedelta(hours=1)
# Schedules of versions 2 to 5: by job, with the last recorded due time.
WATCHES = (
    ("job 1", "Schedule('0 6 * * *', 'Europe/Berlin', with_seconds=False)", ANCHOR),
    ("job 2", "off Schedule('@every 1h', 'UTC', with_seconds=True)", ANCHOR + timedelta(hours=5)),
    (
        "job 3",
        "Schedule('CRON_TZ=Asia/Tokyo  0  7 * * *', 'Asia/Tokyo', with_seconds=False)",
        BEGIN,
    ),
    ("odd", "off not a schedule", BEGIN),
)
# The same since version 6, by job: the schedule, and whether it is on.
SCHEDULES = {
    "job 1": ("CRON_TZ=Europe/Berlin 0 6 * * *", True),
    "job 2": ("CRON_TZ=UTC @every 1h", False),
    "job 3": ("CRON_TZ=Asia/Tokyo 0 7 * * *", True),
    "odd": ("not a schedule", False),
}

LARGE = b'["' + b"r" * 5000 + b'"]'  # a result that was part of a fact before version 4


def at(number: int) -> datetime:
    return BEGIN + timedelta(minutes=number, microseconds=number)


def micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def facts(number: int) -> list[AnyFact]:
    begun: list[AnyFact] = [
        Submitted(at(number), id=f"x{number}", job=f"job {number % 4}", plan=PLAN.id, cause="api"),
        TaskStarted(at(number), "a", 1),
    ]
    if number % 7 == 0:
        begun.append(TaskSucceeded(at(number), "a", 1, msgspec.Raw(LARGE)))
    return begun if number % 3 == 0 else [*begun, Finished(at(number), "failed")]


def facts_now(number: int) -> list[AnyFact]:
    """The same facts, with the large result in its own row."""
    size, sha256 = len(LARGE), hashlib.sha256(LARGE).hexdigest()
    return [
        TaskSucceeded(fact.at, "a", 1, size=size, sha256=sha256)
        if isinstance(fact, TaskSucceeded)
        else fact
        for fact in facts(number)
    ]


def summary(number: int) -> bytes:
    """A summary with the fields that a migration reads; some summaries are damaged."""
    if number % 5 == 0:
        return b"brief"
    tasks = [{"name": "a", "started": "2020-01-01T00:00:00Z"}]
    return msgspec.json.encode(
        {"id": f"x{number}", "started": at(number), "finished": ended(number), "tasks": tasks}
    )


def ended(number: int) -> datetime:
    return at(number) + timedelta(seconds=number, microseconds=number % 2 * 999_000)


def fill(store: sqlite3.Connection) -> None:
    """Write the rows that are the same in every version before 6."""
    fill_executions(store)
    store.execute("INSERT INTO switches (job, active, at) VALUES ('job 1', 1, ?)", (micros(at(0)),))


def fill_executions(store: sqlite3.Connection) -> None:
    """Write the rows that are the same in every version."""
    store.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (EPOCH,))
    store.execute("INSERT INTO plans VALUES (?, ?)", (PLAN.id, PLAN.encoded))
    for number in range(1, RUNS + 1):
        job, now = f"job {number % 4}", micros(at(number))
        state, finished = ("running", 0) if number % 3 == 0 else ("failed", 1)
        for fact in facts(number):
            store.execute(
                "INSERT INTO facts (execution, body) VALUES (?, ?)", (number, encode_facts([fact]))
            )
        (version,) = store.execute("SELECT max(version) FROM facts").fetchone()
        store.execute(
            """INSERT INTO executions
                (number, id, job, plan, submitted, state, finished, modified, version)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (number, f"x{number}", job, PLAN.id, now, state, finished, now, version),
        )
        if finished:
            store.execute("INSERT INTO summaries VALUES (?, ?)", (number, summary(number)))
        store.execute(
            """INSERT INTO logs (execution, task, attempt, first, lines, text)
                VALUES (?, 'a', 1, 0, 1, ?)""",
            (number, f"of {number}\n"),
        )
        store.execute("INSERT INTO idempotency VALUES (?, ?, 'f', ?)", (job, f"k{number}", number))


def fill_1(store: sqlite3.Connection) -> None:
    fill(store)
    for number in range(2, RUNS + 1, 2):
        tick = f"job {number % 4}", micros(at(number)), number
        store.execute("INSERT INTO ticks VALUES (?, ?, ?)", tick)
    store.execute("INSERT INTO anchors VALUES ('job 2', 5.0, 0)")


TICK = """INSERT INTO ticks (job, due, run, outcome, at, reason, count, until, execution)
    VALUES (?, ?, ?, ?, ?, '', ?, ?, ?)"""


def fill_2(store: sqlite3.Connection) -> None:
    fill(store)
    fill_ticks(store)
    for job, text, accounted in WATCHES:
        watch = job, text, micros(ANCHOR), micros(accounted)
        store.execute("INSERT INTO watches VALUES (?, ?, ?, ?)", watch)


def fill_ticks(store: sqlite3.Connection) -> None:
    for number in range(2, RUNS + 1, 2):
        due = micros(at(number))
        tick = f"job {number % 4}", due, 0, "fired", due, 1, None, f"x{number}"
        store.execute(TICK, tick)
    store.execute("INSERT INTO tallies SELECT job, plan, count(*) FROM executions GROUP BY job")
    due = micros(at(0))
    store.execute(TICK, ("late", due, 0, "skipped", 0, 1, None, None))
    store.execute(TICK, ("late", due, 1, "missed", 0, 5, 9, None))


def fill_3(store: sqlite3.Connection) -> None:
    fill_2(store)
    fill_activity(store)


def fill_activity(store: sqlite3.Connection) -> None:
    for number in range(1, RUNS + 1):
        if number % 3 and number % 5:
            store.execute(
                "UPDATE executions SET started = ?, ended = ? WHERE number = ?",
                (micros(at(number)), micros(ended(number)), number),
            )
    store.execute(
        f"""INSERT INTO activity SELECT job, submitted / {QUARTER}, state, count(*),
            sum(coalesce(ended - started, 0)) FROM executions WHERE finished = 1 GROUP BY 1, 2"""
    )
    store.execute(
        f"""INSERT INTO activity SELECT job, due / {QUARTER}, outcome, count, 0 FROM ticks
            WHERE job = 'late'"""
    )


def fill_4(store: sqlite3.Connection) -> None:
    fill_3(store)
    move_out_of_facts(store)


fill_5 = fill_4  # a column of `logs` was added, with a default


def fill_6(store: sqlite3.Connection) -> None:
    fill_executions(store)
    fill_ticks(store)
    fill_activity(store)
    move_out_of_facts(store)
    put = "INSERT INTO entries VALUES (?, ?, ?)"
    switch = {"active": True, "at": at(0), "by": ""}
    store.execute(put, ("switch", "job 1", msgspec.json.encode(switch)))
    for job, _, accounted in WATCHES:
        text, on = SCHEDULES[job]
        state = {"schedule": text, "anchor": ANCHOR, "on": on}
        store.execute(put, ("schedule", job, msgspec.json.encode(state)))
        row = job, micros(ANCHOR), micros(accounted)
        store.execute("INSERT INTO accounted VALUES (?, ?, ?)", row)


def fill_7(store: sqlite3.Connection) -> None:
    fill_6(store)
    place = "(execution, task, item, attempt, body) VALUES (1, 'a', 5, 1, x'35')"
    store.execute(f"INSERT INTO results {place}")


fill_8 = fill_7  # the table of costs was added


FILL: dict[int, Callable[[sqlite3.Connection], None]] = {
    1: fill_1,
    2: fill_2,
    3: fill_3,
    4: fill_4,
    5: fill_5,
    6: fill_6,
    7: fill_7,
    8: fill_8,
}


def old_store(version: int, folder: Path) -> Path:
    """A store left by a killed server of that version, with its log."""
    folder.mkdir()
    made, path = folder / "made.db", folder / "goflow.db"
    with closing(sqlite3.connect(made, isolation_level=None)) as store:
        store.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for steps in MIGRATIONS[:version]:
            for step in steps:
                take(store, step)
        store.execute(f"PRAGMA user_version = {version}")
        store.execute("PRAGMA journal_mode = WAL")
        FILL[version](store)
        for suffix in ("", "-wal"):
            shutil.copy(f"{made}{suffix}", f"{path}{suffix}")
    made.unlink()
    return path


def check_whole(path: Path, version: int) -> None:
    """Check that everything that `fill` wrote is there, and that the store works."""
    store = SqliteStore(path)
    store.open()
    try:
        assert store.epoch == EPOCH
        assert read_switches(store) == {"job 1": Switch(True, at(0))}
        states = {job: msgspec.json.decode(kept) for job, kept in store.entries("schedule").items()}
        known = WATCHES if states else ()  # version 1 had none
        assert {job: (kept["schedule"], kept["on"]) for job, kept in states.items()} == {
            job: SCHEDULES[job] for job, _, _ in known
        }
        assert all(kept["anchor"] == "2026-01-01T01:00:00Z" for kept in states.values())
        assert store.accounted() == {job: Accounted(ANCHOR, upto) for job, _, upto in known}
        assert bool(states) is (version > 1)
        assert store.result("x1", "a", 1, 5) == (b"5" if version > 6 else None)
        rows = store.page(job=None, state=None, before=None, limit=1000)[::-1]
        assert [row.id for row in rows] == [f"x{number}" for number in range(1, RUNS + 1)]
        assert [row.number for row in rows] == list(range(1, RUNS + 1))
        assert store.unfinished() == [f"x{number}" for number in range(3, RUNS + 1, 3)]
        for number, row in enumerate(rows, 1):
            assert row.submitted == at(number)
            assert row.summary == (None if number % 3 == 0 else summary(number))
            assert store.history(row.id).facts == facts_now(number)
            assert store.result(row.id, "a", 1) == (None if number % 7 else LARGE)
            assert store.history(row.id).plan == PLAN
            assert [chunk.text for chunk in store.logs.read(row.id, "a", 1, 0, 9)] == [
                f"of {number}\n"
            ]
        for job in range(4):
            for mark in store.recent([f"job {job}"], RUNS)[f"job {job}"]:
                number = int(mark.id[1:])
                known = number % 3 and number % 5
                assert mark.started == (at(number) if known else None)
                assert mark.finished == (ended(number) if known else None)
            failed = [n for n in range(1, RUNS + 1) if n % 3 and n % 4 == job]
            took = sum((ended(n) - at(n) for n in failed if n % 5), timedelta(0))
            activity = store.activity(f"job {job}", [BEGIN, at(0) + timedelta(days=1)])
            assert activity == [Activity({"failed": len(failed)}, took)]
            ticked = [n for n in range(RUNS, 0, -1) if n % 2 == 0 and n % 4 == job]
            assert store.ticks(f"job {job}", None, 1000) == [
                Tick(at(n), TickOutcome.FIRED, at(n), execution=f"x{n}") for n in ticked
            ]
        counted = {"missed": 5, "skipped": 1} if store.ticks("late", None, 1) else {}
        assert store.activity("late", [BEGIN, at(15)]) == [Activity(counted)]
        check_going_on(store)
    finally:
        store.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA user_version").fetchall() == [(SCHEMA,)]


def check_going_on(store: SqliteStore) -> None:
    def submit(number: int, *, tick: bool = False, key: str | None = None) -> Submit:
        fact = Submitted(
            at(900),
            id=f"x{900 + number}",
            job=f"job {number % 4}",
            plan=PLAN.id,
            cause="api",
            scheduled_at=at(number),
        )
        return Submit(fact, PLAN, tick=tick, idempotency=Idempotency(key, "f") if key else None)

    version = store.version()
    fired, keyed, new, recorded, _, purged = store.commit(
        [
            submit(2, tick=True),
            submit(5, key="k5"),
            submit(7, tick=True),
            Record("x3", [Finished(at(901), "failed")], State.FAILED, at(901), b"{}"),
            AppendLog("x3", "a", 1, 1, 1, "more\n"),
            Purge(None, None, 10, 1000),
        ]
    )
    assert fired == Existing("x2", at(2), None)
    assert keyed == Existing("x5", at(5), "f")
    assert new == Created(version + 1)
    assert recorded == version + 2
    assert purged == RUNS - RUNS // 3 + 1 - 10


def test_every_earlier_version_is_tested() -> None:
    assert set(FILL) == set(range(1, SCHEMA))


def test_released_migration_steps_are_unchanged() -> None:
    for version, known in RELEASED.items():
        text = "\n".join(MIGRATIONS[version - 1])
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == known


@pytest.mark.parametrize("version", FILL)
def test_an_earlier_store_is_migrated_completely(version: int, tmp_path: Path) -> None:
    check_whole(old_store(version, tmp_path / "store"), version)


def test_a_new_store_is_made_in_one_transaction_and_equals_a_migrated_one(tmp_path: Path) -> None:
    def schema_of(path: Path) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path)) as store:
            every = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
            pragmas = ("user_version", "application_id", "auto_vacuum")
            values = [store.execute(f"PRAGMA {one}").fetchone() for one in pragmas]
            return [*store.execute(every).fetchall(), *values]

    fresh, migrated = tmp_path / "fresh.db", tmp_path / "migrated.db"
    statements: list[str] = []
    with closing(sqlite3.connect(fresh, isolation_level=None)) as store:
        store.set_trace_callback(statements.append)
        migrate(store)
    assert statements.count("COMMIT") == 1
    with closing(sqlite3.connect(migrated, isolation_level=None)) as store:
        for version, steps in enumerate(MIGRATIONS, 1):
            for step in steps:
                take(store, step)
            store.execute(f"PRAGMA user_version = {version}")
    assert schema_of(fresh) == schema_of(migrated)
    assert len(schema_of(fresh)) > 30


# For each number of statements, opens a copy of the store and is killed after that many; then
# opens it again and is killed after the same number, while it continues the migration.
KILLED = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from goflow.stores.sqlite.results import move_out_of_facts
from goflow.stores.sqlite import SqliteStore

class Dying(sqlite3.Connection):
    left = 0

    def execute(self, *statement):
        result = super().execute(*statement)
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

class DyingStore(SqliteStore):
    def _connect(self, mode):
        return sqlite3.connect(self._file, factory=Dying, isolation_level=None)

def killed(path, after):
    child = os.fork()
    if child == 0:
        Dying.left = after
        DyingStore(path).open()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

old, lives = Path(sys.argv[1]), Path(sys.argv[2])
after, kills = 0, 0
while True:
    after += 1
    folder = lives / str(after)
    shutil.copytree(old.parent, folder)
    if not killed(folder / old.name, after):
        break
    kills += 1 + killed(folder / old.name, after)
print(kills)
"""


@pytest.mark.parametrize("version", FILL)
def test_a_migration_killed_after_any_statement_is_completed_by_the_next_start(
    version: int, tmp_path: Path
) -> None:
    old, lives = old_store(version, tmp_path / "old"), tmp_path / "lives"
    command = [sys.executable, "-c", KILLED, str(old), str(lives)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) >= max(20, len(MIGRATIONS[-1]))
    for life in lives.iterdir():
        check_whole(life / old.name, version)
