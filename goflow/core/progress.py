"""The fold: an execution's state, computed from its facts.

`apply` is the only way to change the state, for new facts and for replayed ones. A fact that
`TABLE`, at the end of this file, does not allow raises `IllegalTransition` and changes nothing.
`apply` returns the changes of tasks it made. Everything that shows an execution is derived from
the state here, or from those changes; no other module interprets facts.

The work per fact is proportional to the edges it touches: nothing here looks at all tasks.
Tasks are keyed by name, never by position, and a fact adds the items of a mapped task.

A mapped task, or group, has no attempts of an operator; its items have. It runs from `Mapped`
until all items have ended, and then ends as they did. If it is cancelled, the items that wait end
with it.

A hook is a task that runs when all others have ended, and before the execution finishes. The state
that the execution is going to have is certain by then, and decides which hooks run and which are
skipped. Hooks do not change it, and nothing else does while they run.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, Never, Self, TypeVar

import msgspec

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    ChildStarted,
    Dispatched,
    Finished,
    Mapped,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    Submitted,
    TaskCancelled,
    TaskCancelRequested,
    TaskFact,
    TaskFailed,
    TaskPostponed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import OnEmpty, Plan
from goflow.core.keys import Asked, Item, Key, NamedItem, item_of
from goflow.core.result import Artifact, StoredResult, size_of
from goflow.core.runs import Items, Run, TaskRun, unfinished
from goflow.core.states import (
    BY_ATTEMPT,
    FINISHED,
    Rule,
    SkipReason,
    State,
    Verdict,
    not_chosen,
    rule_for,
    undecided,
)
from goflow.core.summary import (
    TASKS_SHOWN,
    ParentTask,
    Summary,
    TaskSummary,
    Waiting,
    WhySkipped,
    shown_params,
)
from goflow.core.transition import TaskChange

# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_NOTSTARTED, _RUNNING, _SKIPPED = State.NOTSTARTED, State.RUNNING, State.SKIPPED
_WAIT, _RUN = Verdict.WAIT, Verdict.RUN

Changes = tuple[TaskChange, ...]
Heard = Callable[[AnyFact, Changes], None]


class IllegalTransition(RuntimeError):
    """A fact that cannot have happened in this state: a defect in goflow, or a damaged store."""


Folded = TypeVar("Folded", bound="Progress")


class Salvaged(NamedTuple, Generic[Folded]):
    """The execution that damaged facts led to, the facts that count, and a description of the
    damage for people to read, None without any."""

    execution: Folded
    facts: list[AnyFact]
    damage: str | None


class Progress:
    """The fold of an execution's facts, beginning with `Submitted`."""

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
        self.result_bytes = 0  # of the current results of all tasks
        self.error_characters = 0  # of all failed attempts so far
        self.dispatched = 0  # actions of the shared state
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
        # Groups, by name.
        self._to_map: set[str] = set()  # their items are not known yet, and they are ready
        self._unmapped: dict[str, None] = {}  # of those, not returned by `groups_to_map` yet
        self._groups: dict[str, None] = {}  # running
        self._to_announce: dict[str, None] = {}  # running, and there may be items to announce
        self._to_end: OrderedDict[str, None] = OrderedDict()  # no item goes on
        self._joining: set[str] = set()  # of those, returned by `groups_to_join`
        self._branches = plan.branches
        special = plan.asks_for_failures or self._branches
        for task in self.tasks.values():
            if special:
                task.rule = self._rule_of(task)
            self._judge(task)
        if self.hooks:
            self._begin_to_close()

    @classmethod
    def salvage(
        cls, plan: Plan, facts: Sequence[AnyFact], heard: Heard | None = None
    ) -> "Salvaged[Self]":
        """`replay` for facts that may be damaged: facts that cannot have happened are left
        out. The first one must be `Submitted`."""
        opening = facts[0]
        assert isinstance(opening, Submitted)
        execution, damage = cls(plan, opening), None
        if heard is not None:
            heard(opening, ())
        kept: list[AnyFact] = [opening]
        for place, fact in enumerate(facts[1:], 2):
            try:
                changes = execution.apply(fact)
            except (IllegalTransition, ValueError) as error:  # also an unknown state
                damage = damage or f"fact {place} of {len(facts)} is impossible: {error}"
            else:
                kept.append(fact)
                if heard is not None:
                    heard(fact, changes)
        return Salvaged(execution, kept, damage)

    @classmethod
    def replay(cls, plan: Plan, facts: Iterable[AnyFact], heard: Heard | None = None) -> Self:
        """The execution that these facts, in order, led to. `heard` receives each fact with the
        changes it made."""
        remaining = iter(facts)
        first = next(remaining, None)
        if not isinstance(first, Submitted):
            raise IllegalTransition("the facts of an execution begin with Submitted")
        execution = cls(plan, first)
        if heard is not None:
            heard(first, ())
        for fact in remaining:
            changes = execution.apply(fact)
            if heard is not None:
                heard(fact, changes)
        return execution

    # -- applying facts --------------------------------------------------------------

    def apply(self, fact: AnyFact) -> Changes:
        """Change the state as a fact says, or raise `IllegalTransition` and change nothing."""
        row = TABLE.get(type(fact))
        if row is None:
            _refuse(fact, "cannot follow another fact")
        if self.finished and not row.afterwards:
            _refuse(fact, f"after execution {self.id} finished")
        changes = row.apply(self, fact)
        self.modified_at = fact.at
        return changes

    # The functions that rows of the table name. Each checks everything that can be wrong with
    # its fact before it changes anything.

    def _started(self, fact: TaskStarted) -> Changes:
        task, after = self._subject(fact)
        key = task.key
        if self.is_cancelling(key):
            _refuse(fact, "after it was cancelled")
        if fact.attempt != task.attempt + 1:
            _refuse(fact, f"follows attempt {task.attempt}")
        if (group := task.group) is not None:
            if not self._has_room(group):
                _refuse(fact, f"while {group.planned.max_parallel} items run, which is the limit")
            _items(group).started(fact.attempt)
        elif task.state is _NOTSTARTED and key not in self._ready:
            _refuse(fact, f"while {task.planned.rule} is not met")
        before = self._move(task, after)
        self._begin(task, fact.attempt, fact.at)
        self._withdraw(task)
        self._running[key] = None
        if group is None:
            return (TaskChange(before, task.summary()),)
        return (TaskChange(before, task.summary(), item=fact.item),)

    def _mapped(self, fact: Mapped) -> Changes:
        group, after = self._subject(fact)
        name = fact.task
        if not isinstance(group, TaskRun) or (items := group.items) is None:
            _refuse(fact, "which is not mapped")
        if self.is_cancelling(name):
            _refuse(fact, "after it was cancelled")
        if name not in self._to_map:
            _refuse(fact, "while it is not ready")
        if fact.attempt != group.attempt + 1:
            _refuse(fact, f"follows attempt {group.attempt}")
        if fact.items < 0 or (fact.error and fact.items):
            _refuse(fact, "with a wrong number of items")
        if items.runs is not None and (fact.error or fact.items != len(items.runs)):
            _refuse(fact, f"while {len(items.runs)} items are known")
        if fact.keys and (
            items.runs is not None or not len(set(fact.keys)) == len(fact.keys) == fact.items
        ):
            _refuse(fact, "with wrong keys")
        before = self._move(group, after)
        self._begin(group, fact.attempt, fact.at)
        items.create(group, fact.items, fact.keys)
        items.error = fact.error
        self._withdraw_group(name)
        self._groups[name] = self._to_announce[name] = None
        self._check_end(group)
        return (TaskChange(before, group.summary()),)

    def _begin(self, task: Run, attempt: int, at: datetime) -> None:
        """Take down that an attempt began."""
        task.attempt = attempt
        task.started_at = at
        task.finished_at = task.retry_at = task.due = None
        if self.hooks and task.key in self.hooks:
            return
        self.state = _RUNNING
        if self.started_at is None:
            self.started_at = at
            self._began = without_skew(at, self.skew)

    def _succeeded(self, fact: TaskSucceeded) -> Changes:
        task, after = self._subject_running(fact)
        if self._groups and (items := _items_of(task)) is not None and _failed(items):
            _refuse(fact, "while items failed or were cancelled")
        if (fact.chosen is not None) is not task.planned.branch:
            _refuse(fact, f"of a task that is {'a' if task.planned.branch else 'no'} branch")
        if fact.chosen is not None:
            self._choose(fact, fact.chosen)
        task.result = fact.stored or fact.result
        self.result_bytes += size_of(task.result)
        before = self._end(task, after, fact.at)
        result = task.result
        artifacts: tuple[Artifact, ...] = ()
        if (kept := fact.kept) is not None:
            result, artifacts = fact.result, kept.all
        return (
            TaskChange(before, task.summary(), None, None, False, result, fact.item,
                       fact.chosen, artifacts),
        )  # fmt: skip

    def _attempt_failed(self, fact: AttemptFailed) -> Changes:
        task, after = self._subject_running(fact)
        if self._groups and _items_of(task) is not None:
            _refuse(fact, "of a mapped task, whose items are retried")
        if fact.interrupted:
            if not task.planned.may_repeat:
                _refuse(fact, "of a task without retries")
        elif not task.retries_left:
            _refuse(fact, "with no retries left")
        before = self._move(task, after)
        task.finished_at = fact.at
        if fact.interrupted:
            task.interruptions += 1
        else:
            task.interruptions = 0
            task.retries_left -= 1
        task.retry_at = fact.retry_at
        task.due = due = without_skew(fact.retry_at, self.skew)
        self.error_characters += len(fact.error)
        key, item = task.key, fact.item
        del self._running[key]
        if key in self._cancel_requested:
            self._to_cancel[key] = None
        heapq.heappush(self._retries, (due, fact.task, -1 if item is None else item))
        if task.group is not None:
            self._item_stopped(task.group)
        return (
            TaskChange(before, task.summary(), fact.retry_at, fact.error, fact.interrupted,
                       item=item),
        )  # fmt: skip

    def _task_failed(self, fact: TaskFailed) -> Changes:
        task, after = self._subject_running(fact)
        if (group := task.group) is not None:
            _items(group).failed(_index(task), fact.error)
        before = self._end(task, after, fact.at)
        self.error_characters += len(fact.error)
        return (
            TaskChange(before, task.summary(), error=fact.error, interrupted=fact.interrupted,
                       item=fact.item),
        )  # fmt: skip

    def _postponed(self, fact: TaskPostponed) -> Changes:
        task, after = self._subject_running(fact)
        if _items_of(task) is not None:
            _refuse(fact, "of a mapped task, whose items wait")
        if self.is_cancelling(task.key):
            _refuse(fact, "after it was cancelled")
        if fact.again_at < fact.at:
            _refuse(fact, "until a time in the past")
        every = (fact.again_at - fact.at).total_seconds()
        task.waiting = Waiting(fact.why, fact.again_at, every)
        return (TaskChange(after, task.summary(), item=fact.item),)

    def _child_started(self, fact: ChildStarted) -> Changes:
        task, _ = self._subject(fact)
        if fact.attempt != task.attempt or _items_of(task) is not None:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        self.children.append(fact)
        self._children[fact.key] = fact
        return ()

    def child_of(self, key: Key) -> ChildStarted | None:
        """The last execution that a task or item has started, if any."""
        return self._children.get(key)

    def _skipped(self, fact: TaskSkipped) -> Changes:
        task, after = self._subject(fact)
        if task.state is State.RUNNING:
            if _items_of(task) is not None:
                known = _is_empty(task) and fact.attempt in (0, task.attempt)
            else:
                known = fact.attempt == task.attempt and fact.reason in BY_ATTEMPT
            if not known:
                _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        elif fact.item is not None or not self._may_skip(fact):
            _refuse(fact, f"while {task.planned.rule} can still be met")
        elif fact.attempt or fact.reason in (*BY_ATTEMPT, SkipReason.HAND):
            _refuse(fact, f"while {task.state}")
        elif (fact.reason is SkipReason.BRANCH) is not (self.rejecting(fact.task) is not None):
            _refuse(fact, "against the choice of the branches before it")
        skip = None if fact.reason is None else WhySkipped(fact.reason, fact.why)
        if isinstance(task, TaskRun):
            task.skip = skip
        before = self._end(task, after, fact.at)
        return (TaskChange(before, _summary(task, skip), item=fact.item),)

    def _may_skip(self, fact: TaskSkipped) -> bool:
        """Whether the rules skip a task. Those of older versions did not wait to know a reason."""
        if fact.reason is not None or fact.task in self._to_skip or fact.task in self.hooks:
            return fact.task in self._to_skip
        task = self.tasks[fact.task]
        rule = rule_for(task.planned.rule, len(task.planned.after))
        return rule(task.tally) is Verdict.SKIP and fact.task not in self._cancel_requested

    def _cancelled(self, fact: TaskCancelled) -> Changes:
        task, after = self._subject(fact)
        attempt = task.attempt if task.state is State.RUNNING else 0
        if fact.attempt != attempt:
            _refuse(fact, f"while attempt {attempt} is running")
        if _items_of(task) is not None and attempt:
            self._check_ending(fact)
        return (TaskChange(self._end(task, after, fact.at), task.summary(), item=fact.item),)

    def _dispatch(self, fact: Dispatched) -> Changes:
        task, _ = self._subject(fact)
        if fact.attempt != task.attempt or _items_of(task) is not None:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        if fact.number < 1:
            _refuse(fact, "with a number below 1")
        self.dispatched += 1
        return ()

    def _cancel(self, fact: CancelRequested) -> Changes:
        if self.closing:
            return self._cancel_hooks(fact)
        if self.cancelling:
            _refuse(fact, "a second time")
        self.cancelling = True
        if fact.timeout is not None:
            self.reason = f"timed out after {fact.timeout:g} s"
        elif fact.defect:
            self.reason = f"a defect in goflow: {fact.defect}"
        for name in self._groups:
            self._check_end(self.tasks[name])
        return ()

    def _cancel_hooks(self, fact: CancelRequested) -> Changes:
        """Cancel the hooks, after all tasks have ended."""
        hooks = self.cancellable_hooks
        twice = fact.defect and self.cancelling
        if fact.timeout is not None or twice or not (hooks or fact.defect):
            _refuse(fact, "while hooks end")
        if fact.defect:
            self.cancelling = True
            self.reason = f"a defect in goflow: {fact.defect}"
        for name in hooks:
            self._request_cancel(self.hooks[name])
        return ()

    def _cancel_task(self, fact: TaskCancelRequested) -> Changes:
        task, _ = self._subject(fact)
        key = task.key
        if self.is_cancelling(key):
            _refuse(fact, "a second time")
        self._request_cancel(task)
        if isinstance(task, TaskRun) and task.items is not None:
            self._withdraw_group(fact.task)
            self._check_end(task)
        return ()

    def _request_cancel(self, task: Run) -> None:
        key = task.key
        self._cancel_requested[key] = None
        if task.state is not State.RUNNING:
            self._to_cancel[key] = None
        self._withdraw(task)

    def _marked(self, fact: MarkedSuccessful | MarkedSkipped) -> Changes:
        task, after = self._subject(fact)
        if self.hooks and (self.closing or fact.task in self.hooks):
            _refuse(fact, "while hooks run, or of a hook")
        state = self._final_state(without=task.state) if self.finished else None
        if fact.finished != state:
            _refuse(fact, f"leaves the execution {state or 'unfinished'}")
        if state is None and self.is_cancelling(task.key):
            _refuse(fact, "after it was cancelled")
        if task.state is _RUNNING and task.waiting is None:
            _refuse(fact, "while running, and not waiting")
        skip = None
        if after is _SKIPPED:
            skip = WhySkipped(SkipReason.HAND, f"marked by {fact.by or 'hand'}")
        if isinstance(task, TaskRun):
            task.skip = skip
        if task.state in FINISHED:
            before = self._move(task, after)
            task.finished_at = fact.at
            if (group := task.group) is not None:
                _items(group).failures.pop(_index(task), None)
            else:
                for waiting in self.plan.downstream[fact.task]:
                    self._count_again(waiting)
        else:
            before = self._end(task, after, fact.at)
        self.state = state or self.state
        return (TaskChange(before, _summary(task, skip), item=fact.item),)

    def _finished(self, fact: Finished) -> Changes:
        if self._unfinished or self._hooks_unfinished:
            _refuse(fact, f"with {self._unfinished} tasks unfinished")
        state = self._final_state()
        if fact.state != state:
            _refuse(fact, f"of an execution that is {state}")
        self.state = state
        self.finished_at = fact.at
        return ()

    def _retried(self, fact: Retried) -> Changes:
        again = set(fact.tasks)
        if not self.finished or not again or len(again) != len(fact.tasks):
            _refuse(fact, f"while {self.state}")
        if not self.tasks.keys() >= again:
            _refuse(fact, "of tasks that are not in the plan")
        if fact.item is not None and (
            fact.asked not in again or not self.has_item(fact.asked, fact.item)
        ):
            _refuse(fact, "of an item that does not exist")
        if fact.item is not None and self.is_outdated(fact.asked or ""):
            _refuse(fact, "of an item of an earlier list")
        affected: dict[str, None] = {}
        changes = []
        for name in fact.tasks:
            task = self.tasks[name]
            before = self._move(task, State.NOTSTARTED)
            if task.items is not None:
                self._restart(task, task.items, again, fact.item if name == fact.asked else None)
            self.result_bytes -= size_of(task.result)
            task.reset()
            changes.append(TaskChange(before, task.summary()))
            affected |= dict.fromkeys([name, *self.plan.downstream[name]])
            for waiting in self.plan.downstream[name]:
                self._outdate(self.tasks[waiting], name)
        for name in affected:
            self._count_again(name)
        for hook in self.hooks.values():
            before = self._move(hook, State.NOTSTARTED)
            self.result_bytes -= size_of(hook.result)
            hook.reset()
            changes.append(TaskChange(before, hook.summary()))
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.started_at = self.finished_at = self.reason = self._began = None
        if fact.params is not None:
            self.params = fact.params
            self._shown_params = None
        return tuple(changes)

    def _restart(self, group: TaskRun, items: Items, again: set[str], only: int | None) -> None:
        """Prepare the items of a group for another round, as `Retried` says."""
        if only is None:
            successful = items.counts[State.SUCCESSFUL] == len(items.runs or ())
            anew = successful or items.outdated or not again.isdisjoint(group.planned.after)
        else:
            anew = False
        for run in items.restart(anew=anew, only=only):
            self.result_bytes -= size_of(run.result)
            if not anew:
                self._move(run, State.NOTSTARTED)
                run.reset()

    def _outdate(self, task: TaskRun, upstream: str) -> None:
        """Note that an upstream task runs again: its list is another one then."""
        if task.items is not None and upstream in task.planned.lists:
            task.items.outdated = task.items.runs is not None

    def _subject(self, fact: TaskFact) -> tuple[Run, State]:
        """The run that a fact is about, and its state after the fact, if the table allows it."""
        task: Run | None = self.named.get(fact.task)
        if task is None:
            _refuse(fact, f"while the plan has no task {fact.task!r}")
        if fact.item is not None:
            if task.state is not State.RUNNING or not self.has_item(fact.task, fact.item):
                _refuse(fact, "while no such item is under way")
            task = self.run(Item(fact.task, fact.item))
        after = TABLE[type(fact)].moves.get(task.state)
        if after is None:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task, after

    def _subject_running(
        self, fact: TaskSucceeded | AttemptFailed | TaskFailed | TaskPostponed
    ) -> tuple[Run, State]:
        task, after = self._subject(fact)
        if fact.attempt != task.attempt:
            _refuse(fact, f"while {task.state}, attempt {task.attempt}")
        if self._groups and fact.item is None and fact.task in self._groups:
            self._check_ending(fact)
        return task, after

    def _check_ending(self, fact: TaskFact) -> None:
        """Refuse the end of a group while items go on."""
        if fact.task not in self._to_end:
            _refuse(fact, "while items go on")

    def _move(self, task: Run, after: State) -> State:
        """Set the state of a run; returns the one before."""
        before = task.state
        group = task.group
        counts = self._count if group is None else _items(group).counts
        if self.hooks and task.key in self.hooks:
            counts = self._hook_count
        counts[before] -= 1
        counts[after] += 1
        task.state = after
        if task.waiting is not None:
            task.waiting = None
        return before

    def _end(self, task: Run, after: State, at: datetime) -> State:
        """End a run, and evaluate the tasks that wait for it; returns the state before."""
        before = self._move(task, after)
        task.finished_at = at
        key = task.key
        if not isinstance(task, TaskRun):
            self._end_item(task, before)
            return before
        name = task.planned.name
        if task.items is not None:
            self._end_group(task, task.items, at)
        elif before is _RUNNING:
            del self._running[key]
        if before is not _RUNNING:
            self._to_cancel.pop(key, None)
            self._withdraw(task)
        if self._cancel_requested:
            self._cancel_requested.pop(key, None)
        if self.hooks:
            if name in self.hooks:
                return before
            self._begin_to_close()
        tasks = self.tasks
        unreached = after is _SKIPPED and task.unreached
        if self._branches and name in self._branches:
            for waiting in self.plan.downstream[name]:
                tasks[waiting].rule = self._rule_of(tasks[waiting])
        for waiting in self.plan.downstream[name]:
            other = tasks[waiting]
            other.tally.count(after, unreached)
            if other.state is _NOTSTARTED:
                self._judge(other)
        return before

    def _begin_to_close(self) -> None:
        """Let hooks run or be skipped, if all tasks have ended."""
        if self._unfinished:
            return
        state = self._final_state()
        for name, hook in self.hooks.items():
            if hook.state is not State.NOTSTARTED or name in self._cancel_requested:
                continue
            if (occasion := hook.planned.hook) is not None and occasion.includes(state):
                self._make_ready(name)
            else:
                self._to_skip[name] = None

    def _end_item(self, run: Run, before: State) -> None:
        key = run.key
        if before is State.RUNNING:
            del self._running[key]
        else:
            self._to_cancel.pop(key, None)
            self._withdraw(run)
        self._cancel_requested.pop(key, None)
        assert run.group is not None
        self._item_stopped(run.group)

    def _item_stopped(self, group: TaskRun) -> None:
        """There may be room for another item, or all have ended."""
        self._to_announce[group.planned.name] = None
        self._check_end(group)

    def _check_end(self, group: TaskRun) -> None:
        """Note a group that is to end: no item goes on."""
        items, name = _items(group), group.planned.name
        if group.state is not State.RUNNING:
            return
        if not items.open or (not items.running and self.is_cancelling(name)):
            self._to_end[name] = None

    def _end_group(self, group: TaskRun, items: Items, at: datetime) -> None:
        """Forget a group that has ended; what waits of its items is cancelled."""
        name = group.planned.name
        self._withdraw_group(name)
        self._groups.pop(name, None)
        self._to_end.pop(name, None)
        self._joining.discard(name)
        if items.open:
            for run in unfinished(items):
                self._move(run, State.CANCELLED)
                run.finished_at = at
                self._to_cancel.pop(run.key, None)
                self._cancel_requested.pop(run.key, None)
                self._withdraw(run)

    def _count_again(self, name: str) -> None:
        """Evaluate a task again after the end of an upstream task was changed or undone."""
        task = self.tasks[name]
        task.tally.reset()
        if self._branches:
            task.rule = self._rule_of(task)
        for upstream in task.planned.after:
            run = self.tasks[upstream]
            if run.state in FINISHED:
                task.tally.count(run.state, run.unreached)
        if task.state is State.NOTSTARTED:
            found = task.rule(task.tally)
            if found is not Verdict.RUN:
                self._ready.discard(name)
                self._unannounced.pop(name, None)
            if found is not Verdict.RUN or not self._has_list(task):
                self._withdraw_group(name)
            if found is not Verdict.SKIP:
                self._to_skip.pop(name, None)
            self._judge(task)

    def _judge(self, task: TaskRun) -> None:
        """Let a task that waits become ready or be skipped, if its trigger rule has decided.

        The decision is final, except after `_count_again`.
        """
        found = task.rule(task.tally)
        if found is _WAIT or (name := task.planned.name) in self._cancel_requested:
            return
        if found is Verdict.SKIP:
            self._to_skip[name] = None
        elif task.items is None:
            self._make_ready(name)
        elif name not in self._to_map and self._has_list(task):
            self._to_map.add(name)
            self._unmapped[name] = None

    def _choose(self, fact: TaskSucceeded, chosen: tuple[str, ...]) -> None:
        """Keep which tasks a branch chose."""
        if not set(chosen).issubset(self.plan.downstream[fact.task]):
            _refuse(fact, "of tasks that are not directly downstream of it")
        self.tasks[fact.task].chosen = chosen

    def _rule_of(self, task: TaskRun) -> Rule:
        """The rule that a task follows now, which depends on the branches directly upstream."""
        planned = task.planned
        rule = rule_for(planned.rule, len(planned.after), patient=self.plan.asks_for_failures)
        if self._branches:
            for run in [self.tasks[name] for name in planned.after if name in self._branches]:
                if run.state not in FINISHED:
                    return undecided
                if run.rejects(planned.name):
                    rule = not_chosen
        return rule

    def _has_list(self, task: TaskRun) -> bool:
        """Whether the tasks that a mapped task maps over have ended, whatever the trigger rule."""
        return all(self.tasks[one].state in FINISHED for one in task.planned.lists)

    def _make_ready(self, key: Key) -> None:
        if key not in self._ready:
            self._ready.add(key)
            self._unannounced[key] = None

    def _withdraw(self, task: Run) -> None:
        """Neither start nor skip a run."""
        key = task.key
        if isinstance(key, str):
            self._ready.discard(key)
            self._to_skip.pop(key, None)
        elif task.group is not None and key in self._ready:
            self._ready.remove(key)
            _items(task.group).announced -= 1
            self._to_announce[key.task] = None
        self._unannounced.pop(key, None)

    def _withdraw_group(self, name: str) -> None:
        """Do not look for the items of a group, or announce more of them."""
        self._to_map.discard(name)
        self._unmapped.pop(name, None)
        self._to_announce.pop(name, None)

    # -- the state -------------------------------------------------------------------

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

    def is_ready(self, key: Key) -> bool:
        """Whether a task or item may start now."""
        if key not in self._ready or self.is_cancelling(key):
            return False
        return isinstance(key, str) or self._has_room(self.tasks[key.task])

    def _has_room(self, group: TaskRun) -> bool:
        """Whether another item of a group may start."""
        most = group.planned.max_parallel
        return most is None or _items(group).running < most

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
        )

    def summary(self) -> Summary:
        """The execution as `/api/executions` and `/stream` show it."""
        summary = self.brief()
        if len(self.tasks) <= TASKS_SHOWN:
            summary.tasks = [task.summary() for task in self.tasks.values()]
        return summary


