"""Executions that tasks of other executions start: their children.

A child is started once, see `goflow.engine.executions`. Its end wakes the task that waits for it,
and a task that does not wait any more cancels it, also if the server was killed in between. A child
that a user retries when no task waits for it is on its own.
"""

import asyncio
import contextvars
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from goflow.core.events import AnyFact, Parent, Retried
from goflow.core.execution import Execution
from goflow.core.keys import Key, key_of
from goflow.core.states import State
from goflow.engine.control import Control
from goflow.engine.errands import Errands
from goflow.engine.reader import Reader
from goflow.engine.replay import salvage
from goflow.engine.runner import Runner
from goflow.engine.runners import Runners
from goflow.engine.submissions import Submissions
from goflow.errors import Conflict, InvalidRequest, Later, NotFound, TaskFailed, Unavailable
from goflow.operators.base import Context
from goflow.operators.process_tag import task_key
from goflow.stores.base import Store

CAUSE = "job"
DEEPEST = 20  # executions above each other
AGAIN = 5.0  # seconds until a child that cannot start now is tried again
OVER = (State.FAILED, State.CANCELLED)  # of a task that does not wait for its child any more


class Families:
    """Starts, ends and hears children."""

    def __init__(
        self,
        store: Store,
        runners: Runners,
        submissions: Submissions,
        control: Control,
        reader: Reader,
        errands: Errands,
    ) -> None:
        self._store = store
        self._runners = runners
        self._submissions = submissions
        self._control = control
        self._reader = reader
        self._errands = errands

    async def start(self, job: str, params: Mapping[str, Any], context: Context) -> str:
        """The id of the child of an attempt. Raises `TaskFailed` and `Later`."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[asyncio.Task[str]] = loop.create_future()

        def begin() -> None:
            if not begun.done():
                start = self._start(job, params, context)
                begun.set_result(self._errands.begin(start, "the start of a child"))

        # Outside the context of the attempt, to which the child's output and tasks do not belong.
        loop.call_soon(begin, context=contextvars.Context())
        return await self._errands.outcome(await begun)

    async def _start(self, job: str, params: Mapping[str, Any], context: Context) -> str:
        runner = self._runners[context.execution_id]
        execution, key = runner.execution, key_of(context.task, context.index)
        run = execution.run(key)
        first = run.attempt - run.interruptions  # interrupted attempts are one with this one
        child = execution.child_of(key)
        if child is not None and child.attempt >= first:
            return child.child
        if child is not None:
            self.end(child.child, waited_for=False)
        depth = 1 if execution.parent is None else execution.parent.depth + 1
        if depth > DEEPEST:
            raise TaskFailed(
                f"job {job!r} would run {depth} executions deep, of which {DEEPEST} are allowed",
                final=True,
            )
        parent = Parent(execution.id, context.task, context.index, depth)
        once = f"goflow:{execution.id}:{task_key(key)}:{first}"
        try:
            submission = await self._submissions.submit(
                job, params, key=once, cause=CAUSE, parent=parent
            )
        except NotFound:
            raise TaskFailed(f"there is no job {job!r} here") from None
        except InvalidRequest as error:
            raise TaskFailed(f"job {job!r} refuses the params: {error}", final=True) from None
        except Conflict as error:
            raise TaskFailed(f"job {job!r} could not run: {error}") from None
        except Unavailable as error:
            raise Later(AGAIN, f"job {job!r} cannot run now: {error}") from None

        def note(execution: Execution, now: datetime) -> list[AnyFact]:
            if not _goes_on(execution, key, first):
                return []
            return execution.start_child(key, submission.id, job, now)

        await runner.command(note)
        if not _goes_on(runner.execution, key, first):
            self.end(submission.id)  # the attempt has ended meanwhile
        return submission.id

    def ended(self, runner: Runner) -> None:
        """Wake the task that waits for an execution that has ended."""
        parent = runner.execution.parent
        if parent is None or not runner.execution.finished:
            return
        above = self._runners.get(parent.execution)
        if above is not None and _state(above.execution, parent) is State.RUNNING:
            above.look_now(parent.key)

    def wake(self, waiting: Mapping[str, Iterable[Key]]) -> None:
        """Let these tasks and items look again, by execution, if they still run."""
        for id, keys in waiting.items():
            if (runner := self._runners.get(id)) is not None:
                for key in keys:
                    execution = runner.execution
                    if execution.has(key) and execution.run(key).state is State.RUNNING:
                        runner.look_now(key)

    def end(self, child: str, *, waited_for: bool = True) -> None:
        """Cancel a child, if it has not ended; one that was not `waited_for`, only if nobody has
        retried it."""
        if child in self._runners:
            ending = self._control.cancel(child) if waited_for else self._end_unless_retried(child)
            self._errands.begin(ending, "the cancel of a child")

    async def _end_unless_retried(self, child: str) -> None:
        if await self._retried_at(child) is None:
            await self._control.cancel(child)

    async def _retried_at(self, child: str) -> datetime | None:
        """The time of the last retry of a child by a user, if any."""
        history = await self._reader.read(self._store.history, child)
        facts = () if history is None else history.facts
        return next((fact.at for fact in reversed(facts) if isinstance(fact, Retried)), None)

    async def settle(self) -> None:
        """After a restart: cancel the children that no task waits for any more."""
        for runner in list(self._runners.values()):
            parent = runner.execution.parent
            if parent is None:
                continue
            above: Execution | None = None
            if (its_runner := self._runners.get(parent.execution)) is not None:
                above = its_runner.execution
            elif history := await self._reader.read(self._store.history, parent.execution):
                above = salvage(history).execution
            if above is None or _state(above, parent) not in OVER:
                continue
            # One that is not noted was submitted just before the kill.
            id, last = runner.execution.id, above.child_of(parent.key)
            is_noted = any(one.child == id for one in above.children)
            if is_noted and (last is None or last.child != id):
                continue
            retried, given_up = await self._retried_at(id), above.run(parent.key).finished_at
            if retried is None or (given_up is not None and retried < given_up):
                self.end(id)


def _goes_on(execution: Execution, key: Key, first: int) -> bool:
    """Whether the attempt `first` of a task goes on, or will after an interruption."""
    run = execution.run(key)
    if run.state is State.UPFORRETRY:
        return run.interruptions > 0
    return run.state is State.RUNNING and run.attempt - run.interruptions <= first


def _state(execution: Execution, parent: Parent) -> State | None:
    """The state of the task that started a child."""
    return execution.run(parent.key).state if execution.has(parent.key) else None
