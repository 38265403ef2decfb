"""The times of log lines, packed for the store: mostly one byte per line.

Times are whole milliseconds since 1970 in UTC. A pack starts with the time of the first line, in
8 bytes. The others are differences to the previous line: zigzag-coded, since clocks may go back, as
varints of seven bits per byte, low bits first.
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

FIRST = struct.Struct(">q")


class LineTimes:
    """The times of consecutive lines."""

    __slots__ = ("_first", "_last", "_rest")

    def __init__(self, at: int, lines: int) -> None:
        self._first = self._last = at
        self._rest = bytearray(lines - 1)

    def add(self, following: "LineTimes") -> None:
        """Append the times of the following lines."""
        self._rest += _varint(following._first - self._last)
        self._rest += following._rest
        self._last = following._last

    def __len__(self) -> int:
        """The size of the pack in bytes."""
        return FIRST.size + len(self._rest)

    def packed(self) -> bytes:
        return FIRST.pack(self._first) + self._rest


def pack(times: Sequence[int]) -> bytes:
    """The times of consecutive lines, at least one."""
    packed = LineTimes(times[0], 1)
    for at in times[1:]:
        packed.add(LineTimes(at, 1))
    return packed.packed()


def unpack(packed: bytes) -> list[int]:
    """The time of each line; empty if no times were kept."""
    return list(_unpacked(packed)) if packed else []


def without(packed: bytes, lines: int) -> bytes:
    """The pack without its first `lines` lines; it must have more."""
    times = unpack(packed)
    if not times:
        return packed
    return pack(times[lines:])


def _unpacked(packed: bytes) -> Iterator[int]:
    (at,) = FIRST.unpack_from(packed)
    yield at
    value = shift = 0
    for byte in packed[FIRST.size :]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            at += value >> 1 ^ -(value & 1)
            yield at
            value = shift = 0


def _varint(difference: int) -> bytes:
    value = difference << 1 if difference >= 0 else (-difference << 1) - 1
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def instant(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def stamp(at: int) -> str:
    """As RFC 3339, in UTC, to the millisecond."""
    return f"{instant(at).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
