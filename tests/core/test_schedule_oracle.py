"""Schedule against an oracle that walks through time step by step.

The oracle does not use spans, offsets or arithmetic. It reads the local clock at every step,
remembers the local times it has seen, and applies the rules as written.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import available_timezones

from hypothesis import given, settings
from hypothesis import strategies as st

from goflow import zones
from goflow.core.schedule import Schedule
from goflow.errors import InvalidJob
from tests.effort import examples

ZONES = sorted(available_timezones() - {"Factory", "localtime"})
ODD_ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "Africa/Monrovia", "America/Argentina/San_Luis",
    "America/Caracas", "America/Havana", "America/Noronha", "America/Scoresbysund",
    "America/St_Johns", "Antarctica/Casey", "Antarctica/Troll", "Antarctica/Vostok",
    "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Asia/Pyongyang", "Asia/Tehran",
    "Australia/Lord_Howe", "Europe/Dublin", "Europe/Istanbul", "Europe/Moscow",
    "Pacific/Apia", "Pacific/Chatham", "Pacific/Kwajalein", "Pacific/Norfolk",
]  # fmt: skip

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Field(NamedTuple):
    text: str
    values: frozenset[int]

    @property
    def wildcard(self) -> bool:
        return self.text.startswith("*")


class Expression(NamedTuple):
    second: Field
    minute: Field
    hour: Field
    month_day: Field
    month: Field
    week_day: Field

    def names_day(self, day: date) -> bool:
        by_month = day.day in self.month_day.values
        by_week = day.isoweekday() % 7 in {each % 7 for each in self.week_day.values}
        if self.month_day.wildcard or self.week_day.wildcard:
            named = by_month and by_week
        else:
            named = by_month or by_week
        return named and day.month in self.month.values

    def names(self, local: datetime) -> bool:
        return (
            self.names_day(local)
            and local.hour in self.hour.values
            and local.minute in self.minute.values
            and local.second in self.second.values
        )

    def is_wildcard(self) -> bool:
        return self.minute.wildcard or self.hour.wildcard

    def __str__(self) -> str:
        return " ".join(field.text for field in self)


class Tick(NamedTuple):
    instant: datetime
    local: datetime
    first_pass: bool
    skipped: tuple[datetime, ...]  # the local times in a gap of up to three hours before it


@lru_cache(maxsize=64)
def walk(zone: str, start: datetime, end: datetime, step: timedelta) -> list[Tick]:
    seen: set[datetime] = set()
    ticks: list[Tick] = []
    instant = start
    while instant < end:
        local = instant.astimezone(zones.find(zone)).replace(tzinfo=None, fold=0)
        skipped: list[datetime] = []
        if ticks:
            missed = ticks[-1].local + step
            if local - missed <= 3 * HOUR:
                while missed < local:
                    skipped.append(missed)
                    missed += step
        ticks.append(Tick(instant, local, local not in seen, tuple(skipped)))
        seen.add(local)
        instant += step
    return ticks


def oracle(expression: Expression, ticks: list[Tick]) -> Iterator[datetime]:
    for tick in ticks:
        if expression.is_wildcard():
            due = expression.names(tick.local)
        else:
            due = (tick.first_pass and expression.names(tick.local)) or any(
                expression.names(local) for local in tick.skipped
            )
        if due:
            yield tick.instant


def clock_changes(expression: Expression, ticks: list[Tick]) -> dict[datetime, list[datetime]]:
    """The due times of clock changes, each with the instants merged into it."""
    due = set(oracle(expression, ticks))
    found: dict[datetime, list[datetime]] = {}
    first_pass: dict[datetime, datetime] = {}
    for tick in ticks:
        missing = [local for local in tick.skipped if expression.names(local)]
        if missing:
            wanted = [tick.instant + (local - tick.skipped[0]) for local in missing[:100]]
            found[tick.instant] = [at for at in wanted if at not in due]
        if tick.first_pass:
            first_pass[tick.local] = tick.instant
        elif expression.names(tick.local) and tick.instant not in due:
            found[first_pass[tick.local]] = [tick.instant]
    return {} if expression.is_wildcard() else found


def utc(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


@lru_cache(maxsize=4096)
def changes(zone: str, year: int) -> list[datetime]:
    """The minutes of a year at which the zone's offset changes; else its first minute."""
    tz = zones.find(zone)
    days = [utc(date(year, 1, 1)) + n * DAY for n in range(365)]
    found = []
    for day in days:
        if day.astimezone(tz).utcoffset() != (day + DAY).astimezone(tz).utcoffset():
            minute = day
            while minute.astimezone(tz).utcoffset() == day.astimezone(tz).utcoffset():
                minute += MINUTE
            found.append(minute)
    return found or days[:1]


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, around: list[int]) -> Field:
    """A field, with its values; it often includes one of the values `around`."""
    value = st.sampled_from(around) | st.integers(low, high)
    match draw(st.integers(0, 6)):
        case 0:
            return Field("*", frozenset(range(low, high + 1)))
        case 1:
            step = draw(st.integers(1, high))
            return Field(f"*/{step}", frozenset(range(low, high + 1, step)))
        case 2:
            first, last = sorted((draw(value), draw(value)))
            return Field(f"{first}-{last}", frozenset(range(first, last + 1)))
        case 3:
            first, last = sorted((draw(value), draw(value)))
            step = draw(st.integers(1, 20))
            return Field(f"{first}-{last}/{step}", frozenset(range(first, last + 1, step)))
        case 4:
            first = draw(value)
            step = draw(st.integers(1, 30))
            return Field(f"{first}/{step}", frozenset(range(first, high + 1, step)))
        case _:
            values = draw(st.lists(value, min_size=1, max_size=3))
            return Field(",".join(map(str, values)), frozenset(values))


