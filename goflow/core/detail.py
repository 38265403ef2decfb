"""An execution in full, as its page shows it: built from the changes that the fold emits.

Nothing here interprets facts. `Details` listens to a replay; the state of an execution and of
its tasks comes from `Progress`, the history of attempts from its changes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from goflow.core.cost import Bar, Cost
from goflow.core.events import AnyFact, ChildStarted, Dispatched, Retried, TaskSucceeded
from goflow.core.graph import Occasion, Plan, PlannedTask
from goflow.core.keys import Item, Key
from goflow.core.progress import Progress
from goflow.core.result import SMALL, Artifact, StoredResult, size_of
from goflow.core.runs import Run, TaskRun
from goflow.core.states import State, TriggerRule
from goflow.core.summary import ParentTask, Time, Waiting, WhySkipped
from goflow.core.transition import TaskChange

RESULTS_SHOWN = 4 * 1024 * 1024  # bytes of JSON of all the results in a `Detail`
ERRORS_SHOWN = 4 * 1024 * 1024  # characters of all the errors in a `Detail`
ASKED_SHOWN = 1024 * 1024  # bytes of JSON of all the params in a `Detail`'s actions
CHILDREN_SHOWN = 1000  # executions that tasks of an execution have started
ERROR_PART = 300  # characters kept at both ends of an error that is cut
CUT = "\n… the rest is in the log of the attempt …\n"

_NULL = msgspec.Raw(b"null")


class AttemptDetail(msgspec.Struct):
    """One attempt of a task. `error` includes the traceback, for Python operators. An attempt
    `interrupted` by the end of the server counts as failed, but took no retry. `cost` is left out
    if there is nothing to say, and for an attempt that goes on. `on_retry_error` is the error of
    the task's `on_retry`, called after this attempt; left out if there is none."""

    attempt: int
    state: State
    started: Time
    finished: Time | None = None
    error: str | None = None
    retry_at: Time | None = None
    interrupted: bool = False
    cost: Cost | msgspec.UnsetType = msgspec.UNSET
    on_retry_error: str | msgspec.UnsetType = msgspec.UNSET


