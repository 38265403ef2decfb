"""Whatever the graph, the order in which attempts end, and the moment of a crash."""

from collections.abc import Callable
from datetime import datetime

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

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    Retried,
    Submitted,
    TaskCancelled,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
    decode_facts,
    encode_facts,
)
from goflow.core.execution import (
    TRANSITIONS,
    Cancelled,
    Execution,
    Failed,
    IllegalTransition,
    Outcome,
    Succeeded,
)
from goflow.core.graph import Plan, decode_plan
from goflow.core.states import FINISHED, State
from goflow.core.summary import Detail, Summary
from tests.core.histories import (
    NOW,
    SECOND,
    Choices,
    Ending,
    assert_attempts_within_retries,
    assert_ended_by_the_rules,
    assert_tallies_are_right,
    choices,
    dump,
    foretell,
    look,
    plans,
    play,
    scripts,
    submitted,
)

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.sampled_from([msgspec.Raw(b"null"), msgspec.Raw(b'{"a":[1]}')])),
    st.builds(Failed, st.just("failure"), st.booleans()),
    st.just(Cancelled()),
)
names = st.sampled_from([f"t{number}" for number in range(7)] + ["unknown"])
attempts = st.integers(0, 3)
later = st.integers(0, 5).map(lambda seconds: NOW + seconds * SECOND)
any_fact: st.SearchStrategy[AnyFact] = st.one_of(
    st.just(submitted()),
    st.builds(TaskStarted, later, names, attempts),
    st.builds(TaskSucceeded, later, names, attempts),
    st.builds(AttemptFailed, later, names, attempts, st.just("failure"), later),
    st.builds(TaskFailed, later, names, attempts, st.just("failure")),
    st.builds(TaskSkipped, later, names),
    st.builds(CancelRequested, later),
    st.builds(TaskCancelled, later, names, attempts),
    st.builds(Finished, later, st.sampled_from([*State, "nonsense"])),
    st.builds(Retried, later, st.lists(names, max_size=3).map(tuple)),
)

# made of the instant, the task's name and the number of its last attempt
FACTS_OF_A_TASK: list[Callable[[datetime, str, int], AnyFact]] = [
    lambda at, name, attempt: TaskStarted(at, name, attempt + 1),
    lambda at, name, attempt: TaskSucceeded(at, name, attempt),
    lambda at, name, attempt: AttemptFailed(at, name, attempt, "failure", at + SECOND),
    lambda at, name, attempt: TaskFailed(at, name, attempt, "failure"),
    lambda at, name, attempt: TaskSkipped(at, name),
    lambda at, name, attempt: TaskCancelled(at, name, attempt),
    lambda at, name, attempt: TaskCancelled(at, name),
    lambda at, name, attempt: Retried(at, (name,)),
]


def from_store(plan: Plan, facts: list[AnyFact]) -> tuple[Execution, list[AnyFact]]:
    """The execution as the next process reads it, and its facts."""
    kept = decode_facts(encode_facts(facts))
    return Execution.replay(decode_plan(plan.encoded), kept), kept


def newly(plan: Plan) -> tuple[Execution, list[AnyFact]]:
    """An execution just submitted, and its facts."""
    return Execution(plan, submitted()), [submitted()]


def states(execution: Execution) -> dict[str, State]:
    return {name: task.state for name, task in execution.tasks.items()}


@st.composite
def played(draw: st.DrawFn, spare: int = 0) -> tuple[Plan, dict[str, Ending], list[AnyFact]]:
    """A plan, a script and the facts of an execution that followed it to its end."""
    plan = draw(plans(spare=spare))
    script = draw(scripts(plan, spare))
    facts: list[AnyFact] = [submitted()]
    play(Execution(plan, submitted()), facts, script, draw(choices))
    return plan, script, facts


@given(played())
def test_tasks_end_as_their_rules_say_in_whatever_order_attempts_end(
    history: tuple[Plan, dict[str, Ending], list[AnyFact]],
) -> None:
    plan, script, facts = history
    execution = Execution.replay(plan, facts)
    ends = foretell(plan, script)
    assert states(execution) == ends
    assert execution.state == (State.FAILED if State.FAILED in ends.values() else State.SUCCESSFUL)
    assert_ended_by_the_rules(execution, facts)


@given(played())
def test_a_task_is_attempted_as_often_as_its_script_and_its_retries_say(
    history: tuple[Plan, dict[str, Ending], list[AnyFact]],
) -> None:
    plan, script, facts = history
    ends = foretell(plan, script)
    for task in plan.tasks:
        started = [f.attempt for f in facts if isinstance(f, TaskStarted) and f.task == task.name]
        failures, final = script[task.name]
        if ends[task.name] is State.SKIPPED:
            expected = 0
        elif failures is not None:
            expected = failures + 1
        else:
            expected = 1 if final else task.retries + 1
        assert started == list(range(1, expected + 1))


