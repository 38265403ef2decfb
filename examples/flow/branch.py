"""A branch chooses tasks, and a condition decides about one.

goflow run examples/flow/branch.py --param rows=200
"""

from goflow import Command, Job, Skip, Task

job = Job("report", params={"rows": 3, "mail": False}, description="A branch and its skips")


@job.branch
def choose(rows: int) -> str:
    return "full" if rows > 100 else "short"


job.add(Task("full", Command("echo", ["full report"]), after=["choose"]))
job.add(Task("short", Command("echo", ["short report"]), after=["choose"]))
job.add(Task("mail", Command("echo", ["sent"]), after=["short"], when="params.mail"))


@job.task(after=["full", "short"], trigger_rule="noneFailedMinOneSuccessful")
def archive(rows: int) -> str:
    if rows == 0:
        raise Skip("there is nothing to archive")
    return f"{rows} rows archived"
