"""The values that cron fields name, compared with croniter where both accept the same syntax."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.cron import _FIELDS, _Field, _values
from goflow.core.schedule import Schedule
from goflow.errors import InvalidJob

DAY = timedelta(days=1)
CRONITER_ORDER = (1, 2, 3, 4, 5, 0)  # croniter has the seconds last


@st.composite
def items(draw: st.DrawFn, field: _Field) -> str:
    """An item in the long form, `a-b/n`, which means the same in both."""
    first = draw(st.integers(field.low, field.high - 1))
    last = draw(st.integers(first + 1, field.high))
    return f"{first}-{last}/{draw(st.integers(1, 70))}" if draw(st.booleans()) else f"{first}"


@given(st.data())
def test_a_field_names_the_values_that_croniter_finds(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, 5))
    field = _FIELDS[place]
    text = ",".join(data.draw(st.lists(items(field), min_size=1, max_size=4)))
    fields = [text if at == place else "*" for at in CRONITER_ORDER]
    expected = croniter.expand(" ".join(fields))[0][CRONITER_ORDER.index(place)]
    everything = list(range(field.low, field.last + 1))
    assert list(_values(field, text)) == (everything if expected == ["*"] else sorted(expected))


@pytest.mark.parametrize(
    ("place", "text", "values"),
    [
        (5, "7", (0,)),
        (5, "5-7", (0, 5, 6)),
        (5, "7/2", (0,)),
        (5, "*/2", (0, 2, 4, 6)),
        (5, "SUN,mon", (0, 1)),
        (1, "50/5", (50, 55)),
        (1, "1-1", (1,)),
        (4, "*", tuple(range(1, 13))),
    ],
)
def test_a_field_names_values_in_order(place: int, text: str, values: tuple[int, ...]) -> None:
    assert _values(_FIELDS[place], text) == values


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Schedule("@daily"), "CRON_TZ=UTC @daily"),
        (Schedule(" 0\t6  * * * ", "Asia/Tokyo"), "CRON_TZ=Asia/Tokyo 0 6 * * *"),
        (Schedule("TZ=Asia/Tokyo @every 90s", "UTC"), "CRON_TZ=Asia/Tokyo @every 90s"),
        (Schedule("30 0 6 * * *", with_seconds=True), "CRON_TZ=UTC 30 0 6 * * *"),
    ],
)
def test_the_canonical_text_of_a_schedule_parses_to_an_equal_schedule(
    schedule: Schedule, text: str
) -> None:
    assert schedule.text == text
    again = Schedule(text, "Europe/Berlin", with_seconds=True)
    assert again.text == text
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert again.next(at, anchor=at) == schedule.next(at, anchor=at)


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidJob, match=r"day of the week '8' is not between 0 and 7"):
        Schedule("0 0 * * 8")


def nearest_weekday(day: date) -> date:
    """The day from Monday to Friday in the same month that is nearest, found by looking."""
    days = [day + timedelta(days=distance) for distance in (0, -1, 1, -2, 2)]
    return next(one for one in days if one.month == day.month and one.isoweekday() <= 5)


def place_names(text: str, day: date) -> bool:
    """Whether a day is one that an item such as `L-2`, `15W` or `5#2` names, as documented."""
    last = next(
        day + timedelta(days=ahead)
        for ahead in range(31)
        if (day + timedelta(days=ahead + 1)).month != day.month
    )
    if "#" in text:
        week_day, nth = map(int, text.split("#"))
        return day.isoweekday() % 7 == week_day % 7 and (day.day - 1) // 7 + 1 == nth
    if text.endswith("W"):
        number = last.day if text == "LW" else int(text[:-1])
        return number <= last.day and nearest_weekday(day.replace(day=number)) == day
    if text.startswith("L"):
        return (last - day).days == int(text[2:] or 0)
    return day.isoweekday() % 7 == int(text[0]) % 7 and (last - day).days < 7


place_items = st.one_of(
    st.just("L"),
    st.just("LW"),
    st.integers(1, 30).map("L-{}".format),
    st.integers(1, 31).map("{}W".format),
)
nth_items = st.one_of(
    st.integers(0, 7).map("{}L".format),
    st.tuples(st.integers(0, 7), st.integers(1, 5)).map(lambda each: f"{each[0]}#{each[1]}"),
)


@given(
    st.lists(place_items, max_size=2),
    st.lists(nth_items, max_size=2),
    st.lists(st.integers(1, 31), max_size=2),
    st.dates(date(1971, 1, 1), date(2400, 1, 1)),
)
def test_days_by_their_place_in_the_month_agree_with_a_search(
    places: list[str], nths: list[str], numbers: list[int], start: date
) -> None:
    """Day by day for a year. Items of one field are alternatives, and so are the two fields."""
    month_day = ",".join([*places, *map(str, numbers)]) or "*"
    week_day = ",".join(nths) or "*"
    expected = []
    for ahead in range(1, 366):
        day = start + timedelta(days=ahead)
        by_month = any(place_names(one, day) for one in places) or day.day in numbers
        by_week = any(place_names(one, day) for one in nths)
        if by_month or by_week or (month_day == "*" and week_day == "*"):
            expected.append(day)
    schedule = Schedule(f"0 0 {month_day} * {week_day}")
    at = datetime(start.year, start.month, start.day, tzinfo=UTC)
    found = []
    for _ in expected:
        following = schedule.next(at)
        assert following is not None
        at = following
        found.append(at.date())
    assert found == expected
    assert at == datetime.combine(start, time(), UTC) or schedule.previous(at + DAY) == at


@pytest.mark.parametrize(
    ("expression", "days"),
    [  # of 2026, as calendars show them
        ("0 0 L * *", ["01-31", "02-28", "03-31", "04-30"]),
        ("0 0 LW * *", ["01-30", "02-27", "03-31", "04-30"]),
        ("0 0 15W * *", ["01-15", "02-16", "03-16", "04-15"]),
        ("0 0 1W * *", ["01-01", "02-02", "03-02", "04-01"]),
        ("0 0 31W * *", ["01-30", "03-31", "05-29", "07-31"]),
        ("0 0 L-1 * *", ["01-30", "02-27", "03-30", "04-29"]),
        ("0 0 ? * 5L", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 0 ? * fril", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 0 ? * MON#2", ["01-12", "02-09", "03-09", "04-13"]),
        ("0 0 ? * 7#1", ["01-04", "02-01", "03-01", "04-05"]),
        ("0 0 ? * MON#5", ["03-30", "06-29", "08-31", "11-30"]),
        ("0 0 1,L * *", ["01-01", "01-31", "02-01", "02-28"]),
        ("0 0 L * MON#1", ["01-05", "01-31", "02-02", "02-28"]),
        ("0 0 */2 * 6L", ["01-31", "04-25", "06-27", "07-25"]),  # both must match
    ],
)
def test_days_by_their_place_in_the_month(expression: str, days: list[str]) -> None:
    schedule, at = Schedule(expression), datetime(2026, 1, 1, tzinfo=UTC) - DAY / 2
    found = []
    for _ in days:
        following = schedule.next(at)
        assert following is not None
        at = following
        found.append(f"{at:%m-%d}")
    assert found == days
