"""Parses the text of a schedule: cron fields, descriptors and `@every`.

The rule that must not be broken: an expression means what crontab(5) says, or it is refused.

Syntax is that of crontab(5) as Vixie wrote it, with the additions of Go's robfig/cron that users
of goflow know (seconds first, descriptors, `@every`, `TZ=`, `?`, `a/n`):

    seconds 0-59 (only with_seconds)   minutes 0-59   hours 0-23   days of the month 1-31
    months 1-12 or JAN-DEC   days of the week 0-7 or SUN-SAT; 0 and 7 are Sunday

- A field is a list, split by commas, of `*`, `a`, `a-b`, each with an optional `/n`. `a/n` runs to
  the end of the field, which is Saturday for days of the week. A lone `?` is `*` in the two day
  fields. Names may replace numbers everywhere, in any case.
- The days that Quartz adds may stand in these lists. In the days of the month: `L` the last day,
  `L-n` n days before it, `nW` the weekday (Monday to Friday) nearest to day n in the same month,
  and `LW` the last weekday. In the days of the week, by crontab numbers: `nL` the last such day of
  the month, and `n#m` the m-th one. A month without such a day has none.
- A range that runs backwards is refused. SUN is 0, so FRI-SUN runs backwards: write 5-7.
- A field whose text starts with `*` (or is `?`) counts as a wildcard, and so does `*/5`.
- Either day field may match, unless one is a wildcard: then both must.
"""

import re
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from goflow import zones
from goflow.core.local_times import LAST, LONGEST_MONTHS, Days, LocalTimes

LONGEST_EXPRESSION = 256
"""Characters that a schedule's text may have."""


class Refused(ValueError):
    """Why an expression is invalid. `Schedule` adds the expression to the message."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    last: int  # where `*` and `a/n` end: below `high` for the day of the week, as 7 is Sunday too
    names: tuple[str, ...] = ()  # names of the values, from `low` on


_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

_SECONDS = _Field("second", 0, 59, 59)
_MINUTES = _Field("minute", 0, 59, 59)
_HOURS = _Field("hour", 0, 23, 23)
_MONTH_DAYS = _Field("day of the month", 1, 31, 31)
_MONTHS = _Field("month", 1, 12, 12, _MONTH_NAMES)
_WEEK_DAYS = _Field("day of the week", 0, 7, 6, _DAY_NAMES)
_FIELDS = (_SECONDS, _MINUTES, _HOURS, _MONTH_DAYS, _MONTHS, _WEEK_DAYS)

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

# Days by their place in the month, as Quartz writes them.
_LAST_DAY = re.compile(r"L(?:-(?P<before>[0-9]+))?")
_NEAREST = re.compile(r"(?P<day>[0-9]+|L)W")
_NTH = re.compile(r"(?P<day>[0-9]+|[A-Z]{3})(?:(?P<last>L)|#(?P<nth>[0-9]+))")

_UNITS = {  # in nanoseconds; "micro" has two characters in Unicode
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


def shown(text: object) -> str:
    """A text for a message, cut if it is long."""
    whole = repr(text)
    return whole if len(whole) <= 80 else f"{whole[:60]}... ({len(str(text))} characters)"


def stripped(expression: str) -> str:
    """The expression without surrounding blanks. Raises `Refused` for what cannot be one."""
    if not isinstance(expression, str):
        raise Refused("must be text, such as '0 6 * * *'")
    if len(expression) > LONGEST_EXPRESSION:
        raise Refused(f"has more than {LONGEST_EXPRESSION} characters")
    for character in expression:
        if not character.isprintable() and character != "\t":
            raise Refused(f"has the character {character!r}, which is not allowed")
    text = expression.strip(" \t")
    if not text:
        raise Refused("is empty; a job without a schedule has None")
    return text


def find_zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises `ValueError` for an unknown one."""
    try:
        if isinstance(name, str):
            return zones.find(name)
    except LookupError:
        pass
    raise Refused(f"unknown time zone {shown(name)}; names are like 'Europe/Berlin'")


