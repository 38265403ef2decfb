"""The cron loop: records every due time of every job exactly once, and never early.

A due time fires, or the ledger records why not. The next due time is computed from the last
recorded one, never from the current time. So no due time is lost or doubled when the process was
down, blocked or suspended, or the clock was set.

No job delays another. Each job is handled and, after an error, retried independently. Jobs with a
backlog take turns, a few due times each, and leave places for jobs that are on time.
"""

import asyncio
import heapq
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from goflow.core.catchup import Backlog, CatchUp, Missed, Policy, backlog
from goflow.core.instants import ClockChange
from goflow.core.timetable import Times, Timetable
from goflow.engine.clock import Clock, wait
from goflow.engine.max_gauge import MaxGauge
from goflow.errors import Stopping, StoreUnavailable, Unavailable
from goflow.shown import reason as reason_of
from goflow.stores.base import Accounted, Tick, TickOutcome

logger = logging.getLogger(__name__)

AGAIN = timedelta(seconds=1)  # until a due time refused by the store is retried
AT_MOST = timedelta(minutes=1)  # the maximum, after repeated defects
TRIES = 3  # attempts with a defect until a due time is recorded as skipped
AT_ONCE = 100  # jobs handled at once
BEHIND = 50  # of these, jobs that catch up
PORTION = 10  # due times that a job catches up with in one turn
# A due time noticed up to this late fires under any catch-up policy, since a busy machine is not
# a downtime.
LATENESS = timedelta(seconds=5)
STEP_BACK = timedelta(seconds=1)  # the clock was set if it went back further

DOWN = "the server was down"
HELD_UP = "the server was held up, or the clock was set"
SWITCHED_OFF = "the schedule was off"

Fire = Callable[[str, Accounted, bool], Awaitable[str | None]]
Record = Callable[[str, list[Tick], Accounted], Awaitable[object]]
Compute = Callable[..., Awaitable[Backlog]]
Work = Callable[["Scheduled"], Coroutine[Any, Any, bool]]


class Scheduled:
    """A job whose schedule is on. Due times up to `accounted` are in the ledger."""

    __slots__ = (
        "accounted",
        "anchor",
        "backlog",
        "defects",
        "due",
        "hindered",
        "hindrance",
        "job",
        "policy",
        "reason",
        "schedule",
        "since",
        "told",
    )

    def __init__(
        self, job: str, schedule: Times, anchor: datetime, accounted: datetime, policy: Policy
    ) -> None:
        self.job = job
        self.schedule = schedule
        self.anchor = anchor
        self.policy = policy
        # The reason why due times up to `since`, when it was switched on, were not seen.
        self.reason = ""
        self.since = accounted
        # The reason why due times up to `hindered` could not fire, though they were seen.
        self.hindrance = ""
        self.hindered = accounted
        self.told = ""  # the reason for waiting, as last logged
        self.backlog: deque[datetime] = deque()  # due times to catch up with, oldest first
        self.defects = 0  # in a row
        self.due: datetime | None = None
        self.account(accounted)

    def account(self, accounted: datetime) -> None:
        """Note that due times up to this instant are in the ledger."""
        self.accounted = accounted
        self.due = self.schedule.next(accounted, anchor=self.anchor)


class Coming(NamedTuple):
    """A future due time."""

    due: datetime
    job: str
    schedule: Times
    anchor: datetime


