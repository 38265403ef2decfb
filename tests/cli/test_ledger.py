"""Due times on a running server: outcomes, next due times, and backfill."""

import json
import re
import urllib.request

import pytest

from tests.cli.commands import eventually, in_a_terminal

JOBS = """
import time
from goflow import Command, Goflow, Job, Task

gf = Goflow(with_seconds=True)

daily = Job("daily", "0 3 * * *", timezone="Europe/Berlin", params={"rows": 0})

@daily.task
def load(context, rows):
    if rows == context.scheduled_at.day:
        raise ValueError("a bad day")

gf.add_job(daily)
busy = Job("busy", "* * * * * *", True, overlap="skip")
busy.add(Task("t", Command("sleep", ["300"])))
gf.add_job(busy)
gf.add_job(Job("by hand", tasks=[Task("t", Command("true"))]))
nightly = Job("nightly", "30 2 * * *", timezone="Europe/Berlin")
nightly.add(Task("t", Command("true")))
gf.add_job(nightly)
gf.add_job(Job("tokyo", "CRON_TZ=Asia/Tokyo 0 0 * * *", tasks=[Task("t", Command("true"))]))
"""
RANGE = ("--from", "2025-03-01", "--to", "2025-03-04")
DUE = ["2025-03-01T02:00:00Z", "2025-03-02T02:00:00Z", "2025-03-03T02:00:00Z"]


@pytest.fixture
def remote(goflow, spawn, main_py):
    """Run a client command against a server of the jobs above."""
    url = spawn("serve", main_py(JOBS), "--port", "0").address()

    def run(*arguments):
        return goflow(*arguments, "--server", url)

    run.url = url
    return run


def rows_of(result):
    assert result.exit_code == 0, result.output
    return [re.split("  +", line) for line in result.stdout.splitlines()]


def executions(remote):
    with urllib.request.urlopen(f"{remote.url}/api/executions?jobname=daily") as answer:
        return json.load(answer)["executions"]


# -- ticks and upcoming ------------------------------------------------------------


def test_ticks_show_the_outcome_of_each_due_time(remote):
    eventually(lambda: len(rows_of(remote("ticks", "busy"))) > 3)
    rows = rows_of(remote("ticks", "busy", "-n", "2"))
    assert rows[0] == ["DUE", "OUTCOME", "NUMBER", "EXECUTION OR REASON"]
    assert len(rows) == 3
    assert rows[1][1:3] == ["skipped", "1"]
    assert "has not ended" in rows[1][3]
    fired = json.loads(remote("ticks", "busy", "--json").stdout)["ticks"][-1]
    assert (fired["outcome"], fired["count"], fired["until"]) == ("fired", 1, None)


def test_missed_ticks_in_a_row_are_one_line(remote):
    assert remote("toggle", "busy", "--off").exit_code == 0
    due = json.loads(remote("upcoming", "busy", "-n", "3", "--json").stdout)["upcoming"]
    assert len(due) == 3
    eventually(
        lambda: json.loads(remote("upcoming", "busy", "--json").stdout)["upcoming"][0] > due[2]
    )
    assert remote("toggle", "busy", "--on").exit_code == 0
    missed = eventually(
        lambda: [row for row in rows_of(remote("ticks", "busy")) if row[1] == "missed"]
    )
    assert int(missed[0][2]) >= 2
    assert re.fullmatch("until .*Z: the schedule was off", missed[0][3])


def test_upcoming_times_are_in_utc_and_in_the_zone_of_the_job(remote):
    told = remote("upcoming", "daily", "-n", "3")
    lines = told.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"[-0-9]{10}T0[12]:00:00Z  [-0-9]{10}T03:00:00\+0[12]:00", line)
    assert "is off" in told.stderr
    assert "+09:00" in remote("upcoming", "tokyo").stdout
    assert remote("upcoming", "by hand").output == ""
    assert remote("upcoming", "busy").stderr == ""


