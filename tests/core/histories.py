"""Random plans, attempts with scripted outcomes, and the expected results.

`tests.core.model` states how tasks must end. That does not depend on the order of events.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from goflow.core.cost import Cost
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    Submitted,
    TaskFailed,
    TaskPostponed,
    TaskSkipped,
    TaskStarted,
)
from goflow.core.execution import Execution, Failed, Outcome, Postponed, Skipped, Succeeded
from goflow.core.graph import Occasion, Plan, PlannedTask
from goflow.core.keys import Key, task_of
from goflow.core.runs import Items, Run, TaskRun
from goflow.core.states import FINISHED, SkipReason, State, Tally, TriggerRule
from tests.core.model import C, F, K, Model, S, U, end_of, runs, skip_reason

ITEM_SLOTS = tuple(slot for slot in Run.__slots__ if slot != "group")
SLOTS = (*Run.__slots__, *TaskRun.__slots__)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def submitted(at: datetime = NOW, timeout: float | None = None) -> Submitted:
    return Submitted(at, id="e", job="j", plan="p", cause="api", timeout=timeout)


def begin(*tasks: PlannedTask, timeout: float | None = None) -> Execution:
    return Execution(Plan(tasks), submitted(timeout=timeout))


def go_on(execution: Execution, now: datetime) -> list[AnyFact]:
    """Start every task that may start, and record what follows before an attempt ends."""
    return execution.advance(now) + execution.advance(now, execution.newly_ready(now))


# -- random plans ----------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn, most: int = 7, retries: int = 0, hooks: int = 0) -> Plan:
    """Any graph of up to `most` tasks, in any order, each with `retries` or more, and up to `hooks`
    hooks. Some tasks are branches."""
    names = [f"t{number}" for number in range(draw(st.integers(1, most)))]
    tasks = [
        PlannedTask(
            name,
            tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True))) if place else (),
            draw(st.sampled_from(TriggerRule)),
            draw(st.integers(retries, retries + 2)),
            branch=draw(st.sampled_from([False, False, False, True])),
            repeatable=draw(st.sampled_from([False, False, False, True])),
        )
        for place, name in enumerate(names)
    ]
    kinds = draw(st.lists(st.sampled_from(Occasion), max_size=hooks)) if hooks else []
    of_plan = [
        PlannedTask(f"h{number}", retries=draw(st.integers(retries, retries + 2)), hook=kind)
        for number, kind in enumerate(kinds)
    ]
    return Plan(tuple(draw(st.permutations(tasks))), tuple(of_plan))


class Ending(NamedTuple):
    """How a task's attempts end. It succeeds after `failures` failures, or never with None. A
    `final` failure is not retried. Each attempt looks in vain so many times before. Instead of
    succeeding it may skip itself. A branch has `chosen` tasks."""

    failures: int | None = 0
    final: bool = False
    looks: int = 0
    skips: bool = False
    chosen: tuple[str, ...] | None = None

    def of(self, failures_before: int, looks_before: int = 0) -> Outcome:
        if looks_before < self.looks:
            return Postponed(5.0, f"look {looks_before + 1}")
        if self.failures is None or failures_before < self.failures:
            return Failed(f"failure {failures_before + 1}", final=self.final)
        if self.skips:
            return Skipped("nothing to do")
        return Succeeded(Raw(b'"done"'), chosen=self.chosen)


Script = Mapping[str, Ending]
looks = st.sampled_from([0, 0, 1, 2])


def scripts(plan: Plan) -> st.SearchStrategy[dict[str, Ending]]:
    """Endings for every task that need no more than its retries."""
    return st.fixed_dictionaries(
        {
            task.name: st.one_of(
                st.builds(
                    Ending,
                    st.integers(0, task.retries),
                    st.just(False),
                    looks,
                    st.sampled_from([False, False, False, True]),
                    choices_of(plan, task),
                ),
                st.builds(
                    Ending,
                    st.none(),
                    st.booleans(),
                    looks,
                    st.just(False),
                    choices_of(plan, task),
                ),
            )
            for task in [*plan.tasks, *plan.hooks]
        }
    )


def choices_of(plan: Plan, task: PlannedTask) -> st.SearchStrategy[tuple[str, ...] | None]:
    """What a task may choose: as a branch, any of the tasks downstream; else None."""
    if not task.branch:
        return st.none()
    downstream = plan.downstream[task.name]
    if not downstream:
        return st.just(())
    return st.lists(st.sampled_from(downstream), unique=True).map(tuple)


costs = st.none() | st.builds(
    Cost,
    st.sampled_from([0.0, 0.25, 1.5]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.dictionaries(st.sampled_from(["rows", "files"]), st.integers(-3, 3)),
)


def costing(outcome: Outcome, cost: Cost | None) -> Outcome:
    """The outcome of an attempt with that cost."""
    return msgspec.structs.replace(outcome, cost=cost)


def assert_costs_agree(execution: Execution, model: Model) -> None:
    """The sums of costs are those of the model."""
    assert execution.costs.keys() == model.costs.keys()
    for name, cost in execution.costs.items():
        assert (cost.processor_seconds, cost.peak_memory, cost.log_bytes) == model.costs[name]
        assert cost.counts == model.counts(name)
    total = execution.cost
    assert (total is None) is (not model.costs)
    if total is not None:
        seconds, peaks, logs = zip(*model.costs.values(), strict=True)
        assert total == Cost(sum(seconds), max(peaks), sum(logs), model.counts())


def choosing(plan: Plan, key: Key, outcome: Outcome, rejected: int = 0) -> Outcome:
    """The outcome; a branch that succeeds chooses all tasks downstream but the first ones."""
    if task_of(key) not in plan.branches or not isinstance(outcome, Succeeded):
        return outcome
    downstream = plan.downstream[task_of(key)]
    return msgspec.structs.replace(outcome, chosen=tuple(downstream[rejected:]))


def mended(plan: Plan) -> dict[str, Ending]:
    """Every task succeeds, and every branch chooses all."""
    downstream = plan.downstream
    return {
        task.name: Ending(0, chosen=tuple(downstream[task.name]) if task.branch else None)
        for task in (*plan.tasks, *plan.hooks)
    }


# -- expected results ------------------------------------------------------------------


def expected_ends(plan: Plan, script: Script) -> dict[str, tuple[str, SkipReason | None]]:
    """How every task of an undisturbed execution ends, and why it is skipped if it is."""
    tasks = {task.name: task for task in plan.tasks}
    ends: dict[str, tuple[str, SkipReason | None]] = {}

    def end(name: str) -> tuple[str, SkipReason | None]:
        if name in ends:
            return ends[name]
        task = tasks[name]
        before = [end(upstream)[0] for upstream in task.after]
        branches = [one for one in task.after if tasks[one].branch and ends[one][0] == S]
        ends[name] = S, None
        if any(name not in (script[one].chosen or ()) for one in branches):
            ends[name] = K, SkipReason.BRANCH
        elif not runs(task.rule, before):
            reason = skip_reason(task.rule, before)
            ends[name] = U if reason is SkipReason.UPSTREAM_FAILED else K, reason
        elif script[name].failures is None:
            ends[name] = F, None
        elif script[name].skips:
            ends[name] = K, SkipReason.ITSELF
        return ends[name]

    return {task.name: end(task.name) for task in plan.tasks}


def expected_states(plan: Plan, script: Script) -> dict[str, State]:
    """The final state of every task of an undisturbed execution."""
    ends = expected_ends(plan, script)
    return {name: K if end == U else State(end) for name, (end, _) in ends.items()}


def last_round(facts: Sequence[AnyFact]) -> Sequence[AnyFact]:
    """The facts since the execution was submitted or last retried."""
    begun = max(place for place, fact in enumerate(facts) if isinstance(fact, Submitted | Retried))
    return facts[begun:]


def assert_ended_by_the_rules(
    execution: Execution, facts: Sequence[AnyFact], plan: Plan | None = None
) -> None:
    """Every fact was allowed at its place, and each task of the last round ran or was skipped
    by its rule, unless a user marked tasks. `plan` is the first one, if a retry changed it."""
    assert execution.finished
    first = plan or execution.plan
    model = Model.of(first, facts)
    ends = {name: task.state for name, task in execution.tasks.items()}
    assert (model.states, model.state) == (ends, execution.state)
    assert model.hook_states == {name: hook.state for name, hook in execution.hooks.items()}
    assert set(model.hook_states.values()) <= FINISHED
    assert set(ends.values()) <= FINISHED
    opening, *happened = last_round(facts)
    requests = _cancels_of_tasks(first, facts)
    assert execution.state == end_of(
        ends.values(),
        cancelled=bool(requests),
        fails=any(request.timeout is not None or request.defect for request in requests),
    )
    if any(isinstance(fact, MarkedSuccessful | MarkedSkipped) for fact in happened):
        return
    skipped = {name for name, hook in execution.hooks.items() if hook.state is State.SKIPPED}
    assert not any(model.is_wanted(name) for name in skipped if not skips_itself(facts, name))
    began = {fact.task for fact in happened if isinstance(fact, TaskStarted)}
    skips = [fact for fact in happened if isinstance(fact, TaskSkipped)]
    by_itself = {fact.task for fact in skips if fact.attempt}
    for planned in execution.plan.tasks:
        if isinstance(opening, Retried) and planned.name not in opening.tasks:
            assert planned.name not in began
            continue
        may_run = runs(planned.rule, model.endings(planned.name))
        may_run = may_run and not model.is_rejected(planned.name)
        match ends[planned.name]:
            case State.SUCCESSFUL | State.FAILED:
                assert may_run
                assert planned.name in began
            case State.SKIPPED if planned.name in by_itself:
                assert may_run
                assert planned.name in began
            case State.SKIPPED:
                assert not may_run
                assert planned.name not in began
            case State.CANCELLED:
                assert may_run or planned.name not in began


def is_of_hooks(retried: Retried) -> bool:
    """Whether it runs only hooks again; see `plans` for their names."""
    return all(name.startswith("h") for name in retried.tasks)


def _cancels_of_tasks(plan: Plan, facts: Sequence[AnyFact]) -> list[CancelRequested]:
    """The cancels of the last round that were not only for hooks."""
    requests: list[CancelRequested] = []
    for place, fact in enumerate(facts):
        if isinstance(fact, Retried):
            if not is_of_hooks(fact):
                requests.clear()
        elif isinstance(fact, CancelRequested) and (
            fact.defect or not Model.of(plan, facts[:place]).closing
        ):
            requests.append(fact)
    return requests


def skips_itself(facts: Sequence[AnyFact], name: str) -> bool:
    """Whether an attempt has skipped its task, since tasks ran last."""
    skips: list[TaskSkipped] = []
    for fact in facts:
        if isinstance(fact, Retried) and not is_of_hooks(fact):
            skips.clear()
        elif isinstance(fact, TaskSkipped):
            skips.append(fact)
    return any(fact.task == name and fact.attempt for fact in skips)


def assert_attempts_within_retries(plan: Plan, facts: Sequence[AnyFact]) -> None:
    """In each round, a task has at most one attempt more than its retries, interrupted attempts
    not counted."""
    most = {task.name: task.retries + 1 for task in [*plan.tasks, *plan.hooks]}
    attempts: Counter[str] = Counter()
    for fact in facts:
        if isinstance(fact, Retried):
            attempts.clear()
            if fact.plan is not None:
                named = [*fact.plan.tasks, *fact.plan.hooks]
                most = {task.name: task.retries + 1 for task in named}
        elif isinstance(fact, AttemptFailed) and fact.interrupted:
            attempts[fact.task] -= 1
        elif isinstance(fact, TaskStarted):
            attempts[fact.task] += 1
            assert attempts[fact.task] <= most[fact.task]


# -- playing ---------------------------------------------------------------------------


class Choices:
    """Choices made by hypothesis, repeated indefinitely."""

    def __init__(self, numbers: Iterable[int] = (0,)) -> None:
        self._numbers = itertools.cycle(numbers)

    def below(self, limit: int) -> int:
        return next(self._numbers) % limit


choices = st.lists(st.integers(0, 11), min_size=1, max_size=12).map(Choices)


def failures_so_far(facts: Sequence[AnyFact], name: str) -> int:
    """The failed attempts of the task in this round, without interrupted ones."""
    return sum(
        isinstance(fact, AttemptFailed | TaskFailed) and fact.task == name and not fact.interrupted
        for fact in last_round(facts)
    )


def looks_so_far(facts: Sequence[AnyFact], name: str) -> int:
    """The looks in vain of the task's last attempt."""
    looks = 0
    for fact in facts:
        if isinstance(fact, TaskStarted) and fact.task == name:
            looks = 0
        looks += isinstance(fact, TaskPostponed) and fact.task == name
    return looks


