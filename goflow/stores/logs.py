"""The contract of logs: where the lines that attempts write are kept.

`Store.logs` reads them. Chunks are written by `Store.commit`, as `AppendLog` changes of a batch.
The last chunk of a log and the end of its attempt are in the same batch, the chunk first, so that
the end is never visible without the log.

The stores here keep logs in tables of their own, in the transaction of the batch. A `LogStore` is
another place for them: give it to the store, as in `SqliteStore(path, logs=...)`. Then the promises
are these:

- When `commit` returns, its chunks are durable and can be read.
- When `commit` raises, or the server dies in the middle, some of its chunks may be there. The
  engine commits the same lines again, so `append` replaces chunks of the same attempt from the
  same line on.
- A purge deletes logs first, then their executions. If it fails in between, an execution that is
  about to be purged has lost its log.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class AppendLog(msgspec.Struct, frozen=True):
    """Append whole lines to an attempt's log and delete a range in its middle.

    `text` holds `lines` lines, each ended by a newline; `first` is the number of the first one,
    counted from 0. With `lines=0` it is the beginning of a line that has not ended. Such a chunk
    is the last one of its log; the next change `replaces` it and names its number. `times` encodes
    when the lines came; a store only keeps it. `forget` is a half-open range of line numbers; the
    chunks that lie entirely in it are deleted. `item` is the number of an item, if the attempt is
    of one of a mapped task. Outcome: None.
    """

    execution: str
    task: str
    attempt: int
    first: int
    lines: int
    text: str
    forget: tuple[int, int] | None = None
    times: bytes = b""
    replaces: int | None = None
    item: int | None = None


class LogChunk(msgspec.Struct, frozen=True):
    """A part of an attempt's log, as appended. `times` is empty where the times are unknown."""

    first: int
    lines: int
    text: str
    times: bytes = b""


class Logs(Protocol):
    """Reads logs of tasks, or of an `item` of a task, from any thread. Raises `StoreUnavailable`
    as the store does."""

    def read(
        self,
        execution: str,
        task: str,
        attempt: int,
        after: int,
        limit: int,
        item: int | None = None,
    ) -> list[LogChunk]:
        """Chunks with lines numbered `after` or higher, in order, until their texts add up to
        `limit` characters; at least one chunk if there is any."""
        ...

    def end(self, execution: str, task: str, attempt: int, item: int | None = None) -> int:
        """The number of the next line of an attempt's log, counted from 0."""
        ...

    def unfinished(
        self, execution: str, task: str, attempt: int, item: int | None = None
    ) -> LogChunk | None:
        """The last line of an attempt's log if it has not ended yet."""
        ...


class LogStore(Logs, Protocol):
    """A place for logs outside of the store's tables. The thread that commits calls `append` and
    `forget`; see the module for what they promise."""

    def append(self, changes: Sequence[AppendLog]) -> None:
        """Write chunks, in order; they are durable when this returns. Raises `StoreUnavailable`
        for trouble that may pass; then nothing else of the batch is committed either."""
        ...

    def forget(self, executions: Sequence[str]) -> None:
        """Delete the logs of executions. Raises as `append` does."""
        ...
