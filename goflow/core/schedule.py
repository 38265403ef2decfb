"""When a job is due: the first due time after an instant.

The rule that must not be broken: an answer depends only on the arguments and the time zone data.
Due times are instants in UTC, strictly later than the instant asked about, and two local names of
one instant make one due time.

`cron` parses the text, `local_times` finds the local times that it names, and `instants` maps them
to instants across clock changes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from goflow.core.cron import (
    LONGEST_EXPRESSION,
    Refused,
    find_zone,
    parse_fields,
    parse_interval,
    shown,
    stripped,
)
from goflow.core.instants import (
    SECOND,
    ClockChange,
    bits_due,
    clock_change,
    count_due,
    next_due,
)
from goflow.core.local_times import DAY, EPOCH, NEVER
from goflow.errors import InvalidJob

_LONGEST_LOOK_BACK = 100 * 366 * DAY
_FIRST_SECOND = -62_135_000_000  # a little after the year 1 begins

__all__ = ["LONGEST_EXPRESSION", "ClockChange", "Schedule", "find_zone"]


class Schedule:
    """The times at which a job is due.

    Two schedules are equal if they have the same expression, time zone and `with_seconds`.

    Args:
        expression: Five cron fields; six, seconds first, if `with_seconds` is true; a descriptor
            (`@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`);
            `@every` and a Go duration such as `1h30m10s`; or `@once`. Durations are rounded down
            to whole seconds, and up to one second. Days may be `L`, `L-n`, `nW` and `LW` in the
            month, and `nL` and `n#m` in the week. A prefix `CRON_TZ=Zone ` or `TZ=Zone ` overrides
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

    __slots__ = ("_times", "_zone", "expression", "interval", "once", "timezone", "with_seconds")

    expression: str
    """The expression as written."""
    timezone: str
    """The zone in effect: the prefix's if there is one."""
    with_seconds: bool
    interval: timedelta | None
    """Time between due times of `@every`, in whole seconds; None for other schedules."""
    once: bool
    """Whether it is `@once`: due a second after the instant from which it counts, and never
    again."""

    def __init__(self, expression: str, timezone: str = "UTC", with_seconds: bool = False) -> None:
        try:
            self._zone = find_zone(timezone)
            text = stripped(expression)
            if (prefix := re.match(r"(?:CRON_)?TZ=([^ \t]*)", text)) is not None:
                self._zone = find_zone(prefix[1])
                text = text[prefix.end() :].strip(" \t")
            self.interval = parse_interval(text) if re.match(r"@every(?![^ \t])", text) else None
            self.once = text == "@once"
            has_fields = self.interval is None and not self.once
            self._times = parse_fields(text, with_seconds) if has_fields else None
        except Refused as refusal:
            raise InvalidJob(f"schedule {shown(expression)}: {refusal}") from None
        self.expression = expression
        self.timezone = self._zone.key
        self.with_seconds = with_seconds

    def next(self, after: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The first due time strictly later than `after`, in UTC and whole seconds.

        Args:
            after: Aware datetime. `@every` and `@once` count from it, rounded down to a whole
                second.
            anchor: Aware datetime of another due time, whose phase `@every` keeps, or from which
                `@once` counts. Cron expressions ignore it.

        Returns:
            An aware datetime, or None if no due time follows within a century or before the
            year 10000.

        Raises:
            ValueError: A datetime is naive.
        """
        now = _seconds(after, "after")
        phase = now if anchor is None else _seconds(anchor, "anchor")
        if self._times is not None:
            due = next_due(self._times, self._zone, now)
        elif self.interval is not None:
            step = self.interval // SECOND
            due = now + step - (now - phase) % step
        else:
            due = phase + 1 if phase >= now else NEVER
        try:
            return EPOCH + timedelta(seconds=due)
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
        return clock_change(self._times, self._zone, at)

    def count(self, after: datetime, last: datetime, *, anchor: datetime | None = None) -> int:
        """The number of due times later than `after` and not later than `last`.

        It equals the number of times that repeated calls of `next` return, without going through
        them.

        Args:
            after: Aware datetime.
            last: Aware datetime.
            anchor: As for `next`.

        Raises:
            ValueError: A datetime is naive.
        """
        begin, end = _seconds(after, "after"), _seconds(last, "last")
        if end <= begin:
            return 0
        phase = begin if anchor is None else _seconds(anchor, "anchor")
        if self._times is not None:
            return count_due(self._times, self._zone, begin, end)
        if self.interval is not None:
            step = self.interval // SECOND
            return (end - phase) // step - (begin - phase) // step
        return int(begin <= phase < end)

    def previous(self, before: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The last due time earlier than `before`, in UTC and whole seconds.

        Args:
            before: Aware datetime.
            anchor: As for `next`, and `before` without one.

        Returns:
            An aware datetime, or None if there is no due time in the century before.

        Raises:
            ValueError: A datetime is naive.

        Examples:
            >>> from datetime import UTC, datetime
            >>> from goflow import Schedule
            >>> str(Schedule("0 6 * * *").previous(datetime(2026, 10, 23, tzinfo=UTC)))
            '2026-10-22 06:00:00+00:00'
        """
        now = _seconds(before, "before")
        last = now if EPOCH + now * SECOND < before else now - 1
        end, age, anchor = EPOCH + last * SECOND, DAY, anchor or before
        while not self._counted(end, age, anchor):
            if age > _LONGEST_LOOK_BACK or last - 2 * age < _FIRST_SECOND:
                return None
            age *= 2
        ages = range(age + 1)
        age = bisect_left(ages, True, key=lambda age: self._counted(end, age, anchor))
        return EPOCH + (last - age + 1) * SECOND

    def _counted(self, end: datetime, age: int, anchor: datetime) -> bool:
        return self.count(end - age * SECOND, end, anchor=anchor) > 0

    def bits(self, first: int, end: int, *, anchor: datetime) -> int:
        """The due times from `first` up to, not including, `end`, which are seconds since 1970: bit
        i is `first + i`."""
        if self._times is not None:
            return bits_due(self._times, self._zone, first, end)
        phase = _seconds(anchor, "anchor")
        if self.interval is None:
            return 1 << (phase + 1 - first) if first <= phase + 1 < end else 0
        step = self.interval // SECOND
        found, covered = 1 << ((phase - first) % step), step
        while covered < end - first:
            found |= found << covered
            covered *= 2
        return found & ((1 << (end - first)) - 1)

    @property
    def text(self) -> str:
        """The zone and the expression in one canonical text.

        It is stable across versions, so stores keep it. `Schedule(text, with_seconds=True)` has
        the same due times.

        Examples:
            >>> from goflow import Schedule
            >>> Schedule("30  6 * * *", "Europe/Berlin").text
            'CRON_TZ=Europe/Berlin 30 6 * * *'
        """
        expression = re.sub(r"^[ \t]*(?:CRON_)?TZ=[^ \t]*", "", self.expression)
        return f"CRON_TZ={self.timezone} {' '.join(expression.split())}"

    @property
    def zone(self) -> ZoneInfo:
        """The zone in effect."""
        return self._zone

    def _identity(self) -> tuple[str, str, bool]:
        return self.expression, self.timezone, self.with_seconds

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[type[Schedule], tuple[str, str, bool]]:
        # A zone that goflow read from a file cannot be pickled, but its name can.
        return Schedule, self._identity()

    def __repr__(self) -> str:
        expression, timezone, with_seconds = self._identity()
        return f"Schedule({expression!r}, {timezone!r}, with_seconds={with_seconds})"


def _seconds(instant: datetime, name: str) -> int:
    if instant.utcoffset() is None:
        raise ValueError(f"{name} must be an aware datetime, with a tzinfo: {instant!r} has none")
    return (instant - EPOCH) // SECOND