class TaskDetail(msgspec.Struct):
    """One task of a `Detail`; `started`, `finished` and `error` are of its last attempt, and
    null after the task was reset by a retry of the execution. `retries` and `trigger_rule` are
    as submitted, or by the newest definition at a retry with that; `operator` is the job's current
    one, null if the job no longer has the task.
    `waiting` says why it is not running though it could, as a text; for a running task that waits
    without a slot, why and until when. `interruptions` counts the attempts interrupted by the end
    of the server, of all rounds.

    A mapped task has one attempt for each time that its items were made, and `items` as in
    `TaskSummary`; `yielded` is as there, too. `map_over` is a task, or several: their product, or
    if `zipped`, their pairs.
    A hook says in `hook` when it runs.
    Only a branch has `branch`, and `chosen`, the tasks it chose, once it succeeded.

    `result_bytes` is the size of the result as JSON, 0 for none. `result` is null if it is
    larger than `SMALL` bytes, or if the results before it take `RESULTS_SHOWN` bytes; the
    route of results serves it. A result that is an artifact is described.

    `artifacts` are those of the last successful attempt, left out if there are none.

    `cost` is the sum of all attempts, also of items. Its counts are those of the attempts that
    succeeded. `progress` is what the running attempt reported last; it is in memory only."""

    name: str
    state: State = State.NOTSTARTED
    started: Time | None = None
    finished: Time | None = None
    error: str | None = None
    result: msgspec.Raw = msgspec.field(default_factory=lambda: _NULL)
    result_bytes: int = 0
    attempts: list[AttemptDetail] = []
    waiting: str | Waiting | None = None
    retries: int = 0
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESSFUL
    operator: str | None = None
    interruptions: int = 0
    map_over: str | tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    zipped: bool | msgspec.UnsetType = msgspec.UNSET
    items: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    hook: Occasion | msgspec.UnsetType = msgspec.UNSET
    skip: WhySkipped | msgspec.UnsetType = msgspec.UNSET
    branch: bool | msgspec.UnsetType = msgspec.UNSET
    chosen: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    artifacts: list[Artifact] | msgspec.UnsetType = msgspec.UNSET
    cost: Cost | msgspec.UnsetType = msgspec.UNSET
    progress: Bar | msgspec.UnsetType = msgspec.UNSET
    yielded: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def planned(cls, task: PlannedTask) -> "TaskDetail":
        """A task before its first change."""
        detail = cls(task.name)
        detail.follow(task)
        return detail

    def follow(self, task: PlannedTask) -> None:
        """Show the task as it is in a plan."""
        self.retries, self.trigger_rule = task.retries, task.rule
        self.hook = msgspec.UNSET if task.hook is None else task.hook
        self.branch = True if task.branch else msgspec.UNSET
        if not task.branch:
            self.chosen = msgspec.UNSET
        self.yielded = 0 if task.stream else msgspec.UNSET
        if task.map_over is None:
            self.map_over = self.items = self.zipped = msgspec.UNSET
            return
        self.map_over, self.zipped = task.map_over, task.zipped or msgspec.UNSET
        if self.items is msgspec.UNSET:
            self.items = {"total": 0}

    def note(self, change: TaskChange) -> None:
        """Record a change of this task, and of its last attempt."""
        task = change.task
        self.state, self.started, self.finished = task.state, task.started, task.finished
        self.items, self.skip, self.yielded = task.items, task.skip, task.yielded
        self.waiting = _given(task.waiting)
        self.progress = msgspec.UNSET
        if change.before is task.state is State.RUNNING:  # it waits, or has yielded items
            return
        if change.told is not None:
            self.attempts[-1].on_retry_error = change.told or msgspec.UNSET
            return
        if change.chosen is not None:
            self.chosen = change.chosen
        elif task.state is State.NOTSTARTED:
            self.chosen = msgspec.UNSET
        if task.state is State.RUNNING:
            assert task.started is not None
            self.attempts.append(AttemptDetail(task.attempts, State.RUNNING, task.started))
            self.error = None
        elif change.before is State.RUNNING:
            self._end(self.attempts[-1], change)
        elif task.state is State.NOTSTARTED:
            self.error = None
            self.result, self.result_bytes = _NULL, 0
            self.artifacts = msgspec.UNSET
        elif task.state is not State.CANCELLED:  # marked by hand, or skipped before any attempt
            self.error = None

    def _end(self, attempt: AttemptDetail, change: TaskChange) -> None:
        task = change.task
        failed = task.state is State.UPFORRETRY
        attempt.state = State.FAILED if failed else task.state
        attempt.finished = task.finished
        attempt.retry_at = change.retry_at
        attempt.error = self.error = change.error
        attempt.interrupted = change.interrupted
        if change.cost is not None:
            attempt.cost = change.cost
        self.interruptions += change.interrupted
        if change.result is not None:
            self.result, self.result_bytes = shown_result(change.result)
            self.artifacts = list(change.artifacts) if change.artifacts else msgspec.UNSET


class ItemDetail(msgspec.Struct):
    """An item of a mapped task. `index` counts from 0, and `key` is null unless the task gives
    its items keys. `attempts` counts those begun, and `started` and `finished` are of the last
    one. `error` is that of the last attempt, cut to its beginning and end. `waiting` says why a
    running item waits without a slot, and until when. `result` is null if it is larger than
    `SMALL` bytes; the route of results serves it. Only a skipped item has `skip`, and only one
    with artifacts has `artifacts`. `history` has the newest attempts with their times, and
    without errors. `progress` is as in `TaskDetail`."""

    index: int
    state: State
    attempts: int
    started: Time | None
    finished: Time | None
    error: str | None
    result: msgspec.Raw
    result_bytes: int
    waiting: Waiting | None = None
    skip: WhySkipped | msgspec.UnsetType = msgspec.UNSET
    artifacts: list[Artifact] | msgspec.UnsetType = msgspec.UNSET
    key: str | None = None
    history: list[AttemptDetail] = []
    progress: Bar | msgspec.UnsetType = msgspec.UNSET


class StateChange(msgspec.Struct):
    """An action that was dispatched to the shared state: its `number` in the execution, from 1,
    the attempt that dispatched it, and the `state` after it, of `state_bytes`; null if these are
    more than `SMALL`."""

    number: int
    at: Time
    task: str
    attempt: int
    action: msgspec.Raw
    state: msgspec.Raw
    state_bytes: int
    item: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, number: int, fact: Dispatched) -> "StateChange":
        return cls(
            number,
            fact.at,
            fact.task,
            fact.attempt,
            fact.content,
            fact.state,
            fact.size,
            msgspec.UNSET if fact.item is None else fact.item,
        )