EVERY_MONTH = Field("*", frozenset(range(1, 13)))
ANY_DAY = Field("*", frozenset(range(1, 32)))
ANY_WEEK_DAY = Field("*", frozenset(range(7)))
# Every date on every possible day of the week; no century without a leap day is in it.
CYCLE = [date(2001, 1, 1) + n * DAY for n in range(28 * 365 + 7)]
ON_THE_MINUTE = Field("0", frozenset({0}))


@st.composite
def questions(draw: st.DrawFn, seconds: bool) -> tuple[str, datetime, Expression]:
    """A zone, a clock change in it, and an expression that names times around it."""
    zone = draw(st.sampled_from(ODD_ZONES) | st.sampled_from(ZONES))
    change = draw(st.sampled_from(changes(zone, draw(st.integers(1970, 2200)))))
    local = change.astimezone(zones.find(zone))
    before = (change - MINUTE).astimezone(zones.find(zone))
    hours = sorted({(hour + n) % 24 for hour in (local.hour, before.hour) for n in (-1, 0, 1)})
    every_day = draw(st.booleans())
    expression = Expression(
        draw(fields(0, 59, [0, 30, 59])) if seconds else ON_THE_MINUTE,
        draw(fields(0, 59, [0, 15, 30, 45, 59])),
        draw(fields(0, 23, hours)),
        ANY_DAY if every_day else draw(fields(1, 31, [before.day, local.day])),
        draw(st.just(EVERY_MONTH) | fields(1, 12, [before.month, local.month])),
        ANY_WEEK_DAY if every_day else draw(fields(0, 6, [local.isoweekday() % 7])),
    )
    return zone, change, expression


def accepted(expression: Expression, zone: str = "UTC") -> Schedule | None:
    """The schedule, or None if it is refused because it never fires; that is checked."""
    try:
        return Schedule(str(expression), zone, with_seconds=True)
    except InvalidJob as error:
        refusal = str(error)
    assert "never fires" in refusal
    assert not any(map(expression.names_day, CYCLE))
    return None


