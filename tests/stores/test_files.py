"""One server per file under any of its names, and changed files are detected."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from goflow import Goflow
from goflow.errors import NotFound, StoreError, StoreUnavailable
from goflow.stores.sqlite import SqliteStore

BEGIN = """
import os, sys
from datetime import UTC, datetime
from goflow.errors import StoreError
from goflow.stores.base import Put
from goflow.stores.sqlite import SqliteStore

def commit(store, count):
    for number in range(count):
        store.commit([Put("kind", f"key {number}", b"1")])

store = SqliteStore(sys.argv[1])
"""
TRY = """
try:
    store.open()
except StoreError as error:
    print(error)
else:
    print("opened")
    store.close()
"""
DIE = """
store.open()
commit(store, 20)
os._exit(1)  # without closing anything
"""


def process(script: str, path: Path) -> str:
    command = [sys.executable, "-c", BEGIN + script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "goflow.db"


@pytest.fixture
def store(path: Path, changes) -> Iterator[SqliteStore]:
    """An open store with data in the file and in its log."""
    store = SqliteStore(path)
    store.open()
    store.commit([changes.submit("x")])
    store.close()
    store.open()
    store.commit([changes.submit("y")])
    yield store
    store.close()


# -- one server per file -----------------------------------------------------------


def hard_link(path: Path) -> Path:
    other = path.parent / "elsewhere"
    other.mkdir()
    other /= "other.db"
    other.hardlink_to(path)
    return other


def link_to_file(path: Path) -> Path:
    other = path.with_name("link.db")
    other.symlink_to(path)
    return other


def link_to_folder(path: Path) -> Path:
    folder = path.parent.with_name("folder")
    folder.symlink_to(path.parent)
    return folder / path.name


def without_the_lock_file(path: Path) -> Path:
    path.with_name("goflow.db.lock").unlink()
    return path


@pytest.mark.parametrize("named", [hard_link, link_to_file, link_to_folder, without_the_lock_file])
def test_a_file_in_use_is_refused_under_any_name(
    store: SqliteStore, path: Path, named: Callable[[Path], Path], changes
) -> None:
    other = named(path)
    assert "in use by another goflow server" in process(TRY, other)
    again = SqliteStore(other)
    with pytest.raises(StoreError, match="in use by another goflow server"):
        again.open()
    again.close()
    # The refusals released no lock, and the first server continues.
    assert "in use by another goflow server" in process(TRY, other)
    store.commit([changes.submit("z")])
    store.close()
    assert process(TRY, path) == "opened"


def test_reading_the_file_in_the_servers_process_keeps_the_lock(
    store: SqliteStore, path: Path
) -> None:
    """For example when a task copies it: closing a descriptor drops a process's POSIX locks."""
    path.read_bytes()
    path.with_name("goflow.db.lock").read_bytes()
    assert "in use by another goflow server" in process(TRY, path)


def test_a_copy_is_another_store(store: SqliteStore, path: Path) -> None:
    copy = path.with_name("copy.db")
    store.backup(str(copy))
    assert process(TRY, copy) == "opened"


def test_a_removed_lock_file_is_created_again_and_reported(store: SqliteStore, path: Path) -> None:
    lock = path.with_name("goflow.db.lock")
    assert store.check() == []
    noted = lock.read_text()
    lock.unlink()
    [remark] = store.check()
    assert "goflow.db.lock was removed" in remark.text
    assert not remark.lost
    assert lock.read_text() == noted
    assert store.check() == []
    store.close()
    assert not lock.exists()


def test_a_second_name_is_refused_while_commits_are_in_the_log_of_the_first(
    path: Path,
) -> None:
    """SQLite finds a log by the file's name, and would damage the file without it."""
    process(DIE, path)
    other = hard_link(path)
    told = process(TRY, other)
    assert f"another name of {path}" in told
    assert f"{path}-wal" in told
    assert not other.with_name("other.db-wal").exists()
    assert len(entries(path)) == 20
    assert process(TRY, other) == "opened"