def play(
    execution: Execution,
    facts: list[AnyFact],
    script: Script,
    choose: Choices,
    steps: int | None = None,
    *,
    disturbed: bool = False,
) -> None:
    """Run the execution until it has finished, or for `steps` steps; append to `facts`.

    `choose` decides which tasks start and when, which attempt ends next, and how long retries
    wait. The script decides how attempts end. If `disturbed`, users cancel and mark tasks.
    """
    now = facts[-1].at
    limit = len(facts) + 40 * len(execution.named) + 20
    for _ in range(limit) if steps is None else range(steps):
        now += SECOND
        if disturbed:
            facts += order(execution, now, choose)
        facts += execution.advance(now)
        ready = startable(execution, now)
        most = choose.below(4) if execution.running else 1 + choose.below(3)
        first = choose.below(len(ready)) if ready else 0
        facts += execution.advance(now, ready[first : first + most])
        if execution.finished:
            return
        if execution.running:
            name = execution.running[choose.below(len(execution.running))]
            outcome = script[name].of(failures_so_far(facts, name), looks_so_far(facts, name))
            tells, delay = choose.below(3) == 2, choose.below(3)
            facts.append(execution.settle(name, outcome, now, delay, tells=tells))
        elif execution.untold:
            name = execution.untold[0]
            attempt = execution.run(name).attempt
            facts += execution.end_on_retry(name, attempt, "failure", now)
        elif not ready:
            due = execution.next_retry()
            assert due is not None, "stuck: nothing runs, nothing is due"
            now = max(now, due)
    assert steps is not None, f"not finished after {limit} steps"


