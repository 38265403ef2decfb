"""The standing of an execution: the states of its runs, and the answers that follow from them.

Only the fold changes it (`goflow.core.progress`, and for mapped tasks `goflow.core.groups`).
"""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any, Never

import msgspec

from goflow.core.cost import Cost, Number, added, with_counts
from goflow.core.events import AnyFact, ChildStarted, Submitted
from goflow.core.graph import Plan
from goflow.core.keys import Asked, Item, Key, NamedItem, task_of
from goflow.core.result import StoredResult
from goflow.core.runs import Run, TaskRun
from goflow.core.states import FINISHED, State, not_chosen
from goflow.core.summary import TASKS_SHOWN, ParentTask, Summary, shown_params


class IllegalTransition(RuntimeError):
    """A fact that cannot have happened in this state: a defect in goflow, or a damaged store."""


class Standing:
    """The runs of an execution and their states, and what is requested and due."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        self.plan = plan
        self.id = submitted.id
        self.job = submitted.job
        self.params: dict[str, Any] = submitted.params
        self.cause = submitted.cause
        self.scheduled_at = submitted.scheduled_at
        self.interval_start = submitted.interval_start
        self.interval_end = submitted.interval_end
        self.parent = submitted.parent
        self.children: list[ChildStarted] = []  # in order
        self._children: dict[Key, ChildStarted] = {}  # the last one of each task or item
        self.after = submitted.after
        self.timeout = submitted.timeout
        self.submitted_at = submitted.at
        self.modified_at = submitted.at
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.reason: str | None = None  # of a failure that no failed task explains
        # By how much the clock was set since this process took the execution up. Delays and
        # time limits do not count it. After a restart it is unknown, and counted as 0.
        self.skew = timedelta(0)
        self._began: datetime | None = None  # `started_at` without the skew
        self.tasks = {planned.name: TaskRun(planned) for planned in plan.tasks}
        self.hooks = {planned.name: TaskRun(planned) for planned in plan.hooks}
        # Tasks and hooks.
        self.named = self.tasks | self.hooks if self.hooks else self.tasks
        # Tasks and hooks of earlier plans that are not in this one.
        self.dropped: dict[str, TaskRun] = {}
        self.has_streams = bool(plan.streams)
        self.has_mapped_tasks = any(planned.map_over is not None for planned in plan.tasks)
        self.result_bytes = 0  # of the current results of all tasks
        self.error_characters = 0  # of all failed attempts so far
        self.dispatched = 0  # actions of the shared state
        # The sums of all attempts, by task, and of all tasks; of tasks whose attempts had costs.
        self.costs: dict[str, Cost] = {}
        self.cost: Cost | None = None
        # The counts of the successful attempts of this round, by task or item.
        self._counted: dict[Key, dict[str, Number]] = {}
        self._shown_params: msgspec.Raw | None = None
        self._count = dict.fromkeys(State, 0) | {State.NOTSTARTED: len(self.tasks)}
        self._hook_count = dict.fromkeys(State, 0) | {State.NOTSTARTED: len(self.hooks)}
        self._running: dict[Key, None] = {}  # without groups
        self._cancel_requested: dict[Key, None] = {}  # one by one, and not ended yet
        self._ready: set[Key] = set()  # of items only those that were announced
        self._unannounced: dict[Key, None] = {}  # ready, and not returned by `newly_ready` yet
        # Ordered, since finding the first key of a dict that was emptied from the front is a scan.
        self._to_cancel: OrderedDict[Key, None] = OrderedDict()  # requested, and not running
        self._to_skip: OrderedDict[str, None] = OrderedDict()  # the rule can no longer be met
        # A heap of `due`, task and item (-1 for none). Retries that were cancelled, or have
        # started, are removed lazily.
        self._retries: list[tuple[datetime, str, int]] = []
        # Those up for retry whose `on_retry` has not ended. Their retries are not in the heap.
        self._untold: dict[Key, None] = {}
        self._branches = plan.branches

    def _spend(self, key: Key, cost: Cost, *, succeeded: bool = False) -> None:
        """Add the cost of an attempt that ended."""
        name = task_of(key)
        self.costs[name] = added(self.costs.get(name), cost, counts=succeeded)
        self.cost = added(self.cost, cost, counts=succeeded)
        if succeeded and cost.counts:
            self._counted[key] = cost.counts

    def _count_anew(self) -> None:
        """Make the sums of counts again, since some no longer count."""
        counted: dict[str, list[dict[str, Number]]] = {name: [] for name in self.costs}
        for key, counts in self._counted.items():
            counted[task_of(key)].append(counts)
        self.costs = {name: with_counts(cost, counted[name]) for name, cost in self.costs.items()}
        if self.cost is not None:
            self.cost = with_counts(self.cost, self._counted.values())

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def closing(self) -> bool:
        """Whether all tasks have ended, and hooks have not."""
        return self._hooks_unfinished > 0 and not self._unfinished and not self.finished

    @property
    def final_state(self) -> State:
        """The final state that follows from the tasks, once all of them have ended."""
        return self._final_state()

    @property
    def cancellable_hooks(self) -> list[str]:
        """The hooks that have not ended and are not being cancelled."""
        return [
            name
            for name, hook in self.hooks.items()
            if hook.state not in FINISHED and name not in self._cancel_requested
        ]

    @property
    def running(self) -> list[Key]:
        """The tasks and items with a running attempt."""
        return list(self._running)

    @property
    def waits(self) -> list[Key]:
        """The tasks and items whose running attempt has looked in vain, and looks again."""
        return [key for key in self._running if self.run(key).waiting is not None]

    @property
    def retries(self) -> dict[str, datetime]:
        """The tasks up for retry, with the times of their retries."""
        return {
            name: run.retry_at
            for name, run in self.tasks.items()
            if run.state is State.UPFORRETRY and run.retry_at is not None
        }

    @property
    def untold(self) -> list[Key]:
        """The tasks and items up for retry whose `on_retry` has not ended."""
        return list(self._untold)

    def is_untold(self, key: Key) -> bool:
        """Whether the `on_retry` of a task or item has to end before the next attempt."""
        return key in self._untold

    @property
    def cancel_requested(self) -> list[Key]:
        """The tasks and items that are being cancelled one by one."""
        return list(self._cancel_requested)

    def run(self, key: Key) -> Run:
        """The task or item with this key. Raises `LookupError`."""
        if isinstance(key, str):
            return self.named[key]
        items = self.tasks[key.task].items
        if items is None or items.runs is None or key.number < 0:
            raise LookupError(key)
        return items.runs[key.number]

    def rejecting(self, task: str) -> TaskRun | None:
        """A branch directly upstream that succeeded and did not choose this task."""
        if self.named[task].rule is not not_chosen:
            return None
        upstream = (self.tasks[name] for name in self.tasks[task].planned.after)
        return next((run for run in upstream if run.rejects(task)), None)

    def has_item(self, task: str, index: int) -> bool:
        """Whether a task is mapped, and has an item of that index so far."""
        run = self.tasks.get(task)
        runs = None if run is None or run.items is None else run.items.runs
        return runs is not None and 0 <= index < len(runs)

    def find(self, asked: Asked) -> Key:
        """The key of the run that a request names. Raises `LookupError` for an unknown one."""
        if isinstance(asked, NamedItem):
            items = self.tasks[asked.task].items
            if items is None:
                raise LookupError(asked)
            return Item(asked.task, items.numbers[asked.key])
        if not self.has(asked):
            raise LookupError(asked)
        return asked

    def find_run(self, asked: Asked) -> Run:
        """The run that a request names, which may be of a task that was dropped. Raises
        `LookupError` for an unknown one."""
        name = task_of(asked)
        task = self.dropped[name] if name in self.dropped else self.named[name]
        if isinstance(asked, str):
            return task
        runs = None if task.items is None else task.items.runs
        if task.items is None or runs is None:
            raise LookupError(asked)
        number = task.items.numbers[asked.key] if isinstance(asked, NamedItem) else asked.number
        if not 0 <= number < len(runs):
            raise LookupError(asked)
        return runs[number]

    def is_outdated(self, task: str) -> bool:
        """Whether the items of a mapped task are those of an earlier list, since the task it maps
        over was run again without it. Then a retry of the task makes all items anew."""
        items = self.tasks[task].items
        return items is not None and items.outdated

    def has(self, key: Key) -> bool:
        """Whether there is a task, hook or item with this key so far."""
        return key in self.named if isinstance(key, str) else self.has_item(*key)

    def is_attempting(self, key: Key, attempt: int) -> bool:
        """Whether this attempt of a task or item is under way; False for an unknown one."""
        return key in self._running and self.run(key).attempt == attempt

    def is_cancelling(self, key: Key) -> bool:
        """Whether a task or item is being cancelled, alone, with its task or the execution. Hooks
        are not cancelled with the tasks."""
        if self.cancelling and not (self.hooks and key in self.hooks):
            return True
        requested = self._cancel_requested
        if not requested:  # so it is nearly always, and this is asked often
            return False
        return key in requested or (isinstance(key, Item) and key.task in requested)

    def child_of(self, key: Key) -> ChildStarted | None:
        """The last execution that a task or item has started, if any."""
        return self._children.get(key)

    @property
    def _waiting(self) -> int:
        return self._count[State.NOTSTARTED] + self._count[State.UPFORRETRY]

    @property
    def _unfinished(self) -> int:
        return self._waiting + self._count[State.RUNNING]

    @property
    def _hooks_unfinished(self) -> int:
        if not self.hooks:
            return 0
        count = self._hook_count
        return count[State.NOTSTARTED] + count[State.UPFORRETRY] + count[State.RUNNING]

    def _final_state(self, without: State | None = None) -> State:
        """The final state that follows from the tasks; one that ended `without` does not count."""
        if self.reason is not None or self._count[State.FAILED] > (without is State.FAILED):
            return State.FAILED
        if self.cancelling or self._count[State.CANCELLED] > (without is State.CANCELLED):
            return State.CANCELLED
        return State.SUCCESSFUL

    def results_for(self, name: str) -> dict[str, msgspec.Raw | StoredResult]:
        """The results of a task's upstream tasks that have one, by name. For the items of a mapped
        task, the list they are from is among them."""
        results = {}
        for upstream in self.named[name].planned.after:
            if (result := self.tasks[upstream].result) is not None:
                results[upstream] = result
        return results

    def brief(self) -> Summary:
        """The execution as `summary` has it, without its tasks."""
        if self._shown_params is None:
            self._shown_params = shown_params(self.params)
        return Summary(
            id=self.id,
            job=self.job,
            submitted=self.submitted_at,
            modifiedTimestamp=self.modified_at,
            state=self.state,
            started=self.started_at,
            finished=self.finished_at,
            scheduled_at=self.scheduled_at,
            cause=self.cause,
            after=self.after,
            parent=None if self.parent is None else ParentTask.of(self.parent),
            reason=self.reason,
            params=self._shown_params,
            taskCounts={state: number for state, number in self._count.items() if number},
            cost=msgspec.UNSET if self.cost is None else self.cost,
        )

    def summary(self) -> Summary:
        """The execution as `/api/executions` and `/stream` show it."""
        summary = self.brief()
        if len(self.tasks) <= TASKS_SHOWN:
            summary.tasks = [task.summary() for task in self.tasks.values()]
        return summary

    def _make_ready(self, key: Key) -> None:
        if key not in self._ready:
            self._ready.add(key)
            self._unannounced[key] = None


def without_skew(at: datetime, skew: timedelta) -> datetime:
    """The instant minus the skew, as far as a datetime can represent it."""
    try:
        return at - skew
    except OverflowError:
        return datetime.max.replace(tzinfo=at.tzinfo)  # a retry in a century, or never


def refuse(fact: AnyFact, reason: str) -> Never:
    raise IllegalTransition(f"{fact!r} {reason}")
