"""Files that a task makes: kept with the execution, listed and downloadable on its page.

goflow serve examples/flow/artifacts.py
"""

import csv

from goflow import Context, Job

job = Job("cities", description="Leaves a file to download")


@job.task
def write(context: Context) -> int:
    rows = [("Rome", 2.8), ("Oslo", 0.7)]
    with context.artifact("cities.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("city", "people"), *rows])
    return len(rows)
