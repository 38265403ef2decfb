"""The local times that cron fields name: the next one, and how many lie between two.

The rule that must not be broken: nothing here knows a time zone. A local time is a day and a
position among the times of that day, so both answers are arithmetic, without a search.
"""

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache

# Instants and local times are whole seconds since 1970: integers neither overflow near the years 1
# and 9999 nor carry a zone by accident.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
NEVER = 1 << 62
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_EPOCH_ORDINAL = EPOCH.toordinal()
_EPOCH_WEEKDAY = 4  # a Thursday
_FIRST_DAY = date.min.toordinal() - _EPOCH_ORDINAL
_LAST_DAY = date.max.toordinal() - _EPOCH_ORDINAL


class LocalTimes:
    """The local times that a cron expression names, in order.

    Each is a number of seconds since 1970, counted as if the local clock were UTC.
    """

    def __init__(
        self,
        seconds: tuple[int, ...],
        minutes: tuple[int, ...],
        hours: tuple[int, ...],
        months: tuple[int, ...],
        days: tuple[tuple[int, ...], tuple[int, ...], bool],
        wildcard: bool,
    ) -> None:
        self._seconds = seconds
        self._minutes = minutes
        self._hours = hours
        self._months = months
        self._days = days
        self._a_day = len(hours) * len(minutes) * len(seconds)
        self.wildcard = wildcard
        """Whether the minute or the hour is a wildcard."""

    def first_from(self, local: int) -> int:
        """The first time at or after `local`, or `NEVER`."""
        today, second = divmod(local, DAY)
        earlier = self._earlier(second)
        if earlier == self._a_day:
            today, earlier = today + 1, 0
        for first, days in self._months_from(today):
            if (index := bisect_left(days, today - first)) < len(days):
                day = first + days[index]
                return day * DAY + self._second(earlier if day == today else 0)
        return NEVER

    def between(self, first: int, end: int) -> Iterator[int]:
        """The times from `first` up to, not including, `end`."""
        local = self.first_from(first)
        while local < end:
            yield local
            local = self.first_from(local + 1)

    def count(self, begin: int, end: int) -> int:
        """The number of times from `begin` up to, not including, `end`."""
        today, begin_second = divmod(begin, DAY)
        last, end_second = divmod(end, DAY)
        count = 0
        for first, days in self._months_from(today):
            if first > last:
                break
            index, until = bisect_left(days, today - first), bisect_left(days, last - first)
            count += (until - index) * self._a_day
            if today - first in days:
                count -= self._earlier(begin_second)
            if last - first in days:
                count += self._earlier(end_second)
        return count

    def _months_from(self, day: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The months from that of `day` on: the first day, and the named days counted from it."""
        if day > _LAST_DAY:
            return
        at = date.fromordinal(max(day, _FIRST_DAY) + _EPOCH_ORDINAL)
        first = at.toordinal() - _EPOCH_ORDINAL - (at.day - 1)
        for year in range(at.year, date.max.year + 1):
            for month in range(at.month if year == at.year else 1, 13):
                length = LONGEST_MONTHS[month - 1] - (month == 2 and not isleap(year))
                if month in self._months:
                    weekday = (first + _EPOCH_WEEKDAY) % 7
                    yield first, _named_days(*self._days, weekday, length)
                first += length

    def _earlier(self, second: int) -> int:
        """The number of times in a day that are before this second of the day."""
        at = second // 3600, second // 60 % 60, second % 60
        earlier = 0
        exact = True
        for value, values in zip(at, (self._hours, self._minutes, self._seconds), strict=True):
            earlier *= len(values)
            if exact:
                index = bisect_left(values, value)
                earlier += index
                exact = index < len(values) and values[index] == value
        return earlier

    def _second(self, earlier: int) -> int:
        """The second of the day at which the time with this number of earlier ones is."""
        rest, second = divmod(earlier, len(self._seconds))
        hour, minute = divmod(rest, len(self._minutes))
        return self._hours[hour] * 3600 + self._minutes[minute] * 60 + self._seconds[second]


@lru_cache(maxsize=1024)
def _named_days(
    month_days: tuple[int, ...],
    week_days: tuple[int, ...],
    both: bool,
    weekday: int,
    length: int,
) -> tuple[int, ...]:
    """The named days of a month that begins on this day of the week, counted from 0."""
    named = []
    for day in range(length):
        matching = day + 1 in month_days, (weekday + day) % 7 in week_days
        if all(matching) if both else any(matching):
            named.append(day)
    return tuple(named)
