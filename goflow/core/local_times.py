"""The local times that cron fields name: the next one, and how many lie between two.

The rule that must not be broken: nothing here knows a time zone. A local time is a day and a
position among the times of that day, so both answers are arithmetic, without a search.
"""

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from typing import NamedTuple

# Instants and local times are whole seconds since 1970: integers neither overflow near the years 1
# and 9999 nor carry a zone by accident.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
NEVER = 1 << 62
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
LAST = 0  # the last one in a month, in place of a number from 1

_EPOCH_ORDINAL = EPOCH.toordinal()
_EPOCH_WEEKDAY = 4  # a Thursday
_FIRST_DAY = date.min.toordinal() - _EPOCH_ORDINAL
_LAST_DAY = date.max.toordinal() - _EPOCH_ORDINAL


class Days(NamedTuple):
    """The days that the day fields of a cron expression name.

    Attributes:
        month_days: Days of the month.
        week_days: Days of the week; 0 is Sunday.
        both: Whether a day must match both fields, not only one of them.
        places: Days by their place in the month: ("L", n), n days before the last one; ("W", n),
            the weekday nearest to day n; and ("W", `LAST`), the last weekday.
        nths: Days of the week with their number in the month, from 1, or `LAST`.
    """

    month_days: tuple[int, ...]
    week_days: tuple[int, ...]
    both: bool
    places: tuple[tuple[str, int], ...] = ()
    nths: tuple[tuple[int, int], ...] = ()

    def can_match(self, month: int) -> bool:
        """Whether any year has a day in this month, from 1, that is named."""
        longest = LONGEST_MONTHS[month - 1]
        lengths = (28, 29) if month == 2 else (longest,)
        return any(_named_days(self, day, length) for length in lengths for day in range(7))

    def in_month(self, weekday: int, length: int) -> set[int]:
        """The days of the month, from 1, that the field of the days of the month names."""
        named = {day for day in self.month_days if day <= length}
        for kind, number in self.places:
            if kind == "L":
                named.add(length - number)
            elif number <= length:
                named.add(_nearest_weekday(number or length, weekday, length))
        return named

    def in_weeks(self, weekday: int, length: int) -> set[int]:
        """The days of the month, from 1, that the field of the days of the week names."""
        named = {day + 1 for day in range(length) if (weekday + day) % 7 in self.week_days}
        for day_of_week, nth in self.nths:
            first = 1 + (day_of_week - weekday) % 7
            every = range(first, length + 1, 7)
            if nth <= len(every):
                named.add(every[nth - 1])  # the last one, if `nth` is LAST
        return named


def _nearest_weekday(day: int, weekday: int, length: int) -> int:
    """The day from Monday to Friday that is nearest, in a month that begins on `weekday`."""
    match (weekday + day - 1) % 7:
        case 6:  # Saturday
            return day - 1 if day > 1 else 3
        case 0:  # Sunday
            return day + 1 if day < length else day - 2
        case _:
            return day


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
        days: Days,
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

    def bits(self, begin: int, end: int) -> int:
        """The times from `begin` up to, not including, `end`, as bits: bit i is `begin + i`."""
        found = 0
        for day in range(begin // DAY, (end - 1) // DAY + 1):
            if self.first_from(day * DAY) < (day + 1) * DAY:
                shift = day * DAY - begin
                found |= self._day_bits << shift if shift >= 0 else self._day_bits >> -shift
        return found & ((1 << (end - begin)) - 1)

    @cached_property
    def _day_bits(self) -> int:
        minute = sum(1 << second for second in self._seconds)
        hour = sum(minute << 60 * minutes for minutes in self._minutes)
        return sum(hour << 3600 * hours for hours in self._hours)

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
                    yield first, _named_days(self._days, weekday, length)
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
def _named_days(days: Days, weekday: int, length: int) -> tuple[int, ...]:
    """The named days of a month that begins on this day of the week, counted from 0."""
    in_month, in_weeks = days.in_month(weekday, length), days.in_weeks(weekday, length)
    named = in_month & in_weeks if days.both else in_month | in_weeks
    return tuple(sorted(day - 1 for day in named if day > 0))
