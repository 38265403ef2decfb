"""Decompresses gzip as a stream.

The rule that must not be broken: each step reads and returns a bounded number of bytes, so the
caller controls the total time.
"""

import zlib
from collections.abc import Iterator

# A step takes about a millisecond at most, even for blocks that contain only their tables.
TAKES = 4 * 1024  # bytes
GIVES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Gunzip:
    """Decompresses the members of a gzip stream.

    Other data after the last member is ignored, as by gzip(1). Raises `ValueError` for invalid
    data.
    """

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._magic = b""  # the beginning of a member, until there is enough to recognise it
        self._first = True
        self._ended = False

    def steps(self, data: bytes) -> Iterator[bytes]:
        """Decompress `data` in steps. Each step returns some bytes, or none."""
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
        """End the stream. Raises `ValueError` if a member is incomplete."""
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
