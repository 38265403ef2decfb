"""Job runs: executions as Go's goflow 1 lists them, and Go's goflow 2 still does for old clients.

The list has executions of registered jobs only, oldest first, each with the states of its tasks
by name.
"""

from collections.abc import Collection, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from goflow.core.states import State
from goflow.core.summary import Time
from goflow.engine.reader import PAGE_LIMIT
from goflow.web.endpoint import Call, Endpoint


class JobRunsQuery(Struct):
    """An empty `jobname` or `state` does not filter. Unknown ones find nothing, as in Go's
    goflow."""

    jobname: Annotated[str, Meta(description="only executions of this job")] = ""
    state: Annotated[str, Meta(description="only executions in this state")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="only the newest ones")] = (
        PAGE_LIMIT
    )


class JobRunTasks(Struct):
    state: dict[str, State]


class JobRunState(Struct):
    """The state of the execution, and those of its tasks by name."""

    job: State
    tasks: JobRunTasks


class JobRun(Struct):
    """An execution."""

    job: str
    submitted: Time
    state: JobRunState


class JobRuns(Struct):
    jobruns: list[JobRun]


async def jobruns(call: Call) -> JobRuns:
    engine, job, state = call.engine, call.query.jobname, call.query.state
    if (job and job not in engine.registry.jobs) or (state and state not in set(State)):
        return JobRuns([])
    wanted = State(state) if state else None
    page = await engine.reader.page(job or None, wanted, call.query.limit, None)
    # A page can be megabytes, so it is decoded outside of the event loop.
    return await engine.reader.read(_job_runs, page.executions, frozenset(engine.registry.jobs))


class _Task(Struct):
    name: str
    state: State


class _Execution(Struct):
    job: str
    submitted: Time
    state: State
    tasks: list[_Task]


_decoder = msgspec.json.Decoder(_Execution)


def _job_runs(executions: Sequence[bytes], jobs: Collection[str]) -> JobRuns:
    found = (_decoder.decode(one) for one in reversed(executions))
    return JobRuns([_job_run(one) for one in found if one.job in jobs])


def _job_run(execution: _Execution) -> JobRun:
    tasks = JobRunTasks({task.name: task.state for task in execution.tasks})
    return JobRun(execution.job, execution.submitted, JobRunState(execution.state, tasks))


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/jobruns",
        summary="Executions as Go's goflow 1 lists them, oldest first; use /api/executions",
        handler=jobruns,
        query=JobRunsQuery,
        response=JobRuns,
        deprecated=True,
    ),
]
