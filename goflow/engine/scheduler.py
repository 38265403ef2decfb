"""The cron loop: accounts for every due time of every job, once, and never early.

A due time fires, or the ledger says why not. The next one is always computed from the last
that is accounted for, never from the time it was noticed; so nothing is lost or doubled
when the process was down, held up or suspended, or the clock was set.
"""

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from goflow.core.catchup import Backlog, CatchUp, Missed, Policy, backlog
from goflow.core.schedule import ClockChange, Schedule
from goflow.engine.clock import Clock, wait
from goflow.engine.peak import Peak
from goflow.errors import Unavailable
from goflow.stores.base import Tick, TickOutcome

logger = logging.getLogger(__name__)

AGAIN = timedelta(seconds=1)  # until what the store did not take is tried again
BATCH = 100  # due times handled at once
# How late a due time may be noticed by a process that was up and still fire, whatever the
# catch-up policy: a busy machine is not a pause.
LATENESS = timedelta(seconds=5)
STEP_BACK = timedelta(seconds=1)  # a clock that goes back further was set

DOWN = "the server was down"
HELD_UP = "the server was held up, or the clock was set"
SWITCHED_OFF = "the schedule was off"

Fire = Callable[[str, datetime], Awaitable[str | None]]
Record = Callable[[str, list[Tick], datetime], Awaitable[object]]
Compute = Callable[..., Awaitable[Backlog]]


class Scheduled:
    """A job whose schedule is on. Due times up to `accounted` are in the ledger."""

    __slots__ = ("accounted", "anchor", "due", "job", "policy", "reason", "schedule", "since")

    def __init__(
        self, job: str, schedule: Schedule, anchor: datetime, accounted: datetime, policy: Policy
    ) -> None:
        self.job = job
        self.schedule = schedule
        self.anchor = anchor
        self.policy = policy
        # Why due times up to `since`, when it was switched on, were not seen.
        self.reason = ""
        self.since = accounted
        self.due: datetime | None = None
        self.account(accounted)

    def account(self, accounted: datetime) -> None:
        """Take note that due times up to this instant are in the ledger."""
        self.accounted = accounted
        self.due = self.schedule.next(accounted, anchor=self.anchor)


class Coming(NamedTuple):
    """A due time to come."""

    due: datetime
    job: str
    schedule: Schedule
    anchor: datetime


def in_order_of_time(
    nearest: Sequence[Coming], until: datetime, limit: int, each: int
) -> list[Coming]:
    """The due times up to `until` of the jobs whose next ones are `nearest`, in order of time;
    at most `each` of a job and `limit` in all, for which no more than so many are computed."""
    heads = [(one.due, one.job, one) for one in nearest]
    heapq.heapify(heads)
    found: list[Coming] = []
    of_job: Counter[str] = Counter()
    while heads and len(found) < limit:
        due, job, one = heads[0]
        found.append(one)
        of_job[job] += 1
        following = one.schedule.next(due, anchor=one.anchor) if of_job[job] < each else None
        if following is None or following > until:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following, job, one._replace(due=following)))
    return found


