"""Fills a store with a history, through its own `commit`, with the facts of real runs."""

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from goflow import Job, SqliteStore
from goflow.core.events import Submitted
from goflow.core.execution import Execution, Failed, Outcome, Succeeded
from goflow.engine.runner import record_of
from goflow.stores.base import Change, Record, Submit

BATCH = 1000  # executions in one transaction
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def seed(path: Path, jobs: Iterable[Job], executions: int) -> None:
    """Add finished executions of the jobs in turn, one a second; one in ten failed."""
    store = SqliteStore(path)
    store.open()
    try:
        changes = _history(list(jobs), executions)
        while batch := list(islice(changes, 2 * BATCH)):
            store.commit(batch)
    finally:
        store.close()


def _history(jobs: list[Job], executions: int) -> Iterator[Change]:
    rng = random.Random(1)
    for job in jobs:
        job.seal()
    for number in range(executions):
        job = jobs[number % len(jobs)]
        now = BEGIN + timedelta(seconds=number)
        id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        fact = Submitted(now, id=id, job=job.name, plan=job.plan.id, cause="api")
        yield Submit(fact, job.plan)
        yield _run(Execution(job.plan, fact), now, fails=number % 10 == 0)


def _run(execution: Execution, now: datetime, *, fails: bool) -> Record:
    """The whole history of an execution, in one record."""
    facts = execution.advance(now, execution.newly_ready(now))
    while not execution.finished:
        for name in list(execution.running):
            now += timedelta(milliseconds=3)
            outcome: Outcome = Failed("it failed", final=True) if fails else Succeeded()
            facts.append(execution.settle(name, outcome, now))
        facts += execution.advance(now, execution.newly_ready(now))
    return record_of(execution, facts)
