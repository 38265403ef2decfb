"""Hints: the outcomes of attempts that are not committed yet, in a file beside the store.

An attempt's end waits for a commit, some milliseconds. A server that is killed in between would
run the task again. So each outcome is also written to this file, which is mapped into memory
and never synced. The page cache survives the death of the process; only power loss loses it.

A hint has the last lines of the attempt's log too, up to `LINES` characters, since they are
committed together with the outcome.

The rule that must not be broken: a hint never says more than happened, and is overwritten only
after the store has what it says. A hint that cannot be trusted (a damaged file, another store's)
is ignored, with a notice.

The file has two halves. Hints go into one of them until it is full, then into the other, once all
that the other one says is committed. So under load, when some outcome is always uncommitted, hints
are still written.
"""

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from goflow import forks
from goflow.core.cost import Cost
from goflow.core.execution import Failed, Outcome, Postponed, Skipped, Succeeded
from goflow.core.keys import Key, item_of, key_of, task_of
from goflow.core.result import Chunked, Kept
from goflow.engine.output.tasklog import Chunk
from goflow.shown import reason
from goflow.stores.base import Store

SUFFIX = ".ends"
SIZE = 4 * 1024 * 1024  # bytes of the file; while it is full no hints are written
HALF = SIZE // 2
LINES = 4096  # characters of the last lines in a hint
FRAME = struct.Struct(">II")  # the length of a hint, and its CRC-32
WIDTH = FRAME.size
END = FRAME.pack(0, 0)  # after the last hint of a half; what follows is of earlier rounds

# The fields of a hint that are always written, and the defaults of those up to its cost.
_FIRST = ("execution", "task", "attempt", "error", "final", "result", "size", "sha256",
          "last_lines", "item")  # fmt: skip
_REST = (None, "", None, None, None)

_encode = msgspec.json.Encoder().encode
_pack = FRAME.pack
_checksum = zlib.crc32