def parse_interval(text: str) -> timedelta:
    """The duration of `@every`, in whole seconds."""
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
        raise Refused(f"{shown(duration)} is not a duration such as 1h30m10s or 1.5h")
    if nanoseconds <= 0 or duration.startswith("-"):
        raise Refused("the duration must be more than zero")
    if nanoseconds > _LONGEST_DURATION:
        raise Refused("the duration is too long; the limit is 2562047h, about 292 years")
    return timedelta(seconds=max(1, nanoseconds // 10**9))


@lru_cache(maxsize=1024)
def parse_fields(text: str, with_seconds: bool) -> LocalTimes:
    """The local times that cron fields or a descriptor name."""
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            known = ", ".join(_DESCRIPTORS)
            raise Refused(f"unknown descriptor; there are {known}, @once and @every DURATION")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) == 6 and not with_seconds:
        raise Refused("has six fields; seconds, the first of six, need with_seconds=True")
    if len(fields) not in (5, 6):
        wanted = "five fields, or six with the seconds first" if with_seconds else "five fields"
        raise Refused(f"has {len(fields)} fields; cron takes {wanted}")
    if len(fields) == 5:
        fields.insert(0, "0")
    for day in (3, 5):
        if fields[day] == "?":
            fields[day] = "*"

    month_items, places = _month_places(fields[3])
    week_items, nths = _week_places(fields[5])
    seconds, minutes, hours, month_days, months, week_days = (
        _values(field, text) if text else ()
        for field, text in zip(
            _FIELDS, [*fields[:3], month_items, fields[4], week_items], strict=True
        )
    )
    _, minute, hour, month_day, _, week_day = (text.startswith("*") for text in fields)
    days = Days(month_days, week_days, month_day or week_day, places, nths)
    if not any(days.can_match(month) for month in months):
        raise Refused(_never(days, months))
    return LocalTimes(seconds, minutes, hours, months, days, wildcard=minute or hour)


def _never(days: Days, months: tuple[int, ...]) -> str:
    longest = max(LONGEST_MONTHS[month - 1] for month in months)
    if days.month_days and days.month_days[0] > longest and not days.places:
        return f"never fires: no month it names has a day {days.month_days[0]}"
    return "never fires: no month it names has such a day"


def _month_places(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Splits days of the month into those by number, and those by place: ("L", n), n days before
    the last; ("W", n), the weekday nearest to day n; ("W", `LAST`), the last weekday."""
    numbers, places = [], []
    for item in text.split(","):
        upper = item.upper()
        if (last := _LAST_DAY.fullmatch(upper)) is not None:
            before = int(last["before"] or 0)
            if before > 30:
                raise Refused(
                    f"day of the month {shown(item)} is more than 30 days before the last"
                )
            places.append(("L", before))
        elif (nearest := _NEAREST.fullmatch(upper)) is not None:
            day = LAST if nearest["day"] == "L" else _value(_MONTH_DAYS, nearest["day"])
            places.append(("W", day))
        elif upper.endswith(("W", "L")) or upper.startswith("L"):
            raise Refused(f"day of the month {shown(item)} is none of L, L-n, LW and nW")
        else:
            numbers.append(item)
    return ",".join(numbers), tuple(places)


def _week_places(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Splits days of the week into those of every week, and those by place: the day of the week
    with its number in the month, or `LAST`."""
    values, nths = [], []
    for item in text.split(","):
        upper = item.upper()
        if item.isascii() and (found := _NTH.fullmatch(upper)) is not None:
            nth = LAST if found["last"] else int(found["nth"])
            if found["nth"] and not 1 <= nth <= 5:
                raise Refused(f"day of the week {shown(item)}: the number after # is from 1 to 5")
            nths.append((_value(_WEEK_DAYS, found["day"]) % 7, nth))
        elif upper in ("L", "LW") or "#" in item:
            raise Refused(
                f"day of the week {shown(item)} needs a day, such as 5L or FRIL for the last "
                f"Friday of the month, and MON#2 for the second Monday"
            )
        else:
            values.append(item)
    return ",".join(values), tuple(nths)


# Cached, because most jobs have the same few fields.
@lru_cache(maxsize=1024)
def _values(field: _Field, text: str) -> tuple[int, ...]:
    """The values that a field's text names, in order.

    The traditional rules make of each item a range with a step, which croniter expands.
    """
    items = []
    for item in text.split(","):
        parsed = _ITEM.fullmatch(item)
        if parsed is None:
            raise Refused(f"{field.name} {shown(item)} is none of *, a, a-b, */n, a/n and a-b/n")
        if parsed["first"] is None:
            first, last = field.low, field.last
        else:
            first = _value(field, parsed["first"])
            if parsed["last"]:
                last = _value(field, parsed["last"])
            else:
                last = max(first, field.last) if parsed["step"] else first
        if first > last:
            raise Refused(f"{field.name} {shown(item)} runs backwards")
        step = int(parsed["step"] or 1)
        if step == 0:
            raise Refused(f"{field.name} {shown(item)} has a step of zero")
        # Written out, because croniter reads some short forms differently: `1-1` as all values.
        items.append(f"{first}-{last}/{step}" if first < last else f"{first}")
    return _expand(field, ",".join(items))


def _expand(field: _Field, text: str) -> tuple[int, ...]:
    # Imported on first use, because it takes longer than everything else in a definition.
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
        raise Refused(f"{field.name} {shown(text)} is not a number{known}")
    value = int(text)
    if not field.low <= value <= field.high:
        raise Refused(f"{field.name} {shown(text)} is not between {field.low} and {field.high}")
    return value
