"""Properties that hold for any graph, any order of ending attempts, and a crash at any moment."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import get_args

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from goflow.core.cost import Cost
from goflow.core.detail import Detail
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    ChildStarted,
    Dispatched,
    Finished,
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
    decode_facts,
    encode_facts,
)
from goflow.core.execution import (
    Cancelled,
    Execution,
    Failed,
    Outcome,
    Postponed,
    Skipped,
    Succeeded,
)
from goflow.core.graph import Plan, decode_plan
from goflow.core.progress import TABLE
from goflow.core.standing import IllegalTransition
from goflow.core.states import FINISHED, SkipReason, State
from goflow.core.summary import Summary
from goflow.core.transition import ChangedTasks, Transition
from goflow.engine.live import LiveExecution
from goflow.stores.base import Submit
from tests.core.histories import (
    NOW,
    SECOND,
    SLOTS,
    Choices,
    Ending,
    assert_attempts_within_retries,
    assert_costs_agree,
    assert_ended_by_the_rules,
    assert_tallies_are_right,
    choices,
    choosing,
    costing,
    costs,
    dump,
    expected_ends,
    expected_states,
    go_on,
    last_round,
    look,
    mended,
    plans,
    play,
    scripts,
    submitted,
    waiting_to_start,
)
from tests.core.model import BY_ITSELF, Model
from tests.effort import examples

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.sampled_from([msgspec.Raw(b"null"), msgspec.Raw(b'{"a":[1]}')])),
    st.builds(Failed, st.just("failure"), st.booleans()),
    st.builds(Skipped, st.just("nothing to do"), st.sampled_from(sorted(BY_ITSELF))),
    st.just(Cancelled()),
    st.just(Postponed(2.0, "no file")),
)
names = st.sampled_from([f"t{number}" for number in range(7)] + ["h0", "h1", "unknown"])
attempts = st.integers(0, 3)
later = st.integers(0, 5).map(lambda seconds: NOW + seconds * SECOND)
ends_or_none = st.none() | st.sampled_from([*State, "nonsense"])
any_fact: st.SearchStrategy[AnyFact] = st.one_of(
    st.just(submitted()),
    st.builds(TaskStarted, later, names, attempts),
    st.builds(
        TaskSucceeded,
        later,
        names,
        attempts,
        chosen=st.none() | st.lists(names, max_size=2).map(tuple),
    ),
    st.builds(
        AttemptFailed,
        later,
        names,
        attempts,
        st.just("failure"),
        later,
        st.booleans(),
        tells=st.booleans(),
    ),
    st.builds(OnRetryEnded, later, names, attempts, st.sampled_from(["", "failure"])),
    st.builds(TaskFailed, later, names, attempts, st.just("failure")),
    st.builds(TaskPostponed, later, names, attempts, later, st.just("no file")),
    st.builds(
        TaskSkipped,
        later,
        names,
        attempt=attempts,
        reason=st.none() | st.sampled_from(SkipReason),
    ),
    st.builds(ChildStarted, later, names, attempts, st.just("e2"), st.just("j2")),
    st.builds(Dispatched, later, names, attempts, st.integers(0, 2), st.just(msgspec.Raw(b"1"))),
    st.builds(
        CancelRequested,
        later,
        timeout=st.none() | st.just(1.5),
        defect=st.sampled_from(["", "damaged"]),
    ),
    st.builds(TaskCancelRequested, later, names),
    st.builds(MarkedSuccessful, later, names, finished=ends_or_none),
    st.builds(MarkedSkipped, later, names, finished=ends_or_none),
    st.builds(TaskCancelled, later, names, attempts),
    st.builds(Finished, later, st.sampled_from([*State, "nonsense"])),
    st.builds(Retried, later, st.lists(names, max_size=3).map(tuple)),
    st.builds(
        Retried,
        later,
        st.lists(names, max_size=3, unique=True).map(tuple),
        plan=plans(most=3, hooks=1),
        timeout=st.none() | st.just(3),
    ),
)

# made of the instant, the task's name and the number of its last attempt
FACTS_OF_A_TASK: list[Callable[[datetime, str, int], AnyFact]] = [
    lambda at, name, attempt: TaskStarted(at, name, attempt + 1),
    lambda at, name, attempt: TaskSucceeded(at, name, attempt),
    lambda at, name, attempt: AttemptFailed(at, name, attempt, "failure", at + SECOND),
    lambda at, name, attempt: AttemptFailed(at, name, attempt, "interrupted", at, True),
    lambda at, name, attempt: AttemptFailed(at, name, attempt, "failure", at, tells=True),
    lambda at, name, attempt: OnRetryEnded(at, name, attempt, "failure"),
    lambda at, name, attempt: TaskFailed(at, name, attempt, "failure"),
    lambda at, name, attempt: TaskPostponed(at, name, attempt, at + SECOND, "no file"),
    lambda at, name, attempt: TaskPostponed(at, name, attempt, at - SECOND, "no file"),
    lambda at, name, attempt: TaskSucceeded(at, name, attempt, chosen=()),
    lambda at, name, attempt: TaskSkipped(at, name),
    lambda at, name, attempt: TaskSkipped(at, name, reason=SkipReason.UPSTREAM_FAILED),
    lambda at, name, attempt: TaskSkipped(at, name, reason=SkipReason.UPSTREAM_SKIPPED),
    lambda at, name, attempt: TaskSkipped(at, name, reason=SkipReason.BRANCH),
    lambda at, name, attempt: TaskSkipped(at, name, None, attempt, SkipReason.ITSELF),
    lambda at, name, attempt: TaskSkipped(at, name, None, attempt, SkipReason.BRANCH),
    lambda at, name, attempt: ChildStarted(at, name, attempt, "e2", "j2"),
    lambda at, name, attempt: Dispatched(at, name, attempt, 1, msgspec.Raw(b"{}")),
    lambda at, name, attempt: TaskCancelled(at, name, attempt),
    lambda at, name, attempt: TaskCancelled(at, name),
    lambda at, name, attempt: TaskCancelRequested(at, name),
    lambda at, name, attempt: MarkedSuccessful(at, name),
    lambda at, name, attempt: MarkedSkipped(at, name),
    lambda at, name, attempt: MarkedSuccessful(at, name, finished="successful"),
    lambda at, name, attempt: MarkedSkipped(at, name, finished="failed"),
    lambda at, name, attempt: Retried(at, (name,)),
]


def from_store(plan: Plan, facts: list[AnyFact]) -> tuple[Execution, list[AnyFact]]:
    """The execution as the next process reads it, and its facts."""
    kept = decode_facts(encode_facts(facts))
    return Execution.replay(decode_plan(plan.encoded), kept), kept


def submitted_execution(plan: Plan) -> tuple[Execution, list[AnyFact]]:
    """A newly submitted execution, and its facts."""
    return Execution(plan, submitted()), [submitted()]


def states(execution: Execution) -> dict[str, State]:
    return {name: task.state for name, task in execution.tasks.items()}


Played = tuple[Plan, dict[str, Ending], list[AnyFact]]


@st.composite
def played(draw: st.DrawFn, retries: int = 0, disturbed: bool = False, hooks: int = 0) -> Played:
    """A plan, a script and the facts of an execution that followed it to its end."""
    plan = draw(plans(retries=retries, hooks=hooks))
    script = draw(scripts(plan))
    facts: list[AnyFact] = [submitted()]
    play(Execution(plan, submitted()), facts, script, draw(choices), disturbed=disturbed)
    return plan, script, facts


@given(played())
def test_tasks_end_by_their_rules_in_any_order_of_ending_attempts(
    history: Played,
) -> None:
    plan, script, facts = history
    execution = Execution.replay(plan, facts)
    ends = expected_states(plan, script)
    assert states(execution) == ends
    assert execution.state == (State.FAILED if State.FAILED in ends.values() else State.SUCCESSFUL)
    assert_ended_by_the_rules(execution, facts)


@given(played())
def test_every_skip_has_its_reason_whatever_the_order_of_ending_attempts(
    history: Played,
) -> None:
    plan, script, facts = history
    model = Model(plan, submitted())
    told: dict[str, SkipReason | None] = dict.fromkeys(states(Execution(plan, submitted())))
    for fact in facts[1:]:
        if isinstance(fact, TaskSkipped) and fact.task in told:
            told[fact.task] = fact.reason
            assert fact.attempt or fact.reason is model.skip_reason(fact.task)
            assert fact.why
        model.take(fact)
    failed = SkipReason.UPSTREAM_FAILED
    for name, (_, expected) in expected_ends(plan, script).items():
        assert (told[name] is None) == (expected is None)
        if model.asks_for_failures or SkipReason.BRANCH in (expected, told[name]):
            assert (told[name] is failed) == (expected is failed)
    for name, task in Execution.replay(plan, facts).tasks.items():
        assert (None if task.skip is None else task.skip.reason) is told[name]


@given(played())
def test_the_number_of_attempts_follows_from_script_and_retries(
    history: Played,
) -> None:
    plan, script, facts = history
    ends = expected_ends(plan, script)
    for task in plan.tasks:
        started = [f.attempt for f in facts if isinstance(f, TaskStarted) and f.task == task.name]
        failures, final, *_ = script[task.name]
        if ends[task.name][1] not in (None, SkipReason.ITSELF):
            expected = 0
        elif failures is not None:
            expected = failures + 1
        else:
            expected = 1 if final else task.retries + 1
        assert started == list(range(1, expected + 1))


@settings(max_examples=examples(60))
@given(played(retries=1, hooks=2), choices)
def test_a_crash_after_any_fact_changes_no_outcome(history: Played, choose: Choices) -> None:
    """A task that needs all its retries still has them after the interruption."""
    plan, script, facts = history
    ends = expected_states(plan, script)
    for crash in range(1, len(facts) + 1):
        execution, kept = from_store(plan, facts[:crash])
        waits = execution.waits
        was_running = [name for name in execution.running if name not in waits]
        named = execution.named.items()
        done = {name for name, task in named if task.state in FINISHED}
        kept += execution.interrupt(kept[-1].at + SECOND)
        assert execution.running == waits
        interrupted = [f.task for f in kept[crash:] if isinstance(f, AttemptFailed | TaskFailed)]
        assert interrupted == was_running
        play(execution, kept, script, choose)
        assert states(execution) == ends
        assert not done & {f.task for f in kept[crash:] if isinstance(f, TaskStarted)}
        assert_attempts_within_retries(plan, kept)


@given(plans(), st.data())
def test_an_interrupted_task_without_retries_fails_visibly(plan: Plan, data: st.DataObject) -> None:
    execution, facts = submitted_execution(plan)
    script = dict.fromkeys((task.name for task in plan.tasks), Ending(None))
    play(execution, facts, script, data.draw(choices), steps=data.draw(st.integers(1, 20)))
    facts += go_on(execution, facts[-1].at)
    execution, facts = from_store(plan, facts)
    for fact in execution.interrupt(facts[-1].at):
        assert isinstance(fact, AttemptFailed | TaskFailed)
        assert fact.error.startswith("interrupted")
        assert fact.interrupted
        planned = execution.tasks[fact.task].planned
        assert isinstance(fact, TaskFailed) == (not planned.retries and not planned.repeatable)


@given(plans(), st.data(), st.lists(outcomes, min_size=1, max_size=7))
def test_a_cancelled_execution_starts_no_task_and_ends_cancelled_unless_a_task_failed(
    plan: Plan, data: st.DataObject, ends: list[Outcome]
) -> None:
    execution, facts = submitted_execution(plan)
    script = data.draw(scripts(plan))
    play(execution, facts, script, data.draw(choices), steps=data.draw(st.integers(0, 20)))
    assume(not execution.finished)
    before = len(facts)
    facts += execution.cancel(facts[-1].at)
    assert [type(fact) for fact in facts[before:]] == [CancelRequested]
    assert execution.cancel(facts[-1].at) == []
    facts += go_on(execution, facts[-1].at)
    for place, name in enumerate(execution.running):
        assert not execution.finished
        outcome = choosing(plan, name, ends[place % len(ends)])
        facts.append(execution.settle(name, outcome, facts[-1].at))
        facts += go_on(execution, facts[-1].at)
    assert execution.finished
    assert not any(isinstance(fact, TaskStarted | AttemptFailed) for fact in facts[before:])
    failed = State.FAILED in states(execution).values()
    assert execution.state is (State.FAILED if failed else State.CANCELLED)
    assert all(state in FINISHED for state in states(execution).values())
    assert_ended_by_the_rules(execution, facts)


@given(plans(hooks=2), st.data(), st.booleans())
def test_an_abort_ends_an_execution_in_any_state(
    plan: Plan, data: st.DataObject, cancelled: bool
) -> None:
    execution, facts = submitted_execution(plan)
    play(
        execution,
        facts,
        data.draw(scripts(plan)),
        data.draw(choices),
        steps=data.draw(st.integers(0, 20)),
    )
    assume(not execution.finished)
    if cancelled:
        facts += execution.cancel(facts[-1].at)
        cancelled = execution.cancelling  # after the end of all tasks only hooks are cancelled
    ran = execution.running
    facts += execution.abort(facts[-1].at, "KeyError: 'x'")
    assert execution.finished
    failed = not cancelled or State.FAILED in states(execution).values()
    assert execution.state is (State.FAILED if failed else State.CANCELLED)
    assert {execution.run(name).state for name in ran} <= {State.FAILED}
    assert all(hook.state in FINISHED for hook in execution.hooks.values())
    assert execution.abort(facts[-1].at, "again") == []
    assert look(execution, NOW) == look(Execution.replay(plan, facts), NOW)
    reason = execution.summary().reason
    assert reason == (None if cancelled else "a defect in goflow: KeyError: 'x'")


@given(played(), st.data())
def test_a_retry_runs_exactly_the_unsuccessful_tasks_again(
    history: Played, data: st.DataObject
) -> None:
    plan, _, facts = history
    execution = Execution.replay(plan, facts)
    again = tuple(name for name, state in states(execution).items() if state != "successful")
    first_round = {name: task.attempt for name, task in execution.tasks.items()}
    decided = execution.retry(facts[-1].at)
    if not again:
        assert decided == []
        assert execution.finished
        return
    assert decided == [Retried(facts[-1].at, again)]
    assert execution.retry(facts[-1].at) == []
    facts += decided
    assert look(execution, NOW) == look(Execution.replay(plan, facts), NOW)
    assert_tallies_are_right(execution)
    play(execution, facts, mended(plan), data.draw(choices))
    assert_ended_by_the_rules(execution, facts)
    assert State.FAILED not in states(execution).values()
    assert execution.state is State.SUCCESSFUL
    for name, attempt in first_round.items():
        if name not in again:
            assert execution.tasks[name].attempt == attempt


@given(played(), any_fact)
def test_a_finished_execution_accepts_only_retries_and_marks(
    history: Played, fact: AnyFact
) -> None:
    plan, _, facts = history
    execution = Execution.replay(plan, facts)
    assume(not isinstance(fact, Retried | MarkedSuccessful | MarkedSkipped))
    before = dump(execution)
    with pytest.raises(IllegalTransition):
        execution.apply(fact)
    assert dump(execution) == before
    assert go_on(execution, NOW) == []
    assert execution.interrupt(NOW) == []
    assert execution.cancel(NOW) == []
    assert all(execution.cancel_task(task.name, NOW) == [] for task in plan.tasks)
    assert execution.deadline() is None
    assert dump(execution) == before


# -- cancelling one task, and marks ----------------------------------------------------


@given(played(disturbed=True, hooks=2))
def test_the_model_allows_every_fact_of_a_disturbed_execution(
    history: Played,
) -> None:
    plan, _, facts = history
    execution = Execution.replay(plan, facts)
    assert_ended_by_the_rules(execution, facts)
    assert_attempts_within_retries(plan, facts)
    assert_tallies_are_right(execution)


@settings(max_examples=examples(60))
@given(played(disturbed=True, hooks=2), choices)
def test_a_crash_after_any_fact_undoes_neither_cancels_nor_marks(
    history: Played, choose: Choices
) -> None:
    plan, script, facts = history
    for crash in range(1, len(facts) + 1):
        execution, kept = from_store(plan, facts[:crash])
        if execution.finished:
            assert look(execution, NOW) == look(Execution.replay(plan, facts), NOW)
            continue
        doomed = set(execution.cancel_requested)
        ends = {name: state for name, state in states(execution).items() if state in FINISHED}
        kept += execution.interrupt(kept[-1].at + SECOND)
        play(execution, kept, script, choose)
        assert_ended_by_the_rules(execution, kept)
        assert not {f.task for f in kept[crash:] if isinstance(f, TaskStarted)} & (
            doomed | ends.keys()
        )
        assert states(execution).items() >= ends.items()
        assert all(execution.run(name).state is State.CANCELLED for name in doomed)


@given(played(disturbed=True), st.data())
def test_after_a_mark_a_finished_execution_has_the_state_derived_from_its_tasks(
    history: Played, data: st.DataObject
) -> None:
    plan, _, facts = history
    execution = Execution.replay(plan, facts)
    for name in data.draw(st.permutations([task.name for task in plan.tasks])):
        end = data.draw(st.sampled_from([State.SUCCESSFUL, State.SKIPPED]))
        before, finished_at = states(execution), execution.finished_at
        decided = execution.mark(name, end, facts[-1].at + SECOND)
        assert bool(decided) == (before[name] not in (State.SUCCESSFUL, end))
        assert states(execution) == before | ({name: end} if decided else {})
        assert execution.finished_at == finished_at
        facts += decided
        assert_ended_by_the_rules(execution, facts)
        assert_tallies_are_right(execution)
    assert execution.state is State.SUCCESSFUL


# -- manual retries --------------------------------------------------------------------


def reachable(plan: Plan, name: str) -> set[str]:
    """The task and all tasks after it, found by going over all edges until none is new."""
    found = {name}
    for _ in plan.tasks:
        found |= {task.name for task in plan.tasks if found & set(task.after)}
    return found


@given(played(disturbed=True), st.data(), st.booleans(), st.none() | st.just({"x": 1}))
def test_a_retry_from_a_task_runs_it_with_or_without_the_tasks_after_it(
    history: Played,
    data: st.DataObject,
    following: bool,
    params: dict[str, int] | None,
) -> None:
    plan, script, facts = history
    execution = Execution.replay(plan, facts)
    chosen = data.draw(st.sampled_from(plan.tasks)).name
    again = reachable(plan, chosen) if following else {chosen}
    kept = {name: task for name, task in dump(execution)["tasks"].items() if name not in again}
    decided = execution.retry(facts[-1].at, chosen, following=following, params=params, by="ann")
    in_order = tuple(task.name for task in plan.tasks if task.name in again)
    assert decided == [Retried(facts[-1].at, in_order, "ann", params, chosen)]
    facts += decided
    assert execution.params == (params or {})
    assert all(execution.tasks[name].state is State.NOTSTARTED for name in again)
    assert_tallies_are_right(execution)
    from_here = Execution.replay(plan, facts)
    assert look(from_here, NOW) == look(execution, NOW)
    play(execution, facts, script, data.draw(choices))
    assert_ended_by_the_rules(execution, facts)
    assert_attempts_within_retries(plan, facts)
    for name, row in kept.items():
        now = execution.tasks[name]
        then = dict(zip(SLOTS, row, strict=True))
        for slot in ("attempt", "planned", "result", "state", "started_at", "finished_at"):
            assert getattr(now, slot) == then[slot]


# -- the timeout of an execution -------------------------------------------------------


@given(plans(), st.data(), st.integers(1, 12), choices)
def test_an_execution_is_cancelled_at_its_deadline_and_not_before(
    plan: Plan, data: st.DataObject, timeout: int, choose: Choices
) -> None:
    script = data.draw(scripts(plan))
    opening = submitted(timeout=timeout)
    execution = Execution(plan, opening)
    facts: list[AnyFact] = [opening]
    for round in range(2):
        play(execution, facts, script, choose, steps=20)
        if not execution.finished:
            deadline = execution.deadline() or facts[-1].at
            facts += execution.advance(max(facts[-1].at, deadline))
            for name in execution.running:
                facts.append(execution.settle(name, Cancelled(), facts[-1].at))
            facts += execution.advance(facts[-1].at)
        assert_ended_by_the_rules(execution, facts)
        this_round = last_round(facts)
        starts = [fact.at for fact in this_round if isinstance(fact, TaskStarted)]
        limit = starts[0] + timeout * SECOND
        requests = [fact.at for fact in this_round if isinstance(fact, CancelRequested)]
        assert all(at >= limit for at in requests)
        assert all(at < limit for at in starts)
        assert (execution.reason is not None) == bool(requests)
        assert not requests or execution.state is State.FAILED
        replayed, _ = from_store(plan, facts)
        assert look(replayed, facts[-1].at) == look(execution, facts[-1].at)
        if round == 0:
            first = next(task.name for task in plan.tasks if not task.after)
            facts += execution.retry(facts[-1].at + SECOND, first)


class AnyLife(RuleBasedStateMachine):
    """An execution in which anything may happen at any time, including damaged facts."""

    execution: Execution
    facts: list[AnyFact]

    @initialize(plan=plans(hooks=2), timeout=st.none() | st.integers(1, 9))
    def submit(self, plan: Plan, timeout: int | None) -> None:
        self.now = NOW
        self.plan = plan
        opening = submitted(timeout=timeout)
        self.facts = [opening]
        self.execution = Execution(plan, opening)
        self.live = LiveExecution.created(Submit(opening, plan), 1)
        self.changed = ChangedTasks()
        self.states = {task.name: State.NOTSTARTED for task in [*plan.tasks, *plan.hooks]}
        self.model = Model(plan, opening)
        self.announced: set[str] = set()

    @rule(granted=st.lists(names, max_size=5), seconds=st.integers(0, 2))
    def advance(self, granted: list[str], seconds: int) -> None:
        """Only granted and ready tasks start; each ready task is announced once."""
        self.now += seconds * SECOND
        deadline = self.execution.deadline()
        decided = self.execution.advance(self.now)
        self.take(decided)
        in_time = deadline is None or self.now < deadline
        timed_out = [f.timeout for f in decided if isinstance(f, CancelRequested)]
        assert timed_out == ([] if in_time else [self.execution.timeout])
        ready = self.ready()
        announced = self.execution.newly_ready(self.now)
        assert len(set(announced)) == len(announced)
        assert set(announced) == ready - self.announced
        self.announced = ready
        named = self.execution.named
        assert self.announced == {name for name in named if self.execution.is_ready(name)}
        expected = [name for name in dict.fromkeys(granted) if name in ready]
        started = self.execution.advance(self.now, granted)
        assert [fact.task for fact in started if isinstance(fact, TaskStarted)] == expected
        assert len(started) == len(expected), "everything else was decided before"
        self.take(started)

    def ready(self) -> set[str]:
        """The tasks that may start by the model, if their retries are due."""
        due = {
            name
            for name, task in self.execution.named.items()
            if task.state is State.UPFORRETRY
            and (
                name in self.announced or (task.retry_at is not None and task.retry_at <= self.now)
            )
            and not self.model.stops(name)
            and name not in self.model.untold
        }
        due |= {name for name in self.model.hooks if self.model.can_begin_hook(name)}
        return due | {name for name in self.model.plan if self.model.can_start(name)}

    @precondition(lambda self: self.execution.running)
    @rule(
        pick=st.integers(0, 6),
        outcome=outcomes,
        delay=st.integers(0, 2),
        cost=costs,
        tells=st.booleans(),
    )
    def settle(
        self, pick: int, outcome: Outcome, delay: int, cost: Cost | None, tells: bool
    ) -> None:
        running = self.execution.running
        name = running[pick % len(running)]
        tried_again = self.execution.will_retry(name, outcome)
        outcome = costing(choosing(self.execution.plan, name, outcome, pick % 3), cost)
        fact = self.execution.settle(name, outcome, self.now, delay, tells=tells)
        assert isinstance(fact, AttemptFailed) == tried_again
        self.take([fact])
        assert self.execution.is_untold(name) == (tried_again and tells)

    @precondition(lambda self: self.execution.untold)
    @rule(pick=st.integers(0, 6), error=st.sampled_from(["", "failure"]), late=st.booleans())
    def end_on_retry(self, pick: int, error: str, late: bool) -> None:
        """Once for each failed attempt, and not for an earlier one."""
        untold = self.execution.untold
        name = untold[pick % len(untold)]
        attempt = self.execution.run(name).attempt
        decided = self.execution.end_on_retry(name, attempt - late, error, self.now)
        expected = [] if late else [OnRetryEnded(self.now, name, attempt, error)]
        assert decided == expected
        self.take(decided)
        if not late:
            assert self.execution.end_on_retry(name, attempt, error, self.now) == []

    @precondition(lambda self: self.execution.next_retry())
    @rule()
    def wait(self) -> None:
        self.now = max(self.now, self.execution.next_retry() or self.now)
        assert self.ready() - self.announced

    @precondition(lambda self: self.execution.deadline())
    @rule()
    def outlast(self) -> None:
        """The timeout counts from the first start of the round."""
        assert self.execution.timeout is not None
        assert self.model.begun is not None
        deadline = self.model.begun + self.execution.timeout * SECOND
        assert self.execution.deadline() == deadline
        self.now = max(self.now, deadline)

    @rule()
    def crash(self) -> None:
        self.execution, self.facts = from_store(self.plan, self.facts)
        self.announced.clear()
        self.take(self.execution.interrupt(self.now))
        assert self.execution.running == self.execution.waits

    @rule()
    def cancel(self) -> None:
        expected = self.model.allows(CancelRequested(self.now, "ann"))
        decided = self.execution.cancel(self.now, "ann")
        assert decided == ([CancelRequested(self.now, "ann")] if expected else [])
        self.take(decided)

    @rule(pick=st.integers(0, 8))
    def cancel_task(self, pick: int) -> None:
        name = list(self.execution.named)[pick % len(self.execution.named)]
        fact = TaskCancelRequested(self.now, name, "ann")
        allowed = self.model.allows(fact)
        decided = self.execution.cancel_task(name, self.now, "ann")
        assert decided == ([fact] if allowed else [])
        self.take(decided)

    @rule(pick=st.integers(0, 8), state=st.sampled_from([State.SUCCESSFUL, State.SKIPPED]))
    def mark(self, pick: int, state: State) -> None:
        name = list(self.execution.named)[pick % len(self.execution.named)]
        kind = MarkedSuccessful if state is State.SUCCESSFUL else MarkedSkipped
        finished = None
        if self.model.finished:
            finished = self.model.end(self.model.states | {name: state}).value
        fact = kind(self.now, name, "bob", finished)
        allowed = self.model.allows(fact)
        decided = self.execution.mark(name, state, self.now, "bob")
        assert decided == ([fact] if allowed else [])
        self.take(decided)

    @precondition(lambda self: self.execution.finished)
    @rule(params=st.none() | st.dictionaries(st.sampled_from("xy"), st.integers(0, 2)))
    def retry(self, params: dict[str, int] | None) -> None:
        again = [n for n, state in self.model.states.items() if state is not State.SUCCESSFUL]
        self.take(self.execution.retry(self.now, params=params))
        assert self.execution.finished == (not again)

    @precondition(lambda self: self.execution.finished)
    @rule(pick=st.integers(0, 6), following=st.booleans())
    def retry_from(self, pick: int, following: bool) -> None:
        name = self.pick(pick)
        (fact,) = self.execution.retry(self.now, name, following=following)
        assert isinstance(fact, Retried)
        assert all(hook.state is State.NOTSTARTED for hook in self.execution.hooks.values())
        plan = self.execution.plan
        assert set(fact.tasks) == (reachable(plan, name) if following else {name})
        self.take([fact])

    @precondition(lambda self: self.execution.finished and self.execution.hooks)
    @rule(pick=st.integers(0, 6))
    def retry_hook(self, pick: int) -> None:
        """It runs again alone, and changes neither the tasks nor their final state."""
        hooks = list(self.execution.hooks)
        name = hooks[pick % len(hooks)]
        wanted, end = self.model.is_wanted(name), self.execution.final_state
        before = states(self.execution)
        decided = self.execution.retry(self.now, name)
        assert decided == ([Retried(self.now, (name,), asked=name)] if wanted else [])
        self.take(decided)
        assert self.execution.finished != wanted
        assert (states(self.execution), self.execution.final_state) == (before, end)

    @precondition(lambda self: self.execution.finished)
    @rule(
        plan=plans(most=5, hooks=2),
        pick=st.none() | st.integers(0, 6),
        following=st.booleans(),
        timeout=st.none() | st.integers(1, 9),
    )
    def retry_by_another_plan(
        self, plan: Plan, pick: int | None, following: bool, timeout: int | None
    ) -> None:
        """Tasks that do not run again keep their states and results; new ones run."""
        name = None if pick is None else plan.tasks[pick % len(plan.tasks)].name
        before = dict(self.execution.tasks)
        results = {one: task.result for one, task in before.items()}
        new = plan.names - before.keys()  # no task of these plans is mapped
        if name is None:
            again = {one for one in plan.names if self.model.states.get(one) != State.SUCCESSFUL}
        else:
            again = new | (reachable(plan, name) if following else {name})
        kept = {one: self.model.states[one] for one in plan.names - again}
        decided = self.execution.retry(
            self.now, name, following=following, plan=plan, timeout=timeout
        )
        if not again:
            assert decided == []
            return
        in_order = tuple(task.name for task in plan.tasks if task.name in again)
        assert decided == [
            Retried(self.now, in_order, asked=name, plan=plan, timeout=timeout),
        ]
        assert {one: self.execution.tasks[one].state for one in kept} == kept
        assert {one: self.execution.tasks[one].result for one in kept} == {
            one: results[one] for one in kept
        }
        assert all(self.execution.tasks[one].state is State.NOTSTARTED for one in again)
        dropped = before.keys() - plan.names
        assert self.execution.dropped.keys() >= dropped
        assert self.execution.timeout == timeout
        self.take(decided)

    def pick(self, number: int) -> str:
        tasks = self.execution.plan.tasks
        return tasks[number % len(tasks)].name

    @rule(fact=any_fact)
    def slip(self, fact: AnyFact) -> None:
        """A random fact is accepted or refused as a whole."""
        self.offer(msgspec.structs.replace(fact, at=self.now))

    @rule(pick=st.integers(0, 8), kind=st.sampled_from(FACTS_OF_A_TASK))
    def slip_likely(self, pick: int, kind: Callable[[datetime, str, int], AnyFact]) -> None:
        """The same, with a fact that fits the task's attempts."""
        name = list(self.execution.named)[pick % len(self.execution.named)]
        self.offer(kind(self.now, name, self.execution.run(name).attempt))

    def offer(self, fact: AnyFact) -> None:
        """The fact is accepted if and only if the model allows it."""
        before = dump(self.execution)
        allowed = self.model.allows(fact)
        try:
            changes = self.execution.apply(fact)
        except IllegalTransition:
            assert not allowed
            assert dump(self.execution) == before
        else:
            assert allowed
            hooks = [one for one in changes if one.task.name in self.execution.hooks]
            tasks = [one for one in changes if one not in hooks]
            all_tasks = None
            if isinstance(fact, Retried) and fact.plan is not None:
                all_tasks = [task.summary() for task in self.execution.tasks.values()]
            brief = self.execution.brief()
            self.show(Transition(brief, tasks, hooks=hooks, replanned=all_tasks))
            self.take([fact])

    def show(self, transition: Transition) -> None:
        """Pass on a transition, as a commit does; each change continues from the previous one."""
        for change in [*transition.tasks, *transition.hooks]:
            assert change.before is self.states.get(change.task.name, State.NOTSTARTED)
            self.states[change.task.name] = change.task.state
        self.live.apply(transition, self.live.version + 1)
        for change in transition.tasks:
            self.changed.note(change.task.name, self.live.version)
        changed = dict.fromkeys(change.task.name for change in transition.tasks)
        assert set(self.changed.since(self.live.version - 1)) == set(changed)

    def take(self, decided: list[AnyFact]) -> None:
        self.facts += decided
        self.show(self.execution.transition())
        for fact in decided:
            assert self.model.allows(fact), fact
            self.model.take(fact)
            self.announced &= self.ready()

    @invariant()
    def the_state_agrees_with_the_model(self) -> None:
        assert states(self.execution) == self.model.states
        hooks = {name: hook.state for name, hook in self.execution.hooks.items()}
        assert hooks == self.model.hook_states
        assert self.execution.state == self.model.state
        assert set(self.execution.cancel_requested) == self.model.doomed
        assert self.execution.params == self.model.params
        assert waiting_to_start(self.execution, self.now) == self.ready()
        assert set(self.execution.waits) == self.model.waiting
        assert_costs_agree(self.execution, self.model)
        assert set(self.execution.untold) == self.model.untold

    @invariant()
    def the_live_state_agrees_with_the_execution(self) -> None:
        assert self.live.summary() == self.execution.summary()
        tasks = self.execution.tasks.items()
        assert self.live.counts == Counter(task.state for _, task in tasks)
        running = set(self.execution.running) - self.execution.hooks.keys()
        assert set(self.live.running) == running
        assert self.live.retry_at == self.execution.retries
        assert self.live.retry_at == {
            name: task.retry_at for name, task in tasks if task.state is State.UPFORRETRY
        }

    @invariant()
    def the_details_agree_with_the_summary(self) -> None:
        detail = Detail.replay(self.plan, self.facts)
        for field in set(Summary.__struct_fields__) - {"tasks", "taskCounts", "params"}:
            assert getattr(detail, field) == getattr(self.live.brief, field)
        assert detail.params == self.execution.params
        assert msgspec.json.decode(self.live.brief.params) == self.execution.params
        assert len(detail.actions) == sum(hasattr(fact, "by") for fact in self.facts)
        rows = [*detail.tasks, *detail.hooks]
        for row, (name, task) in zip(rows, self.execution.named.items(), strict=True):
            assert (row.name, row.state) == (name, task.state)
            assert (row.started, row.finished) == (task.started_at, task.finished_at)
            assert row.waiting == task.waiting
            assert [attempt.attempt for attempt in row.attempts] == [*range(1, task.attempt + 1)]
            assert row.result == (msgspec.Raw(b"null") if task.result is None else task.result)
            assert (row.finished is None) == (task.state in (State.NOTSTARTED, State.RUNNING))
            for attempt in row.attempts[:-1]:
                assert attempt.finished is not None
            if row.attempts:
                running = task.state is State.RUNNING
                assert (row.attempts[-1].state is State.RUNNING) == running
                assert (row.attempts[-1].finished is None) == running

    @invariant()
    def a_replay_gives_the_same_state(self) -> None:
        replayed, _ = from_store(self.plan, self.facts)
        assert look(replayed, self.now) == look(self.execution, self.now)
        ready = waiting_to_start(replayed, self.now)
        if self.execution.cancelling and not self.execution.closing:
            ready = set()
        assert set(replayed.newly_ready(self.now)) == ready

    @invariant()
    def attempts_do_not_exceed_retries(self) -> None:
        assert_attempts_within_retries(self.plan, self.facts)

    @invariant()
    def tallies_are_right(self) -> None:
        assert_tallies_are_right(self.execution)

    @invariant()
    def it_finishes_only_by_the_rules(self) -> None:
        if self.execution.finished:
            assert_ended_by_the_rules(self.execution, self.facts, self.plan)

    @invariant()
    def it_is_never_stuck(self) -> None:
        copy = Execution.replay(self.plan, self.facts)
        go_on(copy, self.now)
        assert copy.finished or copy.running or copy.next_retry() or copy.untold

    def teardown(self) -> None:
        if hasattr(self, "execution"):
            for name in self.execution.untold:
                attempt = self.execution.run(name).attempt
                self.take(self.execution.end_on_retry(name, attempt, "", self.now))
            for name in self.execution.running:
                done = choosing(self.execution.plan, name, Succeeded())
                self.take([self.execution.settle(name, done, self.now)])
            if not self.execution.finished:
                play(self.execution, self.facts, mended(self.execution.plan), Choices())
            assert_ended_by_the_rules(self.execution, self.facts, self.plan)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=examples(100), stateful_step_count=40)


def test_the_table_has_a_row_for_every_fact_except_the_first() -> None:
    assert set(TABLE) == set(get_args(AnyFact)) - {Submitted}
    moving = {fact for fact, row in TABLE.items() if row.moves}
    assert moving == {*get_args(TaskFact), Retried}


def test_every_request_names_its_user_and_has_a_display_name() -> None:
    for fact in get_args(AnyFact):
        assert ("by" in fact.__struct_fields__) == (fact.action is not None), fact


def test_only_retries_and_marks_change_a_finished_task() -> None:
    rows = [
        (state, fact, after) for fact, row in TABLE.items() for state, after in row.moves.items()
    ]
    for state, fact, after in rows:
        if fact in (MarkedSuccessful, MarkedSkipped):
            assert state is not State.SUCCESSFUL
            assert after in FINISHED
        elif state in FINISHED:
            assert fact is Retried
        if fact is TaskCancelRequested:
            assert after is state
        else:
            assert (after is State.NOTSTARTED) == (fact is Retried)