@settings(max_examples=60)
@given(played(spare=1), choices)
def test_a_crash_after_any_fact_changes_no_outcome(
    history: tuple[Plan, dict[str, Ending], list[AnyFact]], choose: Choices
) -> None:
    """A task that can succeed has one retry to spare, which the interruption takes."""
    plan, script, facts = history
    ends = foretell(plan, script)
    for crash in range(1, len(facts) + 1):
        execution, kept = from_store(plan, facts[:crash])
        was_running = execution.running
        done = {name for name, state in states(execution).items() if state in FINISHED}
        kept += execution.interrupt(kept[-1].at + SECOND)
        assert execution.running == []
        interrupted = [f.task for f in kept[crash:] if isinstance(f, AttemptFailed | TaskFailed)]
        assert interrupted == was_running
        play(execution, kept, script, choose)
        assert states(execution) == ends
        assert not done & {f.task for f in kept[crash:] if isinstance(f, TaskStarted)}
        assert_attempts_within_retries(plan, kept)


@given(plans(), st.data())
def test_an_interrupted_task_without_retries_left_fails_visibly(
    plan: Plan, data: st.DataObject
) -> None:
    execution, facts = newly(plan)
    script = dict.fromkeys((task.name for task in plan.tasks), Ending(None))
    play(execution, facts, script, data.draw(choices), steps=data.draw(st.integers(1, 20)))
    facts += execution.advance(facts[-1].at, len(plan.tasks))
    execution, facts = from_store(plan, facts)
    for fact in execution.interrupt(facts[-1].at):
        assert isinstance(fact, AttemptFailed | TaskFailed)
        assert fact.error.startswith("interrupted")
        spent = execution.tasks[fact.task].planned.retries < fact.attempt
        assert isinstance(fact, TaskFailed) == spent


@given(plans(), st.data(), st.lists(outcomes, min_size=1, max_size=7))
def test_a_cancelled_execution_starts_nothing_more_and_ends_cancelled_unless_a_task_failed(
    plan: Plan, data: st.DataObject, ends: list[Outcome]
) -> None:
    execution, facts = newly(plan)
    script = data.draw(scripts(plan))
    play(execution, facts, script, data.draw(choices), steps=data.draw(st.integers(0, 20)))
    assume(not execution.finished)
    before = len(facts)
    facts += execution.cancel(facts[-1].at)
    assert [type(fact) for fact in facts[before:]] == [CancelRequested]
    assert execution.cancel(facts[-1].at) == []
    facts += execution.advance(facts[-1].at, 7)
    for place, name in enumerate(execution.running):
        assert not execution.finished
        facts.append(execution.settle(name, ends[place % len(ends)], facts[-1].at))
        facts += execution.advance(facts[-1].at, 7)
    assert execution.finished
    assert not any(isinstance(fact, TaskStarted | AttemptFailed) for fact in facts[before:])
    failed = State.FAILED in states(execution).values()
    assert execution.state is (State.FAILED if failed else State.CANCELLED)
    assert all(state in FINISHED for state in states(execution).values())
    assert_ended_by_the_rules(execution, facts)


@given(played(), st.data())
def test_a_retry_runs_again_exactly_what_did_not_succeed(
    history: tuple[Plan, dict[str, Ending], list[AnyFact]], data: st.DataObject
) -> None:
    plan, script, facts = history
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
    mended = dict.fromkeys(script, Ending(0))
    play(execution, facts, mended, data.draw(choices))
    assert_ended_by_the_rules(execution, facts)
    assert State.FAILED not in states(execution).values()
    assert execution.state is State.SUCCESSFUL
    for name, attempt in first_round.items():
        if name not in again:
            assert execution.tasks[name].attempt == attempt


@given(played(), any_fact)
def test_a_finished_execution_takes_no_fact_but_a_retry(
    history: tuple[Plan, dict[str, Ending], list[AnyFact]], fact: AnyFact
) -> None:
    plan, _, facts = history
    execution = Execution.replay(plan, facts)
    assume(not isinstance(fact, Retried))
    before = dump(execution)
    with pytest.raises(IllegalTransition):
        execution.apply(fact)
    assert dump(execution) == before
    assert execution.advance(NOW, 7) == []
    assert execution.interrupt(NOW) == []
    assert execution.cancel(NOW) == []
    assert dump(execution) == before


