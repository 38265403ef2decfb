"""How the meter of an attempt in a process of its own reaches the server: through a file in memory.

The process writes into it as often as the task reports, and the server looks a few times a second,
so that no amount of reports burdens the server. After the process has ended, even by a crash, the
server reads the last report.

The rule that must not be broken: the server believes whole reports only. The process writes them
into two places in turns, each with a number and a checksum.
"""

import os
import struct
import tempfile
import zlib
from typing import Any

import msgspec

from goflow.core.cost import COUNT_NAME, COUNTS, TEXT, Bar, Number
from goflow.operators.meter import Meter

HEADER = struct.Struct(">QII")  # the number of the report, its length, and its CRC-32
# More than a report takes: at most 6 bytes for a character in JSON, and 64 for each number.
ROOM = HEADER.size + 6 * (COUNTS * COUNT_NAME + TEXT) + 64 * (COUNTS + 4)


class Told(msgspec.Struct, frozen=True):
    """A report: the last progress, and all counts so far."""

    bar: Bar | None
    counts: dict[str, Number]


def create() -> int:
    """The descriptor of a new file for reports."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("goflow-reports", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def read(fd: int, after: int = 0) -> tuple[int, Told | None]:
    """The newest whole report whose number is above `after`, and that number."""
    found: list[tuple[int, int, int, int]] = []
    for place in (0, ROOM):
        header = os.pread(fd, HEADER.size, place)
        if len(header) == HEADER.size:
            number, length, checksum = HEADER.unpack(header)
            if number > after and length <= ROOM:
                found.append((number, length, checksum, place))
    for number, length, checksum, place in sorted(found, reverse=True):
        body = os.pread(fd, length, place + HEADER.size)
        if len(body) == length and zlib.crc32(body) == checksum:
            try:
                return number, msgspec.json.decode(body, type=Told)
            except msgspec.MsgspecError:
                continue
    return after, None


class ReportingMeter(Meter):
    """The meter in the process."""

    __slots__ = ("_fd", "_number")

    def __init__(self, fd: int) -> None:
        super().__init__(lambda meter: None, float)
        self._fd = fd
        self._number = 0

    def progress(self, done: Any, total: Any, words: Any) -> None:
        super().progress(done, total, words)
        self._tell()

    def count(self, name: Any, more: Any) -> None:
        super().count(name, more)
        self._tell()

    def _tell(self) -> None:
        self._number += 1
        body = msgspec.json.encode(Told(self.bar, self.counts or {}))
        header = HEADER.pack(self._number, len(body), zlib.crc32(body))
        os.pwrite(self._fd, header + body, self._number % 2 * ROOM)
