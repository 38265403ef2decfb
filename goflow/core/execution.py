"""One execution: the decisions about its next steps.

Every decision follows from the applied facts, so it is the same after a crash. The shell calls
`advance`, `settle`, `interrupt`, `cancel`, `cancel_task`, `mark` or `retry`. Each returns the
facts it decided on, already applied, and the shell commits them before it acts. `transition`
returns what those facts changed, for everything that shows the execution.

Two decisions about a mapped task need values that only the shell can load. It loads the list to
map over of each of `groups_to_map`, and calls `map`. It joins the results of the items of each of
`groups_to_join`, and settles the mapped task with that.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from goflow.core.cost import Cost
from goflow.core.detail import cut_error
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
    OnRetryEnded,
    Retried,
    Submitted,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskPostponed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
    Yielded,
)
from goflow.core.graph import OnEmpty, Plan, PlannedTask
from goflow.core.groups import items_of
from goflow.core.keys import Item, Key, described, item_of, task_of
from goflow.core.progress import TABLE, Progress
from goflow.core.result import Chunked, Kept
from goflow.core.runs import Items, Run, Runs, TaskRun
from goflow.core.standing import without_skew
from goflow.core.states import FINISHED, SkipReason, State, Tally, explains, skip_reason
from goflow.core.summary import WHY, TaskSummary
from goflow.core.transition import TaskChange, Transition

_MARKS: dict[State, type[MarkedSuccessful | MarkedSkipped]] = {
    State.SUCCESSFUL: MarkedSuccessful,
    State.SKIPPED: MarkedSkipped,
}

_ENDED = {
    State.FAILED: "failed",
    State.SKIPPED: "was skipped",
    State.CANCELLED: "was cancelled",
    State.SUCCESSFUL: "was successful",
}

_LOST = {
    SkipReason.UPSTREAM_FAILED: "a failure",
    SkipReason.UPSTREAM_CANCELLED: "a cancel",
    SkipReason.UPSTREAM_SKIPPED: "a skip",
}

INTERRUPTED = "interrupted: the server stopped while this attempt was running"
# A task is retried after so many interruptions in a row. The number is bounded, since a task may
# be what kills the server, and generous, since it rarely is.
INTERRUPTIONS = 100
# Items of a mapped task that have been announced and not started, at most: each waits in memory.
AHEAD = 1000
CHOSEN_TOLD = 5  # tasks that a branch chose, in the explanation of a skip
ERRORS_KEPT = 16 * 1024 * 1024  # characters of all errors; further ones are cut in the facts


class Succeeded(msgspec.Struct, frozen=True):
    """Outcome of an attempt that returned; the fields are as in the fact `TaskSucceeded`. Each
    outcome has the `cost` of the attempt, None if there is nothing to say.

    A result that is too large for the fact is the `body`, to be stored together with the fact.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""
    chosen: tuple[str, ...] | None = None
    kept: Kept | None = None
    cost: Cost | None = None
    chunked: Chunked | None = None
    body: bytes = b""


class Failed(msgspec.Struct, frozen=True):
    """Outcome of an attempt that raised. A `final` failure is not retried."""

    error: str
    final: bool = False
    cost: Cost | None = None


class Skipped(msgspec.Struct, frozen=True):
    """Outcome of an attempt that skips its task: by itself, or since its condition is false."""

    why: str = ""
    reason: SkipReason = SkipReason.ITSELF
    cost: Cost | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """Outcome of an attempt that was stopped because its task or execution was cancelled."""

    cost: Cost | None = None


class Interrupted(msgspec.Struct, frozen=True):
    """Outcome of an attempt that ended with the server it ran in."""

    error: str = INTERRUPTED
    cost: Cost | None = None


class Postponed(msgspec.Struct, frozen=True):
    """Outcome of a look in vain: the attempt goes on, and looks again after so many seconds."""

    seconds: float
    why: str = ""
    cost: Cost | None = None  # of all looks so far