class AnyLife(RuleBasedStateMachine):
    """An execution to which anything may happen at any time, damaged facts included."""

    execution: Execution
    facts: list[AnyFact]

    @initialize(plan=plans())
    def submit(self, plan: Plan) -> None:
        self.now = NOW
        self.plan = plan
        self.facts = [submitted()]
        self.execution = Execution(plan, submitted())
        self.folded = Summary.begin(plan, submitted())

    @rule(slots=st.integers(0, 4), seconds=st.integers(0, 2))
    def advance(self, slots: int, seconds: int) -> None:
        self.now += seconds * SECOND
        wanted = self.execution.wants_slots(self.now)
        decided = self.execution.advance(self.now, slots)
        started = sum(isinstance(fact, TaskStarted) for fact in decided)
        assert min(slots, wanted) <= started <= slots  # a skip may make more tasks ready
        self.take(decided)

    @precondition(lambda self: self.execution.running)
    @rule(pick=st.integers(0, 6), outcome=outcomes, delay=st.integers(0, 2))
    def settle(self, pick: int, outcome: Outcome, delay: int) -> None:
        running = self.execution.running
        name = running[pick % len(running)]
        tried_again = self.execution.will_retry(name, outcome)
        fact = self.execution.settle(name, outcome, self.now, delay)
        assert isinstance(fact, AttemptFailed) == tried_again
        self.take([fact])

    @precondition(lambda self: self.execution.next_retry())
    @rule()
    def wait(self) -> None:
        self.now = max(self.now, self.execution.next_retry() or self.now)
        assert self.execution.cancelling or self.execution.wants_slots(self.now)

    @rule()
    def crash(self) -> None:
        self.execution, self.facts = from_store(self.plan, self.facts)
        self.take(self.execution.interrupt(self.now))
        assert self.execution.running == []

    @rule()
    def cancel(self) -> None:
        self.take(self.execution.cancel(self.now))
        assert self.execution.cancelling or self.execution.finished

    @precondition(lambda self: self.execution.finished)
    @rule()
    def retry(self) -> None:
        self.take(self.execution.retry(self.now))

    @rule(fact=any_fact)
    def slip(self, fact: AnyFact) -> None:
        """A fact nobody decided on is taken whole or refused whole."""
        self.offer(msgspec.structs.replace(fact, at=self.now))

    @rule(pick=st.integers(0, 6), kind=st.sampled_from(FACTS_OF_A_TASK))
    def slip_likely(self, pick: int, kind: Callable[[datetime, str, int], AnyFact]) -> None:
        """The same, with a fact that fits the task's attempts."""
        planned = self.plan.tasks[pick % len(self.plan.tasks)]
        attempt = self.execution.tasks[planned.name].attempt
        self.offer(kind(self.now, planned.name, attempt))

    def offer(self, fact: AnyFact) -> None:
        before = dump(self.execution)
        try:
            self.execution.apply(fact)
        except IllegalTransition:
            assert dump(self.execution) == before
        else:
            self.take([fact])

    def take(self, decided: list[AnyFact]) -> None:
        self.facts += decided
        for fact in decided:
            self.folded.apply(self.plan, fact)

    @invariant()
    def the_folded_summary_is_the_executions(self) -> None:
        assert self.folded == self.execution.summary()

    @invariant()
    def the_details_agree_with_the_summary(self) -> None:
        detail = Detail.replay(self.plan, self.facts)
        for field in set(Summary.__struct_fields__) - {"tasks"}:
            assert getattr(detail, field) == getattr(self.folded, field)
        for row, (name, task) in zip(detail.tasks, self.execution.tasks.items(), strict=True):
            assert (row.name, row.state) == (name, task.state)
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
    def replayed_it_is_the_same(self) -> None:
        replayed, _ = from_store(self.plan, self.facts)
        assert look(replayed, self.now) == look(self.execution, self.now)

    @invariant()
    def attempts_keep_within_retries(self) -> None:
        assert_attempts_within_retries(self.plan, self.facts)

    @invariant()
    def tallies_are_right(self) -> None:
        assert_tallies_are_right(self.execution)

    @invariant()
    def it_is_finished_only_by_the_rules(self) -> None:
        if self.execution.finished:
            assert_ended_by_the_rules(self.execution, self.facts)

    @invariant()
    def it_is_never_stuck(self) -> None:
        copy = Execution.replay(self.plan, self.facts)
        copy.advance(self.now, slots=7)
        assert copy.finished or copy.running or copy.next_retry()

    def teardown(self) -> None:
        if hasattr(self, "execution"):
            for name in self.execution.running:
                self.take([self.execution.settle(name, Succeeded(), self.now)])
            script = dict.fromkeys(self.execution.tasks, Ending(0))
            if not self.execution.finished:
                play(self.execution, self.facts, script, Choices())
            assert_ended_by_the_rules(self.execution, self.facts)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=200, stateful_step_count=40)


def test_the_table_has_every_fact_about_a_task() -> None:
    about_tasks = {
        fact for fact in AnyFact.__args__ if fact not in (Submitted, CancelRequested, Finished)
    }
    assert {fact for _, fact in TRANSITIONS} == about_tasks


def test_no_fact_leaves_a_finished_task_but_a_retry() -> None:
    for (state, fact), after in TRANSITIONS.items():
        assert (state in FINISHED) == (fact is Retried)
        assert state is not State.SUCCESSFUL
        assert (after is State.NOTSTARTED) == (fact is Retried)
