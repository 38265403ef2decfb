"""`goflow next`."""

import json

import pytest

AFTER = ("--after", "2030-01-01T00:00:00Z")


def test_it_prints_ten_fires_in_utc_one_per_line(goflow):
    lines = goflow("next", "30 3 * * *", *AFTER).stdout.splitlines()
    assert lines[0] == "2030-01-01T03:30:00Z"
    assert len(lines) == 10


def test_with_another_zone_the_local_time_is_printed_too(goflow):
    result = goflow("next", "0 8 * * *", "--timezone", "Europe/Berlin", "-n", "1", *AFTER)
    assert result.stdout == "2030-01-01T07:00:00Z  2030-01-01T08:00:00+01:00\n"


def test_the_prefix_of_the_expression_chooses_the_zone(goflow):
    result = goflow("next", "TZ=Asia/Tokyo 0 9 * * *", "-n", "1", "--json", *AFTER)
    answer = json.loads(result.stdout)
    assert answer["timezone"] == "Asia/Tokyo"
    assert answer["next"] == ["2030-01-02T00:00:00Z"]


def test_a_time_without_offset_is_read_in_the_zone(goflow):
    zone = ("--timezone", "America/New_York")
    result = goflow("next", "0 * * * *", *zone, "--after", "2030-01-01 07:30", "-n", "1")
    assert result.stdout.startswith("2030-01-01T13:00:00Z")


def test_without_after_it_counts_from_now(goflow):
    result = goflow("next", "@yearly", "-n", "1")
    assert result.exit_code == 0
    assert result.stdout.endswith("-01-01T00:00:00Z\n")


def test_seconds_need_their_option(goflow):
    assert goflow("next", "*/20 * * * * *", *AFTER).exit_code == 2
    allowed = goflow("next", "*/20 * * * * *", "--seconds", "-n", "2", *AFTER)
    assert allowed.stdout == "2030-01-01T00:00:20Z\n2030-01-01T00:00:40Z\n"


def test_a_schedule_that_ends_prints_fewer_lines(goflow):
    result = goflow("next", "@yearly", "--after", "9998-06-01T00:00:00Z")
    assert result.stdout == "9999-01-01T00:00:00Z\n"
    assert result.exit_code == 0


def test_a_fire_beyond_the_local_calendar_is_printed_in_utc_only(goflow):
    zone = ("--timezone", "Asia/Tokyo")
    result = goflow("next", "@every 1h", *zone, "-n", "1", "--after", "9999-12-31T22:00:30Z")
    assert result.stdout == "9999-12-31T23:00:30Z\n"


def test_a_clock_change_is_marked(goflow):
    asked = ("next", "30 2 * * *", "--timezone", "Europe/Berlin", "-n", "2")
    asked += ("--after", "2026-10-24T12:00:00Z")
    reason = "clock change: 02:30 comes twice; it is due the first time"
    assert goflow(*asked).stdout.splitlines() == [
        f"2026-10-25T00:30:00Z  2026-10-25T02:30:00+02:00  {reason}",
        "2026-10-26T01:30:00Z  2026-10-26T02:30:00+01:00",
    ]
    answer = json.loads(goflow(*asked, "--json").stdout)
    assert answer["clock_changes"] == [{"due": answer["next"][0], "reason": reason}]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["60 * * * *"], "60"),
        (["0 0 30 2 *"], "0 0 30 2 *"),
        ([""], "schedule"),
        (["* * * * *", "--timezone", "Nowhere"], "Nowhere"),
        (["* * * * *", "--after", "noon"], "noon"),
        (["* * * * *", "-n", "0"], "0"),
    ],
)
def test_an_invalid_argument_is_named_and_exits_with_2(goflow, arguments, named):
    result = goflow("next", *arguments)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last