class Scheduler:
    """`fire(job, due)` makes an execution, or answers why it makes none. `record(job, ticks,
    accounted)` writes to the ledger. `Unavailable` from either means: again, soon.
    `compute` calls a function that may take a while. `notice` hears what people should."""

    def __init__(
        self,
        clock: Clock,
        fire: Fire,
        record: Record,
        compute: Compute,
        notice: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._fire = fire
        self._record = record
        self._compute = compute
        self._notice = notice
        self._on: dict[str, Scheduled] = {}
        # (when to look, tie-break, entry): an entry that was switched off, or moved, is
        # found out when its turn comes.
        self._agenda: list[tuple[datetime, int, Scheduled]] = []
        self._batch: list[Scheduled] = []  # those of the agenda that are being handled
        self._count = 0
        self._changed = asyncio.Event()
        self._last_seen = clock.now()
        # Seconds from each due time to the record of what became of it, if that is since its
        # schedule is on.
        self.lateness = Peak()

    def switch_on(
        self,
        job: str,
        schedule: Schedule,
        anchor: datetime,
        accounted: datetime,
        policy: Policy,
        reason: str = "",
    ) -> None:
        """Let a job fire from now on. With a `reason`, due times after `accounted` that have
        passed are entered as missed for that reason, or caught up with if that is `DOWN`."""
        now = self._clock.now()
        entry = Scheduled(job, schedule, anchor, min(accounted, now), policy)
        entry.reason, entry.since = reason, now
        self._on[job] = entry
        self._plan(entry, entry.due)
        self._changed.set()

    def switch_off(self, job: str) -> None:
        """Let a job fire no more."""
        self._on.pop(job, None)

    def due(self, job: str) -> datetime | None:
        """When a job fires next; None if it does not."""
        entry = self._on.get(job)
        return None if entry is None else entry.due

    def __len__(self) -> int:
        """How many jobs' schedules are on."""
        return len(self._on)

    def nearest(self, until: datetime, limit: int) -> list[Coming]:
        """The next due times of the jobs that are due first, up to `until` and in order of
        time; at most `limit`."""
        # The agenda is a heap: what is below an entry comes later, so that only as much of
        # it is looked at as is found.
        found = {entry.job: entry for entry in self._batch if self._on.get(entry.job) is entry}
        places = [(self._agenda[0], 0)] if self._agenda else []
        while places and len(found) < limit + len(self._batch) and places[0][0][0] <= until:
            (_, _, entry), place = heapq.heappop(places)
            if self._on.get(entry.job) is entry:
                found[entry.job] = entry
            for below in (2 * place + 1, 2 * place + 2):
                if below < len(self._agenda):
                    heapq.heappush(places, (self._agenda[below], below))
        coming = (
            Coming(entry.due, entry.job, entry.schedule, entry.anchor)
            for entry in found.values()
            if entry.due is not None and entry.due <= until
        )
        return sorted(coming, key=lambda one: one[:2])[:limit]

    async def run(self) -> None:
        """Account for what is due, for ever."""
        while True:
            now = self._clock.now()
            if now < self._last_seen - STEP_BACK:
                self._go_back(now)
            self._last_seen = now
            while self._agenda and self._agenda[0][0] <= now and len(self._batch) < BATCH:
                entry = heapq.heappop(self._agenda)[2]
                if self._on.get(entry.job) is entry:
                    self._batch.append(entry)
            if self._batch:
                await asyncio.gather(*(self._handle(entry, now) for entry in self._batch))
                self._batch.clear()
            else:
                await wait(self._changed, self._clock, self._agenda[0][0] if self._agenda else None)

    def _go_back(self, now: datetime) -> None:
        """The clock was set back: count from now. What is in the ledger does not fire again."""
        self._notice(
            f"the clock went back by {self._last_seen - now}, to {now.isoformat()}; "
            f"schedules count from there"
        )
        for entry in list(self._on.values()):
            if entry.accounted > now:
                self.switch_on(entry.job, entry.schedule, entry.anchor, now, entry.policy)

    async def _handle(self, entry: Scheduled, now: datetime) -> None:
        try:
            await self._account(entry, now)
        except Unavailable as error:
            logger.warning("job %r, due %s, waits: %s", entry.job, entry.due, error)
            self._plan(entry, self._clock.now() + AGAIN)
        else:
            if self._on.get(entry.job) is entry:
                self._plan(entry, entry.due)

    async def _account(self, entry: Scheduled, now: datetime) -> None:
        """Fire a due time, or all that have piled up, as the job's policy says."""
        due = entry.due
        assert due is not None
        reason = entry.reason if due <= entry.since else ""
        following = entry.schedule.next(due, anchor=entry.anchor)
        if not reason and now - due <= LATENESS and (following is None or following > now):
            await self._fire_or_skip(entry, due)
            return
        policy = entry.policy
        if reason == SWITCHED_OFF:
            policy = policy._replace(catchup=CatchUp.NONE)
        elif not reason and policy.catchup is CatchUp.NONE:
            # It was up: the last due time is not missed if it is not late.
            policy = policy._replace(catchup=CatchUp.LATEST, window=LATENESS)
        found = await self._compute(backlog, entry.schedule, entry.anchor, due, now, policy)
        if found.missed is not None:
            await self._enter(entry, found.missed, reason or HELD_UP, now)
        for one in found.fire:
            await self._fire_or_skip(entry, one)

    async def _fire_or_skip(self, entry: Scheduled, due: datetime) -> None:
        because = await self._fire(entry.job, due)
        if because is not None:
            tick = Tick(due, TickOutcome.SKIPPED, self._clock.now(), because)
            await self._record(entry.job, self._with_merged(entry, tick), due)
        if due > entry.since:
            self.lateness.note((self._clock.now() - due).total_seconds())
        entry.account(due)

    async def _enter(self, entry: Scheduled, missed: Missed, reason: str, now: datetime) -> None:
        if entry.policy.catchup is not CatchUp.NONE and reason != SWITCHED_OFF:
            reason += "; too late to catch up with"
        until = None if missed.number == 1 else missed.last
        tick = Tick(missed.first, TickOutcome.MISSED, now, reason, missed.number, until)
        ticks = [tick] if until is not None else self._with_merged(entry, tick)
        await self._record(entry.job, ticks, missed.last)
        entry.account(missed.last)

    def _with_merged(self, entry: Scheduled, tick: Tick) -> list[Tick]:
        change = entry.schedule.clock_change(tick.due)
        merged = change and merged_into(tick.due, change, tick.at)
        return [tick] if merged is None else [tick, merged]

    def _plan(self, entry: Scheduled, look: datetime | None) -> None:
        if look is not None:
            self._count += 1
            heapq.heappush(self._agenda, (look, self._count, entry))


def merged_into(due: datetime, change: ClockChange, at: datetime) -> Tick | None:
    """The record of what a clock change merges into a due time, made at `at`."""
    if not change.merged:
        return None
    first, last = change.merged[0], change.merged[-1]
    return Tick(
        first,
        TickOutcome.MERGED,
        at,
        change.reason,
        len(change.merged),
        until=None if first == last else last,
        into=due,
    )
