"""What to do about due times that have passed, and about executions that overlap.

Pure: which of the due times between two instants fire, and which are missed.
"""

import enum
from collections import deque
from datetime import datetime, timedelta
from typing import NamedTuple

from goflow.core.schedule import Schedule

COUNT_LIMIT = 10_000  # due times that are counted one by one
SPAN_LIMIT = 1_000  # due times looked for at once, going back from now


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
    # One more than may fire, so that the last missed one is known.
    pile = _pile(schedule, anchor, due, now, keep + 1, policy.window)
    young = [at for at in pile.newest if now - at <= policy.window]
    fire = young[-keep:] if keep else []
    unfired = pile.number - len(fire)
    if not unfired:
        return Backlog(fire, None)
    return Backlog(fire, Missed(due, pile.newest[-1 - len(fire)], unfired, pile.exact))


class _Pile(NamedTuple):
    """Due times: the last ones, oldest first, and how many there are, or at least are."""

    newest: list[datetime]
    number: int
    exact: bool = True


def _pile(
    schedule: Schedule,
    anchor: datetime,
    due: datetime,
    now: datetime,
    wanted: int,
    window: timedelta,
) -> _Pile:
    """The `wanted` last due times from `due` on, itself one, up to `now`, or less of them
    if only one is older than `window`."""
    newest: deque[datetime] = deque(maxlen=wanted)
    number = 0
    at: datetime | None = due
    while at is not None and at <= now:
        newest.append(at)
        number += 1
        if number == COUNT_LIMIT:
            break
        at = schedule.next(at, anchor=anchor)
    else:
        return _Pile(list(newest), number)
    if schedule.interval is not None:
        more = (now - at) // schedule.interval
        newest.extend(
            at + step * schedule.interval for step in range(max(1, more + 1 - wanted), more + 1)
        )
        return _Pile(list(newest), number + more)
    later, complete = _last(schedule, at, now, wanted, window)
    newest.extend(later)
    return _Pile(list(newest), number + len(later), complete)


def _last(
    schedule: Schedule, after: datetime, now: datetime, wanted: int, window: timedelta
) -> tuple[list[datetime], bool]:
    """The last due times later than `after`, up to `now`, and whether these are all: at least
    `wanted` if there are so many, or one that is older than `window`.

    Goes back from `now` by spans that grow where due times are rare and shrink where they
    are dense, so that neither a rare nor an uneven schedule makes it go through many.
    """
    spans: list[list[datetime]] = []
    span = timedelta(seconds=wanted)
    found = 0
    until = oldest = now
    while until > after and found < wanted and now - oldest <= window:
        begin = max(after, until - min(span, until - after))
        inside: list[datetime] = []
        at = schedule.next(begin)
        while at is not None and at <= until and len(inside) <= SPAN_LIMIT:
            inside.append(at)
            at = schedule.next(at)
        if len(inside) > SPAN_LIMIT:
            span = (until - begin) / 2
            continue
        if inside:
            spans.append(inside)
            found += len(inside)
            oldest = inside[0]
        until = begin
        span *= 2
    return [at for inside in reversed(spans) for at in inside], until == after
