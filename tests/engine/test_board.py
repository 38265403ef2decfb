"""The board: what goes on now, as a fold of what was committed, and nothing else."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.events import AnyFact, Submitted, TaskStarted
from goflow.core.execution import Execution
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.engine import board as board_module
from goflow.engine.board import Board, Entry
from goflow.engine.replay import record_of
from goflow.stores.base import Created, Existing, Purge, SetSwitch, Submit, Touch
from tests.core.histories import NOW, SECOND, Choices, choices, plans, play, scripts

PLAN = Plan((PlannedTask("a"), PlannedTask("b", ("a",))))


def submit(id: str, plan: Plan = PLAN) -> Submit:
    return Submit(Submitted(NOW, id=id, job="j", plan=plan.id, cause="api"), plan)


class Told:
    """A board, and what it has told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int, State]] = []
        self.board = Board(self.hear)

    def hear(self, entry: Entry) -> None:
        self.entries.append((entry.summary.id, entry.version, entry.summary.state))


def as_executions(board: Board, executions: dict[str, Execution]) -> None:
    """The board has the unfinished ones, each as its facts say."""
    unfinished = {id for id, execution in executions.items() if not execution.finished}
    assert {entry.summary.id for entry in board} == unfinished
    assert len(board) == len(unfinished)
    for id, execution in executions.items():
        entry = board.get(id)
        assert (entry is None) == execution.finished
        if entry is not None:
            assert entry.summary == execution.summary()
            tasks = execution.tasks.values()
            assert +entry.standing.counts == Counter(task.state for task in tasks)
            assert set(entry.standing.running) == set(execution.running)
            assert entry.standing.retry_at == execution.retries
            encoded = msgspec.json.decode(entry.encoded())
            assert encoded.pop("version") == entry.version
            assert encoded == msgspec.json.decode(msgspec.json.encode(execution.summary()))


@given(st.lists(plans(most=4), min_size=1, max_size=3), st.data(), choices)
def test_whatever_is_committed_the_board_is_as_the_executions_are(
    shapes: list[Plan], data: st.DataObject, choose: Choices
) -> None:
    told = Told()
    board = told.board
    executions: dict[str, Execution] = {}
    version = 0
    for number, plan in enumerate(shapes):
        change = submit(f"e{number}", plan)
        version += 1
        board.committed(change, Created(version))
        executions[change.fact.id] = Execution(plan, change.fact)
        as_executions(board, executions)
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
        for fact in batch:
            executions[id].apply(fact)
        version += data.draw(st.integers(1, 3))
        board.committed(record_of(executions[id], batch), version)
        assert told.entries[-1] == (id, version, executions[id].state)
        assert board.version == version
        as_executions(board, executions)
    assert len(board) == 0
    versions = [one for _, one, _ in told.entries]
    assert versions == sorted(set(versions))


def test_what_changes_no_execution_is_told_to_nobody() -> None:
    told = Told()
    for change, outcome in (
        (submit("e"), Existing("other", NOW)),
        (Touch(NOW), None),
        (Purge(None, None, 0, 1), 3),
        (SetSwitch("j", True, NOW), None),
    ):
        told.board.committed(change, outcome)  # type: ignore[arg-type]
    assert (told.entries, len(told.board), told.board.version) == ([], 0, 0)


def test_an_entry_is_encoded_once_for_all_who_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []

    class Counting:
        def encode(self, value: Any) -> bytes:
            encoded.append(value.state)
            return msgspec.json.encode(value)

    monkeypatch.setattr(board_module, "_encoder", Counting())
    board = Told().board
    change = submit("e")
    board.committed(change, Created(1))
    entry = board.get("e")
    assert entry is not None
    assert [entry.encoded() for _ in range(3)] == [entry.encoded()] * 3
    execution = Execution(PLAN, change.fact)
    board.committed(record_of(execution, started := execution.advance(NOW, ["a"])), 2)
    assert isinstance(started[0], TaskStarted)
    assert [entry.encoded() for _ in range(3)] == [entry.encoded()] * 3
    assert encoded == ["notstarted", "running"]


def test_what_goes_on_after_a_restart_is_taken_up_and_dropped_if_it_does_not() -> None:
    told = Told()
    board = told.board
    execution = Execution(PLAN, submit("e").fact)
    execution.advance(NOW, ["a"])
    board.adopt(PLAN, execution.summary(), 7, {"a": NOW + SECOND})
    entry = board.get("e")
    assert entry is not None
    assert (entry.version, entry.standing.retry_at) == (7, {"a": NOW + SECOND})
    assert told.entries == [], "nobody is told of what was committed before"
    board.drop("e")
    board.drop("e")
    assert board.get("e") is None
