"""Logs outside a store's tables: the smallest implementation of the contract."""

from collections.abc import Sequence

from goflow.errors import StoreUnavailable
from goflow.stores.logs import AppendLog, LogChunk

Place = tuple[str, str, int, int | None]


class ListedLogs:
    """Lists of chunks. `trouble` is the reason why writes fail now."""

    def __init__(self) -> None:
        self.chunks: dict[Place, list[LogChunk]] = {}
        self.trouble: str | None = None

    def append(self, changes: Sequence[AppendLog]) -> None:
        self._check()
        for one in changes:
            chunks = self.chunks.setdefault((one.execution, one.task, one.attempt, one.item), [])
            # Including chunks left by a failed batch.
            chunks[:] = [chunk for chunk in chunks if chunk.first < one.first]
            chunks.append(LogChunk(one.first, one.lines, one.text, one.times))
            if one.forget is not None:
                low, high = one.forget
                chunks[:] = [
                    chunk
                    for chunk in chunks
                    if not (low <= chunk.first < high and chunk.first + chunk.lines <= high)
                ]

    def forget(self, executions: Sequence[str]) -> None:
        self._check()
        for place in [place for place in self.chunks if place[0] in executions]:
            del self.chunks[place]

    def read(
        self,
        execution: str,
        task: str,
        attempt: int,
        after: int,
        limit: int,
        item: int | None = None,
    ) -> list[LogChunk]:
        found: list[LogChunk] = []
        chunks = self.chunks.get((execution, task, attempt, item), [])
        for chunk in chunks:
            if limit > 0 and (chunk.first + chunk.lines > after or not chunk.lines):
                found.append(chunk)
                limit -= len(chunk.text)
        return [chunk for chunk in found if chunk.lines]

    def end(self, execution: str, task: str, attempt: int, item: int | None = None) -> int:
        chunks = self.chunks.get((execution, task, attempt, item))
        return chunks[-1].first + chunks[-1].lines if chunks else 0

    def unfinished(
        self, execution: str, task: str, attempt: int, item: int | None = None
    ) -> LogChunk | None:
        chunks = self.chunks.get((execution, task, attempt, item))
        return chunks[-1] if chunks and not chunks[-1].lines else None

    def _check(self) -> None:
        if self.trouble is not None:
            raise StoreUnavailable(self.trouble)
