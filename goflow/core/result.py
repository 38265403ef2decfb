"""The location of a task's result: a fact carries a small one, the store keeps a large one, and a
result that is no JSON is an artifact.

So facts stay small, and a replay is fast whatever tasks return.
"""

import enum
import hashlib

import msgspec

from goflow.core.keys import Key, key_of

SMALL = 4096  # the most bytes of JSON that a fact carries


class Format(enum.StrEnum):
    """How a task's result is kept."""

    JSON = "json"
    PICKLE = "pickle"
    ARROW = "arrow"


class Artifact(msgspec.Struct, frozen=True):
    """A file that an attempt left: its name, its bytes, and their SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """The artifacts of a successful attempt: its result in a `format` that is not JSON, and
    files."""

    format: str = ""
    result: Artifact | None = None
    files: tuple[Artifact, ...] = ()

    @property
    def all(self) -> tuple[Artifact, ...]:
        """The files, and the file of the result."""
        return self.files if self.result is None else (*self.files, self.result)


class Chunked(msgspec.Struct, frozen=True):
    """A list that is kept in parts: the number of its `items`. What a generator has yielded is in
    chunks in the store; `round` counts how often a retry by hand had them made anew. It is None
    for the results of the items of a mapped task, which are kept one by one."""

    round: int | None
    items: int


class StoredResult(msgspec.Struct, frozen=True):
    """A result that is kept separately: its attempt, the number of its bytes, and their SHA-256
    in hexadecimal. `item` is the index of an item of a mapped task. The store keeps JSON; a
    result in another `format` is among the artifacts. A `chunked` one is a list in parts: that of
    a generator is joined from its chunks, and that of a mapped task is too large to be joined."""

    task: str
    attempt: int
    size: int
    sha256: str
    item: int | None = None
    format: str = ""
    chunked: Chunked | None = None

    @property
    def key(self) -> Key:
        """The task or item whose result it is."""
        return key_of(self.task, self.item)

    @property
    def is_apart(self) -> bool:
        """Whether it consists of the results of items, which have not been joined."""
        return self.chunked is not None and self.chunked.round is None

    def is_intact(self, body: bytes) -> bool:
        """Whether `body` is the JSON that was stored."""
        return len(body) == self.size and digest(body) == self.sha256


def size_of(result: msgspec.Raw | StoredResult | None) -> int:
    """The number of bytes of a result's JSON, 0 without JSON, and for the results of items that
    are counted one by one."""
    match result:
        case None:
            return 0
        case StoredResult() if result.format or result.is_apart:
            return 0
        case StoredResult():
            return result.size
        case _:
            return len(result)


def digest(body: bytes) -> str:
    """The SHA-256 of a result's JSON, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