def test_a_store_that_was_moved_opens_with_its_log(path: Path) -> None:
    process(DIE, path)
    moved = path.with_name("moved.db")
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{path}{suffix}").rename(f"{moved}{suffix}")
    assert len(entries(moved)) == 20


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (":memory:", "MemoryStore"),
        ("file::memory:", "file: URI"),
        ("file:x.db?mode=memory", "MemoryStore"),
        ("file:x?mode=memory&cache=shared", "MemoryStore"),
        ("x.db?mode=memory", "MemoryStore"),
        ("sqlite:///:memory:", "MemoryStore"),
        ("sqlite:///file:x?mode=memory", "MemoryStore"),
        ("sqlite://", "MemoryStore"),
        ("sqlite:///", "MemoryStore"),
        ("file:x.db", "file: URI"),
        ("", "path of a file"),
        (b"x.db", "bytes|path"),
    ],
)
def test_a_path_that_is_not_a_file_is_refused_with_advice(
    store: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        Goflow(store=store)
    if not str(store).startswith("sqlite:"):
        with pytest.raises(ValueError, match=told):
            SqliteStore(store)
    assert list(tmp_path.iterdir()) == []


# -- private -----------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_all_files_are_created_for_their_owner_only(path: Path, changes, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SqliteStore(path)
        store.open()
        store.commit([changes.submit("x")])
        store.backup(str(path.with_name("backup.db")))
        SqliteStore(path).backup_unopened(str(path.with_name("other.db")))
        modes = {file.name: mode(file) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(
        ("goflow.db", "goflow.db-wal", "goflow.db-shm", "goflow.db.lock", "backup.db", "other.db"),
        0o600,
    )
    assert mode(path) == 0o600


def test_a_world_readable_store_is_reported(path: Path) -> None:
    entries(path)
    path.chmod(0o644)
    store = SqliteStore(path)
    store.open()
    [remark] = store.check()
    store.close()
    assert "chmod o=" in remark.text
    assert mode(path) == 0o644


# -- after a crash -----------------------------------------------------------------


def entries(path: Path) -> dict[str, bytes]:
    store = SqliteStore(path)
    store.open()
    try:
        return store.entries("kind")
    finally:
        store.close()


def remarks(path: Path) -> list[tuple[str, bool]]:
    store = SqliteStore(path)
    store.open()
    try:
        return [(remark.text, remark.lost) for remark in store.check()]
    finally:
        store.close()


def remove_the_log(path: Path, folder: Path) -> None:
    Path(f"{path}-wal").unlink()


def empty_the_log(path: Path, folder: Path) -> None:
    os.truncate(f"{path}-wal", 0)


def cut_the_log(path: Path, folder: Path) -> None:
    os.truncate(f"{path}-wal", Path(f"{path}-wal").stat().st_size // 2)


def remove_all_but_the_lock(path: Path, folder: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


def remove_the_file(path: Path, folder: Path) -> None:
    path.unlink()


def empty_the_file(path: Path, folder: Path) -> None:
    os.truncate(path, 0)


def put_an_older_copy_back(path: Path, folder: Path) -> None:
    remove_all_but_the_lock(path, folder)
    shutil.copy(folder / "older.db", path)


@pytest.mark.parametrize(
    "harm",
    [
        remove_the_log,
        empty_the_log,
        cut_the_log,
        remove_the_file,
        empty_the_file,
        remove_all_but_the_lock,
        put_an_older_copy_back,
    ],
)
def test_commits_lost_after_a_crash_are_reported_once(
    path: Path, tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    entries(path)
    shutil.copy(path, tmp_path / "older.db")
    process(DIE, path)
    harm(path, tmp_path)
    [(text, lost)] = remarks(path)
    assert lost
    assert "goflow.db-wal" in text
    assert remarks(path) == []


def test_a_second_crash_reports_only_its_own_losses(path: Path) -> None:
    process(DIE, path)
    remove_the_log(path, path)
    process("store.open()\nos._exit(1)", path)
    assert remarks(path) == []
    process(DIE, path)
    remove_the_log(path, path)
    [(text, _)] = remarks(path)
    assert "20 commits" in text


def test_a_crash_without_losses_is_not_reported(path: Path) -> None:
    for _ in range(3):
        process(DIE, path)
        assert remarks(path) == []
    assert len(entries(path)) == 20


def test_a_replaced_store_is_not_reported_as_a_loss(path: Path, tmp_path: Path) -> None:
    entries(tmp_path / "other.db")
    process(DIE, path)
    remove_all_but_the_lock(path, path)
    (tmp_path / "other.db").rename(path)
    [(text, lost)] = remarks(path)
    assert "not the store that the server before" in text
    assert not lost


def test_a_refused_start_keeps_the_crashed_servers_commit_number(path: Path) -> None:
    process(DIE, path)
    remove_the_log(path, path)
    whole = path.read_bytes()
    path.write_bytes(b"not a database at all" * 300)
    with pytest.raises(StoreError, match="not a goflow store"):
        remarks(path)
    path.write_bytes(whole)
    [(_, lost)] = remarks(path)
    assert lost


def test_a_truncated_file_is_refused(path: Path) -> None:
    entries(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="shorter than it says"):
        remarks(path)


# -- while it is open --------------------------------------------------------------


def replace(path: Path, folder: Path) -> None:
    shutil.copy(folder / "other.db", folder / "new.db")
    (folder / "new.db").rename(path)


def overwrite(path: Path, folder: Path) -> None:
    path.write_bytes((folder / "other.db").read_bytes())


def overwrite_by_an_older_copy(path: Path, folder: Path) -> None:
    path.write_bytes((folder / "older.db").read_bytes())


def halve_the_file(path: Path, folder: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_a_page_off(path: Path, folder: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def remove_the_index(path: Path, folder: Path) -> None:
    Path(f"{path}-shm").unlink()


@pytest.mark.parametrize(
    "harm",
    [
        empty_the_log,
        cut_the_log,
        remove_the_file,
        empty_the_file,
        halve_the_file,
        cut_a_page_off,
        replace,
        overwrite,
        overwrite_by_an_older_copy,
        remove_the_log,
        remove_the_index,
        remove_all_but_the_lock,
    ],
)
@pytest.mark.parametrize("first", ["a look", "a commit"])
def test_commits_are_refused_after_the_files_were_replaced(
    path: Path, tmp_path: Path, changes, harm: Callable[[Path, Path], None], first: str
) -> None:
    entries(tmp_path / "other.db")
    entries(path)
    shutil.copy(path, tmp_path / "older.db")
    store = SqliteStore(path)
    store.open()
    store.commit([changes.submit("x")])
    store.close()
    store.open()
    store.commit([changes.submit("y")])
    harm(path, tmp_path)
    for _ in range(2):
        if first == "a look":
            with pytest.raises(StoreUnavailable, match=r"goflow\.db"):
                store.check()
        with pytest.raises(StoreUnavailable, match=r"goflow\.db"):
            store.commit([changes.submit("z")])
    store.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_restored_file_is_written_again(
    store: SqliteStore, path: Path, changes, suffix: str
) -> None:
    file, aside = Path(f"{path}{suffix}"), path.with_name("aside")
    file.rename(aside)
    with pytest.raises(StoreUnavailable):
        store.commit([changes.submit("z")])
    aside.rename(file)
    assert store.check() == []
    store.commit([changes.submit("z")])
    store.close()
    store.open()
    assert store.unfinished() == ["x", "y", "z"]


def test_a_removed_log_is_saved_by_a_clean_stop(store: SqliteStore, path: Path, changes) -> None:
    Path(f"{path}-wal").unlink()
    with pytest.raises(StoreUnavailable, match=r"goflow\.db-wal"):
        store.commit([changes.submit("z")])
    store.close()
    store.open()
    assert store.unfinished()[:2] == ["x", "y"]
    assert not any(remark.lost for remark in store.check())


def test_a_check_during_commits_reports_no_trouble(store: SqliteStore, changes) -> None:
    """Also during checkpoints, which write to the file itself."""
    ended = threading.Event()
    troubles: list[Exception] = []

    def look() -> None:
        while not ended.is_set():
            try:
                store.check()
                store.size()
            except StoreUnavailable as error:
                troubles.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(150):
        store.commit([changes.log("x", number, "line" * 10_000)])
    ended.set()
    thread.join()
    assert troubles == []


def test_allowed_access_by_other_programs_is_not_reported(
    store: SqliteStore, path: Path, changes
) -> None:
    os.utime(path)
    store.commit([changes.submit("a")])
    path.chmod(0o640)
    store.commit([changes.submit("b")])
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2])"
    for statement in ("SELECT count(*) FROM facts", "PRAGMA wal_checkpoint(PASSIVE)"):
        subprocess.run([sys.executable, "-c", script, str(path), statement], check=True)
        store.commit([changes.submit(statement)])
    SqliteStore(path).backup_unopened(str(path.with_name("copy.db")))
    store.commit([changes.submit("c")])
    assert store.check() == []


def test_a_commit_counts_once_also_after_a_failed_one(store: SqliteStore, path: Path, changes):
    with pytest.raises(NotFound):
        store.commit([changes.record("nobody")])
    store.commit([changes.submit("z")])
    store.close()
    with closing(sqlite3.connect(path)) as file:
        [(count,)] = file.execute("SELECT value FROM meta WHERE key = 'commits'")
    assert count == "3"
