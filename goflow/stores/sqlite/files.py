"""Whether the files of a store on disk are still those that SQLite has open.

SQLite goes on writing to a file, or to its log, after it has been removed. Such commits are lost,
so nothing may be promised then. A few calls of `stat`, some microseconds, find out.
"""

import os
from pathlib import Path


class Files:
    """The state of the store's files when they were last in order.

    - `trouble` looks at the files; it says which one is gone, or returns None.
    - `remember` declares that SQLite left the files as the last `trouble` saw them.
    - `touched` says whether, by the last `trouble`, the file was written since `remember`.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file = str(file)
        self._log, self._index = f"{file}-wal", f"{file}-shm"
        self._descriptor = descriptor  # of the file, from before SQLite opened it
        self._self = identity(descriptor)
        self._known: dict[str, tuple[int, int]] = {}  # the other files, once they are there
        self._stamp: tuple[int, int] | None = None  # when it was written, and its size
        self._written: tuple[int, int] | None = None
        self._log_size = self._log_left = 0  # at the last look, and as SQLite left it

    def remember(self) -> None:
        for other in (self._log, self._index):
            if other not in self._known and (found := identity(other)) is not None:
                self._known[other] = found
        self._written, self._log_left = self._stamp, self._log_size

    def trouble(self, *, index: bool = True) -> str | None:
        """With `index`, look at all files; otherwise only at those that hold commits."""
        try:
            found = os.stat(self._file)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._self:
            return "was moved or removed while in use: put it back, or restart goflow"
        self._stamp = found.st_mtime_ns, found.st_size
        for other in (self._log, self._index) if index else (self._log,):
            if (known := self._known.get(other)) is None:
                continue
            try:
                found = os.stat(other)
            except OSError:
                found = None
            if found is not None and other == self._log:
                self._log_size = found.st_size
            if found is None or (found.st_dev, found.st_ino) != known:
                return (
                    f"has lost its file {os.path.basename(other)}, which was moved or removed "
                    "while in use: put it back, or restart goflow"
                )
        return None

    def touched(self) -> bool:
        return self._stamp != self._written

    def is_log_shorter(self) -> bool:
        """Whether the log was longer when SQLite left it: another program has moved its content
        into the file, or has truncated it."""
        return self._log_size < self._log_left

    def is_cut_short(self) -> bool:
        """Whether the file is shorter than its header says. That means nothing while the file is
        written, or after a checkpoint that failed half-way."""
        return os.fstat(self._descriptor).st_size < self._least()

    def _least(self) -> int:
        """The minimum length by the header; that of a page if there is no header."""
        header = os.pread(self._descriptor, 100, 0)
        if len(header) < 100:
            return 512
        size = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        return pages * (65_536 if size == 1 else size)


def identity(path: Path | str | int) -> tuple[int, int] | None:
    """The device and inode of a path or descriptor; None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
