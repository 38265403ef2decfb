"""The dashboard's description of a schedule, parsed as text, agrees with the schedule."""

import random
import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from playwright.sync_api import Page, expect

from goflow import Schedule
from tests.browser.conftest import Server
from tests.browser.schedules import EXPRESSIONS, WRITTEN

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
YEAR = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]


def listed(value: str) -> str:
    """The pattern of a list of values and ranges."""
    item = f"{value}(?: to {value})?"
    return f"({item}(?:(?:, | and ){item})*)"


NUMBERS, NAMES = listed(r"\d+\b(?!:)"), listed("[A-Z][a-z]+")
CLOCK = r"(\d\d:\d\d(?::\d\d)?)"
TOLD = """all => all.map(e => [
    e.querySelector('code').textContent, e.querySelector('span:not(.quiet)')?.textContent])"""


class Text:
    """A text that is parsed from left to right."""

    def __init__(self, words: str) -> None:
        self.rest = words[0].lower() + words[1:]

    def take(self, pattern: str) -> re.Match[str] | None:
        found = re.match(pattern, self.rest)
        if found:
            self.rest = self.rest[found.end() :]
        return found

    def these(self, before: str, noun: str) -> list[int] | None:
        """Values such as "minute 5", "minutes 0, 7 and 10 to 12", "every 2nd hour from 0 to 22"."""
        if some := self.take(rf"{before}{noun}s? {NUMBERS}"):
            return numbers(some[1])
        if step := self.take(rf"{before}every (\d+)(?:st|nd|rd|th) {noun} from (\d+) to (\d+)"):
            every, first, last = (int(group) for group in step.groups())
            assert every > 1
            assert (last - first) % every == 0
            return list(range(first, last + 1, every))
        return None


def numbers(said: str, names: list[str] | None = None) -> list[int]:
    values: list[int] = []
    for part in re.split(", | and ", said):
        first, _, last = part.partition(" to ")
        ends = [names.index(end) if names else int(end) for end in (first, last or first)]
        assert ends[0] <= ends[1]
        values += range(ends[0], ends[1] + 1)
    assert values == sorted(set(values))
    return values


def of_day(clock: str) -> int:
    """A time of the day in seconds."""
    hour, minute, second = (int(part) for part in (*clock.split(":"), "0")[:3])
    return hour * 3600 + minute * 60 + second


def combined(hours: list[int], minutes: list[int], seconds: list[int]) -> list[int]:
    return sorted(h * 3600 + m * 60 + s for h in hours for m in minutes for s in seconds)


def times_of(text: Text) -> list[int]:
    """The named times, in seconds of the day."""
    every_hour = list(range(24))
    if clocks := text.take(rf"at ({CLOCK}(?:(?:, | and ){CLOCK})*)"):
        return [of_day(one) for one in re.split(", | and ", clocks[1])]
    if found := text.take(rf"every (?:hour|(\d+) hours) from {CLOCK} to {CLOCK}"):
        first, last, step = of_day(found[2]), of_day(found[3]), 3600 * int(found[1] or 1)
        assert (last - first) % step == 0
        return list(range(first, last + 1, step))
    if found := text.take(r"every (\d+) hours"):
        assert 24 % int(found[1]) == 0
        return combined(every_hour[:: int(found[1])], [0], [0])
    if found := text.take(r"every hour(?: at minute (\d+)(?:, second (\d+))?)?"):
        return combined(every_hour, [int(found[1] or 0)], [int(found[2] or 0)])
    seconds, minutes = [0], list(range(60))
    if found := text.take(r"every (?:second|(\d+) seconds(?: from second (\d+))?)"):
        step = int(found[1] or 1)
        assert 60 % step == 0
        seconds = list(range(int(found[2] or 0), 60, step))
        minutes = text.these(" in ", "minute") or minutes
    elif found := text.take(r"every (?:minute|(\d+) minutes(?: from minute (\d+))?)"):
        step = int(found[1] or 1)
        assert 60 % step == 0
        minutes = list(range(int(found[2] or 0), 60, step))
        if second := text.take(r" at second (\d+)"):
            seconds = [int(second[1])]
    elif many := text.these("at ", "second"):
        seconds = many
        if not text.take(" of every minute"):
            minutes = text.these(" (?:in|of) ", "minute") or minutes
    else:
        found_minutes = text.these("at ", "minute")
        assert found_minutes, text.rest
        minutes = found_minutes
    if text.take(" of every hour"):
        return combined(every_hour, minutes, seconds)
    if hours := text.these(" (?:in|of) ", "hour"):
        return combined(hours, minutes, seconds)
    spans = []
    while span := text.take(rf"(?:,| and)? from {CLOCK} to {CLOCK}"):
        spans.append((of_day(span[1]), of_day(span[2]) + 59))
    times = combined(every_hour, minutes, seconds)
    return [at for at in times if not spans or any(a <= at <= b for a, b in spans)]


