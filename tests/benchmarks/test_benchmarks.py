"""The benchmarks run to their end, with sizes too small to measure speed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    history,
    latency,
    maps,
    pages,
    peers,
    record,
    recovery,
    results,
    retention,
    soak,
    spawn,
    startup,
    streams,
    submits,
    templates,
    throughput,
    ticks,
    waits,
    watching,
)
from benchmarks.harness import Report

TINY: dict[Callable[..., None], dict[str, Any]] = {
    throughput.main: {"scale": 2, "width": 3, "repeat": 1},
    spawn.main: {"programs": 3, "repeat": 1},
    templates.main: {"times": 2, "rows": 3, "repeat": 1},
    maps.main: {"items": 3, "many": 5, "repeat": 1},
    streams.main: {"items": 3, "many": 5, "repeat": 1},
    latency.main: {"submits": 3},
    startup.main: {"repeat": 1, "jobs": 3, "seconds": 0.05},
    submits.main: {"clients": 2, "each": 3},
    history.main: {"executions": 20, "streams": 2, "repeat": 1, "seconds": 0.05},
    pages.main: {"jobs": 3, "each": 2, "times": 2},
    peers.main: {"submits": 2, "many": 3},
    retention.main: {"executions": 1100, "purges": 2},
    ticks.main: {"jobs": 3, "registered": 3, "rate": 2, "seconds": 2.0, "idle": 0.05},
    recovery.main: {"executions": 3, "programs": 1, "repeat": 1},
    watching.main: {
        "tasks": 6,
        "chain": 3,
        "streams": (1, 2),
        "clients": 2,
        "each": 3,
        "repeat": 1,
        "silent": 2,
    },
    results.main: {"size": 5_000, "tasks": 2, "repeat": 1},
    waits.main: {"sensors": 3, "executions": 2, "every": 0.5, "seconds": 0.05},
    soak.main: {"seconds": 3.0},
}


@pytest.mark.parametrize("benchmark", TINY, ids=lambda main: main.__module__.rpartition(".")[2])
def test_runs_and_prints_figures(
    benchmark: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(Report(), **TINY[benchmark])
    title, *rows = capsys.readouterr().out.strip().splitlines()
    assert ":" in title
    assert len(rows) >= 2


def test_a_burst_keeps_every_submit(capsys: pytest.CaptureFixture[str]) -> None:
    submits.main(Report(), clients=4, each=5)
    kept = next(row for row in capsys.readouterr().out.splitlines() if "of these kept" in row)
    assert kept.split()[3] == "20"


def test_figures_are_recorded_and_compared_with_the_last_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "history.jsonl"
    assert record.last(file) == {}
    for value in (200.0, 100.0):
        report = Report(record.last(file))
        report.title("speed: in tasks")
        report.row("chain", value, "/s")
        report.row("  watched", value / 2, "/s")
        record.keep(report.figures, file)
    assert record.last(file) == {"speed: chain": 100.0, "speed: chain: watched": 50.0}
    assert [set(json.loads(line)) for line in file.read_text().splitlines()] == [
        {"at", "commit", "figures"}
    ] * 2
    rows = capsys.readouterr().out.splitlines()
    assert "last" not in rows[2]
    assert rows[-2].endswith("last 200, -50 %")
