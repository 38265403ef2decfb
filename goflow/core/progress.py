"""The fold: an execution's state, computed from its facts.

`apply` is the only way to change the state, for new facts and for replayed ones. A fact that
`TABLE`, at the end of this file, does not allow raises `IllegalTransition` and changes nothing.
`apply` returns the changes of tasks it made. Everything that shows an execution is derived from
the state here, or from those changes; no other module interprets facts.

The work per fact is proportional to the edges it touches: nothing here looks at all tasks.
Tasks are keyed by name, never by position, and a fact adds the items of a mapped task.

The fold has three rooms. `goflow.core.standing` has the states and the answers that follow from
them, `goflow.core.groups` has mapped tasks and their items, and this one has facts and rules.

A hook is a task that runs when all others have ended, and before the execution finishes. The state
that the execution is going to have is certain by then, and decides which hooks run and which are
skipped. Hooks do not change it, and nothing else does while they run.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, Self, TypeVar

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
    OnRetryEnded,
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
    Yielded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.groups import Groups, fails, items_if_mapped, items_of, number_of
from goflow.core.keys import Item
from goflow.core.result import Artifact, Chunked, StoredResult, size_of
from goflow.core.runs import Run, Stream, TaskRun
from goflow.core.standing import IllegalTransition, refuse, without_skew
from goflow.core.states import (
    BY_ATTEMPT,
    BY_RULE,
    FINISHED,
    Rule,
    SkipReason,
    State,
    Verdict,
    not_chosen,
    rule_for,
    undecided,
)
from goflow.core.summary import TaskSummary, Waiting, WhySkipped
from goflow.core.transition import TaskChange

# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_NOTSTARTED, _RUNNING, _SKIPPED = State.NOTSTARTED, State.RUNNING, State.SKIPPED
_WAIT, _RUN = Verdict.WAIT, Verdict.RUN

Changes = tuple[TaskChange, ...]
Heard = Callable[[AnyFact, Changes], None]


Folded = TypeVar("Folded", bound="Progress")


class Salvaged(NamedTuple, Generic[Folded]):
    """The execution that damaged facts led to, the facts that count, and a description of the
    damage for people to read, None without any."""

    execution: Folded
    facts: list[AnyFact]
    damage: str | None


class Progress(Groups):
    """The fold of an execution's facts, beginning with `Submitted`."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        super().__init__(plan, submitted)
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
            refuse(fact, "cannot follow another fact")
        if self.finished and not row.afterwards:
            refuse(fact, f"after execution {self.id} finished")
        changes = row.apply(self, fact)
        self.modified_at = fact.at
        return changes

    # The functions that rows of the table name. Each checks everything that can be wrong with
    # its fact before it changes anything.

    def _started(self, fact: TaskStarted) -> Changes:
        task, after = self._subject(fact)
        key = task.key
        if self.is_cancelling(key):
            refuse(fact, "after it was cancelled")
        if key in self._untold:
            refuse(fact, "before its on_retry has ended")
        if fact.attempt != task.attempt + 1:
            refuse(fact, f"follows attempt {task.attempt}")
        if (group := task.group) is not None:
            if not self._has_room(group):
                refuse(fact, f"while {group.planned.max_parallel} items run, which is the limit")
            if (
                task.planned.by_item
                and task.state is _NOTSTARTED
                and self._item_verdict(group, number_of(task)) is not _RUN
            ):
                refuse(fact, f"while {task.planned.rule} is not met")
            items_of(group).started(fact.attempt)
        elif task.state is _NOTSTARTED and key not in self._ready:
            refuse(fact, f"while {task.planned.rule} is not met")
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
        if not isinstance(group, TaskRun) or group.items is None:
            refuse(fact, "which is not mapped")
        if self.is_cancelling(name):
            refuse(fact, "after it was cancelled")
        if name not in self._to_map:
            refuse(fact, "while it is not ready")
        if fact.attempt != group.attempt + 1:
            refuse(fact, f"follows attempt {group.attempt}")
        self._check_mapped(fact, group)
        before = self._move(group, after)
        self._begin(group, fact.attempt, fact.at)
        self._create(fact, group)
        for waiting in self._by_item.get(name, ()):
            if (other := self.tasks[waiting]).state is _NOTSTARTED:
                self._judge(other)
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
        if (
            self._groups
            and (items := items_if_mapped(task)) is not None
            and isinstance(task, TaskRun)
            and (items.open or self.may_grow(task) or self.loss(task) or fails(items))
        ):
            refuse(fact, "while items go on, failed, were cancelled or are lost")
        if (fact.chosen is not None) is not task.planned.branch:
            refuse(fact, f"of a task that is {'a' if task.planned.branch else 'no'} branch")
        if fact.chosen is not None:
            self._choose(fact, fact.chosen)
        if (chunked := fact.chunked) is not None:
            self._check_chunked(task, fact, chunked)
        else:
            self.result_bytes += size_of(fact.stored or fact.result)
        task.result = fact.stored or fact.result
        if (cost := fact.cost) is not None:
            self._spend(task.key, cost, succeeded=True)
        before = self._end(task, after, fact.at)
        result = task.result
        artifacts: tuple[Artifact, ...] = ()
        if (kept := fact.kept) is not None:
            result, artifacts = fact.result, kept.all
        return (
            TaskChange(before, task.summary(), None, None, False, result, fact.item,
                       fact.chosen, artifacts, cost),
        )  # fmt: skip

    def _yielded(self, fact: Yielded) -> Changes:
        task, after = self._subject_running(fact)
        if not isinstance(task, TaskRun) or (stream := task.stream) is None:
            refuse(fact, "of a task that is no stream")
        if self.is_cancelling(task.key):
            refuse(fact, "after it was cancelled")
        if fact.first != stream.items or fact.items < 1 or fact.size < 0:
            refuse(fact, f"follows {stream.items} items")
        task.stream = Stream(stream.round, stream.items + fact.items, stream.size + fact.size)
        self.result_bytes += fact.size
        self._grow(fact.task, fact.items)
        for waiting in self._by_item.get(fact.task, ()):
            if (group := self.tasks[waiting]).state is _NOTSTARTED:
                self._judge(group)
        return (TaskChange(after, task.summary()),)

    def _check_chunked(self, task: Run, fact: TaskSucceeded, chunked: Chunked) -> None:
        if isinstance(task, TaskRun) and task.items is not None:
            grows = task.planned.name in self._growing
            if not grows or chunked != Chunked(None, len(task.items.runs or ())):
                refuse(fact, "with other items than it has, or with a list that is to be joined")
            return
        stream = task.stream if isinstance(task, TaskRun) else None
        if stream is None or chunked != Chunked(stream.round, stream.items):
            refuse(fact, "with other items than those that it yielded")

    def _drop_result(self, task: TaskRun) -> None:
        """Discount the result of a task that is to run again, and what it yielded."""
        self._end_stream(task)
        self.result_bytes -= size_of(task.result)
        task.stream = Stream(task.rounds) if task.planned.stream else None

    def _end_stream(self, task: TaskRun) -> None:
        """Count the list that a stream has yielded, if it is a result, in place of its items."""
        if (stream := task.stream) is not None:
            self.result_bytes -= stream.size
            if isinstance(task.result, StoredResult) and task.result.chunked is not None:
                self.result_bytes += size_of(task.result)
            task.rounds, task.stream = stream.round + 1, None

    def _attempt_failed(self, fact: AttemptFailed) -> Changes:
        task, after = self._subject_running(fact)
        if self._groups and items_if_mapped(task) is not None:
            refuse(fact, "of a mapped task, whose items are retried")
        if fact.interrupted:
            if fact.tells:
                refuse(fact, "which tells of an interruption")
            if not task.planned.may_repeat:
                refuse(fact, "of a task without retries")
        elif not task.retries_left:
            refuse(fact, "with no retries left")
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
        if fact.cost is not None:
            self._spend(key, fact.cost)
        del self._running[key]
        if key in self._cancel_requested:
            self._to_cancel[key] = None
        if fact.tells:
            self._untold[key] = None
        else:
            heapq.heappush(self._retries, (due, fact.task, -1 if item is None else item))
        if task.group is not None:
            self._item_stopped(task.group)
        return (
            TaskChange(before, task.summary(), fact.retry_at, fact.error, fact.interrupted,
                       item=item, cost=fact.cost),
        )  # fmt: skip

    def _on_retry_ended(self, fact: OnRetryEnded) -> Changes:
        task, after = self._subject(fact)
        key, item = task.key, fact.item
        if key not in self._untold or fact.attempt != task.attempt:
            refuse(fact, "which is not called")
        assert task.due is not None
        del self._untold[key]
        heapq.heappush(self._retries, (task.due, fact.task, -1 if item is None else item))
        self.error_characters += len(fact.error)
        return (
            TaskChange(after, task.summary(), task.retry_at, item=item, told=fact.error),
        )  # fmt: skip

    def _task_failed(self, fact: TaskFailed) -> Changes:
        task, after = self._subject_running(fact)
        if (group := task.group) is not None:
            items_of(group).failed(number_of(task), fact.error)
        if fact.cost is not None:
            self._spend(task.key, fact.cost)
        before = self._end(task, after, fact.at)
        self.error_characters += len(fact.error)
        return (
            TaskChange(before, task.summary(), error=fact.error, interrupted=fact.interrupted,
                       item=fact.item, cost=fact.cost),
        )  # fmt: skip

    def _postponed(self, fact: TaskPostponed) -> Changes:
        task, after = self._subject_running(fact)
        if items_if_mapped(task) is not None:
            refuse(fact, "of a mapped task, whose items wait")
        if self.is_cancelling(task.key):
            refuse(fact, "after it was cancelled")
        if fact.again_at < fact.at:
            refuse(fact, "until a time in the past")
        every = (fact.again_at - fact.at).total_seconds()
        task.waiting = Waiting(fact.why, fact.again_at, every)
        return (TaskChange(after, task.summary(), item=fact.item),)

    def _child_started(self, fact: ChildStarted) -> Changes:
        task, _ = self._subject(fact)
        if fact.attempt != task.attempt or items_if_mapped(task) is not None:
            refuse(fact, f"while {task.state}, attempt {task.attempt}")
        self.children.append(fact)
        self._children[fact.key] = fact
        return ()

    def _skipped(self, fact: TaskSkipped) -> Changes:
        task, after = self._subject(fact)
        if task.state is State.RUNNING:
            if isinstance(task, TaskRun) and task.items is not None:
                known = self._is_skipped_in_the_end(fact, task, task.items)
            else:
                known = fact.attempt == task.attempt and fact.reason in BY_ATTEMPT
            if not known:
                refuse(fact, f"while {task.state}, attempt {task.attempt}")
        elif fact.item is not None:
            if task.key not in self._items_to_skip:
                refuse(fact, f"while {task.planned.rule} can still be met")
            if fact.attempt or fact.reason not in BY_RULE:
                refuse(fact, f"while {task.state}")
        elif not self._may_skip(fact):
            refuse(fact, f"while {task.planned.rule} can still be met")
        elif fact.attempt or fact.reason in (*BY_ATTEMPT, SkipReason.HAND):
            refuse(fact, f"while {task.state}")
        elif (fact.reason is SkipReason.BRANCH) is not (self.rejecting(fact.task) is not None):
            refuse(fact, "against the choice of the branches before it")
        skip = None if fact.reason is None else WhySkipped(fact.reason, fact.why)
        if isinstance(task, TaskRun):
            task.skip = skip
        else:
            self._lose(task, fact.reason)
        if fact.cost is not None:
            self._spend(task.key, fact.cost)
        before = self._end(task, after, fact.at)
        return (TaskChange(before, _summary(task, skip), item=fact.item, cost=fact.cost),)

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
            refuse(fact, f"while attempt {attempt} is running")
        if items_if_mapped(task) is not None and attempt:
            self._check_ending(fact)
        if fact.cost is not None:
            self._spend(task.key, fact.cost)
        before = self._end(task, after, fact.at)
        return (TaskChange(before, task.summary(), item=fact.item, cost=fact.cost),)

    def _dispatch(self, fact: Dispatched) -> Changes:
        task, _ = self._subject(fact)
        if fact.attempt != task.attempt or items_if_mapped(task) is not None:
            refuse(fact, f"while {task.state}, attempt {task.attempt}")
        if fact.number < 1:
            refuse(fact, "with a number below 1")
        self.dispatched += 1
        return ()

    def _cancel(self, fact: CancelRequested) -> Changes:
        if self.closing:
            return self._cancel_hooks(fact)
        if self.cancelling:
            refuse(fact, "a second time")
        self.cancelling = True
        if fact.timeout is not None:
            self.reason = f"timed out after {fact.timeout:g} s"
        elif fact.defect:
            self.reason = f"a defect in goflow: {fact.defect}"
        self._items_to_skip.clear()
        for name in self._groups:
            self._check_end(self.tasks[name])
        return ()

    def _cancel_hooks(self, fact: CancelRequested) -> Changes:
        """Cancel the hooks, after all tasks have ended."""
        hooks = self.cancellable_hooks
        twice = fact.defect and self.cancelling
        if fact.timeout is not None or twice or not (hooks or fact.defect):
            refuse(fact, "while hooks end")
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
            refuse(fact, "a second time")
        self._request_cancel(task)
        if isinstance(task, TaskRun) and task.items is not None:
            self._withdraw_group(fact.task)
            for item in [one for one in self._items_to_skip if one.task == fact.task]:
                del self._items_to_skip[item]
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
            refuse(fact, "while hooks run, or of a hook")
        state = self._final_state(without=task.state) if self.finished else None
        if fact.finished != state:
            refuse(fact, f"leaves the execution {state or 'unfinished'}")
        if state is None and self.is_cancelling(task.key):
            refuse(fact, "after it was cancelled")
        if task.state is _RUNNING and task.waiting is None:
            refuse(fact, "while running, and not waiting")
        skip = None
        if after is _SKIPPED:
            skip = WhySkipped(SkipReason.HAND, f"marked by {fact.by or 'hand'}")
        if isinstance(task, TaskRun):
            task.skip = skip
        if task.state in FINISHED:
            before = self._move(task, after)
            task.finished_at = fact.at
            if (group := task.group) is not None:
                items_of(group).mend(task)
                if self._by_item:
                    self._judge_over(task)
            else:
                for waiting in self.plan.downstream[fact.task]:
                    self._count_again(waiting)
        else:
            before = self._end(task, after, fact.at)
        self.state = state or self.state
        return (TaskChange(before, _summary(task, skip), item=fact.item),)

    def _finished(self, fact: Finished) -> Changes:
        if self._unfinished or self._hooks_unfinished:
            refuse(fact, f"with {self._unfinished} tasks unfinished")
        state = self._final_state()
        if fact.state != state:
            refuse(fact, f"of an execution that is {state}")
        self.state = state
        self.finished_at = fact.at
        return ()

    def _retried(self, fact: Retried) -> Changes:
        again = set(fact.tasks)
        if again and self.hooks.keys() >= again:
            return self._retried_hooks(fact)
        plan = fact.plan or self.plan
        if not self.finished or not again or len(again) != len(fact.tasks):
            refuse(fact, f"while {self.state}")
        if not plan.names >= again:
            refuse(fact, "of tasks that are not in the plan")
        if fact.plan is not None and not again >= self.new_in(fact.plan):
            refuse(fact, "without tasks that are new in the plan")
        if fact.item is not None and (
            fact.asked not in again or not self.has_item(fact.asked, fact.item)
        ):
            refuse(fact, "of an item that does not exist")
        if fact.item is not None and self.is_outdated(fact.asked or ""):
            refuse(fact, "of an item of an earlier list")
        if fact.item is not None and fact.plan is not None and fact.asked in self.new_in(fact.plan):
            refuse(fact, "of an item of another list")
        affected: dict[str, None] = {}
        changes = []
        if fact.plan is not None:
            self._follow(fact.plan)
            self.timeout = fact.timeout
            affected = dict.fromkeys(self.tasks)
        # A group comes after its source, since it keeps the items whose source is kept.
        ordered = [one for one in self.tasks if one in again] if self._by_item else fact.tasks
        kept: dict[str, set[int]] = {}
        for name in ordered:
            task = self.tasks[name]
            before = self._move(task, State.NOTSTARTED)
            if task.items is not None:
                self._restart(task, again, fact.item if name == fact.asked else None, kept)
            self._drop_result(task)
            task.reset()
            self._counted.pop(name, None)
            changes.append(TaskChange(before, task.summary()))
            affected |= dict.fromkeys([name, *self.plan.downstream[name]])
            for waiting in self.plan.downstream[name]:
                if waiting not in again or waiting not in self._by_item.get(name, ()):
                    self._outdate(self.tasks[waiting], name)
        for name in affected:
            self._count_again(name)
        for hook in self.hooks.values():
            before = self._move(hook, State.NOTSTARTED)
            self.result_bytes -= size_of(hook.result)
            hook.reset()
            self._counted.pop(hook.key, None)
            changes.append(TaskChange(before, hook.summary()))
        if self.costs:
            self._count_anew()
        self._retries.clear()
        self.state = State.NOTSTARTED
        self.cancelling = False
        self.started_at = self.finished_at = self.reason = self._began = None
        if fact.params is not None:
            self.params = fact.params
            self._shown_params = None
        return tuple(changes)

    def new_in(self, plan: Plan) -> set[str]:
        """The tasks of another plan that would be new: this one has no such task, or they map over
        other lists now."""
        return {
            planned.name
            for planned in plan.tasks
            if (run := self.tasks.get(planned.name)) is None
            or (planned.lists and not planned.maps_as(run.planned))
        }

    def _retried_hooks(self, fact: Retried) -> Changes:
        hooks = [self.hooks[name] for name in fact.tasks]
        if not self.finished or len(set(fact.tasks)) != len(hooks):
            refuse(fact, f"while {self.state}")
        if fact.plan is not None or fact.params is not None or fact.item is not None:
            refuse(fact, "of hooks, with more")
        if not all(self.is_wanted(name) for name in fact.tasks):
            refuse(fact, f"of hooks that are for another end than {self.state}")
        changes = []
        for hook in hooks:
            before = self._move(hook, State.NOTSTARTED)
            self.result_bytes -= size_of(hook.result)
            hook.reset()
            changes.append(TaskChange(before, hook.summary()))
        self.state = State.NOTSTARTED if self.started_at is None else State.RUNNING
        self.finished_at = None
        self._begin_to_close()
        return tuple(changes)

    def is_wanted(self, hook: str) -> bool:
        """Whether a hook is one for the end that follows from the tasks."""
        occasion = self.hooks[hook].planned.hook
        return occasion is not None and occasion.includes(self._final_state())

    def _follow(self, plan: Plan) -> None:
        """Go on by another plan, after the end of all tasks and hooks."""
        before = self.tasks
        known = self.dropped | self.hooks | before

        def run_of(planned: PlannedTask) -> TaskRun:
            if (run := known.pop(planned.name, None)) is None:
                return TaskRun(planned)
            if not planned.stream:
                self._end_stream(run)
            self._drop_results(run.follow(planned))
            if planned.name not in before and run.items is not None:  # it was dropped
                run.items.outdated = run.items.runs is not None
            return run

        self.plan = plan
        self.tasks = {planned.name: run_of(planned) for planned in plan.tasks}
        self.hooks = {planned.name: run_of(planned) for planned in plan.hooks}
        self.named = self.tasks | self.hooks if self.hooks else self.tasks
        self.dropped = known
        for run in known.values():
            items: Sequence[Run] = () if run.items is None else run.items.runs or ()
            self._end_stream(run)
            self._drop_results([run, *items])
        self.has_mapped_tasks = any(run.items is not None for run in self.tasks.values())
        self._count, self._hook_count = dict.fromkeys(State, 0), dict.fromkeys(State, 0)
        for count, runs in (self._count, self.tasks), (self._hook_count, self.hooks):
            for run in runs.values():
                count[run.state] += 1
        self._branches, self._by_item = plan.branches, plan.by_item
        self._streams, self._growing = plan.streams, plan.growing
        self.has_streams = bool(plan.streams)
        if plan.asks_for_failures or self._branches:
            for run in self.tasks.values():
                run.rule = self._rule_of(run)

    def _drop_results(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self.result_bytes -= size_of(run.result)
            run.result = None
            self._counted.pop(run.key, None)

    def _subject(self, fact: TaskFact) -> tuple[Run, State]:
        """The run that a fact is about, and its state after the fact, if the table allows it."""
        task: Run | None = self.named.get(fact.task)
        if task is None:
            refuse(fact, f"while the plan has no task {fact.task!r}")
        if fact.item is not None:
            if task.state is not State.RUNNING or not self.has_item(fact.task, fact.item):
                refuse(fact, "while no such item is under way")
            task = self.run(Item(fact.task, fact.item))
        after = TABLE[type(fact)].moves.get(task.state)
        if after is None:
            refuse(fact, f"while {task.state}, attempt {task.attempt}")
        return task, after

    def _subject_running(
        self, fact: Yielded | TaskSucceeded | AttemptFailed | TaskFailed | TaskPostponed
    ) -> tuple[Run, State]:
        task, after = self._subject(fact)
        if fact.attempt != task.attempt:
            refuse(fact, f"while {task.state}, attempt {task.attempt}")
        if self._groups and fact.item is None and fact.task in self._groups:
            self._check_ending(fact)
        return task, after

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
        if self._by_item:
            self._count_beside_items(name, after, unreached)
            return before
        for waiting in self.plan.downstream[name]:
            other = tasks[waiting]
            other.tally.count(after, unreached)
            if other.state is _NOTSTARTED:
                self._judge(other)
        return before

    def _count_beside_items(self, name: str, after: State, unreached: bool) -> None:
        """Count the end of a task for the tasks that wait for it, in a plan with tasks that run by
        item: the end of a source counts for none of these, since its items have."""
        for waiting in self.plan.downstream[name]:
            other = self.tasks[waiting]
            is_source = self._counts_items_of(other, name)
            if not is_source:
                other.tally.count(after, unreached)
            if other.state is _NOTSTARTED:
                self._judge(other)
            elif other.planned.by_item and not is_source:
                self._judge_items(other)
            elif is_source and waiting in self._growing:
                self._source_ended(other)

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

    def _count_again(self, name: str) -> None:
        """Evaluate a task again after the end of an upstream task was changed or undone."""
        task = self.tasks[name]
        task.tally.reset()
        if self._branches:
            task.rule = self._rule_of(task)
        for upstream in task.planned.after:
            run = self.tasks[upstream]
            if run.state in FINISHED and not self._counts_items_of(task, upstream):
                task.tally.count(run.state, run.unreached)
        if task.state is State.NOTSTARTED:
            found = self._verdict(task)
            if found is not Verdict.RUN:
                self._ready.discard(name)
                self._unannounced.pop(name, None)
            if found is not Verdict.RUN or not self._has_list(task):
                self._withdraw_group(name)
            if found is not Verdict.SKIP:
                self._to_skip.pop(name, None)
            self._judge(task)
        elif task.planned.by_item:
            self._judge_items(task)

    def _judge(self, task: TaskRun) -> None:
        """Let a task that waits become ready or be skipped, if its trigger rule has decided.

        The decision is final, except after `_count_again`.
        """
        found = task.rule(task.tally)
        if found is _WAIT and (
            not task.planned.by_item or (found := self._verdict_by_item(task)) is _WAIT
        ):
            return
        if (name := task.planned.name) in self._cancel_requested:
            return
        if found is Verdict.SKIP:
            self._to_skip[name] = None
        elif task.items is None:
            self._make_ready(name)
        elif name not in self._to_map and self._has_list(task):
            self._to_map.add(name)
            self._unmapped[name] = None

    def _verdict(self, task: TaskRun) -> Verdict:
        """The verdict on a task that waits."""
        found = task.rule(task.tally)
        if found is _WAIT and task.planned.by_item:
            return self._verdict_by_item(task)
        return found

    def _choose(self, fact: TaskSucceeded, chosen: tuple[str, ...]) -> None:
        """Keep which tasks a branch chose."""
        if not set(chosen).issubset(self.plan.downstream[fact.task]):
            refuse(fact, "of tasks that are not directly downstream of it")
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

    # -- the state -------------------------------------------------------------------


def _summary(run: Run, skip: WhySkipped | None) -> TaskSummary:
    """A run in brief, with the reason for its skip, which items do not keep."""
    summary = run.summary()
    if skip is None or isinstance(run, TaskRun):
        return summary
    return msgspec.structs.replace(summary, skip=skip)


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
# - `Mapped` starts a mapped task, instead of `TaskStarted`. It ends when no item goes on. Only one
#   without items, or with lost items, may be skipped while it runs.
# - `TaskPostponed` leaves its task running, without a slot until the next look. Only such a task
#   may be marked while it runs.
# - `Yielded` is about a generator over which tasks are mapped that run by item.
# - `AttemptFailed` that `tells` is followed by `OnRetryEnded` before the next `TaskStarted`.
# - An attempt may skip its task. Without one, only a trigger rule and a branch may.
# - Only a retry and the marks may follow `Finished`. A retry may bring another plan.
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
    Yielded: Row(Progress._yielded, {State.RUNNING: State.RUNNING}),
    TaskSucceeded: Row(Progress._succeeded, {State.RUNNING: State.SUCCESSFUL}),
    AttemptFailed: Row(Progress._attempt_failed, {State.RUNNING: State.UPFORRETRY}),
    OnRetryEnded: Row(Progress._on_retry_ended, {State.UPFORRETRY: State.UPFORRETRY}),
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
