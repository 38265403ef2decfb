"""When a job is due: the first fire after an instant, and nothing else.

The rule that must not be broken: an answer depends on the arguments and the time-zone
data alone. Fires are instants in UTC, strictly later than the one asked about, and no
two local names of an instant make two fires.

Syntax is that of crontab(5) as Vixie wrote it, with the additions of Go's robfig/cron
that goflow's users know (seconds first, descriptors, `@every`, `TZ=`, `?`, `a/n`):

    seconds 0-59 (only with_seconds)   minutes 0-59   hours 0-23   days of the month 1-31
    months 1-12 or JAN-DEC   days of the week 0-7 or SUN-SAT, Sunday being 0 and 7

- A field is a list, split by commas, of `*`, `a`, `a-b`, each with an optional `/n`;
  `a/n` runs to the end of the field, which for days of the week is Saturday. `?` alone
  is `*` in the two day fields. Names stand wherever numbers do, in any case.
- A range that runs backwards is refused. SUN is 0, so FRI-SUN runs backwards: it is 5-7.
- A field whose text starts with `*` (or is `?`) counts as a wildcard, so `*/5` does too.
- Days: either field may match, unless one is a wildcard, then both must.
- Clock changes: with a wildcard minute or hour, every real local time that matches is a
  fire, so twice in a repeated hour and never inside a gap. Otherwise the first pass of a
  repeated hour only, and the times inside a gap of up to 3 hours make one fire at the
  first instant after it. Any change of a zone's UTC offset is a clock change. What is not
  due because of one is merged into what is: see `ClockChange`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from goflow import zones
from goflow.errors import InvalidJob

LONGEST_EXPRESSION = 256
"""Characters a schedule's text may have."""

# Instants and local times are whole seconds since 1970 here: integers neither overflow
# near the years 1 and 9999 nor carry a zone by accident.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = 86_400
_LONGEST_FILLED_GAP = 3 * 3600
_NEVER = 1 << 62


class ClockChange(NamedTuple):
    """How a clock change affects the due time of a schedule with fixed local times.

    Attributes:
        merged: Instants in UTC, oldest first, that this due time replaces. A local time that a
            clock change skips is recorded at the instant that it would have had. A local time
            that comes twice is recorded at its second pass.
        reason: Human-readable sentence.
    """

    merged: tuple[datetime, ...]
    reason: str


