"""The days of a time zone, as instants.

The rule: a day begins when local clocks first show it, so it may have 23 hours, or 25.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


def last_days(zone: ZoneInfo, now: datetime, count: int) -> Iterator[tuple[date, datetime]]:
    """The last `count` days up to the one that `now` is in, oldest first, each with the
    instant at which it begins, in UTC; and last of all the day that follows."""
    today = now.astimezone(zone).date()
    for back in range(count - 1, -2, -1):
        day = today - back * _DAY
        yield day, datetime.combine(day, time(), zone).astimezone(UTC)
