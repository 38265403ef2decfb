"""A job that reports its progress and counts. Files named `open`, `through` and `enough` let it go
on."""

import time
from pathlib import Path

from goflow import Command, Context, Goflow, Job, Task

gf = Goflow()
job = Job("load", description="Loads the pages of a shop")

ROWS = "print('x' * 2000); x = bytearray(60_000_000); sum(range(2_000_000))"


def wait_for(name: str) -> None:
    while not Path(name).exists():
        time.sleep(0.02)


@job.task(retries=1)
def pages(context: Context) -> list[int]:
    for done in range(26):
        context.progress(done, 100, f"page {done} of the catalogue")
    context.count("rows", 1200)
    wait_for("open")
    context.progress(75, 100, "page 75 of the catalogue")
    if context.attempt == 1 and Path("fail").exists():
        raise ValueError("the shop is closed")
    wait_for("through")
    return [1, 2, 3]


@job.task(map_over="pages")
def each(context: Context) -> None:
    context.count("items", 1)
    context.progress(context.index or 0, 4, "half")
    wait_for("enough")


job.add(Task("program", Command("python3", ["-c", ROWS])))
gf.add_job(job)