class Schedule:
    """The times at which a job is due.

    Two schedules are equal if they have the same expression, time zone and `with_seconds`.

    Args:
        expression: Five cron fields; six, seconds first, if `with_seconds` is true; a descriptor
            (`@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`); or
            `@every` and a Go duration such as `1h30m10s`. Durations are rounded down to whole
            seconds, and up to one second. A prefix `CRON_TZ=Zone ` or `TZ=Zone ` overrides
            `timezone`.
        timezone: Name of a zone in the IANA time zone database.
        with_seconds: Whether cron may have six fields.

    Raises:
        InvalidJob: The expression or the zone is invalid, or the schedule never fires. The message
            names the expression and the reason.

    Examples:
        >>> from datetime import UTC, datetime
        >>> from goflow import Schedule
        >>> schedule = Schedule("30 6 * * MON-FRI", "Europe/Berlin")
        >>> str(schedule.next(datetime(2026, 10, 23, 12, tzinfo=UTC)))
        '2026-10-26 05:30:00+00:00'
    """

    __slots__ = ("_times", "_zone", "expression", "interval", "timezone", "with_seconds")

    expression: str
    """The expression as written."""
    timezone: str
    """The zone in effect: the prefix's if there is one."""
    with_seconds: bool
    interval: timedelta | None
    """Time between due times of `@every`, in whole seconds; None for other schedules."""

    def __init__(self, expression: str, timezone: str = "UTC", with_seconds: bool = False) -> None:
        try:
            self._zone = find_zone(timezone)
            text = _checked(expression)
            if (prefix := re.match(r"(?:CRON_)?TZ=([^ \t]*)", text)) is not None:
                self._zone = find_zone(prefix[1])
                text = text[prefix.end() :].strip(" \t")
            self.interval = _interval(text) if re.match(r"@every(?![^ \t])", text) else None
            self._times = _local_times(text, with_seconds) if self.interval is None else None
        except _Refusal as refusal:
            raise InvalidJob(f"schedule {_shown(expression)}: {refusal}") from None
        self.expression = expression
        self.timezone = self._zone.key
        self.with_seconds = with_seconds

    def next(self, after: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The first due time strictly later than `after`, in UTC and whole seconds.

        Args:
            after: Aware datetime. `@every` counts from it, rounded down to a whole second.
            anchor: Aware datetime of another due time, whose phase `@every` keeps. Cron
                expressions ignore it.

        Returns:
            An aware datetime, or None if no due time follows within a century or before the
            year 10000.

        Raises:
            ValueError: A datetime is naive.
        """
        now = _seconds(after, "after")
        if self._times is not None:
            due = _next_fire(self._times, self._zone, now)
        else:
            assert self.interval is not None
            step = self.interval // _SECOND
            phase = now if anchor is None else _seconds(anchor, "anchor")
            due = now + step - (now - phase) % step
        try:
            return _EPOCH + timedelta(seconds=due)
        except OverflowError:
            return None

    def clock_change(self, due: datetime) -> ClockChange | None:
        """How a clock change affects a due time; None if none does.

        It replaces the local times that a clock change skips, of which the first 100 are
        examined, or its local time comes twice.

        Args:
            due: Aware datetime of a due time.

        Raises:
            ValueError: `due` is naive.
        """
        at = _seconds(due, "due")
        if self._times is None or self._times.wildcard:
            return None
        return _clock_change(self._times, self._zone, at)

    def count(self, after: datetime, last: datetime, *, anchor: datetime | None = None) -> int:
        """How many fires are strictly later than the aware `after` and not later than `last`:
        as many as `next` names one by one, found without going through them.

        The `anchor` is that of `next`. Raises ValueError for a naive datetime.
        """
        begin, end = _seconds(after, "after"), _seconds(last, "last")
        if end <= begin:
            return 0
        if self._times is not None:
            return _count_fires(self._times, self._zone, begin, end)
        assert self.interval is not None
        step = self.interval // _SECOND
        phase = begin if anchor is None else _seconds(anchor, "anchor")
        return (end - phase) // step - (begin - phase) // step

    def _identity(self) -> tuple[str, str, bool]:
        return self.expression, self.timezone, self.with_seconds

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[type[Schedule], tuple[str, str, bool]]:
        # A zone that was read from a file of our choice cannot be pickled; its name can.
        return Schedule, self._identity()

    def __repr__(self) -> str:
        expression, timezone, with_seconds = self._identity()
        return f"Schedule({expression!r}, {timezone!r}, with_seconds={with_seconds})"


def _seconds(instant: datetime, name: str) -> int:
    if instant.utcoffset() is None:
        raise ValueError(f"{name} must be an aware datetime, with a tzinfo: {instant!r} has none")
    return (instant - _EPOCH) // _SECOND


# From text to fields.


class _Refusal(ValueError):
    """Why an expression is refused; `Schedule` adds the expression."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    last: int  # where `*` and `a/n` end; differs from `high` where Sunday is both 0 and 7
    names: tuple[str, ...] = ()  # of the values from `low` on


_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

_SECONDS = _Field("second", 0, 59, 59)
_MINUTES = _Field("minute", 0, 59, 59)
_HOURS = _Field("hour", 0, 23, 23)
_MONTH_DAYS = _Field("day of the month", 1, 31, 31)
_MONTHS = _Field("month", 1, 12, 12, _MONTH_NAMES)
_WEEK_DAYS = _Field("day of the week", 0, 7, 6, _DAY_NAMES)
_FIELDS = (_SECONDS, _MINUTES, _HOURS, _MONTH_DAYS, _MONTHS, _WEEK_DAYS)

_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_DESCRIPTORS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_VALUE = r"[0-9]+|[A-Za-z]+"
_ITEM = re.compile(rf"(?:\*|(?P<first>{_VALUE})(?:-(?P<last>{_VALUE}))?)(?:/(?P<step>[0-9]+))?")

_UNITS = {  # in nanoseconds, with both characters that are written for "micro"
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART = re.compile(rf"([0-9]*)(?:\.([0-9]*))?({'|'.join(_UNITS)})")
_LONGEST_DURATION = 2**63 - 1  # nanoseconds, the limit of Go's time.Duration


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(str(text))} characters)"


def _checked(expression: str) -> str:
    if not isinstance(expression, str):
        raise _Refusal("must be text, such as '0 6 * * *'")
    if len(expression) > LONGEST_EXPRESSION:
        raise _Refusal(f"has more than {LONGEST_EXPRESSION} characters")
    for character in expression:
        if not character.isprintable() and character != "\t":
            raise _Refusal(f"has the character {character!r}, which is not allowed")
    text = expression.strip(" \t")
    if not text:
        raise _Refusal("is empty; a job without a schedule has None")
    return text


