"""What the engine keeps in the store's entries: switches, and the states of schedules.

The rule that must not be broken: entries outlive versions of goflow. A field may be added with a
default, never renamed or removed.
"""

from datetime import datetime

import msgspec

from goflow.stores.base import Put, Store

SWITCH = "switch"  # kinds of entries; the key is the name of the job
SCHEDULE = "schedule"


class Switch(msgspec.Struct, frozen=True):
    """The last time that somebody switched a job's schedule on or off."""

    active: bool
    at: datetime
    by: str = ""


class ScheduleState(msgspec.Struct, frozen=True):
    """A job's schedule as last seen, by its canonical text.

    `@every` counts from `anchor`, and every due time up to `accounted` is in the ledger. A state
    that is not `on` was switched off, or its job has gone.
    """

    schedule: str
    anchor: datetime
    accounted: datetime
    on: bool = True


class _KeptState(msgspec.Struct):
    """The entry of a state. `accounted` is not in it: the store moves that with the ticks."""

    schedule: str
    anchor: datetime
    on: bool = True


def put_switch(job: str, switch: Switch) -> Put:
    """The change that keeps a switch."""
    return Put(SWITCH, job, msgspec.json.encode(switch))


def put_state(job: str, state: ScheduleState) -> Put:
    """The change that keeps the state of a schedule, except `accounted`."""
    kept = _KeptState(state.schedule, state.anchor, state.on)
    return Put(SCHEDULE, job, msgspec.json.encode(kept))


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
    return ScheduleState(kept.schedule, kept.anchor, kept.anchor, kept.on)


def read_switches(store: Store) -> dict[str, Switch]:
    """The last switch of each job's schedule, by job."""
    kept = store.entries(SWITCH).items()
    return {job: msgspec.json.decode(value, type=Switch) for job, value in kept}


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
        states[job] = ScheduleState(kept.schedule, kept.anchor, upto, kept.on)
    return states
