"""Jobs with due times, limits and failures. A file named `open` ends every wait."""

import time
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from goflow import Command, Goflow, Job, Task, Template

WAIT = "while [ ! -e open ]; do sleep 0.02; done"

gf = Goflow(pools={"db": 1})

often = Job("often", schedule="@every 2s", active=True, overlap="skip")
often.add(Task("wait", Command.shell(WAIT)))
gf.add_job(often)

pooled = Job("pooled", description="Two tasks and one place")
pooled.add(Task("first", Command.shell(WAIT), pool="db", priority=1))
pooled.add(Task("second", Command.shell(WAIT), pool="db"))
gf.add_job(pooled)

queue = Job("queue", overlap="queue")
queue.add(Task("wait", Command.shell(WAIT)))
gf.add_job(queue)

stuck = Job("stuck")


@stuck.task(timeout=0.2)
def never_ends() -> None:
    while not Path("open").exists():
        time.sleep(0.02)


gf.add_job(stuck)

broken = Job("broken", timeout=600)
broken.add(Task("breaks", Command("false")))
broken.add(Task("follows", Command.shell("[ -e open ]"), after=["breaks"]))
broken.add(Task("ends", Command("true"), after=["follows"]))
gf.add_job(broken)


class Window(Struct):
    start: date
    end: date | None = None


class Export(Struct):
    day: Annotated[date, Meta(description="the day it is of")]
    kind: Literal["short", "long"] = "short"
    rows: Annotated[int, Meta(ge=1, le=1000)] = 100
    dry: bool = False
    window: Window | None = None


typed = Job("typed", params=Export)
typed.add(Task("show", Command("true", [Template("day {{ params.day }}")])))
gf.add_job(typed)

nightly = Job("nightly", schedule="30 2 * * *", timezone="Europe/Berlin")
nightly.add(Task("look", Command("true")))
gf.add_job(nightly)

hasty = Job("hasty", timeout=0.2)
hasty.add(Task("wait", Command.shell(WAIT)))
gf.add_job(hasty)