def find_zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises `ValueError` if the database has none."""
    try:
        if isinstance(name, str):
            return zones.find(name)
    except LookupError:
        pass
    raise _Refusal(f"unknown time zone {_shown(name)}; names are like 'Europe/Berlin'")


def _interval(text: str) -> timedelta:
    duration = text.removeprefix("@every").strip(" \t")
    unsigned = duration[1:] if duration[:1] in ("+", "-") else duration
    nanoseconds = end = 0
    while (part := _DURATION_PART.match(unsigned, end)) is not None:
        whole, fraction, unit = part[1], part[2] or "", _UNITS[part[3]]
        if not whole + fraction:
            break
        nanoseconds += int(whole or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        end = part.end()
    if unsigned != "0" and (end == 0 or end < len(unsigned)):
        raise _Refusal(f"{_shown(duration)} is not a duration such as 1h30m10s or 1.5h")
    if nanoseconds <= 0 or duration.startswith("-"):
        raise _Refusal("the duration must be more than zero")
    if nanoseconds > _LONGEST_DURATION:
        raise _Refusal("the duration is too long; the limit is 2562047h, about 292 years")
    return timedelta(seconds=max(1, nanoseconds // 10**9))


@lru_cache(maxsize=1024)
def _local_times(text: str, with_seconds: bool) -> _LocalTimes:
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            known = ", ".join(_DESCRIPTORS)
            raise _Refusal(f"unknown descriptor; there are {known} and @every DURATION")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) == 6 and not with_seconds:
        raise _Refusal("has six fields; seconds, the first of six, need with_seconds=True")
    if len(fields) not in (5, 6):
        wanted = "five fields, or six with the seconds first" if with_seconds else "five fields"
        raise _Refusal(f"has {len(fields)} fields; cron takes {wanted}")
    if len(fields) == 5:
        fields.insert(0, "0")
    for day in (3, 5):
        if fields[day] == "?":
            fields[day] = "*"

    seconds, minutes, hours, month_days, months, week_days = (
        _values(field, text) for field, text in zip(_FIELDS, fields, strict=True)
    )
    _, minute, hour, month_day, _, week_day = (text.startswith("*") for text in fields)
    both_days = month_day or week_day
    longest = max(_LONGEST_MONTHS[month - 1] for month in months)
    if both_days and month_days[0] > longest:
        raise _Refusal(f"never fires: no month it names has a day {month_days[0]}")
    days = month_days, week_days, both_days
    return _LocalTimes(seconds, minutes, hours, months, days, wildcard=minute or hour)


# Remembered, because most fields of most jobs are the same few.
@lru_cache(maxsize=1024)
def _values(field: _Field, text: str) -> tuple[int, ...]:
    """The values a field's text names, in order; croniter's, of what the traditional rules
    make of the text."""
    items = []
    for item in text.split(","):
        parsed = _ITEM.fullmatch(item)
        if parsed is None:
            raise _Refusal(f"{field.name} {_shown(item)} is none of *, a, a-b, */n, a/n and a-b/n")
        if parsed["first"] is None:
            first, last = field.low, field.last
        else:
            first = _value(field, parsed["first"])
            if parsed["last"]:
                last = _value(field, parsed["last"])
            else:
                last = max(first, field.last) if parsed["step"] else first
        if first > last:
            raise _Refusal(f"{field.name} {_shown(item)} runs backwards")
        step = int(parsed["step"] or 1)
        if step == 0:
            raise _Refusal(f"{field.name} {_shown(item)} has a step of zero")
        # In full, because croniter reads some shorthands otherwise: `1-1` as all there are.
        items.append(f"{first}-{last}/{step}" if first < last else f"{first}")
    return _expanded(field, ",".join(items))


def _expanded(field: _Field, text: str) -> tuple[int, ...]:
    # Imported when first needed: it costs more than a hundred definitions.
    from croniter import croniter  # type: ignore[import-untyped]

    order = (_MINUTES, _HOURS, _MONTH_DAYS, _MONTHS, _WEEK_DAYS, _SECONDS)
    fields, _ = croniter.expand(" ".join(text if one is field else "*" for one in order))
    values = fields[order.index(field)]
    return tuple(range(field.low, field.last + 1)) if values == ["*"] else tuple(sorted(values))


def _value(field: _Field, text: str) -> int:
    if text.upper() in field.names:
        return field.low + field.names.index(text.upper())
    if not text.isdigit():
        known = f"; the names are {', '.join(field.names)}" if field.names else ""
        raise _Refusal(f"{field.name} {_shown(text)} is not a number{known}")
    value = int(text)
    if not field.low <= value <= field.high:
        raise _Refusal(f"{field.name} {_shown(text)} is not between {field.low} and {field.high}")
    return value


# From fields to local times: a local time is a day and a place in that day's order, so that
# finding the next one and counting many are the same arithmetic.

_EPOCH_ORDINAL = _EPOCH.toordinal()
_EPOCH_WEEKDAY = 4  # a Thursday
_FIRST_DAY = date.min.toordinal() - _EPOCH_ORDINAL
_LAST_DAY = date.max.toordinal() - _EPOCH_ORDINAL


class _LocalTimes:
    """The local times that a cron expression names, in order."""

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
        """The first one that is not before `local`, or `_NEVER`."""
        today, second = divmod(local, _DAY)
        earlier = self._earlier(second)
        if earlier == self._a_day:
            today, earlier = today + 1, 0
        for first, days in self._months_from(today):
            if (index := bisect_left(days, today - first)) < len(days):
                day = first + days[index]
                return day * _DAY + self._second(earlier if day == today else 0)
        return _NEVER

    def between(self, first: int, end: int) -> Iterator[int]:
        """Those from `first` on that are before `end`."""
        local = self.first_from(first)
        while local < end:
            yield local
            local = self.first_from(local + 1)

    def count(self, begin: int, end: int) -> int:
        """How many there are from `begin` up to, not including, `end`."""
        today, begin_second = divmod(begin, _DAY)
        last, end_second = divmod(end, _DAY)
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
        """For the month of `day` and those after it, the first day and how far the days named
        are from it."""
        if day > _LAST_DAY:
            return
        at = date.fromordinal(max(day, _FIRST_DAY) + _EPOCH_ORDINAL)
        first = at.toordinal() - _EPOCH_ORDINAL - (at.day - 1)
        for year in range(at.year, date.max.year + 1):
            for month in range(at.month if year == at.year else 1, 13):
                length = _LONGEST_MONTHS[month - 1] - (month == 2 and not isleap(year))
                if month in self._months:
                    weekday = (first + _EPOCH_WEEKDAY) % 7
                    yield first, _named_days(*self._days, weekday, length)
                first += length

    def _earlier(self, second: int) -> int:
        """How many of a day's times are before this second of it."""
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
        """The second of the day of the time that has so many before it."""
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
    """The days of a month that begins on this day of the week, counted from its first."""
    named = []
    for day in range(length):
        matching = day + 1 in month_days, (weekday + day) % 7 in week_days
        if all(matching) if both else any(matching):
            named.append(day)
    return tuple(named)


