"""Unpacks gzip as it comes.

Rule: each step takes and gives a bounded number of bytes, so that whoever asks for the steps
decides how long it all may take.
"""

import zlib
from collections.abc import Iterator

# A step takes about a millisecond at most, even of blocks that hold nothing but their tables.
TAKES = 4 * 1024  # bytes
GIVES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Gunzip:
    """Unpacks members of gzip, one after the other.

    What follows the last member and is none is ignored, as gzip(1) does. Raises `ValueError`
    for what cannot be unpacked.
    """

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._magic = b""  # the beginning of a member, until there is enough to tell
        self._first = True
        self._ended = False

    def steps(self, data: bytes) -> Iterator[bytes]:
        """The steps of unpacking `data`: each gives what it has unpacked, maybe nothing."""
        for start in range(0, len(data), TAKES):
            rest = data[start : start + TAKES]
            while rest and not self._ended:
                member = self._member or self._begin(rest)
                if member is None:
                    break
                if self._magic:
                    rest, self._magic = self._magic, b""
                yield from self._unpack(member, rest)
                rest = member.unused_data
                if member.eof:
                    self._member = None

    def end(self) -> None:
        """Say that there is no more. Raises `ValueError` if a member is not whole."""
        if self._member is not None or (self._first and self._magic):
            raise ValueError("it ends early")

    def _begin(self, rest: bytes) -> "zlib._Decompress | None":
        self._magic += rest
        if len(self._magic) < len(_MAGIC) and _MAGIC.startswith(self._magic):
            return None
        if not self._first and not self._magic.startswith(_MAGIC):
            self._ended = True
            return None
        self._first = False
        self._member = zlib.decompressobj(_GZIP)
        return self._member

    def _unpack(self, member: "zlib._Decompress", rest: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = member.decompress(rest, GIVES)
            except zlib.error as error:
                raise ValueError(str(error).partition(": ")[2] or str(error)) from None
            yield piece
            rest = member.unconsumed_tail
            if member.eof or (not rest and len(piece) < GIVES):
                return
