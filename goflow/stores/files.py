"""The files of a store on the disk: whether they are still those that SQLite has open.

SQLite writes happily to a file that has been removed, and to a log that has. Nobody finds again
what is in there, so nothing may be promised then. A few stats, some microseconds, tell.
"""

import os
from pathlib import Path

_SUFFIXES = ("-wal", "-shm")


class Files:
    """What the store's files were when they were last in order.

    - `remember` is called when SQLite has just written, and nobody else can have.
    - `trouble` says in words which file is gone, or is None.
    - `touched` says whether somebody else has written to the file since.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor  # of the file, from before SQLite opened it
        self._beside: dict[str, tuple[int, int]] = {}
        self._written: tuple[int, int] | None = None

    def remember(self) -> None:
        for suffix in _SUFFIXES:
            if (found := identity(f"{self._file}{suffix}")) is not None:
                self._beside[suffix] = found
        held = os.fstat(self._descriptor)
        self._written = held.st_mtime_ns, held.st_size

    def trouble(self) -> str | None:
        held = os.fstat(self._descriptor)
        if identity(self._file) != (held.st_dev, held.st_ino):
            return "was moved or removed while in use: put it back, or restart goflow"
        for suffix, known in self._beside.items():
            if identity(f"{self._file}{suffix}") != known:
                return (
                    f"has lost its file {self._file.name}{suffix}, which was moved or removed "
                    "while in use: put it back, or restart goflow"
                )
        return None

    def touched(self) -> bool:
        found = os.fstat(self._descriptor)
        return (found.st_mtime_ns, found.st_size) != self._written

    def is_cut_short(self) -> bool:
        """Whether the file ends before its own header says; to be asked of a file that is not
        being written, nor was by a checkpoint that failed half-way."""
        return os.fstat(self._descriptor).st_size < self._least()

    def _least(self) -> int:
        """How long the file is at least, by its own header; of what is none, a page."""
        header = os.pread(self._descriptor, 100, 0)
        if len(header) < 100:
            return 512
        size = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        return pages * (65_536 if size == 1 else size)


def identity(path: Path | str | int) -> tuple[int, int] | None:
    """Which file a path or a descriptor is, on this machine; None if it is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
