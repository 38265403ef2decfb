"""Executions as `/api/jobruns` lists them, which Go's goflow 2 keeps for programs of its first
version: the registered jobs' only, the oldest first, each with the states of its tasks by name.
"""

from collections.abc import Collection, Sequence

import msgspec

from goflow.core.states import State
from goflow.core.summary import Time
from goflow.engine.engine import Engine
from goflow.web.wire import JobRun, JobRuns, JobRunState, JobRunTasks


class _Task(msgspec.Struct):
    name: str
    state: State


class _Execution(msgspec.Struct):
    job: str
    submitted: Time
    state: State
    tasks: list[_Task]


_decoder = msgspec.json.Decoder(_Execution)


async def job_runs(engine: Engine, job: str, state: str, limit: int) -> JobRuns:
    """The newest `limit` executions, of one job and in one state if these are given."""
    if (job and job not in engine.jobs) or (state and state not in set(State)):
        return JobRuns([])
    wanted = State(state) if state else None
    page = await engine.reader.page(job or None, wanted, limit, None)
    # There can be megabytes of them, which the event loop need not read.
    return await engine.reader.read(_as_runs, page.executions, frozenset(engine.jobs))


def _as_runs(executions: Sequence[bytes], jobs: Collection[str]) -> JobRuns:
    found = (_decoder.decode(one) for one in reversed(executions))
    return JobRuns([_as_run(one) for one in found if one.job in jobs])


def _as_run(execution: _Execution) -> JobRun:
    tasks = JobRunTasks({task.name: task.state for task in execution.tasks})
    return JobRun(execution.job, execution.submitted, JobRunState(execution.state, tasks))
