"""The newest executions of each job as JSON, kept until they change.

The rule that must not be broken: nothing is kept that was read before the job's last change
was told of.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec

from goflow.engine.board import Entry
from goflow.stores.base import Change, Outcome, Purge, Store

KEPT = 64 * 1024 * 1024  # bytes of JSON
AT_ONCE = 100  # jobs asked for in one read

Read = Callable[..., Coroutine[Any, Any, Any]]


class _Kept(NamedTuple):
    """A job's `last` newest executions; `encoded` is None while they are being read."""

    last: int
    encoded: bytes | None


class Marks:
    """What an overview shows of each job; a job is read again after it has changed."""

    def __init__(self, store: Store, read: Read) -> None:
        self._store = store
        self._read = read
        self._kept: dict[str, _Kept] = {}
        self._size = 0
        self._purging = False  # whether the last purge removed something

    async def newest(self, jobs: Sequence[str], last: int) -> dict[str, bytes]:
        """For each job its newest `last` executions, the newest first, as a JSON array."""
        found: dict[str, bytes] = {}
        missing = []
        for job in jobs:
            kept = self._kept.get(job)
            if kept is None or kept.last != last or kept.encoded is None:
                missing.append(job)
            else:
                found[job] = kept.encoded
        for begin in range(0, len(missing), AT_ONCE):
            found |= await self._ask(missing[begin : begin + AT_ONCE], last)
        return found

    async def _ask(self, jobs: list[str], last: int) -> dict[str, bytes]:
        asked = _Kept(last, None)
        for job in jobs:
            self.changed(job)
            self._kept[job] = asked
        found: dict[str, bytes] = await self._read(self._encoded, jobs, last)
        for job, encoded in found.items():
            # Another one is there if the job has changed meanwhile, or was asked for again.
            if self._kept.get(job) is asked:
                del self._kept[job]
                if self._size + len(encoded) <= KEPT:
                    self._kept[job] = _Kept(last, encoded)
                    self._size += len(encoded)
        return found

    def _encoded(self, jobs: list[str], last: int) -> dict[str, bytes]:
        encode = msgspec.json.encode
        return {job: encode(marks) for job, marks in self._store.recent(jobs, last).items()}

    def execution_changed(self, entry: Entry) -> None:
        """Follow the executions that change."""
        self.changed(entry.summary.job)

    def changed(self, job: str) -> None:
        """An execution of the job was created or has changed."""
        kept = self._kept.pop(job, None)
        if kept is not None and kept.encoded is not None:
            self._size -= len(kept.encoded)

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Follow what the journal has committed. A round of retention is many purges: only at
        its end is everything read again."""
        if isinstance(change, Purge):
            if self._purging and not outcome:
                self.forget()
            self._purging = bool(outcome)

    def forget(self) -> None:
        """Executions of any job may be gone."""
        self._kept.clear()
        self._size = 0
