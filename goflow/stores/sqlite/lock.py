"""One server per store file: locks that the kernel releases when their holder dies.

`FileLock` is on `<path>.lock`; that file names the holder and keeps a note from a holder that died.
`InodeLock` is on the store file itself, whatever name it was opened by: a hard link, a bind mount,
or a path whose lock file was removed.

The rule: a forked worker that outlives a killed server must not keep the next server out. So the
first is a POSIX record lock, which a fork does not inherit; the second is closed in a fork.
"""

import contextlib
import fcntl
import os
import struct
import threading
from pathlib import Path

_GUARD = threading.Lock()
# Record locks do not see a second holder within one process.
_HELD: dict[Path, "FileLock"] = {}
_HELD_INODES: dict[tuple[int, int], "InodeLock"] = {}

# A byte that SQLite never locks and that lies behind the end of any file.
_FAR = 2**62
# Only Linux has locks that survive when another descriptor of the file is closed.
_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)


class InUse(Exception):
    """Another process holds the lock; `pid` is its id, or None if that is unknown."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


class FileLock:
    """A lock on `<path>.lock`, a file with the pid of the holder.

    `path` must be resolved already, or two names of one file have two locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None
        self._note = ""
        self.left = ""  # the note of the last holder, if it died before it released the lock

    def acquire(self) -> None:
        """Take the lock at once. Raises `InUse`, or `OSError` if the file cannot be created."""
        with _GUARD:
            if self._path in _HELD:
                raise InUse(os.getpid())
            self._take()
            _HELD[self._path] = self

    def note(self, text: str) -> None:
        """Leave a note, which the next holder finds if this one dies."""
        self._note = text
        if self._descriptor is not None:
            os.pwrite(self._descriptor, f"{os.getpid()} {text}\n".encode(), 0)

    def renew(self) -> bool:
        """Create the file again if it was removed; returns whether it was."""
        with _GUARD:
            if self._descriptor is None or self._names(self._descriptor):
                return False
            removed, self._descriptor, left = self._descriptor, None, self.left
            try:
                self._take()
            finally:
                self._descriptor = self._descriptor or removed
            os.close(removed)
            self.left = left
        self.note(self._note)
        return True

    def release(self, *, clean: bool = True) -> None:
        """Release the lock if it is held. Unless `clean`, leave the file and its note."""
        with _GUARD:
            if self._descriptor is None:
                return
            del _HELD[self._path]
            if clean and self._names(self._descriptor):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """In a fork of the holder: close the descriptor, since the lock is the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> None:
        while self._descriptor is None:
            self._descriptor = self._try()

    def _try(self) -> int | None:
        """The locked descriptor, or None if the file was removed between opening and locking."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._names(descriptor):
                _, _, self.left = _read(descriptor).partition(" ")
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {self.left}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = _read(descriptor).partition(" ")[0]
            os.close(descriptor)
            raise InUse(int(holder) if holder.isdigit() else None) from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _names(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False


class InodeLock:
    """A lock on the file at `path` itself, which is created empty if it does not exist.

    While the lock is held, `descriptor` is open for reading and writing. Acquire it before SQLite
    opens the file in this process, and release it after SQLite has closed it: closing a descriptor
    of a file drops SQLite's locks on it (https://www.sqlite.org/howtocorrupt.html).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place: tuple[int, int] | None = None
        self.descriptor = -1

    def acquire(self) -> None:
        """Take the lock at once. Raises `InUse`, or `OSError` if the file cannot be opened."""
        with _GUARD:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) in _HELD_INODES:
                    raise InUse(os.getpid())
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, 0o600)
            try:
                _lock_far_byte(descriptor)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError | PermissionError):
                    raise InUse(None) from None
                raise
            found = os.fstat(descriptor)
            self.descriptor, self._place = descriptor, (found.st_dev, found.st_ino)
            _HELD_INODES[self._place] = self

    def release(self) -> None:
        """Release the lock if it is held."""
        with _GUARD:
            if self._place is not None:
                del _HELD_INODES[self._place]
                self.abandon()

    def abandon(self) -> None:
        """In a fork of the holder: close the descriptor, since the lock is the parent's."""
        if self._place is not None:
            os.close(self.descriptor)
            self.descriptor, self._place = -1, None


def _lock_far_byte(descriptor: int) -> None:
    if _SET_LOCK is None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR)
    else:  # struct flock: type, whence, start, length, pid
        wanted = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, _FAR, 1, 0)
        fcntl.fcntl(descriptor, _SET_LOCK, wanted)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode("ascii", "replace").strip("\0\n ")


def _abandon_all() -> None:
    global _GUARD
    _GUARD = threading.Lock()  # another thread of the parent may have held it
    for by_path in _HELD.values():
        by_path.abandon()
    for by_inode in _HELD_INODES.values():
        by_inode.abandon()
    _HELD.clear()
    _HELD_INODES.clear()


os.register_at_fork(after_in_child=_abandon_all)