def assert_agreement(
    zone: str, expression: Expression, ticks: list[Tick], after: datetime, at_most: int
) -> None:
    """Compare one fire after another, until the oracle's ticks end."""
    if (schedule := accepted(expression, zone)) is None:
        return
    expected = [fire for fire in oracle(expression, ticks) if fire > after][:at_most]
    found: list[datetime] = []
    while len(found) < len(expected):
        due = schedule.next(found[-1] if found else after)
        assert due is not None
        found.append(due)
    assert found == expected
    assert [schedule.count(after, due) for due in found] == list(range(1, len(found) + 1))
    if len(expected) < at_most:
        assert schedule.count(after, ticks[-1].instant) == len(expected)
        due = schedule.next(found[-1] if found else after)
        assert due is None or due > ticks[-1].instant


@settings(max_examples=examples(120))
@given(questions(seconds=False), st.integers(0, 2 * 24 * 3600))
def test_days_around_any_clock_change_agree_with_the_oracle(
    question: tuple[str, datetime, Expression], skip: int
) -> None:
    zone, change, expression = question
    start = change - DAY
    offsets = {at.astimezone(zones.find(zone)).utcoffset() for at in (start, change)}
    whole = all(offset is not None and offset % MINUTE == timedelta(0) for offset in offsets)
    step = MINUTE if whole else timedelta(seconds=30)
    ticks = walk(zone, start, change + 2 * DAY, step)
    assert_agreement(zone, expression, ticks, start + timedelta(seconds=skip), at_most=25)


@settings(max_examples=examples(50))
@given(questions(seconds=False))
def test_due_times_merged_by_any_clock_change_agree_with_the_oracle(
    question: tuple[str, datetime, Expression],
) -> None:
    zone, change, expression = question
    ticks = walk(zone, change - DAY, change + 2 * DAY, timedelta(seconds=30))
    if (schedule := accepted(expression, zone)) is None:
        return
    expected = clock_changes(expression, ticks)
    for due in oracle(expression, ticks):
        if due < change + DAY:  # its second pass is in sight
            found = schedule.clock_change(due)
            assert (None if found is None else list(found.merged)) == expected.get(due), due


@settings(max_examples=examples(40))
@given(questions(seconds=True), st.integers(0, 4 * 3600))
def test_seconds_around_any_clock_change_agree_with_the_oracle(
    question: tuple[str, datetime, Expression], skip: int
) -> None:
    zone, change, expression = question
    start = change - 3 * HOUR
    ticks = walk(zone, start, change + 3 * HOUR, timedelta(seconds=1))
    assert_agreement(zone, expression, ticks, start + timedelta(seconds=skip), at_most=10)


@settings(max_examples=examples(40))
@given(
    fields(0, 59, [0]),
    fields(0, 23, [0]),
    fields(1, 31, [29, 30, 31]),
    fields(1, 12, [2]),
    fields(0, 6, [0]),
    st.dates(date(1970, 1, 1), date(2150, 1, 1)),
)
def test_years_of_days_agree_with_the_oracle(
    minute: Field, hour: Field, month_day: Field, month: Field, week_day: Field, start: date
) -> None:
    """Day by day for a leap-year cycle, at the first matching time of the day."""
    expression = Expression(ON_THE_MINUTE, minute, hour, month_day, month, week_day)
    if (schedule := accepted(expression)) is None:
        return
    first = timedelta(hours=min(hour.values), minutes=min(minute.values))
    moments = (utc(start) + n * DAY + first for n in range(1, 9 * 366))
    expected = next((moment for moment in moments if expression.names(moment)), None)
    due = schedule.next(utc(start) + DAY - timedelta(seconds=1))
    if expected is not None:
        assert due == expected
    else:
        assert due is not None
        assert due > utc(start) + 9 * 365 * DAY


def test_no_zone_changes_its_offset_twice_between_two_probes() -> None:
    """Changes are found by a probe every other day; the shortest time between two was four days."""
    for zone in map(zones.find, ODD_ZONES):
        instant, last = utc(date(1970, 1, 1)), utc(date(1960, 1, 1))
        offset = instant.astimezone(zone).utcoffset()
        while instant.year < 2040:
            instant += 8 * HOUR
            if instant.astimezone(zone).utcoffset() != offset:
                assert instant - last > 4 * DAY
                offset, last = instant.astimezone(zone).utcoffset(), instant
