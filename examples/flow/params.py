"""Parameters of a class: checked on each submit, and a form in the dashboard.

goflow run examples/flow/params.py --param day=2026-11-28 --param kind=long
"""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from goflow import Job


class Export(Struct):
    """Parameters of an export."""

    day: Annotated[date, Meta(description="day to export")]
    kind: Literal["short", "long"] = "short"
    rows: Annotated[int, Meta(ge=1, le=1000)] = 100


job = Job("export", params=Export, description="Parameters with types, ranges and choices")


@job.task
def export(day: date, kind: str, rows: int) -> str:
    return f"{rows} {kind} rows of {day:%d.%m.%Y}"
