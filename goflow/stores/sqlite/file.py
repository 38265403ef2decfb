"""A store in an SQLite file.

The rule: a foreign file, or one from a newer version, is refused before anything in it is touched.
The lock comes first of all, because closing any descriptor of a file drops the locks that this
process has on it (https://www.sqlite.org/howtocorrupt.html).
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from goflow import forks
from goflow.errors import StoreError, StoreUnavailable
from goflow.stores.base import Change, Outcome, Remark
from goflow.stores.logs import LogStore
from goflow.stores.sqlite.backup import write_copy
from goflow.stores.sqlite.files import Files, identity
from goflow.stores.sqlite.lock import FileLock, InodeLock, InUse
from goflow.stores.sqlite.schema import APPLICATION_ID, SCHEMA, migrate, read_epoch
from goflow.stores.sqlite.tables import SqliteTables

_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT = 5.0  # seconds to wait for another program that reads or copies the file
_DAMAGED = "is damaged: put a copy of it back, or move it away to begin with an empty store"

_COUNT = "INSERT OR REPLACE INTO meta VALUES ('commits', ?)"

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


class SqliteStore(SqliteTables):
    """Keeps everything in an SQLite file. A commit survives power loss.

    While the store is open, locks on the file and on `<path>.lock` keep other servers out, and
    SQLite has `<path>-wal` and `<path>-shm` beside it. Only their owner may read these files.
    `<path>.lock` also holds the number of the last commit, so that the next server notices
    missing commits after a kill.

    Args:
        path: File to use. It is created if it does not exist.
        logs: External logs of tasks. None keeps them in the file.

    Raises:
        ValueError: The path cannot name a file, such as `:memory:`.

    Examples:
        >>> from goflow import Goflow, SqliteStore
        >>> gf = Goflow(SqliteStore("/var/lib/goflow/goflow.db"))
    """

    def __init__(self, path: str | os.PathLike[str], *, logs: LogStore | None = None) -> None:
        super().__init__(logs)
        self._path = Path(_checked(path))
        self._file = self._path  # with symbolic links resolved, once open
        self._lock: FileLock | None = None
        self._hold: InodeLock | None = None
        self._files: Files | None = None
        self._taken = False  # whether `open` was completed
        self._commits = 0  # in the life of the store
        self._opened_at = 0  # the same, when it was opened
        self._remarks: list[Remark] = []
        self._doubt: str | None = None  # why nothing more can be promised until it is reopened
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._turn = threading.Lock()  # held to write, or to check the files

    @property
    def file(self) -> Path:
        """The file, with symbolic links resolved; once open."""
        return self._file

    # -- open and close ------------------------------------------------------------

    def open(self) -> None:
        try:
            file = Path(os.path.realpath(self._path))
            self._check_place(file)
            lock, hold = FileLock(file), InodeLock(file)
            lock.acquire()
            try:
                hold.acquire()
            except BaseException:
                lock.release(clean=not lock.left)
                raise
        except InUse as error:
            holder = "" if error.pid is None else f" (pid {error.pid})"
            raise StoreError(
                f"{self._path} is in use by another goflow server{holder}: stop that one, "
                "or give this one its own file"
            ) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._path} cannot be a store: {_reason(error)}") from error
        self._file, self._lock, self._hold = file, lock, hold
        self._files = Files(file, hold.descriptor)
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
        taken, self._taken = self._taken, False
        mine = self._hold is not None and self._hold.descriptor >= 0  # not in a fork
        in_order = (
            mine
            and self._doubt is None
            and self._files is not None
            and self._files.trouble() is None
        )
        # The writer last: the last connection to close moves the log into the file.
        for connection in (*readers, writer):
            if connection is not None:
                connection.close()
        self._forget()
        if self._hold is not None:
            self._hold.release()
        if self._lock is not None:
            # The note stays if some commits may be missing from the file.
            self._lock.release(clean=in_order and (taken or not self._lock.left))
            self._share()
        self._lock = self._hold = self._files = None

    def _descriptors(self) -> Iterator[int]:
        """In a fork of this process: the descriptors of our files; SQLite does not name them."""
        files = {f"{self._file}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")}
        ours = {found for file in files if (found := identity(file)) is not None}
        for name in os.listdir("/dev/fd"):
            if identity(int(name)) in ours:
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
        assert self._hold is not None
        assert self._files is not None
        self._check_header(self._hold.descriptor)
        file = os.fstat(self._hold.descriptor)
        self._check_mode(file.st_mode)
        # A log or a journal may have what the file lacks.
        beside = [Path(f"{self._file}{suffix}") for suffix in ("-wal", "-journal")]
        if file.st_size and self._files.is_cut_short() and not any(map(_length, beside)):
            raise StoreError(f"{self._path} {_DAMAGED} (it is shorter than it says)")
        self._writer = writer = self._connect("rw")
        new = writer.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        if not new:
            self._check_application(*writer.execute("PRAGMA application_id").fetchone())
            self._check_version(*writer.execute("PRAGMA user_version").fetchone())
            self._check_name(writer)
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute("PRAGMA fullfsync = ON")  # macOS alone tells the two kinds apart
        migrate(writer)
        writer.execute(
            "INSERT OR REPLACE INTO meta SELECT 'file', ?1 WHERE NOT EXISTS"
            " (SELECT 1 FROM meta WHERE key = 'file' AND value = ?1)",
            (self._name(),),
        )
        (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self._path} is on a disk where SQLite has no WAL: use a local one")
        writer.execute("PRAGMA journal_size_limit = 16777216")
        writer.execute("BEGIN IMMEDIATE")  # raises if the file cannot be written
        writer.execute("ROLLBACK")
        self._epoch = read_epoch(writer)
        self._commits = self._opened_at = _read_commits(writer)
        self._check_nothing_is_lost(writer, new)
        # From here on the file has at least these commits, so an older copy put there is noticed.
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if (trouble := self._files.trouble()) is not None:
            raise StoreError(f"{self._path} {trouble}")
        self._files.remember()
        self._doubt = None
        self._taken = True
        self._note_commits()

    def _name(self) -> bytes:
        return os.fsencode(self._file)

    def _check_name(self, writer: sqlite3.Connection) -> None:
        """Refuse a second name of a file whose log is beside the first one. SQLite finds a log by
        the file's name, so it would ignore the log and damage the file."""
        found = writer.execute("SELECT value FROM meta WHERE key = 'file'").fetchone()
        if found is None or found[0] == self._name():
            return
        first = Path(os.fsdecode(found[0]))
        log = Path(f"{first}-wal")
        try:
            if not os.path.samefile(first, self._file) or not _length(log):
                return
            with contextlib.suppress(FileNotFoundError):
                if os.path.samefile(log, f"{self._file}-wal"):
                    return
        except (OSError, ValueError):
            return  # the first name is gone
        raise StoreError(
            f"{self._path} is another name of {first}, and the last commits are in {log}: "
            "open it by that name"
        )

    def _check_nothing_is_lost(self, writer: sqlite3.Connection, new: bool) -> None:
        """Compare the commits in the file with the note of a server that died."""
        assert self._lock is not None
        epoch, _, number = self._lock.left.partition(" ")
        if not number.isdigit():
            return
        known, left = int(number), self._commits
        if epoch == self._epoch and known > left:
            what = f"{known - left:,} commits of the server before are not in {self._path}"
        elif epoch != self._epoch and new and known:
            what = f"the store that the server before had at {self._path} is gone"
        elif epoch != self._epoch:
            self._remarks.append(
                Remark(f"{self._path} is not the store that the server before this one had there")
            )
            return
        else:
            return
        (found,) = writer.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"{self._path} {_DAMAGED}; {what} ({found})")
        self._remarks.append(
            Remark(
                f"{what}, which ended without closing it: the file or its log, "
                f"{self._file.name}-wal, was removed, replaced or cut short since; put it back "
                "or a backup, or restart goflow to continue without",
                lost=True,
            )
        )

    def _check_mode(self, mode: int) -> None:
        if mode & 0o007:
            self._remarks.append(
                Remark(
                    f"{self._path} may be read by everybody on this machine: chmod o= {self._file}*"
                )
            )

    def _check_header(self, descriptor: int) -> None:
        """Refuse a foreign file by its first bytes, before SQLite touches it."""
        if Path(f"{self._file}-journal").exists():
            return  # its creation was interrupted, which SQLite will undo
        header = os.pread(descriptor, 100, 0)
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
        """As `backup`, of a store that is not open here, whether or not a server has it open.

        It takes no lock and writes nothing; SQLite may leave its two files beside the store. A
        store of an earlier version is copied as it is.
        """
        if not self._path.is_file():
            raise StoreError(f"{self._path} is not there: give the file that goflow keeps")
        self._file = Path(os.path.realpath(self._path))
        try:
            # Only through SQLite: the store may be open in this process, see the module.
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
        with self._turn:
            self._check_files()
        return sum(_length(Path(f"{self._file}{suffix}")) for suffix in ("", "-wal", "-shm"))

    # -- connections ---------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        writer = self._writer
        if writer is None:
            raise StoreUnavailable(f"{self._path} is not open")
        with self._turn, self._passing():
            assert self._files is not None
            self._check_files()
            try:
                yield writer
            finally:
                # A checkpoint may have written to the file: that was SQLite.
                trouble = self._files.trouble(index=False)
                if trouble is None:
                    self._files.remember()
            if trouble is not None:
                # The commit may be in a file that is gone. If the file comes back, and the caller
                # tries again, it would be there twice.
                self._doubt = (
                    f"{self._path} was moved or removed while it was written: restart goflow"
                )
                raise StoreUnavailable(self._doubt)

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

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        outcomes = super().commit(batch)
        if batch:
            self._commits += 1
            self._note_commits()
        return outcomes

    def _write(self, connection: sqlite3.Connection, batch: Sequence[Change]) -> list[Outcome]:
        outcomes = super()._write(connection, batch)
        connection.execute(_COUNT, (str(self._commits + 1),))
        return outcomes

    def _note_commits(self) -> None:
        if self._lock is not None:
            # The disk may be full. The commit is durable without the note.
            with contextlib.suppress(OSError):
                self._lock.note(f"{self._epoch} {self._commits}")

    def check(self) -> list[Remark]:
        remarks, self._remarks = self._remarks, []
        with self._turn:
            if self._files is not None:
                with self._passing():
                    self._check_files()
            if self._lock is not None and self._renewed(self._lock):
                remarks.append(Remark(f"{self._file}.lock was removed; it was made again"))
        return remarks

    def _renewed(self, lock: FileLock) -> bool:
        try:
            return lock.renew()
        except (OSError, InUse):
            return False  # at the next check; the file itself is locked

    def _check_files(self) -> None:
        """Raise `StoreUnavailable` unless the files are there and are those of this store."""
        assert self._files is not None
        if self._doubt is not None:
            raise StoreUnavailable(self._doubt)
        if (trouble := self._files.trouble()) is not None:
            raise StoreUnavailable(f"{self._path} {trouble}")
        if self._files.is_log_shorter() and not self._is_ours(self._commits):
            self._doubt = (
                f"{self._path} has lost commits: its file {self._file.name}-wal was cut short "
                "while in use; stop goflow, put a copy of both back, and start goflow again"
            )
            raise StoreUnavailable(self._doubt)
        if not self._files.touched():
            return
        if self._files.is_cut_short() or not self._is_ours(self._opened_at):
            raise StoreUnavailable(
                f"{self._path} was overwritten or cut short by another program while in use: "
                "stop goflow, put a copy of it back, and start goflow again"
            )
        self._files.remember()

    def _is_ours(self, commits: int) -> bool:
        """Whether the file alone, without its log, is this store with that many commits."""
        try:
            # Without the log and the cache, which have the earlier content.
            with closing(self._connect("ro&immutable=1")) as connection:
                return (
                    read_epoch(connection) == self._epoch and _read_commits(connection) >= commits
                )
        except sqlite3.DatabaseError:
            return False

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """Turn trouble that may pass into `StoreUnavailable`; errors that are a defect of ours stay
        as they are."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                raise StoreUnavailable(self._explain(error)) from error
            raise

    def _explain(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return f"{self._path} {_ADVICE.get(code, _DAMAGED)} ({error})"


def _checked(path: str | os.PathLike[str]) -> str:
    """The path. Raises `ValueError` for text that means something else to SQLite."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise ValueError(f"store must be a path as text, not {text!r}")
    if not text:
        raise ValueError("store must be the path of a file, not ''")
    if text.partition("?")[0] == ":memory:" or "mode=memory" in text:
        raise ValueError(f"store {text!r} keeps nothing, which is goflow.MemoryStore()")
    if text.lower().startswith("file:"):
        raise ValueError(f"store {text!r}: give the path alone, not a file: URI")
    return text


def _read_commits(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM meta WHERE key = 'commits'").fetchone()
    return 0 if found is None else int(found[0])


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: OSError | ValueError) -> str:
    what = getattr(error, "strerror", None) or str(error)
    return f"{what}; check the path and its permissions"
