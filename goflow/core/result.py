"""Where a task's result is: a small one in its fact, a large one in the store by itself.

So facts stay small, and what reads them (a replay, an execution's page) costs little,
whatever the tasks have returned.
"""

import hashlib

import msgspec

SMALL = 4096  # bytes of JSON that a fact carries at most


class StoredResult(msgspec.Struct, frozen=True):
    """A result that the store keeps by itself: of which attempt it is, the bytes of its JSON,
    and the SHA-256 of these in hexadecimal."""

    task: str
    attempt: int
    size: int
    sha256: str

    def is_intact(self, body: bytes) -> bool:
        """Whether that is the JSON that was stored."""
        return len(body) == self.size and digest(body) == self.sha256


def digest(body: bytes) -> str:
    """The SHA-256 of a result's JSON, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