def without_skew(at: datetime, skew: timedelta) -> datetime:
    """The instant minus the skew, as far as a datetime can represent it."""
    try:
        return at - skew
    except OverflowError:
        return datetime.max.replace(tzinfo=at.tzinfo)  # a retry in a century, or never


def _items(group: TaskRun) -> Items:
    assert group.items is not None
    return group.items


def _items_of(task: Run) -> Items | None:
    """The items of a task; None if it is an item, or not mapped."""
    return task.items if isinstance(task, TaskRun) else None


def _summary(run: Run, skip: WhySkipped | None) -> TaskSummary:
    """A run in brief, with the reason for its skip, which items do not keep."""
    summary = run.summary()
    if skip is None or isinstance(run, TaskRun):
        return summary
    return msgspec.structs.replace(summary, skip=skip)


def _index(run: Run) -> int:
    """The index of an item."""
    index = item_of(run.key)
    assert index is not None
    return index


def _failed(items: Items) -> bool:
    """Whether a group cannot succeed."""
    return bool(items.error or items.counts[State.FAILED] or items.counts[State.CANCELLED])


def _is_empty(task: Run) -> bool:
    """Whether a running group has no items, and is skipped for that."""
    items = _items_of(task)
    if items is None or items.runs or items.error:
        return False
    return task.planned.on_empty is OnEmpty.SKIP


