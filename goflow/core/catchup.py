"""What to do about due times that have passed, and about executions that overlap.

Pure: which of the due times between two instants fire, and which are missed.
"""

import enum
from bisect import bisect_left
from datetime import datetime, timedelta
from typing import NamedTuple

from goflow.core.schedule import Schedule

_SECOND = timedelta(seconds=1)
_MOMENT = timedelta(microseconds=1)


class CatchUp(enum.StrEnum):
    """What becomes of due times that passed while the process was down or held up.

    `latest`: the last one fires if it is young enough; `none`: none does; `all`: all that
    are young enough do, the oldest first, up to a limit.
    """

    LATEST = "latest"
    NONE = "none"
    ALL = "all"


class Overlap(enum.StrEnum):
    """What becomes of a new execution of a job while an earlier one is unfinished.

    `allow`: they run side by side; `skip`: it is not made; `queue`: it waits for the earlier
    ones, up to a limit; `replace`: the earlier ones are cancelled, and it waits for their end.
    """

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class Missed(NamedTuple):
    """A run of due times that do not fire."""

    first: datetime
    last: datetime
    number: int


class Backlog(NamedTuple):
    """Due times that have passed: those to fire, oldest first, and those before them."""

    fire: list[datetime]
    missed: Missed | None


class Policy(NamedTuple):
    """A job's catch-up policy: `window` is the greatest age, `limit` the greatest number."""

    catchup: CatchUp = CatchUp.LATEST
    window: timedelta = timedelta(hours=1)
    limit: int = 100


def backlog(
    schedule: Schedule, anchor: datetime, due: datetime, now: datetime, policy: Policy
) -> Backlog:
    """Sort the due times from `due` on, itself one, up to `now`."""
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
    schedule: Schedule, anchor: datetime, after: datetime, now: datetime, number: int
) -> list[datetime]:
    """The last due times up to `now`, so many as there are at least after `after`."""
    # A second has one due time at most, so the shortest age that has enough has no more.
    ages = range((now - after) // _SECOND + 1)
    age = bisect_left(
        ages, number, key=lambda age: schedule.count(now - age * _SECOND, now, anchor=anchor)
    )
    at = now - age * _SECOND
    newest: list[datetime] = []
    while len(newest) < number:
        following = schedule.next(at, anchor=anchor)
        assert following is not None
        newest.append(at := following)
    return newest
