"""The ledger: the outcome of every due time of every job.

For each job the store keeps the state of its schedule: the schedule itself, the anchor that
`@every` counts from, and `accounted`, up to which all due times are in the ledger. The rule that
must not be broken: nothing enters the ledger before the state that it rests on is written.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta

import msgspec

from goflow.core.days import last_days
from goflow.core.schedule import find_zone
from goflow.core.timetable import Span, Times, Timetable
from goflow.engine.clock import Clock
from goflow.engine.entries import ScheduleState, put_state, read_states
from goflow.engine.journal import PATIENCE, Journal
from goflow.engine.lifetime import Lifetime
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.errors import InvalidRequest, Unavailable
from goflow.stores.base import (
    Accounted,
    Activity,
    Change,
    Outcome,
    RecordTicks,
    Store,
    Submit,
    Tick,
    TickOutcome,
)


class Ledger:
    """The states of all schedules, as last set, and the ticks of their due times."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        reader: Reader,
        registry: Registry,
        lifetime: Lifetime,
        clock: Clock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._reader = reader
        self._registry = registry
        self._lifetime = lifetime
        self._clock = clock
        self._unwritten: dict[str, asyncio.Future[Outcome]] = {}  # states not yet in the store
        self.states: dict[str, ScheduleState] = read_states(store)

    # -- the states of schedules -------------------------------------------------------

    def set_state(self, job: str, state: ScheduleState) -> ScheduleState:
        """Set the state of a job's schedule, and write it behind."""
        self.states[job] = state
        self._write(job)
        return state

    async def written(self, job: str) -> None:
        """Wait until the state of a job's schedule is in the store. Raises `Unavailable`."""
        if (queued := self._unwritten.get(job)) is not None:
            await asyncio.shield(queued)

    def _write(self, job: str) -> None:
        """Queue the state. If it is refused, queue it again, unless it was set anew."""

        def written(queued: "asyncio.Future[Outcome]") -> None:
            # Asked for in any case, or asyncio would report it when a newer state is queued.
            refused = not queued.cancelled() and queued.exception() is not None
            if queued.cancelled() or self._unwritten.get(job) is not queued:
                return
            if not refused:
                del self._unwritten[job]
            elif not self._lifetime.stopping:
                self._lifetime.spawn(again(queued), "writing the state of a schedule")

        async def again(refused: "asyncio.Future[Outcome]") -> None:
            with suppress(Unavailable):  # and nothing else: that would be a defect
                await refused
            await self._clock.sleep(PATIENCE)
            if self._unwritten.get(job) is refused:
                self._write(job)

        queued = self._journal.commit(put_state(job, self.states[job]))
        self._unwritten[job] = queued
        queued.add_done_callback(written)

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Follow the commits of the journal."""
        match change:
            case RecordTicks(job, _, Accounted() as accounted):
                self._account(job, accounted)
            case Submit(accounted=Accounted() as accounted):
                self._account(change.fact.job, accounted)

    def current(self, job: str, accounted: Accounted) -> Accounted | None:
        """The account to commit with a tick; None if it is of a schedule that was replaced, so
        that it does not end the account of the new one."""
        state = self.states.get(job)
        return accounted if state is not None and state.anchor == accounted.anchor else None

    def _account(self, job: str, accounted: Accounted) -> None:
        state = self.states.get(job)
        if state is None or state.anchor != accounted.anchor or accounted.upto <= state.accounted:
            return
        self.states[job] = msgspec.structs.replace(state, accounted=accounted.upto)

    def times(self, job: str, *, anchor: datetime, once: datetime) -> Times | None:
        """All due times of a job by its definition, in the phases of the state of its schedule. If
        it has none, `@every` counts from `anchor`, and `@once` from `once`. None without a
        schedule. Raises `NotFound`."""
        timing, state = self._registry.timing(job), self.states.get(job)
        if timing is None:
            return None
        return timing.all_times(() if state is None else state.parsed(), anchor, once)

    def interval(
        self, job: str, due: datetime | None, times: Times | None, now: datetime
    ) -> tuple[datetime | None, datetime | None]:
        """The interval that ends at a due time of `times`, or without one at the last due time up
        to `now`, and begins at the due time before. Also due times before the job's start
        count."""
        timing, state = self._registry.timing(job), self.states.get(job)
        if timing is None:
            return None, None
        if isinstance(times, Timetable):
            spans: Sequence[Span] = times.spans
        else:
            spans = () if state is None else state.parsed()
        times = timing._replace(start=None, end=None).all_times(spans, now, now)
        end = times.previous(now + timedelta(microseconds=1)) if due is None else due
        return None if end is None else times.previous(end), end

    # -- ticks -------------------------------------------------------------------------

    async def record(self, job: str, ticks: list[Tick], accounted: Accounted) -> None:
        """Record due times that made no execution. Raises `Unavailable`."""
        self._lifetime.check()
        await self.written(job)
        await self._journal.commit(RecordTicks(job, ticks, self.current(job, accounted)))

    async def was_skipped(self, job: str, due: datetime) -> bool:
        """Whether a due time is recorded as skipped."""
        ticks = await self._reader.read(self._store.ticks, job, due + timedelta(microseconds=1), 1)
        return any(tick.due == due and tick.outcome is TickOutcome.SKIPPED for tick in ticks)

    async def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ticks, newest first, with due times before `before`. Raises `NotFound`."""
        await self.check_known(job)
        return await self._reader.ticks(job, before, limit)

    async def calendar(self, job: str, timezone: str, days: int) -> list[tuple[date, Activity]]:
        """A job's activity on each of the last `days` days of a time zone, today included,
        oldest first; days without any are left out.

        Raises `InvalidRequest` for an unknown zone, and `NotFound`.
        """
        await self.check_known(job)
        now = self._clock.now()

        def read() -> list[tuple[date, Activity]]:
            try:
                zone = find_zone(timezone)
            except ValueError as error:
                raise InvalidRequest(
                    str(error), code="invalid-timezone", field="timezone"
                ) from None
            found = list(last_days(zone, now, days))
            spans = self._store.activity(job, [begin for _, begin in found])
            return [(day, did) for (day, _), did in zip(found, spans, strict=False) if did.counts]

        return await self._reader.read(read)

    async def check_known(self, job: str) -> None:
        """Raise `NotFound` for a job that is not registered and has no history either."""
        if job not in self._registry.jobs and not await self._reader.read(self._store.knows, job):
            self._registry.job(job)
