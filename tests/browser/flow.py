"""Jobs that branch, map, wait, call each other, have hooks, artifacts and a state.

A file named `open` ends every wait.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from goflow import (
    Command,
    Context,
    Goflow,
    Job,
    Outcome,
    RunJob,
    Skip,
    Task,
    Template,
    WaitForFile,
    WaitUntil,
)
from goflow.state import combine_reducers

gf = Goflow()

# -- branches, conditions, skips -------------------------------------------------------

report = Job("report", params={"rows": 3, "mail": False}, description="A branch and its skips")


@report.branch
def choose(rows: int) -> str:
    return "full" if rows > 100 else "short"


report.add(Task("full", Command("echo", ["full"]), after=["choose"]))
report.add(
    Task(
        "short",
        Command("echo", [Template("{{ params.rows }} rows on {{ submitted_at.year }}")]),
        after=["choose"],
    )
)
report.add(Task("pages", Command("true"), after=["full"]))
report.add(Task("mail", Command("true"), after=["short"], when="params.mail"))


@report.task(after=["full", "short"], trigger_rule="noneFailedMinOneSuccessful")
def archive() -> None:
    raise Skip("the archive is up to date")


gf.add_job(report)

# -- maps -----------------------------------------------------------------------------

cities = Job("cities", description="A task per city")
NAMES = ["Rome", "Oslo", "Lima", "Cairo", "Turin"]


@cities.task
def list_cities() -> list[dict[str, object]]:
    return [{"name": f"{NAMES[n % 5]} {n}", "people": n} for n in range(200)]


@cities.task(map_over="list_cities", item_key="{{ item.name }}")
def measure(list_cities: dict[str, object], context: Context) -> object:
    print("measuring", list_cities["name"])
    if context.index == 7 and not Path("open").exists():
        raise ValueError("there is no map of Lima 7")
    if context.index == 9:
        raise Skip("too small")
    context.artifact("map.txt").write_text(f"map of {list_cities['name']}\n")
    return list_cities["people"]


@cities.task
def total(measure: list[int]) -> int:
    return sum(one or 0 for one in measure)


gf.add_job(cities)

numbers = Job("numbers", description="Works on items while they are yielded")


@numbers.task
def count() -> Iterator[int]:
    yield from (1, 2)
    while not Path("open").exists():
        time.sleep(0.05)
    yield 3


@numbers.task(map_over="count")
def double(count: int) -> int:
    print("doubling", count)
    return 2 * count


gf.add_job(numbers)

# -- waits ----------------------------------------------------------------------------

sensor = Job("sensor", description="Waits for a file")
sensor.add(Task("near", WaitForFile("open", every=0.5)))
sensor.add(Task("far", WaitForFile("open", every=3600)))
gf.add_job(sensor)

# -- jobs that run others, and jobs after others ----------------------------------------

load = Job("load", params={"day": "2026-01-01"}, description="Loads a day")
load.add(Task("wait", WaitForFile("open", every=0.5)))


@load.task(after=["wait"])
def rows(day: str) -> str:
    return f"rows of {day}"


nightly = Job("nightly", params={"day": "2026-11-28"}, description="Runs another job")
nightly.add(Task("load", RunJob("load", params={"day": Template("{{ params.day }}")})))


@nightly.task
def summary(load: dict[str, str]) -> str:
    return load["rows"]


gf.add_job(load)
gf.add_job(nightly)

publish = Job("publish", after="nightly", description="Runs after another job")
publish.add(Task("send", Command("echo", ["sent"])))
gf.add_job(publish)

# -- artifacts, hooks, state -------------------------------------------------------------


def counted(state: int = 0, action: dict[str, object] | None = None) -> int:
    return state + 1 if action and action["type"] == "loaded" else state


def files(state: tuple[str, ...] = (), action: dict[str, object] | None = None) -> object:
    return [*state, action["file"]] if action and action["type"] == "loaded" else state


imports = Job("imports", state=combine_reducers(count=counted, files=files))


@imports.task
def load_files(context: Context) -> int:
    for name in ("a.csv", "b.csv", "c.csv"):
        context.dispatch({"type": "loaded", "file": name})
    context.artifact("report.csv").write_text("city,people\nRome,2.8\n")
    context.artifact("long name of a file, with blanks & <signs>.txt").write_text("x" * 3000)
    return 3


@imports.task(after=["load_files"])
def check() -> None:
    if not Path("open").exists():
        raise ValueError("the numbers do not add up")


@imports.on_failure
def tell(outcome: Outcome) -> str:
    print("telling", ", ".join(outcome.failed))
    return f"{outcome.state}: {outcome.errors['check']}"


@imports.on_finish(retries=1)
def clean_up() -> None:
    raise RuntimeError("there is nothing to clean up")


gf.add_job(imports)

late = Job("late")
late.add(Task("pause", WaitUntil(timedelta(hours=2))))
gf.add_job(late)