# From local times to instants: between two clock changes local time runs evenly, and
# everything special happens where stretches meet.

_HORIZON = 100 * 366 * _DAY  # beyond twice the longest wait, 40 years for 29 February on a Sunday
_SOON = 400 * _DAY
_LOOK_BACK = 2 * _DAY  # a repeated stretch of local time is at most a day long
_PERIOD = 128 * _DAY  # changes are found and kept for this long at a time
_PROBE = 2 * _DAY  # no zone has ever changed its offset twice within four days
_FIRST_PROBE = -62_135_000_000  # a little after the year 1 begins
_LAST_PROBE = 253_402_000_000  # a little before the year 9999 ends


class _Stretch(NamedTuple):
    """A stretch of constant UTC offset, and the offset before it; all in seconds."""

    begin: int
    end: int
    before: int
    offset: int


# Remembered, because many jobs are due at the same times, and who fires a job asks twice.
@lru_cache(maxsize=1024)
def _next_fire(times: _LocalTimes, zone: ZoneInfo, now: int) -> int:
    """The first fire later than `now`, or `_NEVER`."""
    # Most are due soon; looking for the clock changes of a century would take longer.
    soon = _first_fire(times, zone, now + 1, now + _SOON)
    return soon if soon < _NEVER else _first_fire(times, zone, now + 1, now + _HORIZON)


def _first_fire(times: _LocalTimes, zone: ZoneInfo, earliest: int, horizon: int) -> int:
    """The first fire from `earliest` on that is before the horizon, or `_NEVER`."""
    for stretch in _stretches(zone, earliest, horizon):
        if stretch.begin >= earliest and _fills_gap(times, stretch):
            return stretch.begin
        start = max(_start(times, stretch), earliest)
        if start < stretch.end:
            due = times.first_from(start + stretch.offset) - stretch.offset
            if due < stretch.end:
                return due
    return _NEVER


_LOOKED_AT = 100  # local times of one gap
_NAMED = 3  # of them, to people