Outcome = Succeeded | Failed | Skipped | Cancelled | Interrupted | Postponed


class Execution(Progress):
    """One run of a job: its state, and the decisions that follow from it."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        super().__init__(plan, submitted)
        self._decided: list[TaskChange] = []
        self._replanned = False
        # The tasks and items that wait, and whose operator is looking right now; the shell keeps
        # this, since a look is no fact.
        self.looking: set[Key] = set()

    def transition(self) -> Transition:
        """The changes made by the facts decided since the last call; one change commits both."""
        changes, self._decided = self._decided, []
        mapped: list[TaskSummary] = []
        hooks: list[TaskChange] = []
        costs: dict[str, Cost] = {}
        if self.costs:
            names = dict.fromkeys(one.task.name for one in changes)
            costs = {name: self.costs[name] for name in names if name in self.costs}
        if self.hooks:
            hooks = [one for one in changes if one.task.name in self.hooks]
            changes = [one for one in changes if one.task.name not in self.hooks]
        if self.has_mapped_tasks:
            touched = dict.fromkeys(one.task.name for one in changes if one.item is not None)
            if self._streams and any(one.task.name in self._streams for one in changes):
                touched |= dict.fromkeys(self._growing)
            mapped = [self.tasks[name].summary() for name in touched]
            changes = [one for one in changes if one.item is None]
        replanned = None
        if self._replanned:
            self._replanned, costs = False, dict(self.costs)
            replanned = [task.summary() for task in self.tasks.values()]
        return Transition(self.brief(), changes, mapped, hooks, replanned, costs)

    # -- when to look again --------------------------------------------------------

    def newly_ready(self, now: datetime) -> list[Key]:
        """The tasks and items that have become ready since the last call, in the order in which
        they did, and hooks, once all tasks have ended. After a replay, all ready ones are returned
        again.

        Of the items of a mapped task, at most `AHEAD` are returned that have not started, and at
        most `max_parallel` that have not ended."""
        if self.finished or (self.cancelling and not self.closing):
            return []
        while (due := self._next_due()) is not None and due <= without_skew(now, self.skew):
            _, task, index = heapq.heappop(self._retries)
            if index < 0:
                self._make_ready(task)
            else:
                self._items(task).is_due(self.run(Item(task, index)))
                self._to_announce[task] = None
        while self._to_announce:
            self._announce(self._to_announce.popitem()[0])
        ready, self._unannounced = self._unannounced, {}
        return list(ready)

    def _announce(self, name: str) -> None:
        """Make the next items of a running group ready, as many as may start."""
        if self.is_cancelling(name):
            return
        items, most = self._items(name), self.tasks[name].planned.max_parallel
        room = AHEAD - items.announced
        if most is not None:
            room = min(room, most - items.announced - items.running)
        for run in items.take(room):
            if run.key not in self._cancel_requested:
                self._make_ready(run.key)
                items.announced += 1

    def _items(self, name: str) -> Items:
        return items_of(self.tasks[name])

    def groups_to_map(self) -> list[str]:
        """The mapped tasks that have become ready since the last call. After a replay, all ready
        ones are returned again."""
        if self.cancelling or self.finished:
            return []
        ready, self._unmapped = self._unmapped, {}
        return list(ready)

    def groups_to_join(self) -> list[str]:
        """The mapped tasks whose items have all succeeded since the last call, so that their
        results are to be joined. After a replay, all that wait for it are returned again."""
        found = [
            name
            for name in self._to_end
            if name not in self._joining
            and self._end_of_group(self.modified_at, self.tasks[name]) is None
        ]
        self._joining.update(found)
        return found

    def items_over(self, name: str) -> Runs | None:
        """The items that a mapped task maps over by item; None for another task, and while there
        are none."""
        source = self._source(self.tasks[name])
        return None if source is None else source.runs

    def stream_over(self, name: str) -> str | None:
        """The stream that a mapped task maps over by item; None for another task."""
        planned = self.tasks[name].planned
        over = planned.lists[0] if planned.by_item else None
        if over is None or self.tasks[over].stream is None:
            return None
        return over

    def is_growing(self, name: str) -> bool:
        """Whether a task is mapped over a stream by item, or over a task that is."""
        return name in self._growing

    def items_known(self, name: str) -> int:
        """The number of items that a task that runs by item has so far."""
        return self._total(self.tasks[name])

    def needs_results(self, name: str) -> bool:
        """Whether the results of the items of a mapped task may still be needed."""
        tasks = (self.tasks[one] for one in (name, *self._by_item.get(name, ())))
        return any(task.state not in FINISHED for task in tasks)

    def drop_results(self, name: str) -> None:
        """Drop the results of the items of a mapped task that has ended, to save memory. They
        are still in the facts, and in the result of the task if it succeeded."""
        self._items(name).drop_results()

    def fold_items(self) -> None:
        """From now on, keep items that have ended in few bytes, without their times."""
        for task in self.tasks.values():
            if task.items is not None:
                task.items.fold()

    def may_map(self, name: str) -> bool:
        """Whether `map` may be called for a mapped task."""
        return name in self._to_map and not self.is_cancelling(name)

    def next_retry(self) -> datetime | None:
        """When the next task becomes ready for a retry, by the clock as it is set now; or None."""
        due = self._next_due()
        return None if due is None else without_skew(due, -self.skew)

    def _next_due(self) -> datetime | None:
        while self._retries:
            due, name, index = self._retries[0]
            key = name if index < 0 else Item(name, index)
            task = self.run(key)
            if task.state is State.UPFORRETRY and task.due == due and not self.is_cancelling(key):
                return due
            heapq.heappop(self._retries)
        return None

    def deadline(self) -> datetime | None:
        """When the execution times out, by the clock as it is set now. None if it has no limit,
        has not started, or is ending."""
        ending = self.cancelling or not self._unfinished
        if self.timeout is None or self._began is None or ending:
            return None
        try:
            return self._began + timedelta(seconds=self.timeout) + self.skew
        except OverflowError:
            return None

    # -- what follows by the rules -------------------------------------------------

    def advance(self, now: datetime, granted: Iterable[Key] = ()) -> list[AnyFact]:
        """Time out, cancel and skip tasks, start the `granted` tasks and items that are ready,
        end mapped tasks, and finish the execution, as the rules say."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if (due := self.deadline()) is not None and due <= now:
            self._decide(facts, CancelRequested(now, timeout=self.timeout))
        if self.cancelling and self._waiting:
            for name, task in self.tasks.items():
                if task.state in (State.NOTSTARTED, State.UPFORRETRY):
                    self._decide(facts, TaskCancelled(now, name))
        if self._to_cancel or self._to_skip or self._to_end or self._items_to_skip:
            self._end_those_without_attempts(facts, now)
        for key in granted:
            if not self.is_ready(key):
                continue
            if isinstance(key, str):
                self._decide(facts, TaskStarted(now, key, self.named[key].attempt + 1))
            else:
                attempt = self.run(key).attempt + 1
                self._decide(facts, TaskStarted(now, key.task, attempt, key.number))
        if not self._unfinished and not self._hooks_unfinished:
            self._decide(facts, Finished(now, self._final_state()))
        return facts

    def _end_those_without_attempts(self, facts: list[AnyFact], now: datetime) -> None:
        """Cancel and skip tasks and items that do not run, and end mapped tasks of which no item
        goes on."""
        while True:
            while self._to_cancel:
                key = next(iter(self._to_cancel))
                self._decide(facts, TaskCancelled(now, task_of(key), item=item_of(key)))
            while self._items_to_skip:
                self._decide(facts, self._skip_item(now, next(iter(self._items_to_skip))))
            for name in list(self._to_end):
                if (end := self._end_of_group(now, self.tasks[name])) is not None:
                    self._decide(facts, end)
            while self._to_skip:
                self._decide(facts, self._skip(now, next(iter(self._to_skip))))
            if not self._items_to_skip:  # the end of a mapped task may skip items of another one
                return

    def _end_of_group(self, now: datetime, group: TaskRun) -> AnyFact | None:
        """The end of a group of which no item goes on; None if its results are to be joined."""
        name, attempt, items = group.planned.name, group.attempt, self._items(group.planned.name)
        if items.error:
            return TaskFailed(now, name, attempt, items.error)
        if items.counts[State.FAILED]:
            return TaskFailed(now, name, attempt, items.failure)
        if items.open or items.counts[State.CANCELLED] or self.may_grow(group):
            return TaskCancelled(now, name, attempt)
        if (reason := self.loss(group)) is not None and not items.lost:
            return self._skip_truncated(now, group, reason)
        if reason is not None:
            why = (
                f"{len(items.lost):,} of {len(items.runs or ()):,} items were skipped because of "
                f"{_LOST[reason]} before them"
            )
            return TaskSkipped(now, name, None, attempt, reason, _cut(why))
        if not items.runs:
            if group.planned.on_empty is OnEmpty.SKIP:
                why = "there are no items to map over"
                return TaskSkipped(now, name, None, attempt, SkipReason.ITSELF, why)
            return TaskSucceeded(now, name, attempt, msgspec.Raw(b"[]"))
        return None

    def _skip_truncated(self, now: datetime, group: TaskRun, reason: SkipReason) -> TaskSkipped:
        """The skip of a group whose items have ended, and whose source might have had more."""
        name, source = group.planned.name, self.tasks[group.planned.lists[0]]
        told = _ENDED[source.state] + (" because of a failure" if source.unreached else "")
        yielded = len(self._items(name).runs or ())
        why = f"task {source.planned.name!r} {told}, after {yielded:,} items"
        return TaskSkipped(now, name, None, group.attempt, reason, _cut(why))

    def _skip(self, now: datetime, name: str) -> TaskSkipped:
        """The skip of a task that its trigger rule or a branch rules out, or of a hook."""
        if name in self.hooks:
            return TaskSkipped(now, name)
        if (branch := self.rejecting(name)) is not None:
            names = [repr(one) for one in branch.chosen or ()]
            rest = len(names) - CHOSEN_TOLD
            told = ", ".join(names[:CHOSEN_TOLD]) + (f" and {rest} more" if rest > 0 else "")
            why = f"branch {branch.planned.name!r} chose {told or 'no task'}"
            return TaskSkipped(now, name, reason=SkipReason.BRANCH, why=_cut(why))
        task = self.tasks[name]
        return self._skip_by_rule(now, task, self.whole_tally(task))

    def _skip_item(self, now: datetime, key: Item) -> TaskSkipped:
        """The skip of an item that its trigger rule rules out."""
        group = self.tasks[key.task]
        tally = self.item_tally(group, key.number)
        assert tally is not None
        return self._skip_by_rule(now, group, tally, key.number)

    def _skip_by_rule(
        self, now: datetime, task: TaskRun, tally: Tally, item: int | None = None
    ) -> TaskSkipped:
        """The skip of a task or an item by its trigger rule, which has this tally."""
        rule = task.planned.rule
        reason = skip_reason(rule, tally)
        ends = self._endings(task.planned, item)
        cause, state, unreached = next(one for one in ends if explains(reason, rule, *one[1:]))
        told = _ENDED[state] + (" because of a failure" if unreached else "")
        why = _cut(f"{described(cause)} {told}")
        return TaskSkipped(now, task.planned.name, item, 0, reason, why)

    def _endings(self, planned: PlannedTask, item: int | None) -> Iterator[tuple[Key, State, bool]]:
        """The upstream tasks and their ends, as they count for a task or for one of its items."""
        for name in planned.after:
            if name in self._streams and item is not None and name in planned.lists:
                yield name, *self.ending_of_item(name, item)
            elif item is None or name not in planned.lists:
                run = self.tasks[name]
                yield name, run.state, run.unreached
            else:
                yield Item(name, item), *self.ending_of_item(name, item)

    def map(
        self, name: str, now: datetime, items: int, error: str = "", keys: tuple[str, ...] = ()
    ) -> list[AnyFact]:
        """Begin a mapped task, whose items are known now, and their keys if they have some; with
        `error`, it fails. Empty if it may not begin any more."""
        facts: list[AnyFact] = []
        if self.may_map(name):
            attempt = self.tasks[name].attempt + 1
            self._decide(facts, Mapped(now, name, attempt, items, error, keys))
        return facts

    def will_retry(self, key: Key, outcome: Outcome) -> bool:
        """Whether a task or item is retried after this outcome of its running attempt."""
        return (
            isinstance(outcome, Failed)
            and not outcome.final
            and not self.is_cancelling(key)
            and self.run(key).retries_left > 0
        )

    def goes_on(self, key: Key) -> bool:
        """Whether a task or item is retried if its running attempt is interrupted. That takes
        none of its retries, but a task without retries must not run twice unless it is
        repeatable."""
        task = self.run(key)
        return task.planned.may_repeat and task.interruptions < INTERRUPTIONS

    def is_news(self, key: Key, outcome: Outcome) -> bool:
        """Whether the outcome of a running attempt is to be recorded. A further look in vain for
        the same reason is not, nor is one that the end of the server interrupted."""
        waiting = self.run(key).waiting
        if waiting is None or self.is_cancelling(key):
            return True
        if isinstance(outcome, Postponed):
            return outcome.why != waiting.why
        return not isinstance(outcome, Cancelled | Interrupted)

    def settle(
        self, key: Key, outcome: Outcome, now: datetime, delay: float = 0.0, *, tells: bool = False
    ) -> AnyFact:
        """Record the outcome of the running attempt of a task or item, or of a mapped task whose
        results were joined. `delay` is in seconds, before a retry, which `tells` if the task has
        an `on_retry`."""
        run: Run
        item: int | None
        if isinstance(key, str):
            run, name, item = self.named[key], key, None
        else:
            run, name, item = self.run(key), key.task, key.number
        attempt = run.attempt
        if isinstance(outcome, Failed) and self.error_characters > ERRORS_KEPT:
            outcome = Failed(cut_error(outcome.error), outcome.final, outcome.cost)
        fact: AnyFact
        cost = outcome.cost
        match outcome:
            case Succeeded():
                body, size, sha256 = outcome.result, outcome.size, outcome.sha256
                chosen, kept, chunked = outcome.chosen, outcome.kept, outcome.chunked
                fact = TaskSucceeded(
                    now, name, attempt, body, size, sha256, item, chosen, kept, cost, chunked
                )
            case Skipped(why, reason):
                fact = TaskSkipped(now, name, item, attempt, reason, _cut(why), cost)
            case Cancelled():
                fact = TaskCancelled(now, name, attempt, item, cost)
            case Interrupted() | Postponed() if self.is_cancelling(key):
                fact = TaskCancelled(now, name, attempt, item, cost)
            case Interrupted(error) if self.goes_on(key):
                fact = AttemptFailed(now, name, attempt, error, now, True, item, cost)
            case Interrupted(error):
                if times := run.interruptions:
                    error += f"; this is interruption {times + 1} in a row, so it is not retried"
                fact = TaskFailed(now, name, attempt, error, True, item, cost)
            case Postponed(seconds, why):
                again = now + timedelta(seconds=seconds)
                fact = TaskPostponed(now, name, attempt, again, why, item)
            case Failed() if self.will_retry(key, outcome):
                due = now + timedelta(seconds=delay)
                error = outcome.error
                fact = AttemptFailed(now, name, attempt, error, due, False, item, cost, tells)
            case Failed():
                fact = TaskFailed(now, name, attempt, outcome.error, False, item, cost)
        self._decided += self.apply(fact)
        return fact

    def interrupt(self, now: datetime, found: Collection[Key] = ()) -> list[AnyFact]:
        """Settle the attempts that were running when the server stopped, except those of tasks
        that were `found` running, and of those that wait and look again. A task that may be
        retried is retried at once; any other fails visibly."""
        lost = [
            key for key in self.running if key not in found and self.is_news(key, Interrupted())
        ]
        return [self.settle(key, Interrupted(), now) for key in lost]

    def abort(self, now: datetime, defect: str) -> list[AnyFact]:
        """Fail the execution at once because of an error in goflow itself; empty if it has
        finished."""
        facts: list[AnyFact] = []
        if self.finished:
            return facts
        if not self.cancelling:
            self._decide(facts, CancelRequested(now, defect=defect))
        told = f"the outcome was not recorded, because of a defect in goflow: {defect}"
        for key in self.running:
            facts.append(self.settle(key, Failed(told, final=True), now))
        facts += self.advance(now)
        for name in list(self._groups):  # their results are not joined any more
            facts.append(self.settle(name, Failed(told, final=True), now))
        facts += self.advance(now)
        if self.closing:  # nobody is left to run the hooks
            if self.cancellable_hooks:
                self._decide(facts, CancelRequested(now))
            facts += self.advance(now)
        return facts

    def end_on_retry(self, key: Key, attempt: int, error: str, now: datetime) -> list[AnyFact]:
        """Note that the `on_retry` of a task or item has ended; empty if that is not waited for
        any more."""
        facts: list[AnyFact] = []
        if self.is_untold(key) and self.run(key).attempt == attempt:
            if self.error_characters > ERRORS_KEPT:
                error = cut_error(error)
            self._decide(facts, OnRetryEnded(now, task_of(key), attempt, error, item_of(key)))
        return facts

    def start_child(self, key: Key, child: str, job: str, now: datetime) -> list[AnyFact]:
        """Note the execution that the running attempt of a task or item has started; empty if
        that is known, or the attempt has ended."""
        facts: list[AnyFact] = []
        known = self.child_of(key)
        if key in self._running and (known is None or known.child != child):
            attempt = self.run(key).attempt
            self._decide(facts, ChildStarted(now, task_of(key), attempt, child, job, item_of(key)))
        return facts

    # -- requests ------------------------------------------------------------------

    def cancel(self, now: datetime, by: str = "") -> list[AnyFact]:
        """Cancel the execution, or its hooks if all tasks have ended. Empty if it was cancelled
        before or has finished."""
        facts: list[AnyFact] = []
        if self.closing:
            if self.cancellable_hooks:
                self._decide(facts, CancelRequested(now, by))
        elif not self.cancelling and not self.finished:
            self._decide(facts, CancelRequested(now, by))
        return facts

    def cancel_task(self, key: Key, now: datetime, by: str = "") -> list[AnyFact]:
        """Cancel one task or item; empty if it was cancelled before or has ended."""
        facts: list[AnyFact] = []
        may = self._may_change(key) and not self.is_cancelling(key)
        if may and not self.run(key).state.finished:
            self._decide(facts, TaskCancelRequested(now, task_of(key), by, item_of(key)))
        return facts

    def mark(self, key: Key, state: State, now: datetime, by: str = "") -> list[AnyFact]:
        """Mark a task or item successful or skipped by hand. Empty if it is running, unless it
        waits for its next look, or being cancelled, succeeded, or is in that state already; for
        an item of a mapped task that does not run; for a hook, and while hooks run."""
        kind = _MARKS[state]
        before, name, item = self.run(key).state, task_of(key), item_of(key)
        facts: list[AnyFact] = []
        if self.closing or name in self.hooks:
            return facts
        if before not in TABLE[kind].moves or not self._may_change(key):
            return facts
        if before is State.RUNNING and (self.run(key).waiting is None or key in self.looking):
            return facts
        if self.finished:
            self._decide(facts, kind(now, name, by, self._final_state(without=before).value))
        elif not self.is_cancelling(key):
            self._decide(facts, kind(now, name, by, None, item))
        return facts

    def dispatch(
        self,
        key: Key,
        attempt: int,
        number: int,
        action: msgspec.Raw,
        state: msgspec.Raw,
        size: int,
        now: datetime,
    ) -> list[AnyFact]:
        """Keep an action of a running attempt; empty if that does not run any more."""
        facts: list[AnyFact] = []
        if self.is_attempting(key, attempt):
            name, item = task_of(key), item_of(key)
            self._decide(facts, Dispatched(now, name, attempt, number, action, state, size, item))
        return facts

    def extend(
        self, task: str, attempt: int, first: int, items: int, size: int, now: datetime
    ) -> list[AnyFact]:
        """Keep the next items that the running attempt of a generator has yielded; empty if it
        does not run any more, or is being cancelled."""
        facts: list[AnyFact] = []
        if self.is_attempting(task, attempt) and not self.is_cancelling(task):
            self._decide(facts, Yielded(now, task, attempt, first, items, size))
        return facts

    def _may_change(self, key: Key) -> bool:
        """Whether a request may be about this task, or about this item, whose task must run."""
        return isinstance(key, str) or self.tasks[key.task].state is State.RUNNING

    def retry(
        self,
        now: datetime,
        task: Key | None = None,
        *,
        following: bool = True,
        params: dict[str, Any] | None = None,
        by: str = "",
        plan: Plan | None = None,
        timeout: float | None = None,
    ) -> list[AnyFact]:
        """Reopen a finished execution to run again the tasks that did not succeed; or `task`,
        which may be one item of a mapped task, and, if `following`, all tasks downstream of it.
        With `plan`, it goes on by that plan and `timeout`, and tasks that are new run too. Empty
        if there is nothing to run, for an item of an earlier or another list, and for a task that
        is not in the plan. A hook runs again alone, if it is one for this end."""
        facts: list[AnyFact] = []
        if not self.finished:
            return facts
        if isinstance(task, str) and task in self.hooks and plan is None:
            if self.is_wanted(task):
                self._decide(facts, Retried(now, (task,), by, None, task))
            return facts
        by_plan = plan or self.plan
        names = [planned.name for planned in by_plan.tasks]
        new = set[str]() if plan is None else self.new_in(plan)
        if task is None:
            kept = {name for name, run in self.tasks.items() if run.state is State.SUCCESSFUL}
            again = [name for name in names if name not in kept or name in new]
        else:
            name = task_of(task)
            if name not in by_plan.names or (
                isinstance(task, Item) and not self.has_list(name, by_plan)
            ):
                return facts
            chosen = by_plan.following(name) if following else {name}
            again = [name for name in names if name in chosen or name in new]
        if again:
            asked, item = (None, None) if task is None else (task_of(task), item_of(task))
            fact = Retried(now, tuple(again), by, params, asked, item, plan, timeout)
            self._decide(facts, fact)
            self._replanned = plan is not None
        return facts

    def has_list(self, name: str, plan: Plan) -> bool:
        """Whether the items of a mapped task are still those that it has by a plan."""
        planned = next(task for task in plan.tasks if task.name == name)
        return not self.is_outdated(name) and planned.maps_as(self.tasks[name].planned)

    def _decide(self, facts: list[AnyFact], fact: AnyFact) -> None:
        self._decided += self.apply(fact)
        facts.append(fact)


def _cut(why: str) -> str:
    return why if len(why) <= WHY else why[: WHY - 1] + "…"
