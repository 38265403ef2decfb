"""What to do about due times that have passed, and about executions that overlap.

Pure: which of the due times between two instants fire, and which are missed.
"""

import enum
from collections import deque
from datetime import datetime, timedelta
from typing import NamedTuple

from goflow.core.schedule import Schedule

COUNT_LIMIT = 10_000  # due times that are counted one by one


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
    """A run of due times that do not fire; there are at least `number` if not `exact`."""

    first: datetime
    last: datetime
    number: int
    exact: bool


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
    keep = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: policy.limit}[policy.catchup]
    newest: deque[datetime] = deque(maxlen=keep + 1)
    count, exact = 0, True
    at: datetime | None = due
    while at is not None and at <= now:
        count += 1
        newest.append(at)
        if count == COUNT_LIMIT:
            count, exact = _skip_ahead(schedule, anchor, at, now, newest, count)
            break
        at = schedule.next(at, anchor=anchor)
    oldest = now - policy.window
    fire = [one for one in newest if one >= oldest][-keep:] if keep else []
    unfired = count - len(fire)
    if not unfired:
        return Backlog(fire, None)
    # `newest` holds one more than may fire, so that the last missed one is known.
    last = [one for one in newest if not fire or one < fire[0]][-1]
    return Backlog(fire, Missed(due, last, unfired, exact))


def _skip_ahead(
    schedule: Schedule,
    anchor: datetime,
    at: datetime,
    now: datetime,
    newest: "deque[datetime]",
    count: int,
) -> tuple[int, bool]:
    """Add the last due times up to `now` to `newest`, without going through all of them."""
    if schedule.interval is not None:
        steps = (now - at) // schedule.interval
        for back in range(min(steps, newest.maxlen or 0) - 1, -1, -1):
            newest.append(at + (steps - back) * schedule.interval)
        return count + steps, True
    wanted = newest.maxlen or 0
    span = timedelta(minutes=wanted)
    while True:
        start = max(at, now - span)
        found: list[datetime] = []
        one = schedule.next(start, anchor=anchor)
        while one is not None and one <= now and len(found) <= COUNT_LIMIT:
            found.append(one)
            one = schedule.next(one, anchor=anchor)
        if len(found) >= wanted or start == at:
            newest.extend(found)
            return count + len(found), start == at
        span *= 4
