"""Waits that hold no slot: for a file, for a check, for some time.

goflow run examples/flow/wait.py
"""

import tempfile
from datetime import timedelta
from pathlib import Path

from goflow import Context, Job, Later, Task, WaitFor, WaitForFile, WaitUntil

INBOX = Path(tempfile.gettempdir()) / "goflow-example.csv"

job = Job("inbox", description="Waits for a file, and for an export")
job.add(Task("pause", WaitUntil(timedelta(seconds=1))))


@job.task(after=["pause"])
def deliver() -> None:
    INBOX.write_text("city,people\nRome,2.8\n")


job.add(Task("arrived", WaitForFile(INBOX, every=1, timeout=60), after=["deliver"]))
job.add(Task("filled", WaitFor(lambda: INBOX.stat().st_size, every=1), after=["arrived"]))


@job.task(after=["filled"])
def load(context: Context) -> int:
    if context.waited < 1:  # the first look; nothing of it is kept but the time
        raise Later(1, "the import has just begun")
    rows = INBOX.read_text().splitlines()[1:]
    INBOX.unlink()
    return len(rows)
