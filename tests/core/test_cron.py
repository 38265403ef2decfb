"""The values that cron fields name, compared with croniter where both accept the same syntax."""

from datetime import UTC, datetime

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.cron import _FIELDS, _Field, _values
from goflow.core.schedule import Schedule
from goflow.errors import InvalidJob

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
