"""The executions whose pages are open, each in full and updated by commits.

Otherwise each request for an execution would replay all its facts. The rule: the cost of an answer
is proportional to the tasks that changed since the client's version.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from goflow.core.detail import (
    ASKED_SHOWN,
    CHILDREN_SHOWN,
    ERRORS_SHOWN,
    RESULTS_SHOWN,
    Action,
    ChildExecution,
    Detail,
    TaskDetail,
    cut_error,
)
from goflow.core.events import ChildStarted, Dispatched, Retried
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.core.transition import ChangedTasks
from goflow.engine.clock import Clock
from goflow.engine.kept_views import KeptViews
from goflow.stores.base import Change, Outcome, Record

WATCHED = 8  # executions
IDLE = 30.0  # seconds without a request until an execution is dropped
FRESH = 1.0  # seconds for which an answer is reused while its version is the newest
ANSWERS = 16  # encoded answers kept for each execution

_WAITS = (State.NOTSTARTED, State.UPFORRETRY)
_NULL = msgspec.Raw(b"null")
_encoder = msgspec.json.Encoder()

# Sets values that are not committed: operators and wait reasons. Called with the shown tasks.
Annotate = Callable[[Detail, Iterable[TaskDetail]], None]


class WatchedExecution:
    """An execution in full at its newest version. Answers share their encoded bytes."""

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._from = detail.version  # changes are known from this version on
        self._tasks = {task.name: task for task in detail.tasks}
        self._hooks = {hook.name: hook for hook in detail.hooks}
        self._changed = ChangedTasks()
        # The versions at which values of tasks changed that are not committed.
        self._uncommitted: dict[str, int] = {}
        self._answers: dict[int | None, bytes] = {}
        self._answered = float("-inf")
        self._room = RESULTS_SHOWN - sum(len(task.result) for task in detail.tasks)
        self._errors = ERRORS_SHOWN - sum(
            len(attempt.error or "") for task in detail.tasks for attempt in task.attempts
        )
        self._asked = ASKED_SHOWN - sum(action.params_bytes for action in detail.actions)

    @property
    def version(self) -> int:
        return self._detail.version

    def task(self, name: str) -> TaskDetail | None:
        if (task := self._tasks.get(name) or self._hooks.get(name)) is not None:
            return task
        return next((task for task in self._detail.dropped if task.name == name), None)

    def apply(self, record: Record, version: int) -> None:
        """Apply a committed change, unless the detail has it already."""
        if version <= self.version:
            return
        assert record.transition is not None
        detail, brief = self._detail, record.transition.brief
        detail.modifiedTimestamp = brief.modifiedTimestamp
        detail.state, detail.reason = brief.state, brief.reason
        detail.started, detail.finished = brief.started, brief.finished
        detail.version, detail.cost = version, brief.cost
        for fact in record.facts:
            if isinstance(fact, Retried):
                if fact.params is not None:
                    detail.params = dict(fact.params)
                if fact.plan is not None:
                    self._follow(fact.plan, version)
            if (action := Action.of(fact)) is not None:
                self._note(action)
            detail.dispatched += isinstance(fact, Dispatched)
            if isinstance(fact, ChildStarted):
                detail.children = [*detail.children, ChildExecution.of(fact)][-CHILDREN_SHOWN:]
        for change in record.transition.tasks:
            name = change.task.name
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = TaskDetail.planned(PlannedTask(name))
                detail.tasks.append(task)
            before = task.result
            task.note(change)
            if change.told is None:
                self._bound(task, before)
            self._changed.note(name, version)
        for change in record.transition.hooks:
            if (hook := self._hooks.get(change.task.name)) is not None:
                before = hook.result
                hook.note(change)
                self._bound(hook, before)
        for mapped in record.transition.mapped:
            self._tasks[mapped.name].items = mapped.items
            self._changed.note(mapped.name, version)
        for name, cost in record.transition.costs.items():
            if (task := self.task(name)) is not None:
                task.cost = cost
                if name in self._tasks:  # answers have all hooks in any case
                    self._changed.note(name, version)
        self._answers.clear()

    def progressed(self, names: Iterable[str]) -> None:
        """Tasks have reported their progress, which no commit tells."""
        for name in names:
            if name in self._tasks:
                self._uncommitted[name] = self.version
        self._answers.clear()

    def _follow(self, plan: Plan, version: int) -> None:
        """Go on with the tasks of another plan; clients get all of them."""
        known = {task.name: task for task in self._detail.dropped} | self._hooks | self._tasks

        def detail_of(planned: PlannedTask) -> TaskDetail:
            if (detail := known.pop(planned.name, None)) is None:
                return TaskDetail.planned(planned)
            detail.follow(planned)
            return detail

        self._tasks = {planned.name: detail_of(planned) for planned in plan.tasks}
        self._hooks = {planned.name: detail_of(planned) for planned in plan.hooks}
        detail = self._detail
        detail.tasks, detail.hooks = list(self._tasks.values()), list(self._hooks.values())
        detail.dropped = [task for task in known.values() if task.attempts]
        detail.dag, detail.plan = plan.downstream, plan.id
        self._changed, self._from = ChangedTasks(), version
        self._uncommitted.clear()

    def _note(self, action: Action) -> None:
        self._asked -= action.params_bytes
        if self._asked < 0:
            action.params = None
        self._detail.actions.append(action)

    def _bound(self, task: TaskDetail, before: msgspec.Raw) -> None:
        """Drop results and errors that would make the detail too large."""
        if task.result is not before:
            self._room += len(before) - len(task.result)
            if self._room < 0:
                self._room += len(task.result) - len(_NULL)
                task.result = _NULL
        if task.attempts and task.error is not None and task.error is task.attempts[-1].error:
            self._errors -= len(task.error)
            if self._errors < 0:
                task.error = task.attempts[-1].error = cut_error(task.error)

    def answer(self, since: int | None, annotate: Annotate, now: float) -> bytes:
        """The execution as JSON, with the tasks that changed after version `since`; with all
        tasks if that is None or too old. `now` is in seconds."""
        if now - self._answered >= FRESH:
            self._answered = now
            self._answers.clear()
            self._look_at_waiting(annotate)
        if since is not None and not self._from <= since <= self.version:
            since = None
        if (answer := self._answers.get(since)) is None:
            if len(self._answers) >= ANSWERS:
                self._answers.clear()
            answer = self._answers[since] = self._encode(since, annotate)
        return answer

    def _encode(self, since: int | None, annotate: Annotate) -> bytes:
        detail = self._detail
        if since is None:
            annotate(detail, [*detail.tasks, *detail.hooks])
            return _encoder.encode(detail)
        names = dict.fromkeys(name for name, at in self._uncommitted.items() if at >= since)
        names |= dict.fromkeys(self._changed.since(since))
        tasks = [self._tasks[name] for name in names]
        annotate(detail, [*tasks, *detail.hooks])
        return _encoder.encode(msgspec.structs.replace(detail, tasks=tasks, dag={}, since=since))

    def _look_at_waiting(self, annotate: Annotate) -> None:
        """Find the tasks whose wait reasons have changed, which commits do not report."""
        waiting = [task for task in self._detail.tasks if task.state in _WAITS or task.waiting]
        before = [task.waiting for task in waiting]
        annotate(self._detail, waiting)
        for task, reason in zip(waiting, before, strict=True):
            if task.waiting != reason:
                self._uncommitted[task.name] = self.version


class Watched(KeptViews[WatchedExecution]):
    """The watched executions, at most `WATCHED`, each for `IDLE` seconds after a request."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, WATCHED, IDLE)
        self._collected: dict[str, list[list[tuple[Record, int]]]] = {}

    @contextmanager
    def collecting(self, id: str) -> Iterator[list[tuple[Record, int]]]:
        """Collect the commits of an execution while it is read from the store."""
        collected: list[tuple[Record, int]] = []
        self._collected.setdefault(id, []).append(collected)
        try:
            yield collected
        finally:
            others = [one for one in self._collected.pop(id) if one is not collected]
            if others:
                self._collected[id] = others

    def progressed(self, id: str, names: Iterable[str]) -> None:
        """Tasks of an execution have reported their progress."""
        if (view := self._views.get(id)) is not None:
            view.progressed(names)

    def committed(self, change: Change, outcome: Outcome) -> None:
        if isinstance(change, Record) and isinstance(outcome, int):
            for collected in self._collected.get(change.execution, ()):
                collected.append((change, outcome))
        super().committed(change, outcome)
