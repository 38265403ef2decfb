"""Tests of a store in a file: durability, kills, full disks, wrong files."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from goflow.core.states import State
from goflow.errors import StoreError, StoreUnavailable
from goflow.stores.base import Accounted, Purge, Put, RecordTicks, Tick, TickOutcome
from goflow.stores.sqlite import SqliteStore, file, schema

# The code that a child process needs to commit.
PRELUDE = """
import json, os, signal, sys
from datetime import UTC, datetime
from goflow.core.events import Submitted, TaskStarted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.errors import StoreError, StoreUnavailable
from goflow.stores.base import (Record, Submit)
from goflow.stores.logs import AppendLog
from goflow.stores.sqlite import SqliteStore

now = datetime.now(UTC)
plan = Plan((PlannedTask("a"),))

def submit(execution):
    return Submit(Submitted(now, id=execution, job="job", plan=plan.id, cause="api"), plan)

store = SqliteStore(sys.argv[1])
"""


def python(script: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]


def run(script: str, *arguments: str | Path) -> str:
    """Run the script in a separate process, and return its output."""
    command = python(script, *arguments)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "goflow.db"


@pytest.fixture
def filled(path, changes) -> Path:
    """A closed store with data of every kind."""
    at = changes.now()
    store = SqliteStore(path)
    store.open()
    store.commit(
        [
            changes.submit("x", key="k", fingerprint="f"),
            changes.submit("y", due=changes.now(), tick=True),
            changes.record("x"),
            changes.finish("y", State.FAILED, b"brief"),
            changes.log("x", 0, "line"),
            Put("kind", "key", b"1"),
            RecordTicks("job", [Tick(at, TickOutcome.MISSED, at)], Accounted(at, at)),
        ]
    )
    store.close()
    return path


def contents(store: SqliteStore) -> list[object]:
    return [
        store.epoch,
        store.version(),
        store.entries("kind"),
        store.accounted(),
        store.ticks("job", None, 9),
        store.unfinished(),
        store.page(job=None, state=None, before=None, limit=9),
        store.history("x"),
        store.history("y"),
        store.logs.read("x", "a", 1, 0, 99),
    ]


def reopened(path: Path) -> list[object]:
    store = SqliteStore(path)
    store.open()
    try:
        return contents(store)
    finally:
        store.close()


def refusal(path: str | Path) -> str:
    """The error with which a store is refused."""
    store = SqliteStore(path)
    with pytest.raises(StoreError) as refused:
        store.open()
    store.close()
    return str(refused.value)


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -- durability --------------------------------------------------------------------


def test_everything_is_there_after_reopening_and_versions_continue(path, changes):
    store = SqliteStore(path)
    store.open()
    store.commit([changes.submit("x", key="k"), changes.submit("y"), changes.log("x", 0, "line")])
    store.commit([changes.record("x"), changes.finish("y"), Put("kind", "key", b"2")])
    before = contents(store)
    store.close()

    store.open()
    assert contents(store) == before
    [again] = store.commit([changes.submit("z", key="k")])
    assert again.execution == "x"
    [version] = store.commit([changes.record("x")])
    assert version == before[1] + 1
    store.close()


def test_a_closed_store_is_one_file(filled):
    assert os.listdir(filled.parent) == ["goflow.db"]


def test_a_relative_path_stays_where_it_was_opened(tmp_path, changes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("goflow.db")
    store.open()
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    store.commit([changes.submit("x")])
    assert store.find("x") is not None
    store.close()
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "goflow.db"]


@pytest.mark.parametrize("name", ["a b?mode=ro#c%41.db", "日本.db", "no-suffix", ":memory:"])
def test_any_file_name_is_accepted(tmp_path, changes, name):
    store = SqliteStore(tmp_path / name)
    store.open()
    store.commit([changes.submit("x")])
    assert store.find("x") is not None
    store.close()
    assert os.listdir(tmp_path) == [name]


def test_an_empty_file_becomes_a_store(path):
    path.touch()
    assert reopened(path)[1] == 0


def test_acknowledged_changes_survive_kill_9(path):
    script = """
store.open()
sys.stdout.write("open\\n")
count = 0
while True:
    batch = [submit(f"{sys.argv[2]}-{count + each}") for each in range(count % 3 + 1)]
    store.commit(batch)
    for change in batch:
        store.commit([Record(change.fact.id, [TaskStarted(now, "a", 1)], State.RUNNING, now)])
        print(change.fact.id, flush=True)
    count += len(batch)
