"""One server per store file: a lock that the kernel drops when its holder dies.

The rule: a POSIX record lock, never flock(2), because a forked worker that outlives a
killed server would inherit the latter and keep the next server out. Record locks do not
see a second holder within one process, so `_HELD` does.
"""

import fcntl
import os
import threading
from pathlib import Path

_HELD: dict[Path, int] = {}
_GUARD = threading.Lock()


class InUse(Exception):
    """Somebody holds the lock; `pid` is who, or None where that cannot be told."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


class FileLock:
    """The lock of the file at `path`, held on `<path>.lock`, which holds the holder's pid.

    `path` must be resolved already, or two names of one file have two locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it at once, or raise `InUse`; `OSError` where the file cannot be made."""
        with _GUARD:
            if self._path in _HELD:
                raise InUse(_HELD[self._path])
            while self._descriptor is None:
                self._descriptor = self._try()
            _HELD[self._path] = os.getpid()

    def release(self) -> None:
        """Give it back, if it is held."""
        with _GUARD:
            if self._descriptor is None:
                return
            if _HELD.pop(self._path) == os.getpid():  # not in a fork of the holder
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> int | None:
        """The locked descriptor, or None if the file was removed between opening and locking."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._names(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0)
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
