"""Backfills: executions for past due times that have not run.

The rule that must not be broken: an invalid range is refused before anything is created.
"""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from goflow.core.timetable import Times
from goflow.engine.clock import Clock
from goflow.engine.errands import Errands, seen_through
from goflow.engine.ledger import Ledger
from goflow.engine.param_checks import ParamChecks
from goflow.engine.principal import NOBODY, Principal
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.engine.room import Room
from goflow.engine.runner import Runner
from goflow.engine.runners import Runners
from goflow.engine.skips import Skips
from goflow.engine.submissions import Request, Submissions
from goflow.errors import Conflict, InvalidRequest
from goflow.job import Job
from goflow.job.skip_dates import SkipDatesFailed
from goflow.stores.base import Existing, Store

LIMIT = 1000  # due times in one backfill
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # start of a range
LEDGER_PAGE = 500  # ticks read at once


class Backfilled(msgspec.Struct, frozen=True):
    """The outcome for a due time: `execution` was created, or had run before. In a dry run
    `execution` is None for one that would be created."""

    due: datetime
    execution: str | None
    created: bool


def check_range(start: datetime, end: datetime, now: datetime) -> None:
    """Raise `InvalidRequest` for an empty range, or one that is not over yet."""
    if start < EARLIEST:
        raise InvalidRequest(
            f"{start.isoformat()} is before 1970", code="invalid-range", field="from"
        )
    if start >= end:
        raise InvalidRequest(
            f"the range is empty: {start.isoformat()} is not before {end.isoformat()}",
            code="invalid-range",
            field="to",
        )
    if end > now:
        raise InvalidRequest(
            f"{end.isoformat()} is in the future; what is due then runs by itself",
            code="invalid-range",
            field="to",
        )


def due_times(times: Times, start: datetime, end: datetime) -> list[datetime]:
    """The due times from `start` up to, not including, `end`, oldest first. Raises
    `InvalidRequest` for more than `LIMIT`."""
    found: list[datetime] = []
    at = times.next(start - timedelta(microseconds=1))
    while at is not None and at < end:
        found.append(at)
        if len(found) > LIMIT:
            raise InvalidRequest(
                f"the range has more than {LIMIT} due times; choose a smaller one",
                code="invalid-range",
                field="to",
            )
        at = times.next(at)
    return found


def executions_of(store: Store, job: str, start: datetime, end: datetime) -> dict[datetime, str]:
    """The executions that fired in a range, by due time."""
    fired: dict[datetime, str] = {}
    before = end
    while ticks := store.ticks(job, before, LEDGER_PAGE):
        for tick in ticks:
            if tick.due >= start and tick.execution is not None:
                fired[tick.due] = tick.execution
        before = ticks[-1].due
        if before < start:
            break
    return fired


class Backfills:
    """Creates the executions of past due times on request."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        ledger: Ledger,
        submissions: Submissions,
        runners: Runners,
        room: Room,
        reader: Reader,
        skips: Skips,
        checks: ParamChecks,
        errands: Errands,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._ledger = ledger
        self._submissions = submissions
        self._runners = runners
        self._room = room
        self._reader = reader
        self._skips = skips
        self._checks = checks
        self._clock = clock
        self.errands = errands

    @seen_through
    async def run(
        self,
        name: str,
        start: datetime,
        end: datetime,
        *,
        parallel: int = 1,
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        by: Principal = NOBODY,
    ) -> list[Backfilled]:
        """Run a job for its due times from `start` up to, not including, `end`, oldest first,
        at most `parallel` at once, except those that have run already or that the job skips.

        All executions are created, durably, before this returns; each waits for the one
        `parallel` places before it. With `dry_run` none is created. If the store refuses some,
        those created before stay, and the same request again creates the rest.

        Raises `NotFound`; `InvalidRequest` for an empty range, one in the future, or one of more
        than 1000 due times or more than may be unfinished at all; `Conflict` for a job without
        a schedule, or whose `skip_dates` fails; and `Unavailable`, with nothing created, if there
        is no room for all of them now.
        """
        job, now = self._registry.job(name), self._clock.now()
        filled = await self._checks.fill(job, params)
        times = self._ledger.times(name, anchor=start, once=now)
        if times is None:
            raise Conflict(f"job {name!r} has no schedule, so it has no due times to run for")
        check_range(start, end, now)
        dues = await self._reader.read(due_times, times, start, end)
        dues = await self._without_skipped(job, times, dues)
        fired = await self._reader.read(executions_of, self._store, name, start, end)
        if dry_run:
            return [Backfilled(due, fired.get(due), created=False) for due in dues]
        with self._room.reserve(sum(due not in fired for due in dues)) as create_one:
            result: list[Backfilled] = []
            # The last `parallel` unfinished executions of the range, whoever created them.
            last: deque[Runner] = deque(maxlen=parallel)
            for due in dues:
                if (known := fired.get(due)) is None:
                    before = [last[0]] if len(last) == parallel else []
                    create_one()
                    request = Request(job, filled, "backfill", by, due=due, times=times)
                    runner, outcome = await self._submissions.create(request, before)
                    if not isinstance(outcome, Existing):
                        last.append(runner)
                        result.append(Backfilled(due, runner.execution.id, created=True))
                        continue
                    known = outcome.execution
                if (under_way := self._runners.get(known)) is not None:
                    last.append(under_way)
                result.append(Backfilled(due, known, created=False))
            return result

    async def _without_skipped(
        self, job: Job, times: Times, dues: list[datetime]
    ) -> list[datetime]:
        if job.skip_dates is None:
            return dues
        try:
            reasons = await self._skips.reasons(job, times, dues)
        except SkipDatesFailed as error:
            raise Conflict(f"job {job.name!r}: {error}", code="skip-dates") from None
        return [due for due, reason in zip(dues, reasons, strict=True) if reason is None]
