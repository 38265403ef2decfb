"""Dates on which a job does not run: dates, a function of a date, or a calendar file.

The rule that must not be broken: a function and a file are a user's, so `reasons` is called where
it may take long, and whatever happens there is a `SkipDatesFailed`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from goflow import checks
from goflow.errors import InvalidJob
from goflow.shown import reason, shown

LARGEST_FILE = 4 * 1024 * 1024  # bytes
LONGEST_REASON = 200  # characters

Reason = Callable[[date], object]


class SkipDatesFailed(Exception):
    """Whether a date is to be skipped is unknown; the message says why."""


class SkipDates:
    """The dates on which a job does not run.

    `text` describes them. `is_calendar` is false for a function, which is only called for due
    times.
    """

    def __init__(self, text: str, find: Reason, *, is_calendar: bool) -> None:
        self.text = text
        self.is_calendar = is_calendar
        self._find = find

    def reasons(self, days: Sequence[date]) -> list[str | None]:
        """Why each date is skipped, or None for one that is not. Raises `SkipDatesFailed`."""
        try:
            return [self._reason(day) for day in days]
        except BaseException as error:  # a user's function may raise anything
            raise SkipDatesFailed(f"skip_dates failed: {reason(error)}") from None

    def _reason(self, day: date) -> str | None:
        found = self._find(day)
        if not found:
            return None
        told = f"{day} is in skip_dates"
        return f"{told}: {str.__str__(found)[:LONGEST_REASON]}" if isinstance(found, str) else told


def declare(where: str, given: object) -> SkipDates:
    """The dates that a user gives as `skip_dates`. Raises `InvalidJob`."""
    subject = f"{where}: skip_dates"
    if isinstance(given, str | Path):
        path = Path(given)
        return SkipDates(path.name, CalendarFile(subject, path).reason, is_calendar=True)
    if isinstance(given, Mapping) and type(given) is not dict:
        # For example of the package `holidays`, which computes a year when it is asked for one.
        return SkipDates(type(given).__name__, given.get, is_calendar=True)
    if callable(given):
        if inspect.iscoroutinefunction(given):
            raise InvalidJob(
                f"{subject} must be a plain function, not {shown(given)}, which is async"
            )
        return SkipDates(getattr(given, "__name__", "a function"), given, is_calendar=False)
    named: dict[date, object] = {}
    for day in checks.items(subject, "dates", given):
        named[_date(subject, day)] = given[day] if isinstance(given, dict) else True
    return SkipDates(f"{len(named)} dates", named.get, is_calendar=True)


def _date(subject: str, given: object) -> date:
    if isinstance(given, str):
        try:
            return date.fromisoformat(str.__str__(given))
        except ValueError:
            pass
    if isinstance(given, date) and not isinstance(given, datetime):
        return given
    raise InvalidJob(
        f"{subject} must be dates, such as date(2026, 12, 25) or '2026-12-25', a function of a "
        f"date, or the path of an .ics file; {shown(given)} is none of these"
    )


class CalendarFile:
    """The whole-day events of an iCalendar file. It is read again when it has changed."""

    def __init__(self, subject: str, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None  # time and size of the file that was read
        self._events: Any = None
        try:
            import recurring_ical_events  # noqa: F401
        except ImportError:
            raise InvalidJob(
                f"{subject}: a calendar file needs more packages: pip install 'goflow[calendar]'"
            ) from None
        try:
            self._load()
        except Exception as error:  # of the file, or of the library for a strange file
            raise InvalidJob(f"{subject}: {str(path)!r} is no calendar: {reason(error)}") from None

    def reason(self, day: date) -> str | None:
        """The name of an event that takes the whole day; None without one."""
        self._load()
        for event in self._events.at((day.year, day.month, day.day)):
            whole_day = not isinstance(event["DTSTART"].dt, datetime)
            if whole_day and str(event.get("STATUS", "")).upper() != "CANCELLED":
                return str(event.get("SUMMARY", "")) or self._path.name
        return None

    def _load(self) -> None:
        found = self._path.stat()
        version = found.st_mtime_ns, found.st_size
        if version == self._read:
            return
        if found.st_size > LARGEST_FILE:
            raise ValueError(f"it has {found.st_size:,} bytes; the limit is {LARGEST_FILE:,}")
        import icalendar
        import recurring_ical_events

        text = self._path.read_bytes()
        self._events = recurring_ical_events.of(icalendar.Calendar.from_ical(text))
        self._read = version


Given = Iterable[date | str] | Mapping[date, str] | Callable[[date], Any] | str | Path
