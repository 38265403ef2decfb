"""What runs, what waits and why, and what comes next, over all jobs.

The rule: the cost is that of what is unfinished and shown, however many jobs there are.
"""

import heapq
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from msgspec.structs import asdict as to_dict

from goflow.core.states import State
from goflow.engine.board import Entry
from goflow.engine.engine import Engine
from goflow.engine.runner import Runner
from goflow.engine.slots import Usage
from goflow.web.wire import AbandonedView, ExecutionNow, FireView, Now, PoolView, TaskNow

TASKS = 50  # of an execution
AFTER = 50  # executions that one waits for


async def now(engine: Engine, ahead: int, limit: int, each: int) -> Now:
    """The oldest `limit` unfinished executions, and as many of the next due times, `each` of a
    job at most, none of them more than `ahead` seconds from now."""
    coming = await engine.coming(engine.clock.now() + timedelta(seconds=ahead), limit, each)
    unfinished = (entry for entry in engine.board if not entry.summary.state.finished)
    oldest = heapq.nsmallest(limit, unfinished, key=lambda entry: entry.summary.submitted)
    driven = ((entry, engine.runner(entry.summary.id)) for entry in oldest)
    return Now(
        at=engine.clock.now(),
        unfinished=len(engine.board),
        executions=[_execution(entry, runner) for entry, runner in driven if runner is not None],
        abandoned=[AbandonedView(**to_dict(one)) for one in islice(engine.abandoned, limit)],
        upcoming=[FireView(one.job, one.due, engine.jobs[one.job].overlap) for one in coming],
        pools=[pool(usage) for usage in engine.usage()],
    )


def pool(usage: Usage) -> PoolView:
    """A limit on running tasks, as it is on the wire."""
    return PoolView(
        kind=usage.kind,
        name=usage.name,
        limit=usage.size,
        running=usage.taken,
        waiting=usage.waiting,
    )


def _execution(entry: Entry, runner: Runner) -> ExecutionNow:
    summary = entry.summary
    return ExecutionNow(
        id=summary.id,
        job=summary.job,
        state=summary.state,
        cause=summary.cause,
        submitted=summary.submitted,
        scheduled_at=summary.scheduled_at,
        started=summary.started,
        waiting=runner.held_up,
        after=list(islice(runner.before, AFTER)),
        counts={state: count for state, count in entry.standing.counts.items() if count},
        tasks=list(islice(_tasks(entry, runner), TASKS)),
    )


def _tasks(entry: Entry, runner: Runner) -> Iterator[TaskNow]:
    """The tasks that run, then those up for retry, then the others that wait for room."""
    standing = entry.standing
    for name, since in standing.running.items():
        yield TaskNow(name, State.RUNNING, started=since, pool=runner.pool(name))
    for name, due in standing.retry_at.items():
        waiting = runner.waiting(name)
        yield TaskNow(name, State.UPFORRETRY, None, due, waiting, runner.pool(name))
    for name in runner.queued:
        state = entry.summary.tasks[entry.plan.position[name]].state
        if state is State.NOTSTARTED and (waiting := runner.waiting(name)) is not None:
            yield TaskNow(name, state, waiting=waiting, pool=runner.pool(name))