def in_order_of_time(
    nearest: Sequence[Coming], until: datetime, limit: int, each: int
) -> list[Coming]:
    """The due times up to `until` in order of time, at most `each` of a job and `limit` in all.
    `nearest` are the next due times of the jobs. No more than `limit` others are computed."""
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
    """Fires the due times of active schedules while `run` runs.

    `compute` calls a function that may take a while, `notice` takes human-readable warnings,
    and `on_defect` errors of goflow itself.
    """

    def __init__(
        self,
        clock: Clock,
        compute: Compute,
        notice: Callable[[str], None],
        on_defect: Callable[[str, BaseException], None],
    ) -> None:
        self._clock = clock
        self._compute = compute
        self._notice = notice
        self._on_defect = on_defect
        self._on: dict[str, Scheduled] = {}
        # (when to look, tie-break, entry). An entry that was switched off or moved is dropped
        # when its turn comes.
        self._agenda: list[tuple[datetime, int, Scheduled]] = []
        # An entry is on the agenda, waits in line to catch up, or is being handled.
        self._behind: deque[Scheduled] = deque()
        self._handled: dict[asyncio.Task[None], Scheduled] = {}
        self._catching_up: set[asyncio.Task[None]] = set()  # of the handled
        self._count = 0
        self._changed = asyncio.Event()
        self._last_seen = clock.now()
        # Seconds from each due time to its record, for due times since the schedule is on.
        self.lateness = MaxGauge()

    def switch_on(
        self,
        job: str,
        schedule: Times,
        anchor: datetime,
        accounted: datetime,
        policy: Policy,
        reason: str = "",
    ) -> None:
        """Fire a job's due times from now on. With a `reason`, past due times after `accounted`
        are recorded as missed for that reason; if it is `DOWN`, the job catches up."""
        now = self._clock.now()
        if isinstance(schedule, Timetable):
            schedule = schedule.set_back(now)  # the clock may have been set back
        entry = Scheduled(job, schedule, anchor, min(accounted, now), policy)
        entry.reason, entry.since = reason, now
        self._on[job] = entry
        self._plan(entry, entry.due)
        self._changed.set()

    def adjust(self, job: str, policy: Policy) -> bool:
        """Change the catch-up policy of a job; returns whether its schedule is on."""
        entry = self._on.get(job)
        if entry is not None:
            entry.policy = policy
        return entry is not None

    def switch_off(self, job: str) -> None:
        """Stop firing a job's due times."""
        self._on.pop(job, None)

    def due(self, job: str) -> datetime | None:
        """The next due time of a job; None if its schedule is off."""
        entry = self._on.get(job)
        return None if entry is None else entry.due

    def __len__(self) -> int:
        """The number of active schedules."""
        return len(self._on)

    def nearest(self, until: datetime, limit: int) -> list[Coming]:
        """The next due time of each job up to `until`, in order of time; at most `limit`."""
        # The agenda is a heap: children are later than their parents. So the search visits only
        # about as many entries as it finds.
        elsewhere = [*self._behind, *self._handled.values()]
        found = {entry.job: entry for entry in elsewhere if self._on.get(entry.job) is entry}
        places = [(self._agenda[0], 0)] if self._agenda else []
        while places and len(found) < limit + len(elsewhere) and places[0][0][0] <= until:
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

    async def run(self, fire: Fire, record: Record) -> None:
        """Record due times until cancelled. When restarted, it continues with all active
        schedules.

        `fire(job, accounted, late)` creates the execution of the due time `accounted.upto`, or
        returns a reason why there is none; `late` means that the job has a later due time
        already. `record(job, ticks, accounted)` writes to the ledger. If either raises
        `Unavailable`, the due time is tried again soon.
        """
        self._fire, self._record = fire, record
        self._agenda.clear()
        self._behind.clear()
        for entry in self._on.values():
            self._plan(entry, entry.due)
        try:
            while True:
                now = self._clock.now()
                if now < self._last_seen - STEP_BACK:
                    self._go_back(now)
                self._last_seen = now
                self._begin(now)
                room = len(self._handled) < AT_ONCE
                look = self._agenda[0][0] if self._agenda and room else None
                await wait(self._changed, self._clock, look)
        finally:
            for task in self._handled:
                task.cancel()
            self._handled.clear()
            self._catching_up.clear()

    def _go_back(self, now: datetime) -> None:
        """Count from now on, since the clock was set back. Recorded due times do not fire again."""
        self._notice(
            f"the clock went back by {self._last_seen - now}, to {now.isoformat()}; "
            f"schedules count from there"
        )
        for entry in list(self._on.values()):
            if entry.accounted > now:
                self.switch_on(entry.job, entry.schedule, entry.anchor, now, entry.policy)

    def _begin(self, now: datetime) -> None:
        """Handle the jobs that are due, while there are free places."""
        while self._agenda and self._agenda[0][0] <= now and len(self._handled) < AT_ONCE:
            entry = heapq.heappop(self._agenda)[2]
            if self._on.get(entry.job) is entry:
                self._handle(entry, self._fire_on_time)
        while self._behind and len(self._catching_up) < BEHIND and len(self._handled) < AT_ONCE:
            entry = self._behind.popleft()
            if self._on.get(entry.job) is entry:
                self._catching_up.add(self._handle(entry, self._catch_up))

    def _handle(self, entry: Scheduled, work: Work) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(self._guarded(entry, work))
        self._handled[task] = entry
        return task

    async def _guarded(self, entry: Scheduled, work: Work) -> None:
        """Handle a job, and plan its next turn in any case."""
        try:
            caught_up = await work(entry)
        except Unavailable as error:
            if not isinstance(error, Stopping) and entry.told != str(error):
                logger.warning("job %r, due %s, waits: %s", entry.job, entry.due, error)
                entry.told = str(error)
            self._hinder(entry, _hindrance(error))
            self._plan(entry, self._clock.now() + AGAIN)
        except Exception as error:
            await self._mend(entry, error)
        else:
            entry.told, entry.defects = "", 0
            if self._on.get(entry.job) is entry:
                if caught_up:
                    self._plan(entry, entry.due)
                else:
                    self._behind.append(entry)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._handled.pop(task, None)
            self._catching_up.discard(task)
            self._changed.set()

    def _hinder(self, entry: Scheduled, hindrance: str) -> None:
        """Remember why a due time could not fire, in case it is missed."""
        entry.hindrance = hindrance
        entry.hindered = self._clock.now()
        entry.backlog.clear()  # computed again at the next turn

    async def _mend(self, entry: Scheduled, error: Exception) -> None:
        """Retry after a defect. A due time with a defect at each try is skipped."""
        self._on_defect(f"the schedule of job {entry.job!r}", error)
        entry.defects += 1
        now, due = self._clock.now(), entry.due
        self._hinder(entry, f"a defect in goflow: {reason_of(error)}")
        if entry.defects >= TRIES and due is not None:
            tick = Tick(due, TickOutcome.SKIPPED, now, entry.hindrance)
            try:
                await self._record(entry.job, [tick], Accounted(entry.anchor, due))
                entry.account(due)
                entry.defects = 0
                self._plan(entry, entry.due)
                return
            except Exception as another:  # the first error was reported as a defect
                logger.warning("job %r, due %s: %s", entry.job, due, reason_of(another))
        self._plan(entry, now + min(AGAIN * 2 ** min(entry.defects - 1, 10), AT_MOST))

    async def _fire_on_time(self, entry: Scheduled) -> bool:
        """Fire the due time if it is the only one and not late; returns whether it was."""
        due, now = entry.due, self._clock.now()
        assert due is not None
        following = entry.schedule.next(due, anchor=entry.anchor)
        seen = due > entry.since or not entry.reason
        if not seen or now - due > LATENESS or (following is not None and following <= now):
            return False
        await self._fire_or_skip(entry, due, late=False)
        return True

    async def _catch_up(self, entry: Scheduled) -> bool:
        """Fire a portion of the backlog by the job's policy, and record missed due times; returns
        whether the backlog is empty."""
        if not entry.backlog:
            await self._look_back(entry)
        for _ in range(min(PORTION, len(entry.backlog))):
            if self._on.get(entry.job) is not entry:
                break
            late = len(entry.backlog) > 1
            await self._fire_or_skip(entry, entry.backlog[0], late=late)
            entry.backlog.popleft()
        return not entry.backlog

    async def _look_back(self, entry: Scheduled) -> None:
        """Decide which due times up to now fire, and which are missed."""
        due, now = entry.due, self._clock.now()
        assert due is not None
        reason = entry.reason if due <= entry.since else ""
        policy = entry.policy
        if reason == SWITCHED_OFF:
            policy = policy._replace(catchup=CatchUp.NONE)
        elif not reason and policy.catchup is CatchUp.NONE:
            # The process was up: the last due time fires unless it is late.
            policy = policy._replace(catchup=CatchUp.LATEST, window=LATENESS)
        found = await self._compute(backlog, entry.schedule, entry.anchor, due, now, policy)
        if found.missed is not None:
            hindrance = entry.hindrance if due <= entry.hindered else ""
            await self._enter(entry, found.missed, reason or hindrance or HELD_UP, now)
        entry.backlog.extend(found.fire)

    async def _fire_or_skip(self, entry: Scheduled, due: datetime, *, late: bool) -> None:
        accounted = Accounted(entry.anchor, due)
        because = await self._fire(entry.job, accounted, late)
        if because is not None:
            tick = Tick(due, TickOutcome.SKIPPED, self._clock.now(), because)
            await self._record(entry.job, self._with_merged(entry, tick), accounted)
        if due > entry.since:
            self.lateness.note((self._clock.now() - due).total_seconds())
        entry.account(due)

    async def _enter(self, entry: Scheduled, missed: Missed, reason: str, now: datetime) -> None:
        if entry.policy.catchup is not CatchUp.NONE and reason != SWITCHED_OFF:
            reason += "; too late to catch up with"
        until = None if missed.number == 1 else missed.last
        tick = Tick(missed.first, TickOutcome.MISSED, now, reason, missed.number, until)
        ticks = [tick] if until is not None else self._with_merged(entry, tick)
        await self._record(entry.job, ticks, Accounted(entry.anchor, missed.last))
        entry.account(missed.last)

    def _with_merged(self, entry: Scheduled, tick: Tick) -> list[Tick]:
        change = entry.schedule.clock_change(tick.due)
        merged = change and merged_into(tick.due, change, tick.at)
        return [tick] if merged is None else [tick, merged]

    def _plan(self, entry: Scheduled, look: datetime | None) -> None:
        if look is not None:
            self._count += 1
            heapq.heappush(self._agenda, (look, self._count, entry))


def _hindrance(error: Unavailable) -> str:
    """Why a due time could not fire, as recorded in the ledger."""
    if isinstance(error, StoreUnavailable):
        return f"the store could not be written: {error}"
    return str(error)


def merged_into(due: datetime, change: ClockChange, at: datetime) -> Tick | None:
    """The record, as of `at`, of the local times that a clock change merges into a due time."""
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
