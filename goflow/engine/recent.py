"""The recent executions of each job as JSON, cached until the job changes.

A result that was read before the latest change of its job is never cached.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec

from goflow.engine.live import LiveExecution
from goflow.stores.base import Change, Outcome, Purge, Store

CACHED = 64 * 1024 * 1024  # bytes of JSON
JOBS_READ = 100  # jobs in one read of the store

Read = Callable[..., Coroutine[Any, Any, Any]]


class _Cached(NamedTuple):
    """The `last` newest executions of a job; `encoded` is None while they are being read."""

    last: int
    encoded: bytes | None


class RecentExecutions:
    """The executions that the overview shows of each job. A job is read again after a change."""

    def __init__(self, store: Store, read: Read) -> None:
        self._store = store
        self._read = read
        self._cached: dict[str, _Cached] = {}
        self._size = 0
        self._purging = False  # whether the last purge removed something

    async def newest(self, jobs: Sequence[str], last: int) -> dict[str, bytes]:
        """The newest `last` executions of each job as a JSON array, newest first."""
        found: dict[str, bytes] = {}
        missing = []
        for job in jobs:
            cached = self._cached.get(job)
            if cached is None or cached.last != last or cached.encoded is None:
                missing.append(job)
            else:
                found[job] = cached.encoded
        for begin in range(0, len(missing), JOBS_READ):
            found |= await self._load(missing[begin : begin + JOBS_READ], last)
        return found

    async def _load(self, jobs: list[str], last: int) -> dict[str, bytes]:
        loading = _Cached(last, None)
        for job in jobs:
            self.changed(job)
            self._cached[job] = loading
        found: dict[str, bytes] = await self._read(self._encoded, jobs, last)
        for job, encoded in found.items():
            # It was replaced if the job changed, or was loaded again, during the read.
            if self._cached.get(job) is loading:
                del self._cached[job]
                if self._size + len(encoded) <= CACHED:
                    self._cached[job] = _Cached(last, encoded)
                    self._size += len(encoded)
        return found

    def _encoded(self, jobs: list[str], last: int) -> dict[str, bytes]:
        found = self._store.recent(jobs, last)
        return {job: msgspec.json.encode(executions) for job, executions in found.items()}

    def execution_changed(self, execution: LiveExecution) -> None:
        """An execution of the live state has changed."""
        self.changed(execution.job)

    def committed(self, change: Change, outcome: Outcome) -> None:
        """The journal has committed a change. A round of retention is many purges; the cache is
        cleared only at its end."""
        if isinstance(change, Purge):
            if self._purging and not outcome:
                self.clear()
            self._purging = bool(outcome)

    def changed(self, job: str) -> None:
        """An execution of the job was created or has changed."""
        cached = self._cached.pop(job, None)
        if cached is not None and cached.encoded is not None:
            self._size -= len(cached.encoded)

    def clear(self) -> None:
        """Note that executions of any job may have been deleted."""
        self._cached.clear()
        self._size = 0
