"""Runs a job once in this process, without a server and without storing anything."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from goflow.artifacts.base import RESULT
from goflow.core.cost import Cost, Number
from goflow.core.detail import AttemptDetail
from goflow.core.events import Dispatched, TaskStarted, TaskSucceeded
from goflow.core.result import Artifact, StoredResult
from goflow.core.states import State
from goflow.core.summary import WhySkipped
from goflow.engine.attempts.results import read_result, too_large
from goflow.engine.clock import Clock
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.engine.process import loops
from goflow.job import Job
from goflow.state import with_default
from goflow.stores.memory import MemoryStore


class FinishedTask(msgspec.Struct, frozen=True):
    """A task of a finished execution.

    Attributes:
        name: Name of the task.
        state: Final state.
        result: Result of the last attempt, None without one.
        error: Error of the last attempt, None if it succeeded.
        logs: Text that all attempts logged, in order; of a mapped task, item by item.
        attempts: Each attempt with its `state`, `error` and times.
        counts: Sums of `context.count` over the successful attempts, of a mapped task over its
            items.
        cost: Processor seconds, peak memory and bytes of the log, over all attempts; None if there
            is nothing to say.
        artifacts: Files that the last successful attempt left: `name`, `size` in bytes, `sha256`.
        items: Of a mapped task, the number of its items, as `total` and by state; else None.
        skip: Why it was skipped, with a word as `reason` and an explanation as `why`; else None.
        chosen: Tasks that a branch chose; else None.
        yielded: Number of items of a generator whose items ran while it yielded; else None. A list
            of them that is too large to be loaded as a whole is None in `result`.
    """

    name: str
    state: State
    result: Any
    error: str | None
    logs: str
    attempts: list[AttemptDetail]
    items: dict[str, int] | None = None
    skip: WhySkipped | None = None
    artifacts: list[Artifact] = []
    chosen: tuple[str, ...] | None = None
    cost: Cost | None = None
    counts: dict[str, Number] = {}
    yielded: int | None = None


class FinishedExecution(msgspec.Struct, frozen=True):
    """A finished execution, as `Job.run` and `goflow.testing.run` return it.

    Attributes:
        id: Id of the execution.
        job: Name of the job.
        state: Final state.
        params: Parameters, defaults included.
        submitted: Time of the submit, in UTC.
        finished: Time of the end, in UTC.
        tasks: Tasks by name, in the order added.
        hooks: Hooks by name, in the order added. Hooks for another end are `skipped`.
        shared_state: Shared state at the end; None for a job without one.
        counts: Sums of the counts of its tasks.
        cost: Sum of the costs of its tasks; None if there is nothing to say.

    Examples:
        >>> from goflow import Command, Job, Task
        >>> execution = Job("hello", tasks=[Task("say", Command("false"))]).run()
        >>> execution.state == "failed"
        True
        >>> execution.tasks["say"].error
        'exit code 1'
    """

    id: str
    job: str
    state: State
    params: dict[str, Any]
    submitted: datetime
    finished: datetime | None
    tasks: dict[str, FinishedTask]
    hooks: dict[str, FinishedTask] = {}
    shared_state: Any = None
    cost: Cost | None = None
    counts: dict[str, Number] = {}


Watch = Callable[[Engine, str], Awaitable[None]]


async def run_job(
    job: Job,
    params: Mapping[str, Any] | None = None,
    *,
    clock: Clock | None = None,
    cause: str = "run",
    watch: Watch | None = None,
    others: Iterable[Job] = (),
) -> FinishedExecution:
    """Run a job to its end. Its tasks can run the `others`.

    `watch(engine, execution id)` runs in the background for a live view, and is cancelled at the
    end. Cancelling this call ends all running tasks, including programs.
    """
    engine = Engine(
        MemoryStore(), Options(stop_timeout=0, with_seconds=True), clock=clock, keeps_time=False
    )
    for one in (job, *others):
        engine.registry.register(one)
    await engine.start()
    try:
        id = (await engine.submissions.submit(job.name, params, cause=cause)).id
        watching = None if watch is None else asyncio.ensure_future(watch(engine, id))
        try:
            await engine.runners.finished(id)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait({watching})
        if engine.health.defect is not None:
            raise RuntimeError(
                f"job {job.name!r} could not be run to its end: {engine.health.defect}"
            )
        return await _collect(engine, id, job)
    finally:
        await engine.stop()


async def _collect(engine: Engine, id: str, job: Job) -> FinishedExecution:
    detail = await engine.reader.execution(id)
    history = await engine.reader.read(engine.store.history, id)
    assert history is not None
    ended = (fact for fact in history.facts if isinstance(fact, TaskSucceeded))
    stored_of = {fact.task: fact.stored for fact in ended if fact.item is None}
    objects = {name: one for name, one in stored_of.items() if one is not None and one.format}
    large = {name: one for name, one in stored_of.items() if name not in objects}
    # Of items in the order of the list, since the log of a mapped task is that of its items.
    started = [fact for fact in history.facts if isinstance(fact, TaskStarted)]
    started.sort(key=lambda fact: -1 if fact.item is None else fact.item)
    logs: defaultdict[str, str] = defaultdict(str)
    for fact in started:
        log = await engine.reader.log_of(id, fact.key, fact.attempt)
        logs[fact.task] += "".join([text async for text in log.texts])
    tasks: dict[str, FinishedTask] = {}
    hooks: dict[str, FinishedTask] = {}
    for task in [*detail.tasks, *detail.hooks]:
        result = bytes(task.result)
        found = objects.get(task.name)
        if task.result_bytes and (stored := large.get(task.name)) is not None:
            if too_large(stored, engine.options.limits.result) is not None:
                result = b"null"
            else:
                result = await engine.reader.read(read_result, engine.store, id, stored)
        elif task.result_bytes and result == b"null":  # omitted, since the execution has many tasks
            result = (await engine.reader.result(id, task.name)).body
        of_kind = tasks if task.hook is msgspec.UNSET else hooks
        value = msgspec.json.decode(result)
        if found is not None and task.result_bytes:
            value = await _object(engine, id, found, value)
        of_kind[task.name] = FinishedTask(
            name=task.name,
            state=task.state,
            result=value,
            error=task.error,
            logs=logs[task.name],
            attempts=task.attempts,
            items=task.items or None,
            skip=task.skip or None,
            artifacts=task.artifacts or [],
            yielded=None if task.yielded is msgspec.UNSET else task.yielded,
            chosen=None if task.chosen is msgspec.UNSET else task.chosen,
            cost=task.cost or None,
            counts=task.cost.counts if task.cost else {},
        )
    return FinishedExecution(
        id=id,
        job=detail.job,
        state=detail.state,
        params=detail.params,
        submitted=detail.submitted,
        finished=detail.finished,
        tasks=tasks,
        hooks=hooks,
        shared_state=None if job.reducer is None else await _shared_state(engine, id, job),
        cost=detail.cost or None,
        counts=detail.cost.counts if detail.cost else {},
    )


async def _object(engine: Engine, id: str, stored: StoredResult, description: Any) -> Any:
    """A result that is no JSON; its description if it cannot be read."""
    from goflow.artifacts.formats import decode

    file = Artifact(f"{RESULT}{stored.format}", stored.size, stored.sha256)
    body = await engine.reader.read(engine.artifacts.read, id, file)
    try:
        return decode(body, stored.format)
    except BaseException:  # users' classes may raise anything
        return description


async def _shared_state(engine: Engine, id: str, job: Job) -> Any:
    """The shared state, made again from the actions, since a large one is in no fact."""
    history = await engine.reader.read(engine.store.history, id)
    assert history is not None
    assert job.reducer is not None
    state, reducer = msgspec.json.decode(job.initial_state), with_default(job.reducer)
    for fact in history.facts:
        if isinstance(fact, Dispatched):
            state = reducer(state, msgspec.json.decode(fact.content))
    return state


def run_once(
    job: Job, params: Mapping[str, Any] | None = None, *, clock: Clock | None = None
) -> FinishedExecution:
    """`run_job` as a blocking call, also from a thread with a running event loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return loops.run(run_job(job, params, clock=clock))
    finished: list[FinishedExecution] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            finished.append(loops.run(run_job(job, params, clock=clock)))
        except BaseException as error:  # raised again below, in the calling thread
            failure.append(error)

    thread = threading.Thread(target=run, name="goflow-run")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return finished[0]
