"""Schedules: whether they are on, since when, and their next due times.

A schedule is on or off by the job's definition, until a user switches it. The rule that must
not be broken: switching, editing or replacing a schedule makes no past due time fire. Those of
schedules that stay in the job are caught up with.
"""

import asyncio
from datetime import datetime

import msgspec

from goflow.core.timetable import Times, Timetable, Timing
from goflow.engine.clock import Clock
from goflow.engine.entries import (
    ScheduleState,
    Switch,
    kept_spans,
    put_switch,
    read_switches,
    switch_in,
)
from goflow.engine.errands import Errands, seen_through
from goflow.engine.journal import Journal
from goflow.engine.ledger import Ledger
from goflow.engine.lifetime import Lifetime
from goflow.engine.max_gauge import MaxGauge
from goflow.engine.principal import NOBODY, Principal
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.engine.scheduler import DOWN, SWITCHED_OFF, Coming, Scheduler, in_order_of_time
from goflow.stores.base import Change, Outcome, Put, Store


class Schedules:
    """Switches schedules on and off, as definitions and users say."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        scheduler: Scheduler,
        ledger: Ledger,
        journal: Journal,
        reader: Reader,
        errands: Errands,
        lifetime: Lifetime,
        clock: Clock,
        *,
        keeps_time: bool,
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._ledger = ledger
        self._journal = journal
        self._reader = reader
        self._lifetime = lifetime
        self._clock = clock
        self._keeps_time = keeps_time
        self._toggling = asyncio.Lock()
        self._switches = read_switches(store)
        self.errands = errands

    def active(self, name: str) -> bool:
        """Whether a job's schedule is on, or would be if it had one."""
        job, switch = self._registry.jobs.get(name), self._switches.get(name)
        if job is None:
            return False
        return job.active if switch is None else switch.active

    def switched(self, name: str) -> Switch | None:
        """The last switch of a job's schedule by a user, or None."""
        return self._switches.get(name)

    def due(self, name: str) -> datetime | None:
        """When a job fires next, in UTC; None if it does not."""
        return self._scheduler.due(name)

    def __len__(self) -> int:
        """The number of schedules that are on."""
        return len(self._scheduler)

    @property
    def lateness(self) -> MaxGauge:
        """Seconds from due times to their records."""
        return self._scheduler.lateness

    async def coming(self, until: datetime, limit: int, each: int) -> list[Coming]:
        """The next due times of all schedules that are on, up to `until`, in order of time; at
        most `each` of a job, and `limit` in all."""
        nearest = self._scheduler.nearest(until, limit)
        return await self._reader.read(in_order_of_time, nearest, until, limit, each)

    def upcoming(self, name: str, count: int) -> list[datetime]:
        """The next `count` due times of a job, whether or not its schedule is on. Raises
        `NotFound`."""
        found: list[datetime] = []
        at = self._clock.now()
        begin = at.replace(microsecond=0)
        times = self._ledger.times(name, anchor=begin, once=begin)
        while times is not None and len(found) < count:
            following = times.next(at)
            if following is None:
                break
            found.append(following)
            at = following
        return found

    @seen_through
    async def toggle(
        self, name: str, active: bool | None = None, *, by: Principal = NOBODY
    ) -> bool:
        """Switch a job's schedule to `active`, or the other way if that is None. The new state
        is durable when this returns it. Raises `NotFound` and `Unavailable`."""
        self._registry.job(name)
        self._lifetime.check()
        # One at a time, so that each sees the state that the one before has committed.
        async with self._toggling:
            wanted = not self.active(name) if active is None else active
            switch = Switch(wanted, self._clock.now(), by.name)
            await self._journal.commit(put_switch(name, switch))
        return wanted

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Follow the commits of the journal."""
        if not isinstance(change, Put) or (switch := switch_in(change)) is None:
            return
        job = change.key
        registered = job in self._registry.jobs
        was_on = registered and self.active(job)
        self._switches[job] = switch
        if registered and was_on is not switch.active:
            self.switch(job)

    def switch(self, name: str) -> None:
        """Switch a job's schedule on or off, as its definition and its switch say. The schedule
        of a job that was removed is off; one that is on and has not changed goes on."""
        timing = self._registry.timing(name) if name in self._registry.jobs else None
        state = self._ledger.states.get(name)
        if timing is None or not self.active(name) or not self._keeps_time:
            self._scheduler.switch_off(name)
            if state is not None and state.on:
                # After a restart too, due times until now count as switched off, not as down.
                self._set_on(name, state, False)
            return
        catchup = self._registry.jobs[name].catchup
        same = state is not None and state.timing == (timing.text, timing.start, timing.end)
        if same and state is not None and state.on and self._scheduler.adjust(name, catchup):
            return
        # The reason why due times since `accounted` have not fired.
        reason = "" if self._scheduler.due(name) is not None else DOWN
        if state is not None and not state.on:
            reason = SWITCHED_OFF
            state = self._set_on(name, state, True)
        if state is None or not same:
            state = self._ledger.set_state(name, self._edited(state, timing))
        times: Times = timing.schedules[0]
        if state.spans is not None:
            times = Timetable(state.parsed(), timing.start)
        self._scheduler.switch_on(name, times, state.anchor, state.accounted, catchup, reason)

    def _edited(self, state: ScheduleState | None, timing: Timing) -> ScheduleState:
        """The state after an edit of a job's schedules. If all are new, they begin now, in a new
        phase. Otherwise those that stay go on; see `goflow.core.timetable`."""
        now = self._clock.now().replace(microsecond=0)
        if state is not None:
            going_on = timing.go_on(state.parsed(), state.accounted, now)
            if going_on is not None:
                spans = None
                if not _is_plain(timing, going_on, state):
                    spans = kept_spans(going_on.spans)
                return ScheduleState(
                    timing.text,
                    state.anchor,
                    state.accounted,
                    spans=spans,
                    start=timing.start,
                    end=timing.end,
                )
        spans = None if timing.is_plain else kept_spans(timing.begin(now).spans)
        return ScheduleState(timing.text, now, now, True, spans, timing.start, timing.end)

    def _set_on(self, name: str, state: ScheduleState, on: bool) -> ScheduleState:
        return self._ledger.set_state(name, msgspec.structs.replace(state, on=on))


def _is_plain(timing: Timing, going_on: Timetable, state: ScheduleState) -> bool:
    """Whether the due times left are those of the only schedule, from the state's anchor."""
    if not timing.is_plain or len(going_on.spans) > 1:
        return False
    span = going_on.spans[0]
    return span.phase == state.anchor and span.after <= state.accounted
