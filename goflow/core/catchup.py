"""The policies for missed due times and for overlapping executions.

`backlog` decides which of the due times between two instants fire and which are missed.
"""

import enum
from bisect import bisect_left
from datetime import datetime, timedelta
from typing import NamedTuple

from goflow.core.timetable import Times

_SECOND = timedelta(seconds=1)
_MOMENT = timedelta(microseconds=1)


class CatchUp(enum.StrEnum):
    """Which due times still fire that passed while the process was down or busy.

    `latest`: the last one, if it is recent enough. `none`: none. `all`: all recent ones, up to a
    limit, the oldest first.
    """

    LATEST = "latest"
    NONE = "none"
    ALL = "all"


class Overlap(enum.StrEnum):
    """What a new execution of a job does while an earlier one is unfinished.

    `allow`: runs beside it. `skip`: is not created. `queue`: waits for it; the number of waiting
    executions is limited. `replace`: cancels it and waits for its end.
    """

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class Missed(NamedTuple):
    """Consecutive due times that do not fire."""

    first: datetime
    last: datetime
    number: int


class Backlog(NamedTuple):
    """Due times that have passed: those that fire, oldest first, and the missed ones before."""

    fire: list[datetime]
    missed: Missed | None


class Policy(NamedTuple):
    """A job's catch-up policy: `window` limits the age, `limit` the number of due times."""

    catchup: CatchUp = CatchUp.LATEST
    window: timedelta = timedelta(hours=1)
    limit: int = 100


def backlog(
    schedule: Times, anchor: datetime, due: datetime, now: datetime, policy: Policy
) -> Backlog:
    """Split the due times from `due`, the first one, up to `now`."""
    before = due - _MOMENT
    number = schedule.count(before, now, anchor=anchor)
    young = schedule.count(max(before, now - policy.window - _MOMENT), now, anchor=anchor)
    keep = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: policy.limit}[policy.catchup]
    fired = min(keep, young)
    if fired == number:
        return Backlog(_newest(schedule, anchor, before, now, fired), None)
    last, *fire = _newest(schedule, anchor, before, now, fired + 1)
    return Backlog(fire, Missed(due, last, number - fired))


def _newest(
    schedule: Times, anchor: datetime, after: datetime, now: datetime, number: int
) -> list[datetime]:
    """The last `number` due times up to `now`. At least as many follow `after`."""

    # A second has at most one due time, so the shortest age with enough has no more.
    def count(age: int) -> int:
        return schedule.count(now - age * _SECOND, now, anchor=anchor)

    oldest, age = (now - after) // _SECOND + 1, 1
    while age < oldest and count(age) < number:
        age *= 64
    age = bisect_left(range(min(age, oldest) + 1), number, key=count)
    at = now - age * _SECOND
    newest: list[datetime] = []
    while len(newest) < number:
        following = schedule.next(at, anchor=anchor)
        assert following is not None
        newest.append(at := following)
    return newest