def _clock_change(times: _LocalTimes, zone: ZoneInfo, due: int) -> ClockChange | None:
    for period in range((due - 1) // _PERIOD, (due + _LOOK_BACK) // _PERIOD + 1):
        for change, offset in _changes(zone, period):
            before = _offset(zone, change - 1)
            gap = offset - before
            if change + gap <= due < change:
                twice = f"{_clock_time(due + before)} comes twice; it is due the first time"
                return _merge(times, zone, [due - gap], twice)
            if change == due and 0 < gap <= _LONGEST_FILLED_GAP:
                inside = times.between(due + before, due + offset)
                if missing := list(islice(inside, _LOOKED_AT)):
                    instants = [local - before for local in missing if local > due + before]
                    return _merge(times, zone, instants, _missing(missing, due + offset))
    return None


def _merge(times: _LocalTimes, zone: ZoneInfo, instants: list[int], what: str) -> ClockChange:
    merged = [at for at in instants if _next_fire(times, zone, at - 1) != at]
    return ClockChange(
        tuple(_EPOCH + timedelta(seconds=at) for at in merged), f"clock change: {what}"
    )


def _missing(local: list[int], instead: int) -> str:
    if len(local) == 1:
        return f"{_clock_time(local[0])} does not exist; it is due at {_clock_time(instead)}"
    named = [_clock_time(one) for one in local[:_NAMED]]
    if len(local) > _NAMED:
        least = "at least " if len(local) == _LOOKED_AT else ""
        named.append(f"{least}{len(local) - _NAMED} more")
    listed = f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{listed} do not exist; they are due at {_clock_time(instead)}"


def _clock_time(local: int) -> str:
    return f"{_EPOCH + timedelta(seconds=local):{'%H:%M:%S' if local % 60 else '%H:%M'}}"


@lru_cache(maxsize=1024)
def _count_fires(times: _LocalTimes, zone: ZoneInfo, now: int, last: int) -> int:
    """How many fires there are later than `now` and not later than `last`."""
    count = 0
    for stretch in _stretches(zone, now + 1, last + 1):
        start = max(_start(times, stretch), now + 1)
        if now < stretch.begin <= last and _fills_gap(times, stretch):
            count += 1
            start = max(start, stretch.begin + 1)  # one that is due then is the same fire
        end = min(stretch.end, last + 1)
        if start < end:
            count += times.count(start + stretch.offset, end + stretch.offset)
    return count


def _fills_gap(times: _LocalTimes, stretch: _Stretch) -> bool:
    """Whether local times left out before the stretch make one fire at its beginning."""
    left_out = range(stretch.begin + stretch.before, stretch.begin + stretch.offset)
    return (
        not times.wildcard
        and 0 < len(left_out) <= _LONGEST_FILLED_GAP
        and times.first_from(left_out.start) < left_out.stop
    )


def _start(times: _LocalTimes, stretch: _Stretch) -> int:
    """Where the stretch begins to fire: after what it repeats, unless with a wildcard."""
    repeated = max(0, stretch.before - stretch.offset)
    return stretch.begin if times.wildcard else stretch.begin + repeated


def _stretches(zone: ZoneInfo, instant: int, horizon: int) -> Iterator[_Stretch]:
    """The stretches that are not over at `instant`, up to the horizon, in order."""
    begin = instant - _LOOK_BACK
    before = offset = _offset(zone, begin)
    for period in range(begin // _PERIOD, horizon // _PERIOD + 1):
        for change, changed in _changes(zone, period):
            if change > begin:
                if change > instant:
                    yield _Stretch(begin, change, before, offset)
                begin, before, offset = change, offset, changed
    yield _Stretch(begin, horizon, before, offset)


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, period: int) -> tuple[tuple[int, int], ...]:
    """The instants in a period at which the zone's offset changes, each with the new one."""
    found = []
    first = period * _PERIOD
    offset = _offset(zone, first)
    for begin in range(first, first + _PERIOD, _PROBE):
        changed = _offset(zone, begin + _PROBE)
        if changed != offset:
            within = range(begin, begin + _PROBE + 1)
            index = bisect_left(within, True, key=lambda at: _offset(zone, at) == changed)
            found.append((within[index], changed))
            offset = changed
    return tuple(found)


def _offset(zone: ZoneInfo, instant: int) -> int:
    """Seconds that local time is ahead of UTC; the ends of the calendar stay as they are."""
    at = datetime.fromtimestamp(min(max(instant, _FIRST_PROBE), _LAST_PROBE), zone)
    offset = at.utcoffset()
    assert offset is not None
    return offset // _SECOND
