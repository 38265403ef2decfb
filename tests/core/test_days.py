"""A day begins when local clocks first show its date, in every time zone."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import pytest

from goflow import zones
from goflow.core.days import last_days

QUARTER = timedelta(minutes=15)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def days(zone: str, now: datetime, count: int) -> dict[date, datetime]:
    return dict(last_days(zones.find(zone), now, count))


def test_the_last_days_are_today_and_tomorrow() -> None:
    found = list(last_days(zones.find("UTC"), NOW, 2))
    assert found == [
        (date(2026, 11, day), datetime(2026, 11, day, tzinfo=UTC)) for day in (20, 21, 22)
    ]


@pytest.mark.parametrize(
    ("zone", "today"),
    [("Pacific/Kiritimati", 22), ("Europe/Berlin", 21), ("Pacific/Pago_Pago", 21)],
)
def test_today_is_the_date_in_the_zone(zone: str, today: int) -> None:
    assert list(days(zone, NOW, 1)) == [date(2026, 11, today), date(2026, 11, today + 1)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # the hour after midnight is skipped
    ],
)
def test_a_day_on_which_clocks_change_is_shorter_or_longer(
    zone: str, day: date, hours: float
) -> None:
    found = days(zone, NOW, 371)
    assert found[day + timedelta(days=1)] - found[day] == timedelta(hours=hours)


def test_in_every_zone_a_day_begins_on_a_quarter_hour_with_its_date() -> None:
    for zone in map(zones.find, sorted(available_timezones())):
        for day, begin in last_days(zone, NOW, 731):
            assert begin.minute % 15 == begin.second == begin.microsecond == 0, zone
            assert begin.astimezone(zone).date() == day, zone
            assert (begin - QUARTER).astimezone(zone).date() < day, zone
