"""The live state contains exactly the unfinished executions, as committed."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.events import AnyFact, Submitted, TaskStarted
from goflow.core.execution import Execution, Failed, Succeeded
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.core.transition import ChangedTasks, TaskChange, Transition
from goflow.engine import live as module
from goflow.engine.live import LiveExecution, LiveState
from goflow.engine.replay import record_of
from goflow.stores.base import Created, Existing, Purge, Put, Submit, Touch
from tests.core.counting import counted_calls
from tests.core.histories import NOW, SECOND, Choices, choices, plans, play, scripts

PLAN = Plan((PlannedTask("a"), PlannedTask("b", ("a",))))


def submit(id: str, plan: Plan = PLAN) -> Submit:
    return Submit(Submitted(NOW, id=id, job="j", plan=plan.id, cause="api"), plan)


class Heard:
    """A live state, and the changes it announced."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int, State]] = []
        self.live = LiveState(self.hear)

    def hear(self, execution: LiveExecution) -> None:
        self.changes.append((execution.id, execution.version, execution.state))


def assert_as_executions(live: LiveState, executions: dict[str, Execution]) -> None:
    """Exactly the unfinished executions are there, each in agreement with its facts."""
    unfinished = {id for id, execution in executions.items() if not execution.finished}
    assert {one.id for one in live} == unfinished
    assert len(live) == len(unfinished)
    for id, execution in executions.items():
        one = live.get(id)
        assert (one is None) == execution.finished
        if one is not None:
            assert one.summary() == execution.summary()
            tasks = execution.tasks.values()
            assert one.counts == Counter(task.state for task in tasks)
            assert set(one.running) == set(execution.running)
            assert one.retry_at == execution.retries
            encoded = msgspec.json.decode(one.encoded())
            assert encoded.pop("version") == one.version
            assert encoded == msgspec.json.decode(msgspec.json.encode(execution.summary()))


@given(st.lists(plans(most=4), min_size=1, max_size=3), st.data(), choices)
def test_after_any_commits_the_live_state_agrees_with_the_executions(
    shapes: list[Plan], data: st.DataObject, choose: Choices
) -> None:
    heard = Heard()
    live = heard.live
    executions: dict[str, Execution] = {}
    version = 0
    for number, plan in enumerate(shapes):
        change = submit(f"e{number}", plan)
        version += 1
        live.committed(change, Created(version))
        executions[change.fact.id] = Execution(plan, change.fact)
        assert_as_executions(live, executions)
    histories = {}
    for id, execution in executions.items():
        facts: list[AnyFact] = [submit(id, execution.plan).fact]
        played = Execution(execution.plan, facts[0])  # type: ignore[arg-type]
        play(played, facts, data.draw(scripts(execution.plan)), choose, disturbed=True)
        histories[id] = facts[1:]
    while any(histories.values()):
        id = data.draw(st.sampled_from([id for id, facts in histories.items() if facts]))
        some = data.draw(st.integers(1, 4))
        batch, histories[id] = histories[id][:some], histories[id][some:]
        changes: list[TaskChange] = []
        for fact in batch:
            changes += executions[id].apply(fact)
        version += data.draw(st.integers(1, 3))
        transition = Transition(executions[id].brief(), changes)
        record = msgspec.structs.replace(record_of(executions[id], batch), transition=transition)
        live.committed(record, version)
        assert heard.changes[-1] == (id, version, executions[id].state)
        assert live.version == version
        assert_as_executions(live, executions)
    assert len(live) == 0
    versions = [one for _, one, _ in heard.changes]
    assert versions == sorted(set(versions))


def test_a_change_without_an_execution_is_not_announced() -> None:
    heard = Heard()
    for change, outcome in (
        (submit("e"), Existing("other", NOW)),
        (Touch(NOW), None),
        (Purge(None, None, 0, 1), 3),
        (Put("kind", "key", b"1"), None),
    ):
        heard.live.committed(change, outcome)  # type: ignore[arg-type]
    assert (heard.changes, len(heard.live), heard.live.version) == ([], 0, 0)