def startable(execution: Execution, now: datetime) -> list[str]:
    """All tasks that may start, including those already announced."""
    execution.newly_ready(now)
    return [name for name in execution.named if execution.is_ready(name)]


def order(execution: Execution, now: datetime, choose: Choices) -> list[AnyFact]:
    """A random command of a user, or nothing."""
    name = list(execution.named)[choose.below(len(execution.named))]
    match choose.below(6):
        case 0:
            return execution.cancel_task(name, now, "ann")
        case 1:
            return execution.mark(name, S, now, "bob")
        case 2:
            return execution.mark(name, K, now, "cid")
    return []


# -- looking ---------------------------------------------------------------------------


def dump(execution: Execution) -> dict[str, Any]:
    """A copy of an execution's whole state."""
    state = {
        name: value.copy() if isinstance(value, dict | list | set) else value
        for name, value in vars(execution).items()
    }
    state["tasks"] = {name: _slots(task) for name, task in execution.named.items()}
    return state


def _slots(task: TaskRun) -> tuple[Any, ...]:
    values = (getattr(task, slot) for slot in SLOTS)
    return tuple(_copied(value) for value in values)


def _copied(value: object) -> object:
    match value:
        case Tally():
            return counts_of(value)
        case Items():
            return items_of(value)
    return value