"""
    acknowledged = []
    for life in range(10):
        child = subprocess.Popen(python(script, path, str(life)), stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "open\n"
        for _ in range(random.Random(life).randrange(1, 400)):
            acknowledged.append(child.stdout.readline().strip())
        child.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
        child.stdout.close()
        child.wait()

    store = SqliteStore(path)
    store.open()
    for execution in acknowledged:
        assert store.find(execution).state is State.RUNNING
        assert len(store.history(execution).facts) == 2
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_store_killed_during_its_creation_opens(tmp_path):
    script = """
import functools, sqlite3

class Dying(sqlite3.Connection):
    left = 0

    def execute(self, *statement):
        result = super().execute(*statement)
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

connect, died, life = sqlite3.connect, True, 0
while died:
    life += 1
    store = SqliteStore(f"{sys.argv[1]}/{life}.db")
    child = os.fork()
    if child == 0:
        sqlite3.connect = functools.partial(connect, factory=Dying)
        Dying.left = life
        store.open()
        os._exit(0)
    died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    store.open()
    store.commit([submit("x")])
    store.close()
print(life)
"""
    assert int(run(script, tmp_path)) > len(schema.MIGRATIONS[0])
    for made in tmp_path.glob("*.db"):
        connection = sqlite3.connect(made)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA auto_vacuum").fetchall() == [(2,)]
        connection.close()


# -- one server --------------------------------------------------------------------


def test_a_second_server_is_refused_with_the_pid_of_the_first(filled, tmp_path):
    alias = tmp_path / "alias.db"
    alias.symlink_to(filled)
    script = """
store.open()
print("open", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        python(script, filled), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "open\n"
    for name in (filled, alias):
        message = refusal(name)
        assert f"{name} is in use by another goflow server (pid {child.pid})" in message
    child.kill()
    child.communicate()
    assert reopened(alias)[1] > 0


def test_a_second_open_in_the_same_process_is_refused(filled, changes):
    store = SqliteStore(filled)
    store.open()
    for other in (filled, os.path.relpath(filled)):
        assert f"(pid {os.getpid()})" in refusal(other)
    with pytest.raises(StoreError, match="in use"):
        store.open()
    store.commit([changes.submit("z")])
    # Another process is still refused, so the refusals released no lock.
    assert "in use" in run(
        """
try:
    store.open()
except StoreError as error:
    print(error)
""",
        filled,
    )
    store.close()
    assert reopened(filled)[1] > 0


def test_a_forked_worker_that_outlives_its_server_does_not_block_the_next_one(filled):
    script = """
store.open()
read, write = os.pipe()
begun, begin = os.pipe()
worker = os.fork()
if worker == 0:
    os.close(write)
    os.write(begin, b".")
    os.read(read, 1)  # until the test ends it
    os._exit(0)
os.read(begun, 1)  # until the worker really runs
print(worker, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The worker must not hold our pipe open, or `communicate` would wait for it.
    child = subprocess.Popen(python(script, filled), stdout=subprocess.PIPE, text=True)
    worker = int(child.stdout.readline())
    child.wait()
    try:
        assert reopened(filled)[1] > 0
    finally:
        os.kill(worker, signal.SIGKILL)
        child.stdout.close()


# -- refusals ----------------------------------------------------------------------


def foreign_database(path: Path) -> None:
    alter(path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")


def foreign_database_in_wal(path: Path) -> None:
    alter(path, "PRAGMA journal_mode = WAL", "CREATE TABLE theirs (x)")


def text(path: Path) -> None:
    path.write_text("id,name\n1,somebody\n" * 100)


def torn(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(20))


@pytest.mark.parametrize("make", [foreign_database, foreign_database_in_wal, text, torn])
def test_another_kind_of_file_is_refused_and_unchanged(path, make):
    make(path)
    before = path.read_bytes()
    message = refusal(path)
    assert f"{path} is not a goflow store" in message
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_store_of_a_newer_version_is_refused_and_unchanged(filled):
    alter(filled, "PRAGMA user_version = 77")
    before = filled.read_bytes()
    message = refusal(filled)
    assert f"{filled} is of store version 77" in message
    assert f"up to {schema.SCHEMA}" in message
    assert filled.read_bytes() == before


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def noise(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100] + random.Random(1).randbytes(size - 100))


def headless(path: Path) -> None:
    alter(path, "DROP TABLE meta")


@pytest.mark.parametrize("damage", [half, noise, headless])
def test_a_damaged_store_is_refused_and_unchanged(filled, damage):
    damage(filled)
    before = filled.read_bytes()
    assert f"{filled} is damaged: put a copy of it back" in refusal(filled)
    assert filled.read_bytes() == before
    assert os.listdir(filled.parent) == [filled.name]


def test_invalid_paths_are_refused(tmp_path, filled):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place, complaint in {
        tmp_path: f"is a directory: give a file in it, such as {tmp_path / 'goflow.db'}",
        tmp_path / "missing" / "goflow.db": f"there is no folder {tmp_path / 'missing'}",
        filled / "goflow.db": f"there is no folder {filled}",
        fifo: "is not a regular file",
        loop: "cannot be a store: Too many levels of symbolic links",
        tmp_path / ("x" * 300): "cannot be a store: File name too long",
        tmp_path / "nul\0.db": "embedded null",
        Path("/proc/goflow.db"): "cannot be a store",
        Path("/dev/null"): "is not a regular file",
    }.items():
        message = refusal(place)
        assert message.startswith(str(place))
        assert complaint in message
    assert sorted(os.listdir(tmp_path)) == ["fifo", "goflow.db", "loop"]


# Root may write anywhere, so the child drops its rights after the imports.
UNPRIVILEGED = """
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    store.open()
except StoreError as error:
    print(error)
"""


@pytest.fixture
def place():
    """A folder accessible to all users, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555), (0o000, 0o777), (0o666, 0o666)]
)
def test_a_read_only_store_is_refused(filled, place, file_mode, folder_mode):
    moved = place / "goflow.db"
    shutil.copy(filled, moved)
    before = moved.read_bytes()
    moved.chmod(file_mode)
    place.chmod(folder_mode)
    message = run(UNPRIVILEGED, moved)
    assert message.startswith(str(moved))
    assert "permission" in message.lower()
    place.chmod(0o777)
    moved.chmod(0o666)
    assert moved.read_bytes() == before
    assert os.listdir(place) == ["goflow.db"]