class Reading(NamedTuple):
    times: list[int]
    dates: list[int] | None
    weekdays: list[int] | None
    both: bool
    months: list[int] | None

    def names(self, day: date) -> bool:
        if self.months is not None and day.month not in self.months:
            return False
        by = [self.dates is None or day.day in self.dates]
        by.append(self.weekdays is None or day.weekday() in self.weekdays)
        return all(by) if self.both else any(by)


def reading_of(words: str) -> Reading:
    text = Text(words)
    times = times_of(text)
    weekdays = dates = months = None
    both = True
    if dates := text.these(", on ", "day"):
        assert text.take(" of the month")
        if also := text.take(rf" or on {NAMES}"):
            weekdays, both = numbers(also[1], WEEK), False
    elif days := text.take(rf", on {NAMES}"):
        weekdays = numbers(days[1], WEEK)
        if text.take(", but only on (?=day|every)"):
            dates = text.these("", "day")
            assert text.take(" of the month")
    if some := text.take(rf", in {NAMES}"):
        months = [month + 1 for month in numbers(some[1], YEAR)]
    assert not text.rest, f"of {words!r} this is not understood: {text.rest!r}"
    return Reading(times, dates, weekdays, both, months)


def interval_of(words: str) -> timedelta:
    if unit := re.fullmatch("Every (second|minute|hour)", words):
        return timedelta(**{f"{unit[1]}s": 1})
    if units := re.fullmatch(r"Every (\d+) (seconds|minutes|hours)", words):
        return timedelta(**{units[2]: int(units[1])})
    parts = re.fullmatch(r"Every (?:(\d+) h)? ?(?:(\d+) min)? ?(?:(\d+) s)?", words)
    assert parts, words
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def check_interval(schedule: Schedule, words: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert schedule.next(now) == now + interval_of(words)


def check_days(schedule: Schedule, words: str, days: list[datetime]) -> None:
    """The schedule is due at the described times on the described days, and at no others."""
    reading = reading_of(words)
    said = any(reading.names(day.date()) for day in days)
    assert said or reading.months or reading.dates, "a day of each week is among those"
    for day in days:
        times = reading.times if reading.names(day.date()) else []
        before = day - SECOND
        assert schedule.count(before, before + DAY) == len(times)
        at = before
        for second in times[:40]:
            due = schedule.next(at)
            assert due == day + timedelta(seconds=second)
            at = due


def test_the_description_of_a_schedule_agrees_with_it(page: Page, schedules: Server) -> None:
    page.set_viewport_size({"width": 1200, "height": 100 * len(EXPRESSIONS)})
    page.goto(f"{schedules.url}ui/")
    shown = page.locator(".schedule")
    expect(shown).to_have_count(len(EXPRESSIONS))
    pairs = shown.evaluate_all(TOLD)
    assert sorted(code for code, _ in pairs) == sorted(EXPRESSIONS)
    draw = random.Random(7)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    days = [start + n * DAY for n in {*range(14), *(draw.randrange(800) for _ in range(60))}]
    silent = 0
    for expression, words in pairs:
        if words is None:
            assert expression not in WRITTEN
            silent += 1
            continue
        schedule = Schedule(expression, with_seconds=True)
        try:
            if schedule.interval is None:
                check_days(schedule, words, days)
            else:
                check_interval(schedule, words)
        except AssertionError as wrong:
            raise AssertionError(f"{expression!r} is not {words!r}: {wrong}") from wrong
    assert silent < len(pairs) / 4
