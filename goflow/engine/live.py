"""The live state: every unfinished execution, as last committed.

The API and the stream read it, never a runner's memory, so clients see only durable changes. It
applies committed transitions and does not interpret facts. The work per commit is proportional to
the changed tasks.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import msgspec

from goflow.core.cost import Bar
from goflow.core.graph import Plan
from goflow.core.keys import Key
from goflow.core.progress import Progress
from goflow.core.states import State
from goflow.core.summary import TASKS_SHOWN, Summary, TaskSummary, Waiting, listed
from goflow.core.transition import TaskChange, Transition
from goflow.stores.base import Change, Created, Outcome, Record, Submit

_encoder = msgspec.json.Encoder()
# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_RUNNING, _UPFORRETRY = State.RUNNING, State.UPFORRETRY


class LiveExecution:
    """An unfinished execution as last committed. `tasks` has all its tasks by name, in the order
    added; `running` has the start times of running tasks, and `retry_at` the due times of
    retries. `hooks` has the last changes of hooks that run or wait for a retry."""

    __slots__ = (
        "_encoded",
        "_encoded_version",
        "brief",
        "hooks",
        "retry_at",
        "running",
        "tasks",
        "version",
    )

    def __init__(self, brief: Summary, tasks: dict[str, TaskSummary], version: int) -> None:
        self.brief = brief
        self.tasks = tasks
        self.version = version
        self.running: dict[str, datetime] = {}
        self.retry_at: dict[str, datetime] = {}
        self.hooks: dict[str, TaskChange] = {}
        self._encoded = b""
        self._encoded_version = -1

    @classmethod
    def created(cls, submit: Submit, version: int) -> "LiveExecution":
        """A newly created execution."""
        return cls(Summary.created(submit.plan, submit.fact), _not_started(submit.plan), version)

    @classmethod
    def replayed(cls, execution: Progress, version: int) -> "LiveExecution":
        """An execution whose facts were committed before."""
        live = cls(execution.brief(), {}, version)
        for name, run in execution.tasks.items():
            live.tasks[name] = run.summary()
            if run.started_at is not None and run.state is State.RUNNING:
                live.running[name] = run.started_at
        live.retry_at.update(execution.retries)
        for name, hook in execution.hooks.items():
            if hook.state in (_RUNNING, _UPFORRETRY):
                live.hooks[name] = TaskChange(hook.state, hook.summary(), hook.retry_at)
        return live

    @property
    def id(self) -> str:
        return self.brief.id

    @property
    def job(self) -> str:
        return self.brief.job

    @property
    def state(self) -> State:
        return self.brief.state

    @property
    def counts(self) -> dict[State, int]:
        """The number of tasks in each state, without zeros."""
        return self.brief.taskCounts

    def task(self, name: str) -> TaskSummary | None:
        """One task: its state, and its last attempt."""
        return self.tasks.get(name)

    def summary(self) -> Summary:
        """The execution in the form of lists and the stream."""
        tasks = [] if len(self.tasks) > TASKS_SHOWN else list(self.tasks.values())
        return msgspec.structs.replace(self.brief, tasks=tasks)

    def encoded(self) -> bytes:
        """The summary as JSON, with the version; encoded at most once for each version."""
        if self._encoded_version != self.version:
            self._encoded = listed(_encoder.encode(self.summary()), self.version)
            self._encoded_version = self.version
        return self._encoded

    def apply(self, transition: Transition, version: int) -> None:
        """Apply a committed transition."""
        self.brief = transition.brief
        self.version = version
        for change in transition.hooks:
            if change.task.state in (_RUNNING, _UPFORRETRY):
                self.hooks[change.task.name] = change
            else:
                self.hooks.pop(change.task.name, None)
        if transition.replanned is not None:  # by a retry, so nothing runs
            self.tasks = {task.name: task for task in transition.replanned}
            return
        for change in transition.tasks:
            self._apply(change)
        for task in transition.mapped:
            self.tasks[task.name] = task

    def looked(self, name: str, waiting: Waiting) -> None:
        """A waiting task looked in vain again. That is not committed, and no news for listeners."""
        task = self.tasks.get(name)  # None for a hook
        if task is not None and task.waiting is not msgspec.UNSET:
            self.tasks[name] = msgspec.structs.replace(task, waiting=waiting)
            self._encoded_version = -1

    def progressed(self, name: str, bar: Bar) -> None:
        """A running task has reported its progress. That is not committed."""
        task = self.tasks.get(name)  # None for a hook
        if task is not None and task.state is _RUNNING:
            self.tasks[name] = msgspec.structs.replace(task, progress=bar)
            self._encoded_version = -1

    def _apply(self, change: TaskChange) -> None:
        task = change.task
        name = task.name
        self.tasks[name] = task
        if change.before is _RUNNING:
            self.running.pop(name, None)
        elif change.before is _UPFORRETRY:
            self.retry_at.pop(name, None)
        if task.started is not None and task.state is _RUNNING:
            self.running[name] = task.started
        elif change.retry_at is not None:
            self.retry_at[name] = change.retry_at


class LiveState:
    """The unfinished executions by id. `on_change` is called with every changed execution, also
    when it has just finished."""

    def __init__(self, on_change: Callable[[LiveExecution], None]) -> None:
        self._executions: dict[str, LiveExecution] = {}
        self._on_change = on_change
        self.version = 0

    def __len__(self) -> int:
        return len(self._executions)

    def __iter__(self) -> Iterator[LiveExecution]:
        return iter(self._executions.values())

    def get(self, execution: str) -> LiveExecution | None:
        return self._executions.get(execution)

    def add(self, execution: LiveExecution) -> None:
        """Add an execution that was committed before and is resumed."""
        self._executions[execution.id] = execution

    def looked(self, execution: str, key: Key, waiting: Waiting) -> None:
        """A waiting task or item looked in vain again, and looks again later."""
        if isinstance(key, str) and (live := self._executions.get(execution)) is not None:
            live.looked(key, waiting)

    def progressed(self, execution: str, bars: Mapping[Key, Bar]) -> LiveExecution | None:
        """Running tasks and items have reported their progress. Returns the execution."""
        if (live := self._executions.get(execution)) is not None:
            for key, bar in bars.items():
                if isinstance(key, str):
                    live.progressed(key, bar)
        return live

    def drop(self, execution: str) -> None:
        """Remove an execution that was added but could not be resumed."""
        self._executions.pop(execution, None)

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Apply a change that is now durable."""
        match change, outcome:
            case Submit(), Created(version=version):
                execution = LiveExecution.created(change, version)
                self._executions[execution.id] = execution
            case Record(), int():
                execution = self._executions[change.execution]
                if change.state.finished:  # first, so that it is removed even if the rest fails
                    del self._executions[change.execution]
                assert change.transition is not None
                execution.apply(change.transition, outcome)
            case _:
                return
        self.version = execution.version
        self._on_change(execution)


def _not_started(plan: Plan) -> dict[str, TaskSummary]:
    return {planned.name: TaskSummary.planned(planned) for planned in plan.tasks}