def test_clock_changes_are_marked(remote):
    missing = "clock change: 02:30 does not exist; it is due at 03:00"
    twice = "clock change: 02:30 comes twice; it is due the first time"
    night = ("--from", "2025-03-30", "--to", "2025-03-31", "--wait")
    assert remote("backfill", "nightly", *night).exit_code == 0
    _, merged, fired = rows_of(remote("ticks", "nightly"))
    assert merged == ["2025-03-30T01:30:00Z", "merged", "1", missing]
    assert fired[:3] == ["2025-03-30T01:00:00Z", "fired", "1"]
    assert fired[3].endswith(f": {missing}")
    lines = remote("upcoming", "nightly", "-n", "366").stdout.splitlines()
    told = [re.split("  +", line) for line in lines if "clock change" in line]
    assert {(due[10:], local[10:], reason) for due, local, reason in told} == {
        ("T01:00:00Z", "T03:00:00+02:00", missing),
        ("T00:30:00Z", "T02:30:00+02:00", twice),
    }


# -- backfill ----------------------------------------------------------------------


def test_a_dry_run_of_a_backfill_creates_nothing(remote):
    rows = rows_of(remote("backfill", "daily", *RANGE, "--dry-run"))
    assert rows == [*([due, "would run", "-"] for due in DUE), ["3 of 3 due times would run"]]
    assert executions(remote) == []


def test_a_backfill_runs_missing_due_times_and_can_be_repeated(remote):
    first = rows_of(remote("backfill", "daily", *RANGE[:3], "2025-03-02"))
    assert first[-1] == ["1 of 1 due times run now"]
    rows = rows_of(remote("backfill", "daily", *RANGE, "--wait"))
    assert [row[:2] for row in rows[:3]] == [
        [DUE[0], "has run"],
        [DUE[1], "runs"],
        [DUE[2], "runs"],
    ]
    assert rows[0][2] == first[0][2]
    assert rows[3] == ["2 of 3 due times run now"]
    assert rows[-1][0].startswith("3 of 3 ended, ")
    assert [one["scheduled_at"] for one in executions(remote)] == DUE[::-1]
    assert rows_of(remote("backfill", "daily", *RANGE))[-1] == ["0 of 3 due times run now"]


def test_a_backfill_with_wait_exits_by_its_result(remote):
    result = remote("backfill", "daily", *RANGE, "-p", "rows=2", "--parallel", "2", "--wait")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "3 of 3 ended, 1 failed, 2 successful"
    good = remote("backfill", "daily", "--from", "2025-04-01", "--to", "2025-04-02", "--wait")
    assert good.exit_code == 0


def test_a_backfill_as_json_has_the_states(remote):
    answer = json.loads(
        remote("backfill", "daily", *RANGE, "-p", "rows=3", "--wait", "--json").stdout
    )
    assert [one["due"] for one in answer["executions"]] == DUE
    assert [one["created"] for one in answer["executions"]] == [True] * 3
    assert [one["state"] for one in answer["executions"]].count("failed") == 1


def test_a_terminal_shows_how_many_have_ended(remote, tmp_path):
    arguments = ["backfill", "daily", *RANGE, "--wait", "--server", remote.url]
    code, screen = in_a_terminal(arguments, tmp_path)
    assert code == 0
    assert screen.rstrip().splitlines()[-1] == "3 of 3 ended, 3 successful"


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (("2025-03-01T03:00:00", "2025-03-02"), DUE[0]),
        (("2025-03-01T03:00:01", "2025-03-02T04:00"), DUE[1]),
        (("2025-03-01T02:00:00Z", "2025-03-02"), DUE[0]),
        (("2025-03-01T11:00", "2025-03-02T00:00", "--timezone", "Asia/Tokyo"), DUE[0]),
    ],
)
def test_times_of_a_backfill_are_in_the_zone_of_the_job_or_the_given_one(remote, times, first):
    start, end, *zone = times
    rows = rows_of(remote("backfill", "daily", "--from", start, "--to", end, *zone, "--dry-run"))
    assert rows[0][0] == first


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["daily", *RANGE, "--timezone", "Nowhere"], 2, "Nowhere"),
        (["daily", "--from", "soon", "--to", "later"], 2, "--from 'soon'"),
        (["daily", "--from", "2025-03-02", "--to", "2025-03-02"], 1, "empty"),
        (["daily", "--from", "2025-03-02", "--to", "2999-01-01"], 1, "future"),
        (["by hand", *RANGE], 1, "no schedule"),
        (["nope", *RANGE], 1, "'nope'"),
        (["daily", *RANGE, "-p", "row=1"], 1, "'row'"),
    ],
)
def test_an_invalid_backfill_is_refused(remote, arguments, code, named):
    result = remote("backfill", *arguments)
    assert result.exit_code == code
    [line] = result.stderr.splitlines()
    assert named in line
    assert executions(remote) == []
