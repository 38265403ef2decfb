"""Hints: the outcomes of attempts that are not committed yet, in a file beside the store.

An attempt's end waits for a commit, some milliseconds. A server that is killed in between would
run the task again. So each outcome is also written to this file, which is mapped into memory
and never synced. The page cache survives the death of the process; only power loss loses it.

The rule that must not be broken: a hint never says more than happened, and is overwritten only
after the store has what it says. A hint that cannot be trusted (a damaged file, another store's)
is ignored, with a notice.
"""

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from goflow import forks
from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.shown import reason

SUFFIX = ".ends"
SIZE = 4 * 1024 * 1024  # bytes of the file; while it is full no hints are written
FRAME = struct.Struct(">II")  # the length of a hint, and its CRC-32
END = FRAME.pack(0, 0)  # after the last hint; what follows is of earlier rounds

_encode = msgspec.json.Encoder().encode


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
        self._map: mmap.mmap | None = None
        self._place = 0  # of the next hint; 0 while what was left is not settled
        self._open = 0  # hints whose outcomes are not committed yet
        self.found: list[Hint] = []  # left by a server that was killed, in order

    def open(self) -> None:
        """Read the hints that are left, and prepare to write."""
        if self._path is None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                self.found = self._read(descriptor)
                # All of it, since writing to a hole in a map of a full disk would end the process.
                has = os.fstat(descriptor).st_size
                if has < SIZE and os.pwrite(descriptor, bytes(SIZE - has), has) < SIZE - has:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._map = mmap.mmap(descriptor, SIZE)
                copies = _copies(descriptor)
                self._give_up = forks.withhold(lambda: copies)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._notice(
                f"{self._path} cannot be used ({reason(error)}): should the server be killed, "
                "tasks that have just ended may run again"
            )

    def write(self, execution: str, task: str, attempt: int, outcome: Outcome) -> bool:
        """Write the outcome of an attempt, if it is one that counts after a crash; returns
        whether it was written. `committed` is to be called for it once the store has it."""
        file, place = self._map, self._place
        if file is None or not place:
            return False
        if isinstance(outcome, Succeeded):
            result, size, sha256 = outcome.result, outcome.size, outcome.sha256
            hint = Hint(execution, task, attempt, None, False, result, size, sha256)
        elif isinstance(outcome, Failed):
            hint = Hint(execution, task, attempt, outcome.error, outcome.final)
        else:
            return False
        body = _encode(hint)
        start = place + FRAME.size
        end = start + len(body)
        if end + len(END) > SIZE:
            return False
        # In this order, so that there is a whole hint or none, whenever the process dies.
        file[end : end + len(END)] = END
        file[start:end] = body
        file[place:start] = FRAME.pack(len(body), zlib.crc32(body))
        self._place = end
        self._open += 1
        return True

    def committed(self, count: int) -> None:
        """The store has the outcomes of so many hints, or will never have them."""
        self._open -= count
        if not self._open and self._map is not None:
            self._place = start = len(self._header)
            self._map[start : start + len(END)] = END

    def cut(self) -> None:
        """Empty the file. To be called when the store has all that it says."""
        self.found = []
        if self._map is not None:
            self._map[: len(self._header) + len(END)] = self._header + END
            self._place = len(self._header)
            self._open = 0

    def close(self) -> None:
        """Close the file, and remove it if the store has all that it says."""
        if self._map is not None:
            self._map.close()
            self._map = None
            self._give_up()
            if self._place and not self._open and self._path is not None:
                self._path.unlink(missing_ok=True)

    def _read(self, descriptor: int) -> list[Hint]:
        data = os.pread(descriptor, SIZE, 0)
        if not data.strip(b"\0"):
            return []
        if not data.startswith(self._header):
            self._ignored("it belongs to another store or is damaged")
            return []
        hints, place = parse(data, len(self._header))
        if data[place : place + len(END)] != END:
            self._ignored(f"it is damaged from byte {place} on")
        return hints

    def _ignored(self, why: str) -> None:
        self._notice(
            f"{self._path} tells which tasks had ended when the server was killed, but {why}; "
            "the rest of it is ignored, and those tasks may run again"
        )


def _copies(descriptor: int) -> list[int]:
    """Other descriptors of the same file: a map keeps one, and does not tell its number."""
    file = os.fstat(descriptor)
    found = []
    with suppress(OSError):  # a system without /dev/fd
        for number in map(int, os.listdir("/dev/fd")):
            with suppress(OSError):  # the listing's own descriptor
                if number != descriptor and os.path.samestat(file, os.fstat(number)):
                    found.append(number)
    return found


def parse(data: bytes, place: int) -> tuple[list[Hint], int]:
    """The intact hints from that byte on, and the place where they end."""
    hints: list[Hint] = []
    while place + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, place)
        end = place + FRAME.size + length
        body = data[place + FRAME.size : end]
        if not length or end > len(data) or zlib.crc32(body) != checksum:
            break
        try:
            hints.append(msgspec.json.decode(body, type=Hint))
        except msgspec.MsgspecError:
            break
        place = end
    return hints, place