def hints_file(store: Store) -> Path | None:
    """Where the hints of a store are; None if it is not in a file."""
    path = store.file
    return None if path is None else path.with_name(path.name + SUFFIX)


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one attempt: an error, a skip, or a result as in the fact `TaskSucceeded`.

    With `seconds` the attempt goes on, and looks again after so many, because of `why`.
    `last_lines` are those of its log that were not stored yet."""

    execution: str
    task: str
    attempt: int
    error: str | None = None
    final: bool = False
    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""
    last_lines: Chunk | None = None
    item: int | None = None
    seconds: float | None = None
    why: str = ""
    skipped: Skipped | None = None
    chosen: tuple[str, ...] | None = None
    kept: Kept | None = None
    cost: Cost | None = None
    chunked: Chunked | None = None

    @property
    def key(self) -> Key:
        """The task or item whose attempt it was."""
        return key_of(self.task, self.item)

    @property
    def outcome(self) -> Succeeded | Failed | Skipped | Postponed:
        if self.seconds is not None:
            return Postponed(self.seconds, self.why)
        if self.error is not None:
            return Failed(self.error, self.final, self.cost)
        if self.skipped is not None:
            return self.skipped
        return Succeeded(
            self.result, self.size, self.sha256, self.chosen, self.kept, self.cost, self.chunked
        )


class Hints:
    """The file of hints at `path`, for the store of that epoch; None for a store without files.

    `notice` is called with a human-readable text when hints are ignored or cannot be written.
    Used on the event loop alone.
    """

    def __init__(self, path: Path | None, epoch: str, notice: Callable[[str], None]) -> None:
        self._path = path
        self._header = f"goflow hints 2 {epoch}\n".encode()
        self._notice = notice
        self._map: mmap.mmap | None = None
        self._place = 0  # of the next hint; 0 while what was left is not settled
        self._starts = len(self._header), HALF  # of the halves
        self._half = 0  # the one that is written
        self._open = [0, 0]  # hints in each half whose outcomes are not committed yet
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

    def write(
        self,
        execution: str,
        key: Key,
        attempt: int,
        outcome: Outcome,
        last_lines: Chunk | None = None,
    ) -> int:
        """Write the outcome of an attempt, if it is one that counts after a crash. Returns the
        number of the half it is in, from 1, to be passed to `committed` once the store has the
        outcome; or 0 if no hint was written."""
        file, place = self._map, self._place
        if file is None or not place:
            return 0
        task, item = task_of(key), item_of(key)
        # The fields of a `Hint`, which would take longer to build.
        hint: tuple[object, ...]
        if isinstance(outcome, Succeeded):
            if outcome.body:  # it would not fit, and a hint without it is of no use
                return 0
            result, size, sha256 = outcome.result, outcome.size, outcome.sha256
            hint = (execution, task, attempt, None, False, result, size, sha256, last_lines, item)
            if outcome.chosen is not None or outcome.kept is not None:
                hint += (None, "", None, outcome.chosen, outcome.kept)
        elif isinstance(outcome, Failed):
            error, final = outcome.error, outcome.final
            hint = (execution, task, attempt, error, final, None, 0, "", last_lines, item)
        elif isinstance(outcome, Postponed):
            wait = outcome.seconds, outcome.why
            hint = (execution, task, attempt, None, False, None, 0, "", last_lines, item, *wait)
        elif isinstance(outcome, Skipped):
            skip = None, "", outcome
            hint = (execution, task, attempt, None, False, None, 0, "", last_lines, item, *skip)
        else:
            return 0
        chunked = outcome.chunked if isinstance(outcome, Succeeded) else None
        if outcome.cost is not None or chunked is not None:
            hint += (*_REST[len(hint) - len(_FIRST) :], outcome.cost)
            if chunked is not None:
                hint += (chunked,)
        body = _encode(hint)
        start = place + WIDTH
        end = start + len(body)
        if end + WIDTH > (self._half + 1) * HALF:
            if not self._turn():
                return 0
            place = self._place
            start = place + WIDTH
            end = start + len(body)
        # In this order, so that there is a whole hint or none, whenever the process dies.
        file[start : end + WIDTH] = body + END
        file[place:start] = _pack(len(body), _checksum(body))
        self._place = end
        self._open[self._half] += 1
        return self._half + 1

    def committed(self, halves: Iterable[int]) -> None:
        """The store has the outcomes of these hints, or will never have them."""
        for number in halves:
            self._open[number - 1] -= 1
        start = self._starts[self._half]
        if not self._open[self._half] and self._map is not None and self._place > start:
            self._place = start
            self._map[start : start + WIDTH] = END

    def _turn(self) -> bool:
        """Go on in the other half, if it has no hint that is needed."""
        other = 1 - self._half
        if self._open[other] or self._map is None:
            return False
        self._half, self._place = other, self._starts[other]
        self._map[self._place : self._place + WIDTH] = END
        return True

    def cut(self) -> None:
        """Empty the file. To be called when the store has all that it says."""
        self.found = []
        if self._map is not None:
            self._map[: len(self._header) + WIDTH] = self._header + END
            self._map[HALF : HALF + WIDTH] = END
            self._half, self._place = 0, len(self._header)
            self._open = [0, 0]

    def close(self) -> None:
        """Close the file, and remove it if the store has all that it says."""
        if self._map is not None:
            self._map.close()
            self._map = None
            self._give_up()
            if self._place and not any(self._open) and self._path is not None:
                self._path.unlink(missing_ok=True)

    def _read(self, descriptor: int) -> list[Hint]:
        data = os.pread(descriptor, SIZE, 0)
        if not data.strip(b"\0"):
            return []
        if not data.startswith(self._header):
            self._ignored("it belongs to another store or version, or is damaged")
            return []
        hints: list[Hint] = []
        for start, end in zip(self._starts, (HALF, SIZE), strict=True):
            found, place = parse(data[:end], start)
            hints += found
            if data[place : place + WIDTH] not in (END, b""):
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
    while place + WIDTH <= len(data):
        length, checksum = FRAME.unpack_from(data, place)
        end = place + WIDTH + length
        body = data[place + WIDTH : end]
        if not length or end > len(data) or zlib.crc32(body) != checksum:
            break
        try:
            hints.append(msgspec.json.decode(body, type=Hint))
        except msgspec.MsgspecError:
            break
        place = end
    return hints, place
