"""A backfill's due times: which there are in a range, and which of them have run already.

The rule that must not be broken: a range is refused whole, before anything is made of it.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from goflow.core.schedule import Schedule
from goflow.errors import InvalidRequest
from goflow.stores.base import Store

LIMIT = 1000  # due times in one backfill
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # that one begins
LEDGER_PAGE = 500  # ticks read at once


class Backfilled(msgspec.Struct, frozen=True):
    """What a backfill did for a due time: made `execution`, or found that it had run; in a
    dry run `execution` is None for what would be made."""

    due: datetime
    execution: str | None
    created: bool


def check_range(start: datetime, end: datetime, now: datetime) -> None:
    """Raise `InvalidRequest` for a range that is none, or not over yet."""
    if start < EARLIEST:
        raise InvalidRequest(
            f"{start.isoformat()} is before 1970", code="invalid-range", field="from"
        )
    if start >= end:
        raise InvalidRequest(
            f"the range is empty: {start.isoformat()} is not before {end.isoformat()}",
            code="invalid-range",
            field="to",
        )
    if end > now:
        raise InvalidRequest(
            f"{end.isoformat()} is in the future; what is due then runs by itself",
            code="invalid-range",
            field="to",
        )


def due_times(
    schedule: Schedule, start: datetime, end: datetime, anchor: datetime
) -> list[datetime]:
    """Those from `start` up to, not including, `end`, oldest first. Raises `InvalidRequest` if
    they are more than `LIMIT`."""
    found: list[datetime] = []
    at = schedule.next(start - timedelta(microseconds=1), anchor=anchor)
    while at is not None and at < end:
        found.append(at)
        if len(found) > LIMIT:
            raise InvalidRequest(
                f"the range holds more than {LIMIT} due times; take a smaller one",
                code="invalid-range",
                field="to",
            )
        at = schedule.next(at, anchor=anchor)
    return found


def executions_of(store: Store, job: str, start: datetime, end: datetime) -> dict[datetime, str]:
    """The executions of the due times in a range that fired, by due time."""
    fired: dict[datetime, str] = {}
    before = end
    while ticks := store.ticks(job, before, LEDGER_PAGE):
        for tick in ticks:
            if tick.due >= start and tick.execution is not None:
                fired[tick.due] = tick.execution
        before = ticks[-1].due
        if before < start:
            break
    return fired
