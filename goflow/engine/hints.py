"""Hints: the outcomes of attempts that are not committed yet, in a file beside the store.

An attempt's end waits for a commit, some milliseconds. A server that is killed in between would
run the task again. So each outcome is also written to this file, unsynced, which takes about
two microseconds. The page cache survives the death of the process; only power loss loses it.

The rule that must not be broken: a hint never says more than happened, and the file is cut only
after the store has what it says. A hint that cannot be trusted (a damaged file, another store's)
is ignored, with a notice.
"""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from goflow import forks
from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.shown import reason

SUFFIX = ".ends"
LIMIT = 16 * 1024 * 1024  # bytes of the file; beyond that no hints are written
SPARE = 64 * 1024  # bytes that the file may keep after their outcomes were committed
FRAME = struct.Struct(">II")  # the length of a hint, and its CRC-32


def hints_file(store: object) -> Path | None:
    """Where the hints of a store are; None if it is not in a file."""
    path: Path | None = getattr(store, "file", None)
    return None if path is None else path.with_name(path.name + SUFFIX)


class Hint(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one attempt: an error, or a result as in the fact `TaskSucceeded`."""

    execution: str
    task: str
    attempt: int
    error: str | None = None
    final: bool = False
    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""

    @property
    def outcome(self) -> Succeeded | Failed:
        if self.error is not None:
            return Failed(self.error, self.final)
        return Succeeded(self.result, self.size, self.sha256)


class Hints:
    """The file of hints at `path`, for the store of that epoch; None for a store without files.

    `notice` is called with a human-readable text when hints are ignored or cannot be written.
    Used on the event loop alone.
    """

    def __init__(self, path: Path | None, epoch: str, notice: Callable[[str], None]) -> None:
        self._path = path
        self._header = f"goflow hints 1 {epoch}\n".encode()
        self._notice = notice
        self._descriptor = -1
        self._size = 0  # of the file
        self._open = 0  # hints whose outcomes are not committed yet
        self.found: list[Hint] = []  # left by a server that was killed, in order

    def open(self) -> None:
        """Read the hints that are left, and prepare to write."""
        if self._path is None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
            self._give_up = forks.withhold(lambda: [self._descriptor])
            self.found = self._read()
        except OSError as error:
            self._stop(error)

    def write(self, execution: str, task: str, attempt: int, outcome: Outcome) -> bool:
        """Write the outcome of an attempt, if it is one that counts after a crash; returns
        whether it was written. `committed` is to be called for it once the store has it."""
        match outcome:
            case Succeeded(result, size, sha256):
                hint = Hint(execution, task, attempt, None, False, result, size, sha256)
            case Failed(error, final):
                hint = Hint(execution, task, attempt, error, final)
            case _:
                return False
        if self._descriptor < 0 or not self._size:  # closed, or what was left is not settled yet
            return False
        body = msgspec.json.encode(hint)
        frame = FRAME.pack(len(body), zlib.crc32(body)) + body
        if self._size + len(frame) > LIMIT:
            return False
        try:
            written = os.pwrite(self._descriptor, frame, self._size)
        except OSError as error:
            self._stop(error)
            return False
        if written < len(frame):  # the disk is full; the next hint is written over this one
            return False
        self._size += len(frame)
        self._open += 1
        return True

    def committed(self, count: int) -> None:
        """The store has the outcomes of so many hints, or will never have them."""
        self._open -= count
        if not self._open and self._size > SPARE:
            self.cut()

    def cut(self) -> None:
        """Empty the file. To be called when the store has all that it says."""
        self.found = []
        if self._descriptor < 0:
            return
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._header, 0)
        except OSError as error:
            self._stop(error)
            return
        self._size = len(self._header)
        self._open = 0

    def close(self) -> None:
        """Close the file, and remove it if the store has all that it says."""
        if self._descriptor >= 0:
            self._give_up()
            os.close(self._descriptor)
            self._descriptor = -1
            if not self._open and self._path is not None:
                self._path.unlink(missing_ok=True)

    def _read(self) -> list[Hint]:
        size = os.fstat(self._descriptor).st_size
        data = os.pread(self._descriptor, min(size, LIMIT), 0)
        if data and not data.startswith(self._header):
            self._ignored("it belongs to another store or is damaged")
            return []
        hints, place = parse(data, len(self._header))
        if place < len(data):
            self._ignored(f"it is damaged from byte {place} on")
        return hints

    def _ignored(self, why: str) -> None:
        self._notice(
            f"{self._path} tells which tasks had ended when the server was killed, but {why}; "
            "the rest of it is ignored, and those tasks may run again"
        )

    def _stop(self, error: OSError) -> None:
        if self._descriptor >= 0:
            self._give_up()
            os.close(self._descriptor)
            self._descriptor = -1
        self._notice(
            f"{self._path} cannot be used ({reason(error)}): should the server be killed, tasks "
            "that have just ended may run again"
        )


def parse(data: bytes, place: int) -> tuple[list[Hint], int]:
    """The intact hints from that byte on, and the place where they end."""
    hints: list[Hint] = []
    while place + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, place)
        end = place + FRAME.size + length
        body = data[place + FRAME.size : end]
        if end > len(data) or zlib.crc32(body) != checksum:
            break
        try:
            hints.append(msgspec.json.decode(body, type=Hint))
        except msgspec.MsgspecError:
            break
        place = end
    return hints, place