class Action(msgspec.Struct):
    """A request by a person or a program: the action, who asked, the `task` if it was about
    one, and its `item` if it was about an item of a mapped task. `params` are those that it set;
    they are left out once those of the actions before take `ASKED_SHOWN` bytes. `definition` is
    "newest" for a retry by which the execution went on with another definition of its job."""

    at: Time
    action: str
    by: str
    task: str | None = None
    params: dict[str, Any] | None = None
    item: int | msgspec.UnsetType = msgspec.UNSET
    definition: Literal["newest"] | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, fact: AnyFact) -> "Action | None":
        """The request that a fact records; None if it records none."""
        if fact.action is None:
            return None
        by, params = getattr(fact, "by", ""), getattr(fact, "params", None)
        item = getattr(fact, "item", None)
        return cls(
            fact.at,
            fact.action,
            by,
            fact.about,
            params,
            msgspec.UNSET if item is None else item,
            "newest" if isinstance(fact, Retried) and fact.plan is not None else msgspec.UNSET,
        )

    @property
    def params_bytes(self) -> int:
        """The bytes that the params take as JSON."""
        return len(msgspec.json.encode(self.params)) if self.params else 0


class ChildExecution(msgspec.Struct, frozen=True):
    """An execution that a task has started; `item` is the index of the item that did, else null."""

    execution: str
    job: str
    task: str
    item: int | None = None

    @classmethod
    def of(cls, fact: ChildStarted) -> "ChildExecution":
        return cls(fact.child, fact.job, fact.task, fact.item)


class Detail(msgspec.Struct, kw_only=True):
    """An execution with everything kept about it, except logs and large results. `version` is
    that of `Listed`. `damage` describes facts that were left out because they could not be read
    or cannot have happened; null if there are none.

    Errors are cut to their beginning and end once those before take `ERRORS_SHOWN` characters.

    `parent` is the task of another execution that started it; null for none. `children` are the
    executions that its tasks have started, the last `CHILDREN_SHOWN` of them.

    `dispatched` is the number of actions of its shared state. `cost` is the sum over all tasks.

    `hooks` run after all tasks have ended. Their states are not in that of the execution.

    `plan` identifies the definition it runs by: that at its submit, or at its last retry with the
    newest one. `newer` tells that the job has another one now. `dropped` are the tasks and hooks
    of earlier definitions that had begun and are not in this one.

    With a `since` that is not null, `tasks` has only the tasks that changed after that version,
    and `dag` is empty.
    """

    id: str
    job: str
    submitted: Time
    modifiedTimestamp: Time
    state: State
    started: Time | None = None
    finished: Time | None = None
    scheduled_at: Time | None = None
    interval_start: Time | None = None
    interval_end: Time | None = None
    cause: str
    after: tuple[str, ...] = ()
    parent: ParentTask | None = None
    children: list[ChildExecution] = []
    reason: str | None = None
    params: dict[str, Any]
    actions: list[Action]
    tasks: list[TaskDetail]
    hooks: list[TaskDetail] = []
    dropped: list[TaskDetail] = []
    plan: str = ""
    newer: bool = False
    dag: dict[str, list[str]]
    version: int = 0
    damage: str | None = None
    dispatched: int = 0
    cost: Cost | msgspec.UnsetType = msgspec.UNSET
    since: int | None = None

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact]) -> "Detail":
        """The execution that these facts, beginning with `Submitted`, led to."""
        details = Details()
        return details.of(Progress.replay(plan, facts, details.note))


