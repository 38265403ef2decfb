"""What does it cost to render a template, and to define one?

`bare` is the same template in Jinja2's own sandbox, which bounds neither time nor memory.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from benchmarks.harness import Report, at_most
from goflow import Context
from goflow.engine.output.tasklog import Nowhere
from goflow.templates.compiled import Compiled, values_of

SMALL = "day {{ params.day }}, {{ results.extract.rows }} rows"
LOOP = "{% for row in results.rows %}{{ row.id }},{{ row.name }}\n{% endfor %}"


def main(report: Report, times: int = 1000, rows: int = 10_000, repeat: int = 5) -> None:
    report.title("templates: best of several runs")
    context = _context({"extract": {"rows": 7}})
    bare = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    small, small_bare = Compiled(SMALL, False), bare.from_string(SMALL)
    names = values_of(context)
    report.row(
        "a small template rendered",
        _microseconds(lambda: small.render(values_of(context)), times, repeat),
        "µs",
        at_most(50),
        _microseconds(lambda: small_bare.render(names), times, repeat),
    )
    listed = [{"id": n, "name": f"row {n}"} for n in range(rows)]
    loop, loop_bare = Compiled(LOOP, False), bare.from_string(LOOP)
    names = values_of(_context({"rows": listed}))
    report.row(
        f"  a loop over {rows} rows, each",
        _microseconds(lambda: loop.render(names), 1, repeat) / rows,
        "µs",
        None,
        _microseconds(lambda: loop_bare.render(names), 1, repeat) / rows,
    )
    report.row(
        "  a small template defined",
        _microseconds(lambda: Compiled(SMALL, False), max(1, times // 20), repeat),
        "µs",
        None,
        _microseconds(lambda: bare.from_string(SMALL), max(1, times // 20), repeat),
    )


def _context(results: dict[str, Any]) -> Context:
    return Context(
        job="report",
        task="say",
        execution_id="0b1c",
        attempt=1,
        params={"day": "2026-01-01"},
        results=results,
        scheduled_at=None,
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        log=Nowhere(),
    )


def _microseconds(action: Callable[[], object], times: int, repeat: int) -> float:
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(times):
            action()
        best = min(best, time.perf_counter() - begin)
    return best / times * 1e6


if __name__ == "__main__":
    main(Report())
