"""The days of a time zone, as instants.

The rule that must not be broken: a day begins when local clocks first show its date, so it may have
23 or 25 hours.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


def last_days(zone: ZoneInfo, now: datetime, count: int) -> Iterator[tuple[date, datetime]]:
    """The last `count` days up to today, oldest first, and tomorrow, each with its begin in UTC."""
    today = now.astimezone(zone).date()
    for back in range(count - 1, -2, -1):
        day = today - back * _DAY
        yield day, datetime.combine(day, time(), zone).astimezone(UTC)
