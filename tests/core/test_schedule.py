"""Schedules: cases checked by hand, refusals, and properties."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.schedule import LONGEST_EXPRESSION, Schedule
from goflow.errors import InvalidJob
from goflow.stores.sqlite.entries import text_of_repr


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def fires(schedule: Schedule, after: datetime, count: int) -> list[datetime | None]:
    found: list[datetime | None] = []
    while len(found) < count and after is not None:
        after = schedule.next(after)
        found.append(after)
    return found


def cases() -> list[tuple[str, str, str, list[datetime]]]:
    lines = (Path(__file__).parent / "schedule_cases.txt").read_text().splitlines()
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            expression, zone, after, expected = (cell.strip() for cell in line.split("|"))
            due = [at(text) for text in expected.split()]
            found.append((expression.replace("\\t", "\t"), zone, after, due))
    return found


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), cases())
def test_cases_checked_by_hand(
    expression: str, zone: str, after: str, expected: list[datetime]
) -> None:
    schedule = Schedule(expression, zone, with_seconds=True)
    assert fires(schedule, at(after), len(expected)) == expected
    if len(expression.split()) != 6 or "TZ=" in expression:
        schedule = Schedule(expression, zone)
        assert fires(schedule, at(after), len(expected)) == expected


def test_next_returns_utc_for_any_zones() -> None:
    after = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3)))
    fire = Schedule("0 9 * * *", "Asia/Tokyo").next(after)
    assert fire is not None
    assert fire.tzinfo is UTC
    assert fire.isoformat() == "2024-01-02T00:00:00+00:00"


def test_next_accepts_both_passes_of_a_repeated_hour() -> None:
    zone = ZoneInfo("Europe/Berlin")
    schedule = Schedule("*/30 * * * *", "Europe/Berlin")
    first, second = (datetime(2024, 10, 27, 2, 10, tzinfo=zone, fold=fold) for fold in (0, 1))
    assert schedule.next(first) == at("2024-10-27T02:30+02:00")
    assert schedule.next(second) == at("2024-10-27T02:30+01:00")


def test_a_wildcard_that_matches_only_in_gaps_never_fires() -> None:
    second_sundays_of_march = Schedule("* 2 8-14 3 */7", "America/New_York")
    assert second_sundays_of_march.next(at("2024-01-01T00:00Z")) is None


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("expression", ["* * * * *", "0 0 1 1 *", "0 0 1 1 MON", "@every 2h"])
def test_the_calendar_ends_without_an_error(expression: str, zone: str) -> None:
    schedule = Schedule(expression, zone)
    assert schedule.next(datetime.max.replace(tzinfo=UTC)) is None
    assert schedule.next(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))) is None
    schedule.next(datetime.min.replace(tzinfo=timezone(timedelta(hours=12))))
    schedule.next(datetime.min.replace(tzinfo=UTC))


def test_the_last_minute_of_the_calendar_still_fires() -> None:
    found = fires(Schedule("* * * * *"), at("9999-12-31T23:57:30Z"), 3)
    assert found == [at("9999-12-31T23:58Z"), at("9999-12-31T23:59Z"), None]


@pytest.mark.parametrize(
    ("zone", "expression", "due", "merged", "reason"),
    [
        (
            "Europe/Berlin", "30 2 * * *", "2027-03-28T01:00", ["01:30"],
            "02:30 does not exist; it is due at 03:00",
        ),
        (
            "Europe/Berlin", "0 2 * * *", "2027-03-28T01:00", [],
            "02:00 does not exist; it is due at 03:00",
        ),
        (
            "Europe/Berlin", "0,15,30 2 * * *", "2027-03-28T01:00", ["01:15", "01:30"],
            "02:00, 02:15 and 02:30 do not exist; they are due at 03:00",
        ),
        (
            "Europe/Berlin", "15,30 2,3 * * *", "2027-03-28T01:00", [],
            "02:15 and 02:30 do not exist; they are due at 03:00",
        ),
        (
            "Europe/Berlin", "0-59/10 2 * * *", "2027-03-28T01:00",
            ["01:10", "01:20", "01:30", "01:40", "01:50"],
            "02:00, 02:10, 02:20 and 3 more do not exist; they are due at 03:00",
        ),
        (
            "Europe/Berlin", "30 2 * * *", "2026-10-25T00:30", ["01:30"],
            "02:30 comes twice; it is due the first time",
        ),
        (
            "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T15:30", ["15:45"],
            "02:15 does not exist; it is due at 02:30",
        ),
        (
            "Australia/Lord_Howe", "45 1 * * *", "2027-04-03T14:45", ["15:15"],
            "01:45 comes twice; it is due the first time",
        ),
        (
            "America/Havana", "@daily", "2025-03-09T05:00", [],
            "00:00 does not exist; it is due at 01:00",
        ),
        (
            "America/Havana", "20 0 * * *", "2025-03-09T05:00", ["05:20"],
            "00:20 does not exist; it is due at 01:00",
        ),
    ],
)  # fmt: skip
def test_a_due_time_of_a_clock_change_says_what_is_merged_into_it(
    zone: str, expression: str, due: str, merged: list[str], reason: str
) -> None:
    at = datetime.fromisoformat(f"{due}Z")
    schedule = Schedule(expression, zone)
    assert schedule.next(at - timedelta(seconds=1)) == at
    change = schedule.clock_change(at)
    assert change is not None
    assert [f"{instant:%H:%M}" for instant in change.merged] == merged
    assert change.reason == f"clock change: {reason}"


@pytest.mark.parametrize(
    ("zone", "expression", "due"),
    [
        ("Europe/Berlin", "30 2 * * *", "2027-03-27T01:30"),
        ("Europe/Berlin", "0 3 * * *", "2027-03-28T01:00"),
        ("Europe/Berlin", "*/30 2 * * *", "2026-10-25T00:30"),
        ("Europe/Berlin", "@every 30m", "2026-10-25T00:30"),
        ("Europe/Berlin", "0 3 * * *", "2026-10-25T02:00"),
        ("Pacific/Apia", "30 2 * * *", "2011-12-30T10:00"),  # a gap of a day is not made up for
        ("UTC", "30 2 * * *", "2027-03-28T02:30"),
    ],
)
def test_other_due_times_mention_no_clock_change(zone: str, expression: str, due: str) -> None:
    assert Schedule(expression, zone).clock_change(datetime.fromisoformat(f"{due}Z")) is None


def test_a_long_gap_full_of_due_times_names_a_bounded_number() -> None:
    schedule = Schedule("* 0-59 2 * * *", "Europe/Berlin", with_seconds=True)
    change = schedule.clock_change(datetime(2027, 3, 28, 1, tzinfo=UTC))
    assert change is not None
    assert len(change.merged) == 99
    assert "02:00, 02:00:01, 02:00:02 and at least 97 more do not exist" in change.reason


def test_a_naive_datetime_is_refused() -> None:
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - the mistake under test
    for schedule in (Schedule("* * * * *"), Schedule("@every 1m")):
        with pytest.raises(ValueError, match="after must be an aware datetime"):
            schedule.next(naive)
    with pytest.raises(ValueError, match="anchor must be an aware datetime"):
        Schedule("@every 1m").next(at("2024-01-01T00:00Z"), anchor=naive)


# @every


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("1h30m10s", 5410),
        ("1.5h", 5400),
        ("1s", 1),
        ("90s", 90),
        ("2m", 120),
        ("+2m", 120),
        ("500ms", 1),
        ("1ns", 1),
        ("3us", 1),
        ("3µs", 1),
        ("3μs", 1),
        ("1.9s", 1),
        ("1500ms", 1),
        (".5m", 30),
        ("1.m", 60),
        ("1m1m", 120),
        ("0h1m", 60),
        ("10s5m", 310),
        ("2562047h", 2562047 * 3600),
    ],
)
def test_every_takes_go_durations_in_whole_seconds(duration: str, seconds: int) -> None:
    schedule = Schedule(f"@every {duration}")
    assert schedule.interval == timedelta(seconds=seconds)
    assert schedule.next(at("2024-01-01T00:00:00.25Z")) == at("2024-01-01T00:00Z") + timedelta(
        seconds=seconds
    )


def test_every_keeps_the_phase_of_its_anchor() -> None:
    schedule = Schedule("@every 10m")
    anchor = at("2024-01-01T00:03Z")
    for after, due in [
        ("2024-01-01T00:03Z", "2024-01-01T00:13Z"),
        ("2024-01-01T00:12:59.999Z", "2024-01-01T00:13Z"),
        ("2024-01-01T00:13Z", "2024-01-01T00:23Z"),
        ("2024-03-05T17:20Z", "2024-03-05T17:23Z"),
        ("2023-12-31T23:50Z", "2023-12-31T23:53Z"),
    ]:
        assert schedule.next(at(after), anchor=anchor) == at(due)


def test_cron_fields_ignore_the_anchor() -> None:
    schedule = Schedule("*/10 * * * *")
    due = schedule.next(at("2024-01-01T00:00Z"), anchor=at("2024-01-01T00:03Z"))
    assert due == at("2024-01-01T00:10Z")
    assert schedule.interval is None


# Refusals

REFUSED = [
    ("", "is empty"),
    ("   ", "is empty"),
    ("\t", "is empty"),
    ("* * * *", "has 4 fields"),
    ("*", "has 1 fields"),
    ("* * * * * *", "with_seconds=True"),
    ("0 0 0 1 1 ? 2024", "has 7 fields"),
    ("hello", "has 1 fields"),
    ("60 * * * *", "minute '60' is not between 0 and 59"),
    ("* 24 * * *", "hour '24' is not between 0 and 23"),
    ("* * 0 * *", "day of the month '0' is not between 1 and 31"),
    ("* * 32 * *", "day of the month '32' is not between 1 and 31"),
    ("* * * 0 *", "month '0' is not between 1 and 12"),
    ("* * * 13 *", "month '13' is not between 1 and 12"),
    ("* * * * 8", "day of the week '8' is not between 0 and 7"),
    ("0-60 * * * *", "minute '60' is not between"),
    ("*/0 * * * *", "step of zero"),
    ("5/0 * * * *", "step of zero"),
    ("1-5/0 * * * *", "step of zero"),
    ("*/ * * * *", "minute '*/'"),
    ("/5 * * * *", "minute '/5'"),
    ("*/-5 * * * *", "minute '*/-5'"),
    ("*/5/5 * * * *", "minute '*/5/5'"),
    ("*/x * * * *", "minute '*/x'"),
    ("0,,5 * * * *", "minute ''"),
    (",5 * * * *", "minute ''"),
    ("5, * * * *", "minute ''"),
    ("59-0 * * * *", "minute '59-0' runs backwards"),
    ("* 22-2 * * *", "hour '22-2' runs backwards"),
    ("* * * NOV-FEB *", "month 'NOV-FEB' runs backwards"),
    ("* * * * FRI-MON", "day of the week 'FRI-MON' runs backwards"),
    ("* * * * FRI-SUN", "day of the week 'FRI-SUN' runs backwards"),
    ("1-2-3 * * * *", "minute '1-2-3'"),
    ("-5 * * * *", "minute '-5'"),
    ("5- * * * *", "minute '5-'"),
    ("+5 * * * *", "minute '+5'"),
    ("1.5 * * * *", "minute '1.5'"),
    ("*-5 * * * *", "minute '*-5'"),
    ("** * * * *", "minute '**'"),
    ("0x10 * * * *", "minute '0x10'"),
    ("1_0 * * * *", "minute '1_0'"),
    ("JAN * * * *", "minute 'JAN' is not a number"),
    ("* * * MON *", "month 'MON' is not a number; the names are JAN"),
    ("* * * * JAN", "day of the week 'JAN' is not a number; the names are SUN"),
    ("* * * * MONDAY", "day of the week 'MONDAY'"),
    ("* * * JANUARY *", "month 'JANUARY'"),
    ("? * * * *", "minute '?'"),
    ("* ? * * *", "hour '?'"),
    ("* * * ? *", "month '?'"),
    ("* * ?/2 * *", "day of the month '?/2'"),
    ("* * 1,? * *", "day of the month '?'"),
    # extensions of other crons
    ("R R * * *", "minute 'R'"),
    ("H H * * *", "minute 'H'"),
    ("H(0-5) * * * *", "minute 'H(0-5)'"),
    ("* * * * L5", "day of the week 'L5'"),
    ("* * * * L", "day of the week 'L' needs a day, such as 5L or FRIL"),
    ("* * * * LW", "day of the week 'LW' needs a day"),
    ("* * * * 5#0", "day of the week '5#0': the number after # is from 1 to 5"),
    ("* * * * 5#6", "day of the week '5#6': the number after # is from 1 to 5"),
    ("* * * * #2", "day of the week '#2' needs a day"),
    ("* * * * MON#", "day of the week 'MON#' needs a day"),
    ("* * * * MON-FRI#2", "day of the week 'MON-FRI#2' needs a day"),
    ("* * * * 8L", "day of the week '8' is not between 0 and 7"),
    ("* * * * XYZ#1", "day of the week 'XYZ' is not a number"),
    ("* * * * \u017fUN#1", "day of the week '\u017fUN#1' needs a day"),
    ("* * W * *", "day of the month 'W' is none of L, L-n, LW and nW"),
    ("* * L/2 * *", "day of the month 'L/2' is none of L, L-n, LW and nW"),
    ("* * L-31 * *", "more than 30 days before the last"),
    ("* * L- * *", "day of the month 'L-' is none of"),
    ("* * 0W * *", "day of the month '0' is not between 1 and 31"),
    ("* * 32W * *", "day of the month '32' is not between 1 and 31"),
    ("* * 1-5W * *", "day of the month '1-5W' is none of"),
    ("L * * * *", "minute 'L'"),
    ("* * * L *", "month 'L'"),
    # digits of other scripts, letters with ASCII upper case, invisible characters
    ("٥ * * * *", "minute '٥'"),
    ("５ * * * *", "minute '５'"),
    ("² * * * *", "minute '²'"),
    ("* * * * FRı", "day of the week 'FRı'"),
    ("* * * * ſUN", "day of the week 'ſUN'"),
    ("* * * * *\n", "has the character '\\n'"),
    ("* * *\n* *", "has the character '\\n'"),
    ("* * * * *\x00", "has the character '\\x00'"),
    ("*\u00a0* * * *", "has the character '\\xa0'"),
    ("* * * * *\u200b", "has the character '\\u200b'"),
    ("* * * * *\ud800", "has the character '\\ud800'"),
    # days that do not exist
    ("0 0 30 2 *", "never fires"),
    ("0 0 31 2,4,6,9,11 *", "never fires"),
    ("0 0 30-31 FEB ?", "never fires"),
    ("0 0 30 2 */2", "never fires"),
    ("0 0 30W 2 *", "never fires: no month it names has such a day"),
    ("0 0 L-29 2 *", "never fires"),
    ("0 0 */31 * MON#2", "never fires"),
    # descriptors
    ("@", "unknown descriptor"),
    ("@reboot", "unknown descriptor"),
    ("@fortnightly", "unknown descriptor"),
    ("@Daily", "unknown descriptor"),
    ("@daily 5", "unknown descriptor"),
    ("@daily * * * * *", "unknown descriptor"),
    ("@every1h", "unknown descriptor"),
    ("@every", "'' is not a duration"),
    ("@every ", "'' is not a duration"),
    ("@every x", "'x' is not a duration"),
    ("@every 5", "'5' is not a duration"),
    ("@every 1h 30m", "'1h 30m' is not a duration"),
    ("@every 1d", "'1d' is not a duration"),
    ("@every h", "'h' is not a duration"),
    ("@every .s", "'.s' is not a duration"),
    ("@every 1h-5m", "'1h-5m' is not a duration"),
    ("@every --1h", "'--1h' is not a duration"),
    ("@every 1e3s", "'1e3s' is not a duration"),
    ("@every ٥s", "'٥s' is not a duration"),
    ("@every infs", "'infs' is not a duration"),
    ("@every 0", "more than zero"),
    ("@every 0s", "more than zero"),
    ("@every 0.1ns", "more than zero"),
    ("@every -1h", "more than zero"),
    ("@every -0s", "more than zero"),
    ("@every 2562048h", "too long"),
    ("@every " + "9" * 200 + "h", "too long"),
    # time zones
    ("TZ=", "unknown time zone ''"),
    ("CRON_TZ=", "unknown time zone ''"),
    ("TZ= * * * * *", "unknown time zone ''"),
    ("TZ=UTC", "has 0 fields"),
    ("TZ=UTC ", "has 0 fields"),
    ("TZ=Nowhere * * * * *", "unknown time zone 'Nowhere'"),
    ("TZ=Europe * * * * *", "unknown time zone 'Europe'"),
    ("TZ=../../etc/passwd * * * * *", "unknown time zone '../../etc/passwd'"),
    ("TZ=/usr/share/zoneinfo/UTC * * * * *", "unknown time zone"),
    ("TZ=Local * * * * *", "unknown time zone 'Local'"),
    ("TZ=UTC TZ=UTC * * * * *", "has six fields"),
    ("tz=UTC * * * * *", "has six fields"),
    # size
    ("*" * 257, "more than 256 characters"),
    ("* " * 10_000, "more than 256 characters"),
    ("0," * 10_000 + "0 * * * *", "more than 256 characters"),
]


@pytest.mark.parametrize(("expression", "reason"), REFUSED)
def test_an_invalid_expression_is_refused_with_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(InvalidJob) as refusal:
        Schedule(expression)
    message = str(refusal.value)
    assert reason in message
    assert message.startswith(f"schedule {expression!r:.50}")
    assert len(message) < 300
    assert message.isprintable()


@pytest.mark.parametrize(
    "timezone", ["", "Nowhere", "utc+1", "a\x00b", "../UTC", "x" * 10_000, None, 5, []]
)
def test_an_unknown_time_zone_is_refused_even_behind_a_prefix(timezone: object) -> None:
    for expression in ("* * * * *", "TZ=UTC * * * * *"):
        with pytest.raises(InvalidJob, match="unknown time zone"):
            Schedule(expression, timezone)  # type: ignore[arg-type]


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["* * * * *"], timedelta(hours=1)])
def test_an_expression_that_is_not_text_is_refused(expression: object) -> None:
    with pytest.raises(InvalidJob, match="must be text"):
        Schedule(expression)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("60 * * * * *", "second '60' is not between 0 and 59"),
        ("? * * * * *", "second '?'"),
        ("* * * * * * *", "has 7 fields; cron takes five fields, or six"),
        ("* * * *", "has 4 fields; cron takes five fields, or six"),
        ("* 0 0 30 2 *", "never fires"),
    ],
)
def test_six_fields_are_checked_like_five(expression: str, reason: str) -> None:
    with pytest.raises(InvalidJob, match=reason.replace("?", r"\?")):
        Schedule(expression, with_seconds=True)


def test_the_longest_expression_is_accepted() -> None:
    text = "0," * 123 + "0 * * * *"
    assert len(text) == LONGEST_EXPRESSION - 1
    assert Schedule(text + " ").next(at("2024-01-01T00:00Z")) == at("2024-01-01T01:00Z")


@given(st.text(max_size=40) | st.text(alphabet="0123456789*/-,? @everyTZ=UMONJAhms.", max_size=40))
def test_any_text_is_a_schedule_or_raises_invalid_job(text: str) -> None:
    try:
        schedule = Schedule(text)
    except InvalidJob:
        return
    due = schedule.next(at("2024-01-01T00:00Z"))
    assert due is None or due > at("2024-01-01T00:00Z")


# As a value


def test_schedules_are_equal_by_expression_zone_and_seconds() -> None:
    schedule = Schedule("0 6 * * *", "Europe/Berlin")
    assert schedule == Schedule("0 6 * * *", "Europe/Berlin")
    assert hash(schedule) == hash(Schedule("0 6 * * *", "Europe/Berlin"))
    assert schedule != Schedule("0 6 * * *")
    assert schedule != Schedule("0 7 * * *", "Europe/Berlin")
    assert schedule != Schedule("0 6 * * *", "Europe/Berlin", with_seconds=True)
    assert schedule != "0 6 * * *"
    assert repr(schedule) == "Schedule('0 6 * * *', 'Europe/Berlin', with_seconds=False)"


def test_the_text_stays_as_written_and_the_prefix_names_the_zone() -> None:
    schedule = Schedule(" TZ=Asia/Tokyo  @daily ", "Europe/Berlin", with_seconds=True)
    assert schedule.expression == " TZ=Asia/Tokyo  @daily "
    assert schedule.timezone == "Asia/Tokyo"
    assert schedule.with_seconds is True


def test_a_schedule_can_be_copied_and_pickled() -> None:
    schedule = Schedule("30 2 * * *", "Europe/Berlin")
    after = at("2024-03-30T12:00Z")
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert other == schedule
        assert other.next(after) == schedule.next(after)


def test_threads_may_share_a_schedule() -> None:
    schedule = Schedule("*/5 9-17 1,15 * MON")
    instants = [at("2024-01-01T00:00Z") + timedelta(hours=37 * n) for n in range(400)]
    alone = [schedule.next(instant) for instant in instants]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(schedule.next, instants * 4)) == alone * 4


# Properties

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana",
         "Pacific/Apia", "Asia/Pyongyang", "Africa/Casablanca", "Antarctica/Troll")  # fmt: skip


def field(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    span = st.tuples(value, value).map(sorted)
    step = st.integers(1, high)
    return st.one_of(
        st.just("*"),
        step.map(lambda n: f"*/{n}"),
        st.lists(value, min_size=1, max_size=4).map(lambda values: ",".join(map(str, values))),
        span.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(span, step).map(lambda parts: f"{parts[0][0]}-{parts[0][1]}/{parts[1]}"),
        st.tuples(value, step).map(lambda parts: f"{parts[0]}/{parts[1]}"),
    )


expressions = st.tuples(
    field(0, 59), field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)
).map(" ".join)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@given(expressions, st.sampled_from(ZONES), instants)
def test_the_next_fire_is_later_whole_and_the_first(
    expression: str, zone: str, after: datetime
) -> None:
    schedule = Schedule(expression, zone, with_seconds=True)
    due = schedule.next(after)
    if due is None:
        return
    assert due > after
    assert due.microsecond == 0
    assert schedule.next(due - timedelta(microseconds=1)) == due
    assert schedule.next(after + (due - after) / 2) == due
    later = schedule.next(due)
    assert later is None or later > due


@given(expressions, st.sampled_from(ZONES), instants, instants)
def test_next_never_decreases(expression: str, zone: str, one: datetime, other: datetime) -> None:
    schedule = Schedule(expression, zone, with_seconds=True)
    first, second = (schedule.next(after) for after in sorted((one, other)))
    assert second is None or (first is not None and first <= second)


every = st.integers(1, 10**5).map(lambda seconds: f"@every {seconds}s")


@given(expressions | every, st.sampled_from(ZONES), instants, instants, st.data())
def test_count_agrees_with_repeated_next(
    expression: str, zone: str, after: datetime, anchor: datetime, data: st.DataObject
) -> None:
    schedule = Schedule(expression, zone, with_seconds=True)
    at = after
    for counted in range(data.draw(st.integers(0, 60))):
        assert schedule.count(after, at, anchor=anchor) == counted
        following = schedule.next(at, anchor=anchor)
        if following is None:
            break
        just_before = following - timedelta(microseconds=1)
        assert schedule.count(after, just_before, anchor=anchor) == counted
        at = following


@given(expressions | every, st.sampled_from(ZONES), instants, instants, instants)
def test_counts_of_adjacent_spans_add_up(
    expression: str, zone: str, one: datetime, two: datetime, three: datetime
) -> None:
    schedule = Schedule(expression, zone, with_seconds=True)
    begin, middle, end = sorted((one, two, three))
    counts = [
        schedule.count(after, last, anchor=one)
        for after, last in ((begin, middle), (middle, end), (begin, end))
    ]
    assert counts[0] + counts[1] == counts[2]
    assert schedule.count(end, begin, anchor=one) == 0


@given(st.integers(1, 10**6), instants, instants)
def test_every_stays_on_the_grid_of_its_anchor(
    seconds: int, after: datetime, anchor: datetime
) -> None:
    due = Schedule(f"@every {seconds}s").next(after, anchor=anchor)
    assert due is not None
    assert timedelta(0) < due - after <= timedelta(seconds=seconds)
    assert (due - anchor.replace(microsecond=0)) % timedelta(seconds=seconds) == timedelta(0)


@pytest.mark.parametrize(
    ("expression", "timezone", "text"),
    [
        ("0 6 * * *", "UTC", "CRON_TZ=UTC 0 6 * * *"),
        ("\t0   6 *\t* MON ", "Europe/Berlin", "CRON_TZ=Europe/Berlin 0 6 * * MON"),
        ("CRON_TZ=Asia/Tokyo 0 6 * * *", "UTC", "CRON_TZ=Asia/Tokyo 0 6 * * *"),
        ("TZ=Asia/Tokyo  @daily", "Europe/Berlin", "CRON_TZ=Asia/Tokyo @daily"),
        ("@every  1h30m", "UTC", "CRON_TZ=UTC @every 1h30m"),
        ("5 0 6 * * *", "UTC", "CRON_TZ=UTC 5 0 6 * * *"),
    ],
)
def test_the_canonical_text_is_another_way_to_write_the_schedule(expression, timezone, text):
    schedule = Schedule(expression, timezone, with_seconds=True)
    assert schedule.text == text
    again = Schedule(text, with_seconds=True)
    assert again.text == text
    after = datetime(2026, 3, 1, tzinfo=UTC)
    for _ in range(5):
        due = schedule.next(after, anchor=after)
        assert due == again.next(after, anchor=after)
        after = due


@pytest.mark.parametrize("expression", ["0  6 * * *", "CRON_TZ=Asia/Tokyo\t0 6 * * *", "@every 1h"])
def test_a_schedule_stored_as_its_repr_is_migrated_to_its_text(expression):
    schedule = Schedule(expression, "Europe/Berlin")
    assert text_of_repr(repr(schedule)) == schedule.text
