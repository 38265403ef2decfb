"""A consistent copy of a live store.

The rule: the copy is there complete and durable, or not at all. The store in use, and any file that
is at the target already, stay untouched.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from goflow.errors import StoreError

_STEP = 1000  # pages copied between two chances for other threads


def write_copy(source: sqlite3.Connection, path: str) -> None:
    """Copy what `source` sees now to a new file at `path`. Raises `StoreError`.

    The copy is one file, without a log beside it. It has an epoch of its own, since from now on
    its versions differ from those of the original.
    """
    target = Path(path)
    try:
        _check_place(target)
        # Beside the target, since only a rename within a folder is atomic.
        part = target.with_name(f"{target.name}.part")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(
            f"{part} exists: another backup is writing it, or was interrupted; in that case "
            "remove it"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written: {_reason(error)}") from error
    try:
        _copy(source, part)
        _sync(part)
        _check_place(target)
        part.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup to {path} failed: {_reason(error)}") from error
    finally:
        for left in (part, Path(f"{part}-journal"), Path(f"{part}-wal"), Path(f"{part}-shm")):
            left.unlink(missing_ok=True)


def _check_place(target: Path) -> None:
    if target.is_dir():
        raise StoreError(f"{target} is a directory: give a file in it, such as goflow-backup.db")
    if os.path.lexists(target):
        raise StoreError(f"{target} exists already: give another path, or move that file away")
    if not target.parent.is_dir():
        raise StoreError(f"{target} cannot be written: there is no folder {target.parent}")


def _copy(source: sqlite3.Connection, part: Path) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        # In one read transaction, or each commit in between would restart the copy.
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM meta").fetchone()
            source.backup(copy, pages=_STEP)
        finally:
            if source.in_transaction:
                source.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch'")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
