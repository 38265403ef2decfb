"""The location of a task's result: a fact carries a small one, the store keeps a large one.

So facts stay small, and a replay is fast whatever tasks return.
"""

import hashlib

import msgspec

from goflow.core.keys import Key, key_of

SMALL = 4096  # the most bytes of JSON that a fact carries


class StoredResult(msgspec.Struct, frozen=True):
    """A result that the store keeps separately: its attempt, the number of bytes of its JSON,
    and their SHA-256 in hexadecimal. `item` is the index of an item of a mapped task."""

    task: str
    attempt: int
    size: int
    sha256: str
    item: int | None = None

    @property
    def key(self) -> Key:
        """The task or item whose result it is."""
        return key_of(self.task, self.item)

    def is_intact(self, body: bytes) -> bool:
        """Whether `body` is the JSON that was stored."""
        return len(body) == self.size and digest(body) == self.sha256


def size_of(result: msgspec.Raw | StoredResult | None) -> int:
    """The number of bytes of a result's JSON, 0 without a result."""
    match result:
        case None:
            return 0
        case StoredResult():
            return result.size
        case _:
            return len(result)


def digest(body: bytes) -> str:
    """The SHA-256 of a result's JSON, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