class Details:
    """The history of an execution, collected while its facts are replayed: pass `note` to
    `Progress.replay` or `Progress.salvage`, then ask."""

    def __init__(self, item: Key | None = None) -> None:
        """`item` is the key of the item whose attempts `of_item` describes."""
        self._actions: list[Action] = []
        self._changes: dict[str, list[TaskChange]] = {}
        self._item = item
        self._item_changes: list[TaskChange] = []

    def note(self, fact: AnyFact, changes: Sequence[TaskChange]) -> None:
        """Record a fact that was applied, and the changes it made."""
        if (action := Action.of(fact)) is not None:
            self._actions.append(action)
        for change in changes:
            if change.item is not None:
                if Item(change.task.name, change.item) == self._item:
                    self._item_changes.append(change)
                continue
            self._changes.setdefault(change.task.name, []).append(change)

    def of_task(self, planned: PlannedTask) -> TaskDetail:
        """One task, with every attempt."""
        task = TaskDetail.planned(planned)
        for change in self._changes.get(planned.name, ()):
            task.note(change)
        if not planned.branch:  # under an earlier plan it may have been one
            task.chosen = msgspec.UNSET
        return task

    def of_item(self, run: Run) -> TaskDetail:
        """The item whose changes were recorded, with every attempt."""
        item = TaskDetail(run.planned.name, retries=run.planned.retries)
        for change in self._item_changes:
            item.note(change)
        item.state = run.state  # items that waited end with their task
        return item

    def of_run(self, run: TaskRun, cost: Cost | None) -> TaskDetail:
        """One task as it is now, with every attempt."""
        task = self.of_task(run.planned)
        task.items = msgspec.UNSET if run.items is None else run.items.shown()
        if cost is not None:
            task.cost = cost
        return task

    def of(self, execution: Progress) -> Detail:
        """The execution that was replayed, within bounds."""
        brief = execution.brief()
        costs = execution.costs
        tasks = [self.of_run(run, costs.get(name)) for name, run in execution.tasks.items()]
        hooks = [self.of_run(run, costs.get(name)) for name, run in execution.hooks.items()]
        dropped = [
            self.of_run(run, costs.get(name))
            for name, run in execution.dropped.items()
            if run.attempt
        ]
        actions = list(self._actions)
        _bound(tasks + hooks + dropped)
        _bound_params(actions)
        return Detail(
            id=brief.id,
            job=brief.job,
            submitted=brief.submitted,
            modifiedTimestamp=brief.modifiedTimestamp,
            state=brief.state,
            started=brief.started,
            finished=brief.finished,
            scheduled_at=brief.scheduled_at,
            interval_start=execution.interval_start,
            interval_end=execution.interval_end,
            cause=brief.cause,
            after=brief.after,
            parent=brief.parent,
            children=[ChildExecution.of(one) for one in execution.children[-CHILDREN_SHOWN:]],
            reason=brief.reason,
            params=execution.params,
            actions=actions,
            tasks=tasks,
            hooks=hooks,
            dropped=dropped,
            plan=execution.plan.id,
            dag=execution.plan.downstream,
            dispatched=execution.dispatched,
            cost=brief.cost,
        )


def _given(waiting: Waiting | msgspec.UnsetType) -> Waiting | None:
    return None if waiting is msgspec.UNSET else waiting


def shown_result(result: msgspec.Raw | StoredResult | None) -> tuple[msgspec.Raw, int]:
    """A result, null if it is larger than `SMALL`, and the number of its bytes, 0 for null."""
    if result is None or result == _NULL:
        return _NULL, 0
    apart = isinstance(result, StoredResult) and result.is_apart
    size = result.size if apart and isinstance(result, StoredResult) else size_of(result)
    return (result if isinstance(result, msgspec.Raw) and size <= SMALL else _NULL), size


def result_of(facts: Iterable[AnyFact], key: Key, attempt: int) -> TaskSucceeded | None:
    """The fact with the result of an attempt, or with where it is stored; None without one."""
    for fact in facts:
        if isinstance(fact, TaskSucceeded) and fact.key == key and fact.attempt == attempt:
            return fact
    return None


def cut_error(error: str) -> str:
    """The beginning and the end of an error; the log of its attempt has all of it."""
    if len(error) <= 2 * ERROR_PART + len(CUT):
        return error
    return error[:ERROR_PART] + CUT + error[-ERROR_PART:]


def _bound_params(actions: list[Action]) -> None:
    room = ASKED_SHOWN
    for action in actions:
        room -= action.params_bytes
        if room < 0:
            action.params = None


def _bound(tasks: list[TaskDetail]) -> None:
    """Leave out what would make a detail of many tasks or attempts too large."""
    results, errors = RESULTS_SHOWN, ERRORS_SHOWN

    def bounded(error: str | None) -> str | None:
        nonlocal errors
        if error is None:
            return None
        errors -= len(error)
        return error if errors >= 0 else cut_error(error)

    for task in tasks:
        results -= len(task.result)
        if results < 0:
            task.result = _NULL
        task.error = bounded(task.error)
    # Attempts come after all tasks, since the last error of a task matters most.
    for task in tasks:
        for attempt in task.attempts:
            attempt.error = bounded(attempt.error)
