"""A job that runs another one, once whatever crashes, and waits for it without a slot.

goflow run examples/flow/subjob.py nightly
"""

from goflow import Job, RunJob, Task, Template

load = Job("load", params={"day": "2026-01-01"}, description="Loads a day")


@load.task
def rows(day: str) -> dict[str, object]:
    return {"day": day, "rows": 120}


nightly = Job("nightly", params={"day": "2026-11-28"}, description="Runs the job load")
nightly.add(Task("load", RunJob("load", params={"day": Template("{{ params.day }}")})))


@nightly.task(after=["load"])
def summary(load: dict[str, dict[str, object]]) -> str:
    return "{rows} rows of {day}".format(**load["rows"])
