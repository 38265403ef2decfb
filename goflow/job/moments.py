"""Moments that users write in a definition: the start and the end of a schedule."""

from datetime import UTC, date, datetime, time, timedelta

from goflow.core.schedule import find_zone
from goflow.errors import InvalidJob
from goflow.shown import shown

Moment = datetime | date | str | None


def between(
    where: str, start: Moment, end: Moment, timezone: str
) -> tuple[datetime | None, datetime | None]:
    """The first and the last moment, in UTC. Raises `InvalidJob`."""
    first = _instant(f"{where}: start", start, timezone, whole_day=False)
    last = _instant(f"{where}: end", end, timezone, whole_day=True)
    if first is not None and last is not None and last < first:
        raise InvalidJob(f"{where}: end {shown(end)} is before start {shown(start)}")
    return first, last


def _instant(subject: str, value: Moment, timezone: str, *, whole_day: bool) -> datetime | None:
    """A moment in UTC. A date is its first moment, or with `whole_day` its last second."""
    if value is None:
        return None
    given: object = value
    try:
        if isinstance(given, str):
            text = str.__str__(given).strip()
            is_date = len(text) <= len("2026-W01-1") and "T" not in text and ":" not in text
            given = date.fromisoformat(text) if is_date else datetime.fromisoformat(text)
        if not isinstance(given, date):
            raise ValueError
        ends = whole_day and not isinstance(given, datetime)
        if not isinstance(given, datetime):
            given = datetime.combine(given + timedelta(days=1) if ends else given, time())
        if given.utcoffset() is None:
            try:
                given = given.replace(tzinfo=find_zone(timezone))
            except ValueError as error:
                raise InvalidJob(f"{subject}: {error}") from None
        instant = given.astimezone(UTC)
        return instant - timedelta(seconds=1) if ends else instant
    except InvalidJob:
        raise
    except (ValueError, OverflowError):
        raise InvalidJob(
            f"{subject} must be a datetime, a date, or text such as 2026-12-31 or "
            f"2026-12-31T18:00:00+01:00, not {shown(value)}"
        ) from None