def items_of(items: Items) -> tuple[object, ...]:
    """All that can be seen of the items of a mapped task."""
    rows = [[getattr(run, slot) for slot in ITEM_SLOTS] for run in items.runs or ()]
    return items.runs is None, items.counts.copy(), items.error, items.failures.copy(), rows


def look(execution: Execution, now: datetime) -> tuple[Any, ...]:
    """The state of an execution that a caller can see at `now`. It leaves out which ready tasks
    were announced, because a crash forgets that."""
    return (
        execution.summary(),
        {name: _slots(task) for name, task in execution.named.items()},
        execution.params,
        execution.cancelling,
        set(execution.running),
        set(execution.cancel_requested),
        waiting_to_start(execution, now),
        execution.deadline(),
    )


def waiting_to_start(execution: Execution, now: datetime) -> set[str]:
    """The tasks that may start at `now`, announced or not; changes nothing."""
    return {
        name
        for name, task in execution.named.items()
        if execution.is_ready(name)
        or (
            task.state is State.UPFORRETRY
            and task.retry_at is not None
            and task.retry_at <= now
            and not execution.is_cancelling(name)
            and not execution.is_untold(name)
        )
    }


def assert_tallies_are_right(execution: Execution) -> None:
    """Every tally agrees with the states of the upstream tasks."""
    for task in execution.tasks.values():
        ends = Counter(execution.tasks[upstream].state for upstream in task.planned.after)
        unreached = sum(execution.tasks[one].unreached for one in task.planned.after)
        counted = (len(task.planned.after), ends[S], ends[F], ends[K], ends[C], unreached)
        assert counts_of(task.tally) == counted
        assert task.tally.done == sum(ends[end] for end in FINISHED)


def counts_of(tally: Tally) -> tuple[int, ...]:
    """The total, and the numbers of successful, failed, skipped and cancelled tasks; and of those
    that were skipped because of a failure."""
    ended = tally.successful, tally.failed, tally.skipped, tally.cancelled
    return tally.total, *ended, tally.unreached