def test_a_version_is_encoded_once_for_all_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []

    class Counting:
        def encode(self, value: Any) -> bytes:
            encoded.append(value.state)
            return msgspec.json.encode(value)

    monkeypatch.setattr(module, "_encoder", Counting())
    live = Heard().live
    change = submit("e")
    live.committed(change, Created(1))
    one = live.get("e")
    assert one is not None
    assert [one.encoded() for _ in range(3)] == [one.encoded()] * 3
    execution = Execution(PLAN, change.fact)
    live.committed(record_of(execution, started := execution.advance(NOW, ["a"])), 2)
    assert isinstance(started[0], TaskStarted)
    assert [one.encoded() for _ in range(3)] == [one.encoded()] * 3
    assert encoded == ["notstarted", "running"]


def test_a_resumed_execution_is_added_and_dropped_if_it_cannot_resume() -> None:
    heard = Heard()
    live = heard.live
    execution = Execution(PLAN, submit("e").fact)
    execution.advance(NOW, ["a"])
    live.add(LiveExecution.replayed(execution, 7))
    one = live.get("e")
    assert one is not None
    assert (one.version, one.running, one.retry_at) == (7, {"a": NOW}, {})
    assert one.summary() == execution.summary()
    assert heard.changes == [], "it was committed before"
    live.drop("e")
    live.drop("e")
    assert live.get("e") is None


def test_a_replayed_task_that_is_up_for_retry_is_due() -> None:
    plan = Plan((PlannedTask("a", retries=1),))
    execution = Execution(plan, submit("e", plan).fact)
    execution.advance(NOW, ["a"])
    execution.settle("a", Failed("boom"), NOW, delay=1)
    one = LiveExecution.replayed(execution, 7)
    assert (one.running, one.retry_at) == ({}, {"a": NOW + SECOND})


def test_the_changes_since_a_version_are_those_of_later_commits() -> None:
    live, change, changed = Heard().live, submit("e"), ChangedTasks()
    live.committed(change, Created(1))
    execution = Execution(PLAN, change.fact)

    def commit(facts: list[AnyFact], version: int) -> None:
        record = record_of(execution, facts)
        live.committed(record, version)
        assert record.transition is not None
        for one in record.transition.tasks:
            changed.note(one.task.name, version)

    assert changed.since(0) == []
    commit(execution.advance(NOW, ["a"]), 3)
    commit([execution.settle("a", Succeeded(), NOW)], 5)
    commit(execution.advance(NOW, ["b"]), 6)
    one = live.get("e")
    assert one is not None
    (a, b) = one.tasks.values()
    assert (a.state, b.state) == (State.SUCCESSFUL, State.RUNNING)
    since = [[one.tasks[name] for name in changed.since(version)] for version in (0, 4, 5, 6)]
    assert since == [[b, a], [b, a], [b], []]
    assert one.task("a") == a
    assert one.task("c") is None


def work_of_a_change(tasks: int) -> int:
    """The calls for a commit of one task, and for reading which tasks changed."""
    plan = Plan(tuple(PlannedTask(f"t{number}") for number in range(tasks)))
    live, change = Heard().live, submit("e", plan)
    live.committed(change, Created(1))
    execution = Execution(plan, change.fact)
    one = live.get("e")
    assert one is not None
    live.committed(record_of(execution, execution.advance(NOW, execution.newly_ready(NOW))), 2)
    record = record_of(execution, [execution.settle("t0", Succeeded(), NOW)])
    changed = ChangedTasks()
    for name in one.tasks:
        changed.note(name, 2)
    with counted_calls() as calls:
        live.committed(record, 3)
        changed.note("t0", 3)
        assert len(changed.since(2)) == 1
        one.encoded()
    return calls[0]


def test_the_work_of_a_change_does_not_grow_with_the_tasks() -> None:
    assert work_of_a_change(10_000) <= work_of_a_change(1_000) + 2
