"""Timetables of several schedules against an oracle that collects their due times one by one."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goflow.core.catchup import CatchUp, Policy, backlog
from goflow.core.schedule import Schedule
from goflow.core.timetable import Span, Timetable, Timing
from tests.effort import examples

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
# A clock change in Berlin, and another in New York a week later.
BEGIN = datetime(2026, 10, 24, 20, tzinfo=UTC)

EXPRESSIONS = (
    "@every 1h",
    "@every 7m",
    "@every 25h",
    "@once",
    "@hourly",
    "*/20 * * * *",
    "30 2 * * *",
    "15,30 1-3 * * *",
    "0 0 * * *",
    "0 12 L * *",
    "0 6 * * SUN#4",
)
schedules = st.builds(
    Schedule,
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")),
)
instants = st.integers(0, 9 * 24 * 60 * 60).map(lambda seconds: BEGIN + seconds * SECOND)
bounds = st.none() | instants


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    start, end = draw(bounds), draw(bounds)
    if start is not None and end is not None and end < start:
        start, end = end, start
    chosen = draw(st.lists(schedules, min_size=1, max_size=3))
    return Timing(tuple(chosen), start, end)


def due_of(schedule: Schedule, phase: datetime, first: datetime, end: datetime) -> set[datetime]:
    found, at = set(), schedule.next(first - SECOND, anchor=phase)
    while at is not None and at < end:
        found.add(at)
        at = schedule.next(at, anchor=phase)
    return found


def all_due(timetable: Timetable, first: datetime, end: datetime) -> list[datetime]:
    found, at = [], timetable.next(first - SECOND)
    while at is not None and at < end:
        found.append(at)
        at = timetable.next(at)
    return found


@settings(max_examples=examples(60))
@given(timings(), instants, instants, st.integers(0, 40 * 3600))
def test_a_due_time_that_schedules_share_is_one_and_none_is_outside_start_and_end(
    timing: Timing, now: datetime, first: datetime, seconds: int
) -> None:
    timetable, end = timing.begin(now), first + seconds * SECOND
    expected = set()
    for schedule in timing.schedules:
        phase = now
        if schedule.once and timing.start is not None:
            phase = max(now, timing.start - SECOND)
        expected |= due_of(schedule, phase, max(first, now + SECOND), end)
    if timing.start is not None:
        expected = {due for due in expected if due >= timing.start}
    if timing.end is not None:
        expected = {due for due in expected if due <= timing.end}
    found = all_due(timetable, first, end)
    assert found == sorted(expected)
    assert timetable.count(first - SECOND, end - SECOND) == len(found)
    assert timetable.previous(end) == (found[-1] if found else timetable.previous(first))


@settings(max_examples=examples(60))
@given(timings(), timings(), st.permutations(range(3)), instants, st.integers(0, 60), st.data())
def test_an_edit_neither_loses_nor_doubles_nor_adds_a_past_due_time(
    before: Timing,
    after: Timing,
    order: list[int],
    begun: datetime,
    hours: int,
    data: st.DataObject,
) -> None:
    """Due times up to the edit are those of schedules that stay, within both definitions. Those
    after it are those of the new definition."""
    if data.draw(st.booleans()):  # some schedules stay
        mixed = [*after.schedules, *before.schedules]
        after = after._replace(schedules=tuple(mixed[at] for at in order if at < len(mixed)))
    now = begun + hours * HOUR
    accounted = begun + data.draw(st.integers(0, hours)) * HOUR
    old = before.begin(begun)
    edited = after.go_on(old.spans, accounted, now)
    kept = {one.text for one in before.schedules} & {one.text for one in after.schedules}
    if not kept:
        assert edited is None
        return
    assert edited is not None
    old_kept = Timetable(span for span in old.spans if span.schedule.text in kept)
    past = [
        due
        for due in all_due(old_kept, accounted + SECOND, now + SECOND)
        if (after.start is None or due >= after.start) and (after.end is None or due <= after.end)
    ]
    assert all_due(edited, accounted + SECOND, now + SECOND) == past
    # From the edit on, those of the new definition, in the phases of the old one.
    phases = {span.schedule.text: span for span in old.spans}
    future: set[datetime] = set()
    horizon = now + 30 * HOUR
    for schedule in after.schedules:
        if schedule.once:
            continue
        phase = phases[schedule.text].anchor if schedule.text in phases else now
        future |= due_of(schedule, phase, now + SECOND, horizon)
    lower, upper = after.start or now, after.end or horizon
    future = {due for due in future if lower <= due <= upper}
    rest = Timetable(span for span in edited.spans if not span.schedule.once)
    assert all_due(rest, now + SECOND, horizon) == sorted(future)


def test_once_is_due_at_the_start_or_when_the_schedule_begins() -> None:
    once = Timing((Schedule("@once"),))
    assert all_due(once.begin(BEGIN), BEGIN, BEGIN + 1000 * HOUR) == [BEGIN + SECOND]
    later = once._replace(start=BEGIN + HOUR)
    assert all_due(later.begin(BEGIN), BEGIN, BEGIN + 1000 * HOUR) == [BEGIN + HOUR]
    ended = once._replace(end=BEGIN - HOUR)
    assert ended.begin(BEGIN).next(BEGIN) is None


def test_once_fires_again_only_for_a_later_start() -> None:
    begun = Timing((Schedule("@once"),)).begin(BEGIN)
    now = BEGIN + 10 * HOUR
    other = Timing((Schedule("@once"), Schedule("@daily"))).go_on(begun.spans, now, now)
    assert other is not None
    assert Timetable(other.spans[:1]).next(now) is None
    later = Timing((Schedule("@once"),), start=now + HOUR).go_on(begun.spans, now, now)
    assert later is not None
    assert all_due(later, now, now + 1000 * HOUR) == [now + HOUR]


def test_a_clock_that_is_set_back_does_not_silence_a_new_schedule() -> None:
    timing = Timing((Schedule("@hourly"), Schedule("@once"), Schedule("@every 10h")))
    early = BEGIN - 5 * HOUR
    timetable = timing.begin(BEGIN).set_back(early)
    assert timetable.next(early) == early + HOUR
    assert [due for due in all_due(timetable, early, BEGIN + HOUR) if due.second == 1] == [
        BEGIN + SECOND
    ]
    bound = timing._replace(start=BEGIN - HOUR).begin(BEGIN).set_back(early)
    assert bound.next(early) == BEGIN - HOUR


def test_a_time_that_one_schedule_skips_is_not_merged_if_another_is_due_then() -> None:
    zone = "Europe/Berlin"
    night = Schedule("30 2 * * *", zone)
    due = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 comes twice
    alone = Timing((night,)).begin(BEGIN).clock_change(due)
    assert alone is not None
    assert alone.merged == (due + HOUR,)
    both = Timing((night, Schedule("30 1 * * *"))).begin(BEGIN).clock_change(due)
    assert both is not None
    assert both.merged == ()
    assert both.reason == alone.reason
    assert Timing((Schedule("@daily"), night)).begin(BEGIN).zone_of(due).key == zone


@pytest.mark.parametrize("expressions", [("* * * * *", "@every 45s"), ("@daily", "30 6 * * *")])
def test_a_backlog_of_years_is_counted_without_going_through_it(
    expressions: tuple[str, str],
) -> None:
    timing = Timing(tuple(map(Schedule, expressions)))
    timetable, now = timing.begin(BEGIN), BEGIN + timedelta(days=2 * 365)
    due = timetable.next(BEGIN)
    assert due is not None
    found = backlog(timetable, BEGIN, due, now, Policy(CatchUp.ALL, 10 * HOUR, 3))
    minutely = expressions[0].startswith("*")
    assert len(found.fire) == (3 if minutely else 0)
    assert found.missed is not None
    days = 2 * 365
    each = 1440 + 1920 - 480 if minutely else 2
    assert found.missed.number + len(found.fire) == days * each


def test_a_schedule_that_never_fires_between_start_and_end_is_known() -> None:
    start, end = BEGIN, BEGIN + 10 * HOUR
    assert Timing((Schedule("0 0 1 6 *"),), start, end).never_fires
    assert not Timing((Schedule("0 0 * * *"),), start, end).never_fires
    assert not Timing((Schedule("@every 99h"),), start, end).never_fires
    assert not Timing((Schedule("0 0 1 6 *"),), start).never_fires
    assert not Timing((Schedule("@once"),), start, start).never_fires


def test_a_span_has_the_due_times_after_its_begin_up_to_its_end() -> None:
    span = Span(Schedule("@hourly"), BEGIN, BEGIN, BEGIN + 2 * HOUR)
    assert span.number(BEGIN - 9 * HOUR, BEGIN + 9 * HOUR) == 2
    assert span.previous(BEGIN + 9 * HOUR) == BEGIN + 2 * HOUR
    assert span.previous(BEGIN + HOUR) is None
