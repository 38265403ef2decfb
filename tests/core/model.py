"""A slow and simple model of an execution, which looks at all of it each time.

The model states the trigger rules as sentences about the final states of all upstream tasks. It
does not know tallies, queues, or the way `goflow.core` decides.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache

from goflow.core.cost import Cost, Number
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
from goflow.core.graph import Occasion, OnEmpty, Plan, PlannedTask
from goflow.core.keys import Item, Key, key_of, task_of
from goflow.core.states import SkipReason, State, TriggerRule

S, F, K, C = State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED
ENDS = (S, F, K, C)
U = "unreached"  # the end of a task that was skipped because of a failure
ENDINGS: tuple[str, ...] = (*ENDS, U)
ABOUT_FAILURES = {
    TriggerRule.ALL_FAILED,
    TriggerRule.ONE_FAILED,
    TriggerRule.NONE_FAILED,
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL,
}
BY_RULE = {
    SkipReason.UPSTREAM_FAILED,
    SkipReason.UPSTREAM_SKIPPED,
    SkipReason.UPSTREAM_CANCELLED,
    SkipReason.UPSTREAM_SUCCESSFUL,
}
BY_ITSELF = {SkipReason.ITSELF, SkipReason.CONDITION}


def runs(rule: TriggerRule, endings: Sequence[str]) -> bool:
    """Whether a task runs when its upstream tasks have ended so."""
    if not endings:
        return True
    counts_as = F if rule in ABOUT_FAILURES else K
    ends = [counts_as if end == U else end for end in endings]
    match rule:
        case TriggerRule.ALL_SUCCESSFUL:
            return all(end == S for end in ends)
        case TriggerRule.ALL_FAILED:
            return all(end == F for end in ends)
        case TriggerRule.ALL_SKIPPED:
            return all(end == K for end in ends)
        case TriggerRule.ONE_SUCCESSFUL:
            return S in ends
        case TriggerRule.ONE_FAILED:
            return F in ends
        case TriggerRule.ONE_DONE:
            return S in ends or F in ends
        case TriggerRule.NONE_FAILED:
            return F not in ends and C not in ends
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESSFUL:
            return F not in ends and C not in ends and S in ends
        case TriggerRule.NONE_SKIPPED:
            return K not in ends and C not in ends
        case TriggerRule.ALL_DONE | TriggerRule.ALWAYS:
            return True


def skip_reason(rule: TriggerRule, endings: Sequence[str]) -> SkipReason:
    """Why a task is skipped when its upstream tasks have ended so, and its rule cannot be met."""
    against = [end for end in endings if not runs(rule, [end])]
    if F in against or U in against:
        return SkipReason.UPSTREAM_FAILED
    if C in against:
        return SkipReason.UPSTREAM_CANCELLED
    return SkipReason.UPSTREAM_SKIPPED if K in against else SkipReason.UPSTREAM_SUCCESSFUL


@cache
def possible_verdicts(rule: TriggerRule, ends: tuple[str, ...], missing: int) -> set[bool]:
    """Whether a task may still run, be skipped, or both, while `missing` upstream tasks have not
    ended."""
    if missing and rule is TriggerRule.ALL_DONE:
        return {True, False}  # it certainly runs, but only after all upstream tasks
    rests = itertools.combinations_with_replacement(ENDINGS, missing)
    return {runs(rule, ends + rest) for rest in rests}


@cache
def possible_reasons(rule: TriggerRule, ends: tuple[str, ...], missing: int) -> set[bool]:
    """Whether a skip may still be because of a failure, for another reason, or both."""
    rests = itertools.combinations_with_replacement(ENDINGS, missing)
    return {skip_reason(rule, ends + rest) is SkipReason.UPSTREAM_FAILED for rest in rests}


def end_of(ends: Iterable[State], *, cancelled: bool = False, fails: bool = False) -> State:
    """The final state of an execution whose tasks ended in these states."""
    ends = set(ends)
    if fails or F in ends:
        return F
    return C if cancelled or C in ends else S


def same_list(one: PlannedTask, other: PlannedTask) -> bool:
    """Whether two mapped tasks have the same items."""
    same = one.lists == other.lists and one.zipped == other.zipped
    return same and one.by_item == other.by_item


class Model:
    """An execution, derived from its facts."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        self.plan = {task.name: task for task in plan.tasks}
        self.hooks = {hook.name: hook for hook in plan.hooks}
        self.asks_for_failures = any(task.rule in ABOUT_FAILURES for task in plan.tasks)
        self.states: dict[str, State] = dict.fromkeys(self.plan, State.NOTSTARTED)
        self.hook_states: dict[str, State] = dict.fromkeys(self.hooks, State.NOTSTARTED)
        # Of mapped tasks: the states of the items that are known, and why there are none.
        self.items: dict[str, list[State] | None] = dict.fromkeys(
            task.name for task in plan.tasks if task.map_over is not None
        )
        self.yielded: Counter[str] = Counter()  # items by streams in this round
        self.outdated: set[str] = set()  # mapped tasks whose list was made again without them
        self.errors: dict[str, str] = {}
        self.unreached: set[str] = set()  # tasks that were skipped because of a failure
        # Items that were skipped because of a failure or a cancel before them.
        self.lost: dict[Item, SkipReason] = {}
        self.chosen: dict[str, tuple[str, ...]] = {}  # by branches that succeeded
        self.attempts: Counter[Key] = Counter()
        self.most: Counter[str] = Counter()  # attempts of any item of a task so far
        self.before: Counter[str] = Counter()  # the same before its items were created
        self.spent: Counter[Key] = Counter()
        self.costs: dict[str, tuple[float, int, int]] = {}  # seconds, peak and bytes of the log
        self.counted: dict[Key, dict[str, Number]] = {}  # by attempts that succeeded
        self.state = State.NOTSTARTED
        self.params = submitted.params
        self.begun: datetime | None = None
        self.doomed: set[Key] = set()
        self.waiting: set[Key] = set()  # running, after a look in vain
        self.untold: set[Key] = set()  # up for retry, and on_retry has not ended
        self.cancelled = False
        self.fails = False

    @classmethod
    def of(cls, plan: Plan, facts: Iterable[AnyFact]) -> "Model":
        """The model after these facts; each must be allowed."""
        opening, *happened = facts
        assert isinstance(opening, Submitted)
        model = cls(plan, opening)
        for fact in happened:
            assert model.allows(fact), fact
            model.take(fact)
        return model

    @property
    def finished(self) -> bool:
        return self.state in ENDS

    def over(self, name: str) -> list[State] | None:
        """The items that a task maps over item by item, if there are some."""
        if not self.plan[name].by_item:
            return None
        over = self.plan[name].lists[0]
        if self.plan[over].stream:
            return [self.end_of_items(over)] * self.yielded[over] or None
        return self.items[over] or None

    def end_of_items(self, stream: str) -> State:
        """The state of each item of a stream."""
        return self.states[stream] if self.states[stream] in ENDS else S

    def grows(self, name: str) -> bool:
        """Whether a task maps over a stream by item, or over a task that does."""
        task = self.plan[name]
        return task.by_item and (self.plan[task.lists[0]].stream or self.grows(task.lists[0]))

    def loss(self, name: str) -> SkipReason | None:
        """Why a mapped task is skipped whose items have ended, if it is."""
        lost = {reason for key, reason in self.lost.items() if key.task == name}
        if lost:
            return next(reason for reason in SkipReason if reason in lost)
        source = self.plan[name].lists[0]
        if not self.grows(name) or not self.items[name] or self.states[source] not in ENDS:
            return None
        rule, ends = self.plan[name].rule, self.endings(name, whole=True)
        return None if runs(rule, ends) else skip_reason(rule, ends)

    def source(self, name: str) -> str | None:
        """The task whose items are counted for those of a task, and not for the task itself."""
        return None if self.over(name) is None else self.plan[name].lists[0]

    def ending(self, name: str) -> str:
        return U if name in self.unreached else self.states[name]

    def endings(self, name: str, item: int | None = None, whole: bool = False) -> tuple[str, ...]:
        """How the tasks upstream of a task have ended, as far as they have. A task that is mapped
        over item by item is not among them, unless it is about the `whole`; but its `item` is."""
        upstream = [other for other in self.plan[name].after if self.states[other] in ENDS]
        over = self.source(name)
        ends = [self.ending(one) for one in upstream if whole or one != over]
        if item is not None and over is not None:
            key = Item(over, item)
            if self.plan[over].stream:
                ends.append(self.ending(over) if self.states[over] in ENDS else S)
            elif self.state_of(key) in ENDS:
                lost = self.lost.get(key) is SkipReason.UPSTREAM_FAILED
                ends.append(U if lost else self.state_of(key))
        return tuple(sorted(ends))

    def is_undecided(self, name: str) -> bool:
        """Whether a branch upstream has not ended."""
        upstream = self.plan[name].after
        return any(self.plan[one].branch and self.states[one] not in ENDS for one in upstream)

    def may_skip(self, fact: TaskSkipped) -> bool:
        """Whether a task or item that has not started is to be skipped. In a plan with rules about
        failures, it must be certain whether a failure is the reason; older versions did not ask."""
        if self.possible_verdicts(fact.task, fact.item) != {False}:
            return False
        whole = fact.item is None
        task, ends = self.plan[fact.task], self.endings(fact.task, fact.item, whole)
        missing = len(task.after) - len(ends)
        if self.is_rejected(fact.task) or fact.reason is None or not self.asks_for_failures:
            return True
        return len(possible_reasons(task.rule, ends, missing)) == 1

    def is_rejected(self, name: str) -> bool:
        """Whether a branch upstream has chosen other tasks."""
        upstream = self.plan[name].after
        return any(name not in self.chosen[one] for one in upstream if one in self.chosen)

    def possible_verdicts(self, name: str, item: int | None = None) -> set[bool]:
        """Whether a task or one of its items may still run, be skipped, or both."""
        if self.is_undecided(name):
            return {True, False}
        if self.is_rejected(name):
            return {False}
        task, ends = self.plan[name], self.endings(name, item)
        return possible_verdicts(task.rule, ends, len(task.after) - len(ends))

    def skip_reason(self, name: str) -> SkipReason:
        """Why a task is skipped that may not run."""
        if self.is_rejected(name):
            return SkipReason.BRANCH
        return skip_reason(self.plan[name].rule, self.endings(name, whole=True))

    def is_choice(self, fact: TaskSucceeded) -> bool:
        """Whether a branch has chosen tasks downstream, and no other task has."""
        task = self.plan.get(fact.task)
        is_branch = task is not None and task.branch
        if not is_branch or fact.chosen is None:
            return not is_branch and fact.chosen is None
        return all(one in self.plan and fact.task in self.plan[one].after for one in fact.chosen)

    @property
    def closing(self) -> bool:
        """Whether all tasks have ended, and hooks have not."""
        return self.ended and not self.hooks_ended and not self.finished

    @property
    def ended(self) -> bool:
        return all(state in ENDS for state in self.states.values())

    @property
    def hooks_ended(self) -> bool:
        return all(state in ENDS for state in self.hook_states.values())

    def is_wanted(self, hook: str) -> bool:
        """Whether the hook is one for the way in which the execution ends."""
        wanted = {
            Occasion.SUCCESS: (S,),
            Occasion.FAILURE: (F,),
            Occasion.FINISH: (S, F, C),
            None: (),
        }
        return self.end(self.states) in wanted[self.hooks[hook].hook]

    def can_begin_hook(self, name: str) -> bool:
        """Whether the first attempt of a hook in this round may start."""
        waits = self.hook_states[name] is State.NOTSTARTED and name not in self.doomed
        return waits and self.closing and self.is_wanted(name)

    def retries(self, name: str) -> int:
        return (self.plan.get(name) or self.hooks[name]).retries

    def may_repeat(self, name: str) -> bool:
        """Whether a task runs again after an interruption."""
        planned = self.plan.get(name) or self.hooks[name]
        return planned.retries > 0 or planned.repeatable

    def stops(self, key: Key) -> bool:
        if key in self.hooks:
            return key in self.doomed
        stopped = self.cancelled or key in self.doomed
        return stopped or (isinstance(key, Item) and key.task in self.doomed)

    def can_start(self, name: str) -> bool:
        """Whether the task's first attempt of this round may start."""
        return self.plan[name].map_over is None and self.can_begin(name)

    def can_begin(self, name: str) -> bool:
        """Whether the task's first attempt of this round may start, or the task be mapped."""
        begins = self.states[name] is State.NOTSTARTED and not self.stops(name)
        possible = self.possible_verdicts(name)
        missing = len(self.plan[name].after) - len(self.endings(name))
        if self.over(name) is not None and missing == 1:
            return begins and possible != {False}  # its items wait for those it maps over
        return begins and possible == {True}

    def can_map(self, name: str) -> bool:
        """Whether the items of the task may come to be."""
        lists = self.plan[name].lists
        known = self.over(name) is not None or all(self.states[one] in ENDS for one in lists)
        return bool(lists) and known and self.can_begin(name)

    def item_waits(self, key: Item) -> bool:
        """Whether an item waits for the one that it is made of, and may yet be started."""
        over = self.over(key.task)
        return over is not None and over[key.number] not in ENDS

    def state_of(self, key: Key) -> State:
        if isinstance(key, str):
            return self.hook_states[key] if key in self.hooks else self.states[key]
        return (self.items[key.task] or [])[key.number]

    def has(self, key: Key) -> bool:
        if isinstance(key, str):
            return key in self.plan or key in self.hooks
        return self.has_item(key)

    def has_item(self, key: Key) -> bool:
        """Whether a key is of a task, or of an item that there is."""
        if isinstance(key, str):
            return True
        return 0 <= key.number < len(self.items.get(key.task) or [])

    def items_running(self, name: str) -> int:
        return (self.items[name] or []).count(State.RUNNING)

    def can_start_item(self, name: str) -> bool:
        """Whether there is room for another item of a task that runs."""
        most = self.plan[name].max_parallel
        return most is None or self.items_running(name) < most

    def group_ends(self, name: str) -> set[State]:
        """How a mapped task that runs may end now; empty while items go on."""
        items = self.items[name] or []
        waiting = [state for state in items if state not in ENDS]
        if State.RUNNING in waiting or (waiting and not self.stops(name)):
            return set()
        more_may_come = self.grows(name) and self.states[self.plan[name].lists[0]] not in ENDS
        if more_may_come and not self.stops(name):
            return set()
        ends = {F, C}
        if more_may_come:
            return ends
        loss = self.loss(name)
        if loss is not None:
            return {*ends, K} if not set(items) & {F, C, *waiting} else ends
        if not self.errors.get(name) and all(state in (S, K) for state in items):
            ends.add(S)
            if not items and self.plan[name].on_empty is OnEmpty.SKIP:
                ends.add(K)
        return ends

    def allows(self, fact: AnyFact) -> bool:
        """Whether this fact can happen now."""
        name = getattr(fact, "task", None)
        if name is not None and name not in self.plan and name not in self.hooks:
            return False
        key = "" if name is None else key_of(name, getattr(fact, "item", None))
        if (
            isinstance(key, Item)
            and not isinstance(fact, Retried)
            and (self.states[key.task] is not State.RUNNING or not self.has_item(key))
        ):
            return False
        state = None if name is None else self.state_of(key)
        is_group = name in self.items and key == name
        match fact:
            case Submitted():
                return False
            case Retried(tasks=tasks) if tasks and self.hooks.keys() >= set(tasks):
                alone = fact.plan is None and fact.params is None and fact.item is None
                once = len(set(tasks)) == len(tasks)
                return self.finished and alone and once and all(map(self.is_wanted, tasks))
            case Retried(tasks=tasks):
                plan = self.plan
                if fact.plan is not None:
                    plan = {task.name: task for task in fact.plan.tasks}
                known = set(tasks) <= plan.keys() and len(set(tasks)) == len(tasks)
                new = {
                    name
                    for name, task in plan.items()
                    if name not in self.plan
                    or (task.lists and not same_list(task, self.plan[name]))
                }
                if not new <= set(tasks) or (fact.item is not None and fact.asked in new):
                    return False
                if fact.item is not None and not (
                    fact.asked in tasks and self.has_item(Item(fact.asked, fact.item))
                ):
                    return False
                if fact.item is not None and fact.asked in self.outdated:
                    return False
                return self.finished and bool(tasks) and known
            case MarkedSuccessful() | MarkedSkipped() if self.closing or fact.task in self.hooks:
                return False
            case MarkedSuccessful() | MarkedSkipped():
                end = S if isinstance(fact, MarkedSuccessful) else K
                if state in (S, end) or (state is State.RUNNING and key not in self.waiting):
                    return False
                if not self.finished:
                    return fact.finished is None and not self.stops(key)
                return fact.finished == self.end(self.states | {fact.task: end})
            case _ if self.finished:
                return False
            case CancelRequested() if self.closing:
                if fact.timeout is not None:
                    return False
                if fact.defect:
                    return not self.cancelled
                return any(
                    state not in ENDS and name not in self.doomed
                    for name, state in self.hook_states.items()
                )
            case CancelRequested():
                return not self.cancelled
            case Finished():
                ended = self.ended and self.hooks_ended
                return ended and fact.state == self.end(self.states)
            case TaskCancelRequested():
                return state not in ENDS and not self.stops(key)
            case Mapped(items=items, error=error, keys=keys):
                if fact.task in self.hooks:
                    return False
                known = self.items.get(fact.task)
                if keys and (known is not None or len({*keys}) != items or len(keys) != items):
                    return False
                if items < 0 or (items and error):
                    return False
                if known is not None and (
                    error or items < len(known) or (items > len(known) and not self.grows(name))
                ):
                    return False
                if self.plan[fact.task].by_item:
                    over = self.over(fact.task) or []
                    if items != len(over) or (over and (error or keys)):
                        return False
                counted = fact.attempt == self.attempts[key] + 1
                return counted and self.can_map(fact.task)
            case TaskStarted() if key in self.untold:
                return False
            case TaskStarted():
                counted = fact.attempt == self.attempts[key] + 1
                if isinstance(key, Item):
                    waits = state in (State.NOTSTARTED, State.UPFORRETRY) and not self.stops(key)
                    if state is State.NOTSTARTED and self.over(key.task) is not None:
                        possible = self.possible_verdicts(key.task, key.number)
                        waits = waits and not self.item_waits(key) and possible == {True}
                    return counted and waits and self.can_start_item(key.task)
                due = state is State.UPFORRETRY and not self.stops(key)
                if key in self.hooks:
                    return counted and (due or self.can_begin_hook(key))
                return counted and (due or self.can_start(fact.task))
            case AttemptFailed() if is_group:
                return False
            case AttemptFailed(interrupted=True, tells=True):
                return False
            case OnRetryEnded():
                return key in self.untold and fact.attempt == self.attempts[key]
            case AttemptFailed(interrupted=True) if not self.may_repeat(fact.task):
                return False
            case AttemptFailed(interrupted=False) if self.spent[key] == self.retries(fact.task):
                return False
            case Yielded(first=first, items=items, size=size):
                task = self.plan.get(fact.task)
                follows = first == self.yielded[fact.task] and items > 0 and size >= 0
                going = state is State.RUNNING and not self.stops(key) and follows
                counted = fact.attempt == self.attempts[key]
                return task is not None and task.stream and going and counted
            case Dispatched():
                counted = fact.attempt == self.attempts[key] and fact.number >= 1
                return counted and state is State.RUNNING and not is_group
            case ChildStarted():
                counted = fact.attempt == self.attempts[key]
                return counted and state is State.RUNNING and not is_group
            case TaskPostponed():
                going = state is State.RUNNING and not is_group and not self.stops(key)
                return going and fact.attempt == self.attempts[key] and fact.again_at >= fact.at
            case TaskSucceeded() | TaskFailed() | AttemptFailed():
                end = S if isinstance(fact, TaskSucceeded) else F
                if is_group and state is State.RUNNING and end not in self.group_ends(fact.task):
                    return False
                if isinstance(fact, TaskSucceeded) and not self.is_choice(fact):
                    return False
                return state is State.RUNNING and fact.attempt == self.attempts[key]
            case TaskSkipped():
                if is_group and state is State.RUNNING:
                    loss = self.loss(fact.task)
                    counted = fact.attempt == self.attempts[key]
                    if loss is not None:
                        counted = counted and fact.reason is loss
                    elif not fact.attempt:
                        counted = True
                    return counted and K in self.group_ends(fact.task)
                if state is State.RUNNING:
                    return fact.attempt == self.attempts[key] and fact.reason in BY_ITSELF
                if fact.attempt:
                    return False
                if isinstance(key, Item):
                    waits = state is State.NOTSTARTED and not self.stops(key)
                    waits = waits and self.over(key.task) is not None and not self.item_waits(key)
                    return waits and fact.reason in BY_RULE and self.may_skip(fact)
                if key in self.hooks:
                    waits = state is State.NOTSTARTED and key not in self.doomed
                    waits = waits and fact.reason in {None, *BY_RULE}
                    return waits and self.closing and not self.is_wanted(key)
                expected = {SkipReason.BRANCH} if self.is_rejected(fact.task) else {None, *BY_RULE}
                waits = state is State.NOTSTARTED and key not in self.doomed
                waits = waits and fact.reason in expected
                return waits and self.may_skip(fact)
            case TaskCancelled():
                if is_group and state is State.RUNNING and C not in self.group_ends(fact.task):
                    return False
                running = self.attempts[key] if state is State.RUNNING else 0
                return state not in ENDS and fact.attempt == running
        raise AssertionError(f"the model does not know {fact!r}")

    def end(self, states: dict[str, State]) -> State:
        return end_of(states.values(), cancelled=self.cancelled, fails=self.fails)

    def take(self, fact: AnyFact) -> None:
        """Apply a fact, which must be allowed."""
        task = getattr(fact, "task", None)
        key = "" if task is None else key_of(task, getattr(fact, "item", None))
        if (cost := getattr(fact, "cost", None)) is not None:
            self._spend(key, cost, succeeded=isinstance(fact, TaskSucceeded))
        match fact:
            case TaskStarted():
                self._set(key, State.RUNNING)
                self.attempts[key] += 1
                if key not in self.hooks:
                    self.state = State.RUNNING
                    self.begun = self.begun or fact.at
                if isinstance(key, Item):
                    self.most[key.task] = max(self.most[key.task], self.attempts[key])
            case Mapped():
                self.states[fact.task] = self.state = State.RUNNING
                self.attempts[fact.task] += 1
                self.begun = self.begun or fact.at
                self.errors[fact.task] = fact.error
                if self.items[fact.task] is None:
                    self.outdated.discard(fact.task)
                    self.items[fact.task] = []
                    self.before[fact.task] = self.most[fact.task]
                self._extend(fact.task, fact.items - len(self.items[fact.task] or ()))
            case Yielded():
                self.yielded[fact.task] += fact.items
                self._grow(fact.task, fact.items)
            case AttemptFailed():
                if fact.tells:
                    self.untold.add(key)
                self._set(key, State.UPFORRETRY)
                self.spent[key] += not fact.interrupted
            case TaskSucceeded() | MarkedSuccessful():
                self._set(key, S)
                if isinstance(key, Item):
                    self.lost.pop(key, None)
                else:
                    self.unreached.discard(key)
                if isinstance(fact, TaskSucceeded) and fact.chosen is not None:
                    self.chosen[fact.task] = fact.chosen
            case TaskFailed():
                self._set(key, F)
            case TaskSkipped() | MarkedSkipped():
                self._set(key, K)
                if isinstance(key, Item):
                    self._lose(key, getattr(fact, "reason", None))
                elif isinstance(fact, TaskSkipped) and fact.reason is SkipReason.UPSTREAM_FAILED:
                    self.unreached.add(key)
            case TaskPostponed():
                self.waiting.add(key)
            case TaskCancelled():
                self._set(key, C)
            case OnRetryEnded():
                self.untold.remove(key)
            case TaskCancelRequested():
                self.doomed.add(key)
                self.untold.discard(key)
            case CancelRequested() if self.closing:
                self.doomed |= {n for n, s in self.hook_states.items() if s not in ENDS}
                if fact.defect:
                    self.cancelled = self.fails = True
            case CancelRequested():
                self.cancelled = True
                self.fails = fact.timeout is not None or fact.defect != ""
            case Finished():
                self.state = State(fact.state)
            case Retried(tasks=tasks) if self.hooks.keys() >= set(tasks):
                for name in tasks:
                    self.hook_states[name], self.spent[name] = State.NOTSTARTED, 0
                self.state = State.RUNNING if self.begun else State.NOTSTARTED
            case Retried():
                if fact.plan is not None:
                    self._follow(fact.plan)
                for name in self.hooks:
                    self.hook_states[name], self.spent[name] = State.NOTSTARTED, 0
                    self.counted.pop(name, None)
                again, kept = set(fact.tasks), dict[str, set[int]]()
                for name in [name for name in self.plan if name in again]:
                    self.counted.pop(name, None)
                    self.states[name], self.spent[name] = State.NOTSTARTED, 0
                    self.unreached.discard(name)
                    self.yielded[name] = 0
                    self.chosen.pop(name, None)
                    if name in self.items:
                        only = fact.item if name == fact.asked else None
                        self._restart(name, again, only, kept)
                self.outdated |= {
                    name
                    for name, items in self.items.items()
                    if items is not None
                    and set(self.plan[name].lists) & again
                    and not (self.plan[name].by_item and name in again)
                }
                self.state, self.begun = State.NOTSTARTED, None
                self.cancelled = self.fails = False
                self.params = self.params if fact.params is None else fact.params
        if isinstance(fact, MarkedSuccessful | MarkedSkipped) and fact.finished is not None:
            self.state = State(fact.finished)
        self.doomed = {key for key in self.doomed if self.state_of(key) not in ENDS}
        self.untold = {
            key for key in self.untold if self.has(key) and self.state_of(key) is State.UPFORRETRY
        }
        self.waiting = {
            key
            for key in self.waiting
            if self.has_item(key) and self.state_of(key) is State.RUNNING
        }

    def _spend(self, key: Key, cost: Cost, *, succeeded: bool) -> None:
        seconds, peak, log = self.costs.get(task_of(key), (0.0, 0, 0))
        self.costs[task_of(key)] = (
            seconds + cost.processor_seconds,
            max(peak, cost.peak_memory),
            log + cost.log_bytes,
        )
        if succeeded:
            self.counted[key] = cost.counts

    def counts(self, name: str | None = None) -> dict[str, Number]:
        """The sums of the counts of a task and its items, or of all."""
        sums: dict[str, Number] = {}
        for key, counts in self.counted.items():
            if name in (None, task_of(key)):
                for count, number in counts.items():
                    sums[count] = sums.get(count, 0) + number
        return sums

    def _set(self, key: Key, state: State) -> None:
        if isinstance(key, Item):
            items = self.items[key.task]
            assert items is not None
            items[key.number] = state
            return
        if key in self.hooks:
            self.hook_states[key] = state
            return
        self.states[key] = state
        if state in ENDS and (items := self.items.get(key)):  # what waits of them ends with it
            self.items[key] = [one if one in ENDS else C for one in items]

    def _follow(self, plan: Plan) -> None:
        """Go on by another plan: only attempts are known of tasks that were not in the last."""
        before, states, items = self.plan, self.states, self.items
        self.plan = {task.name: task for task in plan.tasks}
        self.hooks = {hook.name: hook for hook in plan.hooks}
        self.asks_for_failures = any(task.rule in ABOUT_FAILURES for task in plan.tasks)
        self.states = {name: states.get(name, State.NOTSTARTED) for name in self.plan}
        self.hook_states = dict.fromkeys(self.hooks, State.NOTSTARTED)
        self.items = {name: items.get(name) for name, task in self.plan.items() if task.lists}
        self.outdated = {
            name
            for name, known in self.items.items()
            if known is not None
            and (name in self.outdated or not same_list(self.plan[name], before[name]))
        }
        self.chosen = {
            name: chosen
            for name, chosen in self.chosen.items()
            if name in self.plan and self.plan[name].branch
        }
        self.unreached &= self.plan.keys()
        self.counted = {
            key: counts
            for key, counts in self.counted.items()
            if (key in self.plan if isinstance(key, str) else self.items.get(key.task))
        }
        self.lost = {key: why for key, why in self.lost.items() if self.items.get(key.task)}

    def _extend(self, name: str, number: int) -> None:
        """A mapped task has so many more items."""
        items = self.items[name]
        assert items is not None
        for _ in range(number):
            item = Item(name, len(items))
            items.append(State.NOTSTARTED)
            self.attempts[item], self.spent[item] = self.before[name], 0

    def _grow(self, source: str, number: int) -> None:
        """The running tasks over a task, by item, have so many more items."""
        for name, task in self.plan.items():
            if task.by_item and task.lists[0] == source and self.states[name] is State.RUNNING:
                self._extend(name, number)
                self._grow(name, number)

    def _lose(self, key: Item, reason: SkipReason | None) -> None:
        """An item was skipped."""
        over = self.source(key.task)
        before = over is not None and (
            self.plan[over].stream or Item(over, key.number) in self.lost
        )
        if reason in (SkipReason.UPSTREAM_FAILED, SkipReason.UPSTREAM_CANCELLED) or (
            reason is SkipReason.UPSTREAM_SKIPPED and before
        ):
            assert reason is not None
            self.lost[key] = reason

    def _restart(
        self, name: str, again: set[str], only: int | None, kept: dict[str, set[int]]
    ) -> None:
        """Prepare another round of a mapped task. `kept` has the tasks before it that keep their
        items, and which of these run again."""
        self.errors[name] = ""
        items = self.items[name]
        upstream, also = again & set(self.plan[name].after), set[int]()
        over = self.plan[name].lists[0]
        if self.plan[name].by_item and over in kept:
            upstream.discard(over)
            also = kept[over]
        if only is not None:
            anew = self.plan[name].by_item and over in upstream
        else:
            successful = all(state == S for state in items or ())
            if self.grows(name):
                whole = self.plan[over].stream and self.yielded[over]
                successful = successful and len(items or ()) == (
                    whole or len(self.items.get(over) or ())
                )
            anew = (successful and not also) or bool(upstream) or name in self.outdated
        if anew or items is None:
            for number in range(len(items or ())):
                self.counted.pop(Item(name, number), None)
            self.items[name] = None
            self.outdated.discard(name)
            self.lost = {key: why for key, why in self.lost.items() if key.task != name}
            return
        failed = {number for number, state in enumerate(items) if state != S}
        chosen = kept[name] = {only} if only is not None else failed | also
        for number in chosen:
            items[number] = State.NOTSTARTED
            self.counted.pop(Item(name, number), None)
            self.spent[Item(name, number)] = 0
            self.lost.pop(Item(name, number), None)