# -- temporary failures ------------------------------------------------------------


def test_a_batch_on_a_full_disk_changes_nothing_and_works_later(path):
    # A limit on the file size simulates a full disk without privileges.
    script = """
import resource
store.open()
store.commit([submit("x")])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
big = [submit("y"), AppendLog("x", "a", 1, 0, 1, "z" * 1_000_000 + "\\n")]
for _ in range(3):
    try:
        store.commit(big)
    except StoreUnavailable as error:
        print(json.dumps(str(error)))
print(json.dumps([store.unfinished(), store.logs.read("x", "a", 1, 0, 1), store.find("y") is None]))
store.commit([submit("small")])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.commit(big)
print(json.dumps([store.unfinished(), len(store.logs.read("x", "a", 1, 0, 1))]))
store.close()
"""
    *refused, meanwhile, after = map(json.loads, run(script, path).splitlines())
    assert len(refused) == 3
    assert all(message.startswith(f"{path} ") and "disk" in message for message in refused)
    assert meanwhile == [["x"], [], True]
    assert after == [["x", "small", "y"], 1]


def test_a_full_disk_by_page_count_is_reported(filled, changes):
    store = SqliteStore(filled)
    store.open()
    with store._writing() as writer:
        writer.execute("PRAGMA max_page_count = 1")  # SQLite uses the current count instead
    huge = [changes.log("x", 1, "z" * 100_000)]
    with pytest.raises(StoreUnavailable, match="does not fit on its disk: make room"):
        store.commit(huge)
    assert store.logs.read("x", "a", 1, 1, 1) == []
    with store._writing() as writer:
        writer.execute("PRAGMA max_page_count = 1000000")
    store.commit(huge)
    store.close()


def test_a_store_locked_by_another_program_is_unavailable_and_works_later(filled, changes):
    store = SqliteStore(filled)
    store.open()
    with store._writing() as writer:
        writer.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(filled, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another program"):
        store.commit([changes.submit("z")])
    assert store.find("z") is None
    assert store.find("x") is not None
    other.execute("ROLLBACK")
    other.close()
    store.commit([changes.submit("z")])
    assert store.find("z") is not None
    store.close()


def test_a_moved_file_accepts_no_more_commits(filled, changes):
    store = SqliteStore(filled)
    store.open()
    aside = filled.rename(filled.with_name("aside.db"))
    with pytest.raises(StoreUnavailable, match="was moved or removed"):
        store.commit([changes.submit("z")])
    aside.rename(filled)
    store.commit([changes.submit("z")])
    store.close()


def test_damage_found_while_running_is_reported_as_unavailable(filled, changes):
    store = SqliteStore(filled)
    store.open()
    size = filled.stat().st_size
    with filled.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StoreUnavailable, match="is damaged"):
        store.find("x")
    with pytest.raises(StoreUnavailable, match="was overwritten"):
        store.commit([changes.submit("z")])
    store.close()


# -- copies of a store that is not open here ---------------------------------------


def copied(path: Path) -> Path:
    copy = path.with_name("copy.db")
    SqliteStore(path).backup_unopened(str(copy))
    return copy


