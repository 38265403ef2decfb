"""The store of every day: one SQLite file beside the jobs, for one server at a time.

The rule: a file that is not ours, or that we cannot honour, is refused before anything in
it is touched; and the lock comes first of all, because merely closing a descriptor of a
file drops the locks this process has on it (https://www.sqlite.org/howtocorrupt.html).
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from goflow import forks
from goflow.errors import StoreError, StoreUnavailable
from goflow.stores.backup import write_copy
from goflow.stores.lock import FileLock, InUse
from goflow.stores.tables import APPLICATION_ID, SCHEMA, SqlStore, migrate, read_epoch

_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT = 5.0  # seconds to wait for another program that reads or copies the file
_DAMAGED = "is damaged: put a copy of it back, or move it away to begin with an empty store"

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by another program: end that one",
    sqlite3.SQLITE_LOCKED: "is locked by another program: end that one",
    sqlite3.SQLITE_FULL: "does not fit on its disk: make room there",
    sqlite3.SQLITE_READONLY: "cannot be written: check its permissions and its folder's",
    sqlite3.SQLITE_PERM: "cannot be written: check its permissions and its folder's",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check its permissions and its folder's",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check its disk",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


class SqliteStore(SqlStore):
    """Keeps everything in the SQLite file at `path`, which is created if there is none.

    While it is open, `<path>.lock` keeps other servers out, and SQLite has its
    `<path>-wal` and `<path>-shm` beside it. What `commit` took survives power loss.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)
        self._file = self._path  # with symbolic links resolved, once open
        self._lock: FileLock | None = None
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._identity: tuple[int, int] = 0, 0

    # -- open and close ------------------------------------------------------------

    def open(self) -> None:
        try:
            file = Path(os.path.realpath(self._path))
            self._check_place(file)
            lock = FileLock(file)
            lock.acquire()
        except InUse as error:
            holder = "" if error.pid is None else f" (pid {error.pid})"
            raise StoreError(
                f"{self._path} is in use by another goflow server{holder}: stop that one, "
                "or give this one a file of its own"
            ) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._path} cannot be a store: {_reason(error)}") from error
        self._file, self._lock = file, lock
        self._share = forks.withhold(self._descriptors)
        try:
            self._take()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(self._explain(error)) from error
        except OSError as error:
            self.close()
            raise StoreError(f"{self._path} cannot be opened: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with self._pool:
            readers, self._readers = self._readers, []
            writer, self._writer = self._writer, None
        # The writer last: the last one to close folds the log into the file.
        for connection in (*readers, writer):
            if connection is not None:
                connection.close()
        self._forget()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            self._share()

    def _descriptors(self) -> Iterator[int]:
        """In a fork of this process: the descriptors of our files, which SQLite does not tell."""
        files = {f"{self._file}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")}
        ours = {found for file in files if (found := _identity_of(file)) is not None}
        for name in os.listdir("/dev/fd"):
            if _identity_of(int(name)) in ours:
                yield int(name)

    def _check_place(self, file: Path) -> None:
        if file.is_dir():
            inside = self._path / "goflow.db"
            raise StoreError(f"{self._path} is a directory: give a file in it, such as {inside}")
        if file.exists() and not file.is_file():
            raise StoreError(f"{self._path} is not a regular file: give another path")
        if not file.parent.is_dir():
            raise StoreError(
                f"{self._path} cannot be a store: there is no folder {file.parent}; create it first"
            )

    def _take(self) -> None:
        self._check_header()
        self._writer = writer = self._connect("rwc")
        if writer.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
            self._check_application(*writer.execute("PRAGMA application_id").fetchone())
            self._check_version(*writer.execute("PRAGMA user_version").fetchone())
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute("PRAGMA fullfsync = ON")  # macOS alone tells the two kinds apart
        migrate(writer)
        (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self._path} is on a disk where SQLite has no WAL: use a local one")
        writer.execute("PRAGMA journal_size_limit = 16777216")
        writer.execute("BEGIN IMMEDIATE")  # whether it can be written at all
        writer.execute("ROLLBACK")
        self._epoch = read_epoch(writer)
        self._identity = _identity(self._file)

    def _check_header(self) -> None:
        """Refuse by its first bytes a file that is not ours, without SQLite touching it, and
        one that cannot be written, which SQLite would open all the same."""
        if Path(f"{self._file}-journal").exists():
            return  # it may have been killed half made, which SQLite will undo
        try:
            with self._file.open("r+b") as file:
                header = file.read(100)
        except FileNotFoundError:
            return
        if header:
            self._check_application(
                int.from_bytes(header[68:72], "big") if header.startswith(_MAGIC) else 0
            )
            self._check_version(int.from_bytes(header[60:64], "big"))

    def _check_application(self, application: int) -> None:
        if application != APPLICATION_ID:
            raise StoreError(
                f"{self._path} is not a goflow store: give another path, or move that file away"
            )

    def _check_version(self, version: int) -> None:
        if version > SCHEMA:
            raise StoreError(
                f"{self._path} is of store version {version}, and this goflow knows up to "
                f"{SCHEMA}: it was written by a newer goflow, so use that one"
            )

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._file.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )

    def backup_unopened(self, path: str) -> None:
        """As `backup`, of a store that is not open here: a server may have it open, or none.

        Takes no lock and writes nothing; SQLite may leave its two files beside the store,
        for the next server. A store of an earlier version is copied as it is.
        """
        if not self._path.is_file():
            raise StoreError(f"{self._path} is not there: give the file that goflow keeps")
        self._file = Path(os.path.realpath(self._path))
        try:
            # Only through SQLite: see the module, if the store is open in this process.
            with closing(self._connect("ro")) as source:
                self._check_application(*source.execute("PRAGMA application_id").fetchone())
                self._check_version(*source.execute("PRAGMA user_version").fetchone())
                write_copy(source, path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                self._check_application(0)
            raise StoreError(self._explain(error)) from error

    def size(self) -> int:
        if self._writer is None:
            raise StoreUnavailable(f"{self._path} is not open")
        self._check_still_there()
        return sum(_length(Path(f"{self._file}{suffix}")) for suffix in ("", "-wal", "-shm"))

    # -- connections ---------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        writer = self._writer
        if writer is None:
            raise StoreUnavailable(f"{self._path} is not open")
        self._check_still_there()
        with self._passing():
            yield writer

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._passing():
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._pool:
            if self._writer is None:
                raise StoreUnavailable(f"{self._path} is not open")
            if self._readers:
                return self._readers.pop()
        return self._connect("ro")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            if self._writer is not None:
                self._readers.append(connection)
                return
        connection.close()

    def _check_still_there(self) -> None:
        """SQLite writes happily to a file that has been removed, and nobody finds it again."""
        try:
            same = _identity(self._file) == self._identity
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"{self._path} was moved or removed while in use: put it back, or restart goflow"
            )

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """What SQLite cannot do now is `StoreUnavailable`; what it should never be asked
        is left as it is."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                raise StoreUnavailable(self._explain(error)) from error
            raise

    def _explain(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return f"{self._path} {_ADVICE.get(code, _DAMAGED)} ({error})"


def _identity_of(file: str | int) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: OSError | ValueError) -> str:
    what = getattr(error, "strerror", None) or str(error)
    return f"{what}; check the path and its permissions"
