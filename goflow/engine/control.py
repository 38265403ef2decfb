"""Control of executions: cancel, mark, retry.

Only its runner changes an unfinished execution, at its next turn. A finished one has no runner: it
is replayed, changed, and after a retry passed to a new runner; one change at a time.
"""

import enum
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.graph import Plan
from goflow.core.keys import Asked, Item, Key, described, task_of
from goflow.core.states import State
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.clock import Clock
from goflow.engine.errands import Errands, seen_through
from goflow.engine.journal import Journal
from goflow.engine.lifetime import Lifetime
from goflow.engine.lineup import Lineup, NoRoom
from goflow.engine.live import LiveExecution, LiveState
from goflow.engine.param_checks import ParamChecks
from goflow.engine.principal import NOBODY, Principal
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.engine.replay import find_key, no_execution, record_of, salvage
from goflow.engine.room import Room
from goflow.engine.runner import Runner
from goflow.engine.runners import Runners
from goflow.errors import Conflict, NotFound, Unavailable
from goflow.job import Job
from goflow.stores.base import History, Store


class Definition(enum.StrEnum):
    """By which definition of its job an execution runs again: the one it ran by, or the newest.

    In both cases a task's operator is that of the registered job, since goflow keeps no code. The
    definition decides which tasks there are, on which ones each depends, their trigger rules,
    numbers of retries, maps and branches, the hooks, and the timeout of the execution.
    """

    SAME = "same"
    NEWEST = "newest"