@pytest.mark.parametrize("in_use", [False, True])
def test_a_copy_is_complete_whether_or_not_the_store_is_in_use(filled, changes, in_use):
    store = SqliteStore(filled)
    store.open()
    store.commit([changes.submit("z")])
    if not in_use:
        store.close()
    copy = copied(filled)
    if in_use:
        assert f"(pid {os.getpid()})" in run(REFUSED, filled), "its locks are still held"
        store.commit([changes.submit("after the copy")])
        store.close()
    later = SqliteStore(copy)
    later.open()
    assert later.unfinished() == ["x", "z"]
    assert later.epoch != store.epoch
    later.close()


REFUSED = """
try:
    store.open()
except StoreError as error:
    print(error)
"""


def test_a_store_of_an_earlier_version_is_copied_unchanged(path, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    earlier = SqliteStore(path)
    earlier.open()
    earlier.close()
    monkeypatch.undo()
    copy = copied(path)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(1,)]
    store = SqliteStore(copy)
    store.open()
    assert store.unfinished() == []
    store.close()


@pytest.mark.parametrize("make", [foreign_database, foreign_database_in_wal, text, torn])
def test_another_kind_of_file_is_not_copied(path, make):
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is not a goflow store"):
        copied(path)
    assert path.read_bytes() == before
    assert not path.with_name("copy.db").exists()


def test_a_store_of_a_newer_version_is_not_copied(filled):
    alter(filled, "PRAGMA user_version = 77")
    with pytest.raises(StoreError, match="of store version 77"):
        copied(filled)


# -- the schema --------------------------------------------------------------------


def test_migrations_keep_the_data_and_run_once(filled, monkeypatch):
    before = reopened(filled)
    added = ("ALTER TABLE executions ADD COLUMN note TEXT", "CREATE TABLE notes (x)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, added))
    monkeypatch.setattr(file, "SCHEMA", schema.SCHEMA + 1)
    assert reopened(filled) == before
    assert reopened(filled) == before
    monkeypatch.undo()
    assert f"store version {schema.SCHEMA + 1}" in refusal(filled)


def test_a_failed_migration_keeps_the_previous_version(filled, monkeypatch):
    before = reopened(filled)
    failing = ("CREATE TABLE notes (x)", "CREATE TABLE executions (x)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, failing))
    assert "executions already exists" in refusal(filled)
    monkeypatch.undo()
    assert reopened(filled) == before
    connection = sqlite3.connect(filled)
    assert connection.execute("SELECT * FROM sqlite_schema WHERE name = 'notes'").fetchall() == []
    connection.close()


def test_no_statement_reads_more_than_it_needs(filled, changes):
    """Every search uses an index in its order; a purge reads only the oldest rows."""
    store = SqliteStore(filled)
    store.open()
    asked: list[str] = []
    for connection in (store._reading, store._writing):
        with connection() as traced:
            traced.set_trace_callback(asked.append)
    for job in (None, "job"):
        for state in (None, State.FAILED):
            for before in (None, 5):
                store.page(job=job, state=state, before=before, limit=3)
        store.finished_since(0, 9, 9, job)
    store.recent(["job"], 3)
    store.unfinished()
    store.find("x")
    store.history("x")
    store.logs.read("x", "a", 1, 0, 9)
    store.version()
    store.entries("switch")
    store.facts_since(0, 9, 10**6)
    store.ticks("job", None, 9)
    store.activity("job", [changes.now(), changes.now()])
    store.commit([Purge(None, None, None, 9, changes.now())])
    store.commit([changes.submit("z", due=changes.now(), tick=True, key="k2")])
    store.commit([changes.record("z"), changes.log("z", 0, "line", forget=(0, 1))])
    for job in ("job", None):
        finish = changes.submit(f"of {job}"), changes.finish(f"of {job}")
        store.commit([*finish, Purge(job, None, 0, 9), Purge(job, changes.now(), None, 9)])
    with store._reading() as reader:
        reader.set_trace_callback(None)
        plans = {
            statement: [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for statement in asked
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT INTO activity"))
            and "sqlite_sequence" not in statement  # three rows, without an index
        }
    store.close()
    assert len(plans) >= 40
    for statement, plan in plans.items():
        # All unfinished executions are read or counted, from an index that has only these.
        of_unfinished = any("executions_unfinished" in step for step in plan)
        in_order = "ORDER BY number LIMIT" in statement and "NOT INDEXED" in statement
        few = "FROM remains" in statement or "FROM tallies" in statement
        # The outcomes of a day are sorted, and jobs are read one by one.
        few |= "FROM activity" in statement and "SCAN activity" not in " ".join(plan)
        # The costs of a job within some days: one row for each name and quarter of an hour.
        few |= "FROM costs" in statement and "SCAN costs" not in " ".join(plan)
        for step in plan:
            assert "SCAN" not in step or of_unfinished or in_order or few, (statement, plan)
            assert "TEMP B-TREE" not in step or of_unfinished or few, (statement, plan)