def _refuse(fact: AnyFact, reason: str) -> Never:
    raise IllegalTransition(f"{fact!r} {reason}")


class Row(NamedTuple):
    """A row of the table: how a fact is applied, the states of its task before and after it,
    and whether it may follow `Finished`."""

    apply: Callable[[Progress, Any], Changes]
    moves: Mapping[State, State] = {}
    afterwards: bool = False


_SAME = {state: state for state in (State.NOTSTARTED, State.UPFORRETRY, State.RUNNING)}

# The table of all facts but `Submitted`, which begins an execution.
#
# Rules:
# - A fact about a task is allowed only in the states on the left of its row, and leaves the task
#   in the state on the right. The function of the row checks what the table cannot say: trigger
#   rules, numbers of attempts, retries left.
# - A fact with `item` is about an item of a mapped task, by the same row. It is allowed only
#   while the mapped task runs.
# - `Mapped` starts a mapped task, instead of `TaskStarted`. It ends when no item goes on; only
#   an empty one may be skipped while it runs.
# - `TaskPostponed` leaves its task running, without a slot until the next look. Only such a task
#   may be marked while it runs.
# - An attempt may skip its task. Without one, only a trigger rule and a branch may.
# - Only a retry and the marks may follow `Finished`.
# - A fact about a task is also one about a hook, by the same row, except for marks.
# - The end of a task, and only that, is counted for the tasks that wait for it.
# - A change of a task's state is returned as a `TaskChange`, whichever fact made it.
#
# To add a fact: write its class in events.py, and add it to `AnyFact`; add its row here, with the
# function that the row names; write its test. Then `python -m tests.core.render_states` draws
# docs/states.md anew. Tests fail for a fact without a row, without a fixed spelling in JSON
# (tests/core/test_events.py), or unknown to the model (tests/core/model.py).
TABLE: dict[type, Row] = {
    TaskStarted: Row(
        Progress._started,
        {State.NOTSTARTED: State.RUNNING, State.UPFORRETRY: State.RUNNING},
    ),
    Mapped: Row(Progress._mapped, {State.NOTSTARTED: State.RUNNING}),
    TaskSucceeded: Row(Progress._succeeded, {State.RUNNING: State.SUCCESSFUL}),
    AttemptFailed: Row(Progress._attempt_failed, {State.RUNNING: State.UPFORRETRY}),
    TaskFailed: Row(Progress._task_failed, {State.RUNNING: State.FAILED}),
    TaskPostponed: Row(Progress._postponed, {State.RUNNING: State.RUNNING}),
    TaskSkipped: Row(
        Progress._skipped,
        {State.NOTSTARTED: State.SKIPPED, State.RUNNING: State.SKIPPED},
    ),
    TaskCancelled: Row(
        Progress._cancelled,
        {
            State.RUNNING: State.CANCELLED,
            State.UPFORRETRY: State.CANCELLED,
            State.NOTSTARTED: State.CANCELLED,
        },
    ),
    TaskCancelRequested: Row(Progress._cancel_task, _SAME),
    Dispatched: Row(Progress._dispatch, {State.RUNNING: State.RUNNING}),
    ChildStarted: Row(Progress._child_started, {State.RUNNING: State.RUNNING}),
    CancelRequested: Row(Progress._cancel),
    MarkedSuccessful: Row(
        Progress._marked,
        {
            State.NOTSTARTED: State.SUCCESSFUL,
            State.UPFORRETRY: State.SUCCESSFUL,
            State.RUNNING: State.SUCCESSFUL,
            State.SKIPPED: State.SUCCESSFUL,
            State.FAILED: State.SUCCESSFUL,
            State.CANCELLED: State.SUCCESSFUL,
        },
        afterwards=True,
    ),
    MarkedSkipped: Row(
        Progress._marked,
        {
            State.NOTSTARTED: State.SKIPPED,
            State.UPFORRETRY: State.SKIPPED,
            State.RUNNING: State.SKIPPED,
            State.FAILED: State.SKIPPED,
            State.CANCELLED: State.SKIPPED,
        },
        afterwards=True,
    ),
    Finished: Row(Progress._finished),
    Retried: Row(
        Progress._retried,
        {
            State.SKIPPED: State.NOTSTARTED,
            State.FAILED: State.NOTSTARTED,
            State.CANCELLED: State.NOTSTARTED,
            State.SUCCESSFUL: State.NOTSTARTED,
        },
        afterwards=True,
    ),
}