class Control:
    """Changes executions on request."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        runners: Runners,
        lineup: Lineup,
        room: Room,
        live: LiveState,
        journal: Journal,
        reader: Reader,
        checks: ParamChecks,
        errands: Errands,
        lifetime: Lifetime,
        dependencies: Dependencies,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._runners = runners
        self._lineup = lineup
        self._room = room
        self._live = live
        self._journal = journal
        self._reader = reader
        self._checks = checks
        self._lifetime = lifetime
        self._dependencies = dependencies
        self._clock = clock
        self._reopening: set[str] = set()
        self.errands = errands

    async def cancel(self, id: str, *, by: Principal = NOBODY) -> bool:
        """Cancel an execution; False if it has finished. Raises `NotFound` and `Unavailable`."""
        self._lifetime.check()
        if (runner := self._runners.get(id)) is not None:
            return await runner.command(lambda execution, now: execution.cancel(now, by.name))
        self._check_driven(id)
        if await self._reader.read(self._store.find, id) is None:
            raise no_execution(id)
        return False

    async def cancel_task(self, id: str, task: Asked, *, by: Principal = NOBODY) -> bool:
        """Cancel one task or item; the others continue. False if it has ended. Raises
        `NotFound` and `Unavailable`."""
        self._lifetime.check()
        if (runner := self._runners.get(id)) is not None:
            find_key(runner.execution, task)
            return await runner.command(
                lambda execution, now: execution.cancel_task(execution.find(task), now, by.name)
            )
        self._check_driven(id)
        find_key(salvage(await self._history(id)).execution, task)
        return False

    @seen_through
    async def mark(self, id: str, task: Asked, state: State, *, by: Principal = NOBODY) -> None:
        """Mark a task or item as successful or skipped. Raises `NotFound`, `Unavailable`, and
        `Conflict` if it runs, is being cancelled, or already has that state; also for an
        item of a task that does not run."""
        self._lifetime.check()
        refused = Conflict(
            f"{described(task)} of execution {id!r} cannot be marked {state} now: "
            "it runs, is being cancelled, or already has that state, or hooks run"
            + ("" if isinstance(task, str) else "; or its task does not run")
        )

        def decide(execution: Execution, now: datetime) -> list[AnyFact]:
            return execution.mark(execution.find(task), state, now, by.name)

        if (runner := self._runners.get(id)) is not None:
            find_key(runner.execution, task)
            if not await runner.command(decide):
                raise refused
            return
        async with self._reopened(id) as (history, execution):
            find_key(execution, task)
            committed = LiveExecution.replayed(execution, history.version)
            if not (facts := decide(execution, self._clock.now())):
                raise refused
            self._live.add(committed)
            try:
                await self._journal.commit(record_of(execution, facts))
            except (Unavailable, NotFound):
                self._live.drop(id)
                raise

    @seen_through
    async def retry(
        self,
        id: str,
        *,
        task: Asked | None = None,
        following: bool = True,
        params: Mapping[str, Any] | None = None,
        definition: Definition = Definition.SAME,
        by: Principal = NOBODY,
    ) -> None:
        """Re-run the unsuccessful tasks of a finished execution under the same id; or only `task`,
        which may be one item of a mapped task, with all tasks after it if `following`, or one
        hook, which then runs alone and at once, whatever its job's overlap policy. `params`
        replace those of the execution. With the newest definition, tasks that are new run too, and
        the parameters must be right for it.

        Raises `NotFound`, `InvalidRequest` for bad params, `Unavailable`, and `Conflict` if the
        execution is unfinished, its job is no longer registered, there is nothing to re-run, the
        item is of an earlier list, or the newest definition does not have the task.
        """
        self._lifetime.check()
        async with self._reopened(id) as (history, execution):
            if (job := self._registry.jobs.get(execution.job)) is None:
                raise Conflict(
                    f"job {execution.job!r} is no longer registered with this server, so "
                    f"execution {id!r} cannot run again",
                    code="job-gone",
                )
            plan = _other_plan(execution, job) if definition is Definition.NEWEST else None
            is_hook = isinstance(task, str) and task in execution.hooks
            if is_hook and (plan is not None or params is not None):
                raise Conflict(
                    f"hook {task!r} runs again by the definition and with the parameters of its "
                    f"execution; retry it without others, or retry tasks"
                )
            key: Key | None
            if isinstance(task, str) and plan is not None and task in plan.names:
                key = task  # it may be new
            else:
                key = None if task is None else find_key(execution, task)
            if key is not None:
                _check_task(execution, key, plan)
            edited = None if params is None else await self._checks.fill(job, params)
            if params is None and definition is Definition.NEWEST:
                filled = await self._checks.fill(job, execution.params)
                edited = None if filled == execution.params else filled
            before = [] if is_hook else self._lineup.before(job)
            self._room.check(for_schedule=False)
            committed = LiveExecution.replayed(execution, history.version)
            facts = execution.retry(
                self._clock.now(),
                key,
                following=following,
                params=edited,
                by=by.name,
                plan=plan,
                timeout=job.timeout,
            )
            if not facts and is_hook:
                raise Conflict(
                    f"hook {task!r} is not for an execution that is {execution.state}; there is "
                    f"nothing to retry"
                )
            if not facts:
                told = "" if plan is None else ", and the newest definition adds none"
                raise Conflict(
                    f"every task of execution {id!r} succeeded{told}; there is nothing to retry"
                )
            self._live.add(committed)
            self._lifetime.check()
            opening = record_of(execution, facts)
            places = None if is_hook else self._lineup.places(job, execution.cause)
            runner = Runner(execution, job, opening, self._dependencies, before, places=places)
            try:
                await self._runners.drive(runner)
            except (Unavailable, NotFound):
                self._live.drop(id)
                raise
            if not is_hook:
                self._lineup.replace(job, runner)

    @asynccontextmanager
    async def _reopened(self, id: str) -> AsyncIterator[tuple[History, Execution]]:
        """A finished execution, locked for a change."""
        if id in self._runners or id in self._reopening:
            raise Conflict(f"execution {id!r} is unfinished; cancel it or wait for its end")
        self._check_driven(id)
        self._reopening.add(id)
        try:
            history = await self._history(id)
            execution, _, damage = salvage(history)
            if damage is not None and not execution.finished:
                raise Conflict(
                    f"execution {id!r} cannot be changed, since its history is damaged: {damage}",
                    code="damaged",
                )
            yield history, execution
        except NoRoom as no_room:
            raise Conflict(str(no_room), code="overlap") from None
        finally:
            self._reopening.discard(id)

    async def _history(self, id: str) -> History:
        history = await self._reader.read(self._store.history, id)
        if history is None:
            raise no_execution(id)
        return history

    def _check_driven(self, id: str) -> None:
        """Raise `Unavailable` for an execution that a defect has stopped."""
        has_driver = id in self._runners or id in self._reopening
        if not has_driver and self._live.get(id) is not None:
            raise Unavailable(
                f"execution {id!r} was stopped by a defect in goflow, and its end could not be "
                f"written; it continues when the server is started again"
            )


def _other_plan(execution: Execution, job: Job) -> Plan | None:
    """The plan of the job as it is registered, if that is another one than the execution's."""
    same = job.plan.id == execution.plan.id and job.timeout == execution.timeout
    return None if same else job.plan


def _check_task(execution: Execution, key: Key, plan: Plan | None) -> None:
    """Raise `Conflict` for a task or item that cannot run again by itself, or not by this plan."""
    name = task_of(key)
    if plan is not None and name not in plan.names:
        raise Conflict(
            f"the newest definition of job {execution.job!r} has no task {name!r}; retry another "
            f"task, or with the same definition",
            code="task-gone",
            field="task",
        )
    if plan is not None and isinstance(key, Item) and not execution.has_list(name, plan):
        _check_list(execution, key)
        raise Conflict(
            f"by the newest definition of job {execution.job!r}, task {name!r} has other items; "
            f"retry the whole task"
        )
    _check_list(execution, key)


def _check_list(execution: Execution, key: Key) -> None:
    if isinstance(key, Item) and execution.is_outdated(key.task):
        planned = execution.tasks[key.task].planned
        upstream = " and ".join(map(repr, planned.lists))
        raise Conflict(
            f"task {key.task!r} maps over task {upstream}, which was run again since: its items "
            f"are those of an earlier list; retry the whole task"
        )
