"""What the engine keeps in the store's entries: switches, the states of schedules, and since when
jobs run after others.

The rule that must not be broken: entries outlive versions of goflow. A field may be added with a
default, never renamed or removed.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from goflow.core.schedule import Schedule
from goflow.core.timetable import Span
from goflow.stores.base import Put, Store

SWITCH = "switch"  # kinds of entries; the key is the name of the job
SCHEDULE = "schedule"
FOLLOW = "follow"


class Switch(msgspec.Struct, frozen=True):
    """The last time that somebody switched a job's schedule on or off."""

    active: bool
    at: datetime
    by: str = ""


class KeptSpan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `goflow.core.timetable.Span`, with the canonical text of its schedule."""

    schedule: str
    anchor: datetime
    after: datetime
    until: datetime | None = None


class ScheduleState(msgspec.Struct, frozen=True):
    """A job's schedules as last seen, by their canonical texts, a line each.

    `@every` counts from `anchor`, and every due time up to `accounted` is in the ledger. A state
    that is not `on` was switched off, or its job has gone. Without `spans` the due times are those
    of its only schedule after `anchor`. `start` and `end` are those of the job.
    """

    schedule: str
    anchor: datetime
    accounted: datetime
    on: bool = True
    spans: tuple[KeptSpan, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def timing(self) -> tuple[str, datetime | None, datetime | None]:
        """What an edit of the job changes."""
        return self.schedule, self.start, self.end

    def parsed(self) -> list[Span]:
        """The spans of its due times."""
        if self.spans is None:
            return [Span(_parsed(self.schedule), self.anchor, self.anchor)]
        return [Span(_parsed(one.schedule), one.anchor, one.after, one.until) for one in self.spans]


class Follow(msgspec.Struct, frozen=True):
    """The jobs that a job runs after. Only successes above the version `since` count, so that a new
    definition runs nothing for earlier ones."""

    after: tuple[str, ...]
    since: int


def kept_spans(spans: Iterable[Span]) -> tuple[KeptSpan, ...]:
    """Spans as a state keeps them."""
    return tuple(KeptSpan(one.schedule.text, one.anchor, one.after, one.until) for one in spans)


def _parsed(text: str) -> Schedule:
    return Schedule(text, with_seconds=True)


class _KeptState(msgspec.Struct, omit_defaults=True):
    """The entry of a state. `accounted` is not in it: the store moves that with the ticks."""

    schedule: str
    anchor: datetime
    on: bool = True
    spans: tuple[KeptSpan, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None

    def state(self, accounted: datetime) -> ScheduleState:
        return ScheduleState(
            self.schedule, self.anchor, accounted, self.on, self.spans, self.start, self.end
        )


def put_switch(job: str, switch: Switch) -> Put:
    """The change that keeps a switch."""
    return Put(SWITCH, job, msgspec.json.encode(switch))


def put_state(job: str, state: ScheduleState) -> Put:
    """The change that keeps the state of a schedule, except `accounted`."""
    kept = _KeptState(state.schedule, state.anchor, state.on, state.spans, state.start, state.end)
    return Put(SCHEDULE, job, msgspec.json.encode(kept))


def put_follow(job: str, follow: Follow | None) -> Put:
    """The change that keeps which jobs a job runs after; None forgets it."""
    return Put(FOLLOW, job, None if follow is None else msgspec.json.encode(follow))


def switch_in(change: Put) -> Switch | None:
    """The switch that a change keeps; None if it keeps something else."""
    if change.kind != SWITCH or change.value is None:
        return None
    return msgspec.json.decode(change.value, type=Switch)


def state_in(change: Put) -> ScheduleState | None:
    """The state of a schedule that a change keeps, as it begins; None if it keeps something
    else."""
    if change.kind != SCHEDULE or change.value is None:
        return None
    kept = msgspec.json.decode(change.value, type=_KeptState)
    return kept.state(kept.anchor)


def read_switches(store: Store) -> dict[str, Switch]:
    """The last switch of each job's schedule, by job."""
    kept = store.entries(SWITCH).items()
    return {job: msgspec.json.decode(value, type=Switch) for job, value in kept}


def read_follows(store: Store) -> dict[str, Follow]:
    """Which jobs each job runs after, by job."""
    kept = store.entries(FOLLOW).items()
    return {job: msgspec.json.decode(value, type=Follow) for job, value in kept}


def read_states(store: Store) -> dict[str, ScheduleState]:
    """The states of schedules, by job."""
    accounted = store.accounted()
    states: dict[str, ScheduleState] = {}
    for job, value in store.entries(SCHEDULE).items():
        kept = msgspec.json.decode(value, type=_KeptState)
        account = accounted.get(job)
        # Before the first record of a due time, the store has the account of an earlier anchor.
        # One below its own anchor is of a clock that was set back.
        if account is None or account.anchor != kept.anchor:
            upto = kept.anchor
        else:
            upto = max(account.upto, kept.anchor)
        states[job] = kept.state(upto)
    return states
