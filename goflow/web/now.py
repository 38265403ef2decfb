"""Now: running and waiting tasks, wait reasons, and next due times, over all jobs.

The rule: the cost of a response is proportional to the unfinished executions and the shown items,
not to the number of jobs.
"""

import heapq
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict as to_dict

from goflow.core.states import State
from goflow.core.summary import Time, Waiting
from goflow.engine.engine import Engine
from goflow.engine.live import LiveExecution
from goflow.engine.runner import Runner
from goflow.engine.slots import Kind, Usage
from goflow.web.endpoint import Call, Endpoint

TASKS_SHOWN = 50  # per execution
PREDECESSORS_SHOWN = 50  # per execution
FOLLOWERS_SHOWN = 20  # per execution and due time


class NowQuery(Struct):
    ahead: Annotated[
        int, Meta(ge=0, le=86_400, description="seconds from now; later due times are left out")
    ] = 3600
    limit: Annotated[
        int, Meta(ge=1, le=1000, description="maximum number of executions, and of due times")
    ] = 200
    each: Annotated[int, Meta(ge=1, le=1000, description="maximum number of due times per job")] = (
        1000
    )


class TaskNow(Struct):
    """A task that runs, waits for its next attempt, or is ready and waits for a slot.

    `started` is set if it runs, `retry_at` if it waits for its next attempt, and `waiting` says
    why a ready task does not run, as a text; for a running task that waits without a slot, why
    and until when. `hook` tells that it is a hook.
    """

    name: str
    state: State
    started: Time | None = None
    retry_at: Time | None = None
    waiting: str | Waiting | None = None
    pool: str | None = None
    hook: bool = False


class ExecutionNow(Struct, kw_only=True):
    """An unfinished execution.

    `waiting` says why it has not started. `after` has the first 50 executions it waits for.
    `followers` has the first 20 jobs that run after it.
    `counts` has the number of its tasks by state, and `tasks` the first 50 tasks and hooks that
    run or wait.
    """

    id: str
    job: str
    state: State
    cause: str
    submitted: Time
    scheduled_at: Time | None
    started: Time | None
    waiting: str | None
    after: list[str]
    followers: list[str]
    counts: dict[State, int]
    tasks: list[TaskNow]


class AbandonedView(Struct, kw_only=True):
    """An attempt that goflow gave up on at `abandoned`, whose thread it cannot stop.

    The thread has been running since `started` and holds its slot until it ends. `why` is a
    sentence.
    """

    execution: str
    job: str
    task: str
    attempt: int
    started: Time | None
    abandoned: Time
    why: str
    item: int | UnsetType = UNSET


class FireView(Struct):
    """A due time. `followers` has the first 20 jobs that run after it."""

    job: str
    due: Time
    overlap: str
    followers: list[str]


class PoolView(Struct, kw_only=True):
    """A limit on tasks running at the same time: all tasks, those of a job, or those of a pool."""

    kind: Kind
    name: str
    limit: int
    running: int
    waiting: int

    @classmethod
    def of(cls, usage: Usage) -> "PoolView":
        return cls(
            kind=usage.kind,
            name=usage.name,
            limit=usage.size,
            running=usage.taken,
            waiting=usage.waiting,
        )


class Now(Struct, kw_only=True):
    """`unfinished` counts all unfinished executions; `executions` has the oldest of them, oldest
    first. `abandoned` has the abandoned attempts that still run, oldest first."""

    at: Time
    unfinished: int
    executions: list[ExecutionNow]
    abandoned: list[AbandonedView]
    upcoming: list[FireView]
    pools: list[PoolView]


async def now(call: Call) -> Now:
    engine, limit = call.engine, call.query.limit
    horizon = engine.clock.now() + timedelta(seconds=call.query.ahead)
    coming = await engine.schedules.coming(horizon, limit, call.query.each)
    unfinished = (entry for entry in engine.live if not entry.state.finished)
    oldest = heapq.nsmallest(limit, unfinished, key=lambda entry: entry.brief.submitted)
    jobs = engine.registry.jobs
    followers = partial(_followers, engine)
    driven = ((entry, engine.runners.get(entry.id)) for entry in oldest)
    return Now(
        at=engine.clock.now(),
        unfinished=len(engine.live),
        executions=[
            _execution(one, runner, followers(one.brief.job))
            for one, runner in driven
            if runner is not None
        ],
        abandoned=[AbandonedView(**to_dict(one)) for one in islice(engine.abandoned, limit)],
        upcoming=[
            FireView(one.job, one.due, jobs[one.job].overlap, followers(one.job))
            for one in coming
            if one.job in jobs
        ],
        pools=[PoolView.of(usage) for usage in engine.slots.usage()],
    )


def _followers(engine: Engine, job: str) -> list[str]:
    """The jobs that run after a job, if they are switched on."""
    names = engine.registry.followers.get(job, ())
    return list(islice(filter(engine.schedules.active, names), FOLLOWERS_SHOWN))


def _execution(execution: LiveExecution, runner: Runner, followers: list[str]) -> ExecutionNow:
    summary = execution.brief
    return ExecutionNow(
        id=summary.id,
        job=summary.job,
        state=summary.state,
        cause=summary.cause,
        submitted=summary.submitted,
        scheduled_at=summary.scheduled_at,
        started=summary.started,
        waiting=runner.held_up,
        after=list(islice(runner.before, PREDECESSORS_SHOWN)),
        followers=followers,
        counts=execution.counts,
        tasks=list(islice(_tasks(execution, runner), TASKS_SHOWN)),
    )


def _tasks(execution: LiveExecution, runner: Runner) -> Iterator[TaskNow]:
    """Running tasks, then those up for retry, then those that wait for a slot."""
    for name, since in execution.running.items():
        waiting = runner.waiting(name)
        yield TaskNow(name, State.RUNNING, since, None, waiting, runner.pool(name))
    for name, due in execution.retry_at.items():
        waiting = runner.waiting(name)
        yield TaskNow(name, State.UPFORRETRY, None, due, waiting, runner.pool(name))
    for name, change in execution.hooks.items():
        hook, waiting = change.task, runner.waiting(name)
        started = hook.started if hook.state is State.RUNNING else None
        yield TaskNow(name, hook.state, started, change.retry_at, waiting, runner.pool(name), True)
    for key in runner.queued:
        # The task of an item runs, and is shown already.
        if not isinstance(key, str):
            continue
        task = execution.task(key)
        if task is None:
            if key not in execution.hooks and (waiting := runner.waiting(key)) is not None:
                pool = runner.pool(key)
                yield TaskNow(key, State.NOTSTARTED, waiting=waiting, pool=pool, hook=True)
            continue
        if task.state is not State.NOTSTARTED:
            continue
        if (waiting := runner.waiting(key)) is not None:
            yield TaskNow(key, State.NOTSTARTED, waiting=waiting, pool=runner.pool(key))


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/now",
        summary="Running and waiting tasks, wait reasons, and next due times, over all jobs",
        handler=now,
        query=NowQuery,
        response=Now,
    ),
]
