"""Schedules: whether they are on, since when, and their next due times.

A schedule is on or off by the job's definition, until a user switches it. The rule that must
not be broken: switching, editing or replacing a schedule never fires anything.
"""

import asyncio
from datetime import datetime

import msgspec

from goflow.engine.clock import Clock
from goflow.engine.entries import ScheduleState, Switch, put_switch, read_switches, switch_in
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
        schedule = self._registry.schedule(name)
        times: list[datetime] = []
        at = self._clock.now()
        state = self._ledger.states.get(name)
        anchor = at.replace(microsecond=0) if state is None else state.anchor
        while schedule is not None and len(times) < count:
            following = schedule.next(at, anchor=anchor)
            if following is None:
                break
            times.append(following)
            at = following
        return times

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
        known = name in self._registry.jobs
        schedule = self._registry.schedule(name) if known else None
        state = self._ledger.states.get(name)
        if schedule is None or not self.active(name) or not self._keeps_time:
            self._scheduler.switch_off(name)
            if state is not None and state.on:
                # After a restart too, due times until now count as switched off, not as down.
                self._set_on(name, state, False)
            return
        catchup = self._registry.jobs[name].catchup
        text = schedule.text
        kept = state is not None and state.schedule == text and state.on
        if kept and self._scheduler.adjust(name, catchup):
            return
        reason = DOWN  # why due times since `accounted` have not fired
        if state is None or state.schedule != text:
            # A new or edited schedule begins now, with a new phase.
            now = self._clock.now().replace(microsecond=0)
            state = self._ledger.set_state(name, ScheduleState(text, now, now))
        elif not state.on:
            reason = SWITCHED_OFF
            state = self._set_on(name, state, True)
        self._scheduler.switch_on(name, schedule, state.anchor, state.accounted, catchup, reason)

    def _set_on(self, name: str, state: ScheduleState, on: bool) -> ScheduleState:
        return self._ledger.set_state(name, msgspec.structs.replace(state, on=on))
