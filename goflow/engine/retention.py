"""Retention: old executions are deleted, in small batches between other writes.

The rule that must not be broken: only finished executions are deleted, and no records that prevent
a due time from firing twice.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import timedelta

import msgspec

from goflow import checks
from goflow.engine.clock import Clock
from goflow.engine.journal import Journal
from goflow.engine.live import LiveExecution
from goflow.errors import Unavailable
from goflow.stores.base import Purge

logger = logging.getLogger(__name__)

BATCH = 100  # executions deleted in one transaction
PAUSE = 0.025  # seconds between two batches, for other writes
ACTIVITY = timedelta(days=740)  # for calendars: two years and some days
CENTURY = 36_525  # days
EVERY = 600.0  # seconds between two rounds


class Keep(msgspec.Struct, frozen=True):
    """The history to keep: executions of the last `days`, of these the newest `executions`, and
    of these the newest `per_job` of each job. None means no such limit."""

    days: float | None = 90
    executions: int | None = 1_000_000
    per_job: int | None = None

    def __post_init__(self) -> None:
        days = self.days
        if days is not None and not checks.number("keep_days", days, 0, CENTURY, error=ValueError):
            raise ValueError("keep_days must be above 0; None keeps executions of any age")
        for name, value in (("executions", self.executions), ("per_job", self.per_job)):
            if value is not None:
                checks.count(f"keep_{name}", value, 1, error=ValueError)


class Retention:
    """Deletes history beyond `keep`, round after round. `jobs` are the jobs with history.

    `forget_artifacts` deletes the artifacts of deleted executions. It is called in the first round,
    since the server may have been killed before it was, and after each that deletes executions.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        keep: Keep,
        jobs: Iterable[str] = (),
        forget_artifacts: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._keep = keep
        self._forget_artifacts = forget_artifacts
        self._deleted = True  # something since the artifacts were forgotten
        # Jobs with executions finished since the last round; at first all jobs, since the server
        # may have stopped before its last round, or with another `keep`.
        self._grown = set(jobs)

    def note(self, job: str) -> None:
        """Note that a job has another finished execution."""
        self._grown.add(job)

    def changed(self, entry: LiveExecution) -> None:
        """Follow changed executions."""
        if entry.state.finished:
            self.note(entry.job)

    async def run(self) -> None:
        """Delete old history until cancelled."""
        while True:
            for purge in self._purges():
                if not await self._forget(purge) and purge.job is not None:
                    self.note(purge.job)
            await self._follow()
            await self._clock.sleep(EVERY)

    async def _follow(self) -> None:
        if self._deleted and self._forget_artifacts is not None:
            try:
                await self._forget_artifacts()
            except (OSError, Unavailable) as error:
                logger.warning("the artifacts of old executions are kept for now: %s", error)
            else:
                self._deleted = False

    def _purges(self) -> Iterator[Purge]:
        keep = self._keep
        if keep.days is not None:
            before = self._clock.now() - timedelta(days=keep.days)
            yield Purge(None, before, None, BATCH)
        yield Purge(None, None, None, BATCH, self._clock.now() - ACTIVITY)
        if keep.executions is not None:
            yield Purge(None, None, keep.executions, BATCH)
        grown, self._grown = self._grown, set()
        if keep.per_job is not None:
            for job in grown:
                yield Purge(job, None, keep.per_job, BATCH)

    async def _forget(self, purge: Purge) -> bool:
        """Repeat a purge until nothing is left to delete; returns whether that succeeded."""
        gone: object = 1
        while gone:
            try:
                gone = await self._journal.commit(purge)
            except Unavailable as error:
                logger.warning("old history is kept for now: %s", error)
                return False
            if gone:
                self._deleted = True
                await self._clock.sleep(PAUSE)
        return True
