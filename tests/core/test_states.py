"""States and trigger rules: the table of rules agrees with the model's sentences."""

import itertools

import pytest

from goflow.core.states import FINISHED, RULES, State, Tally, TriggerRule, Verdict, verdict
from tests.core.histories import counts_of
from tests.core.model import runs

ENDS = sorted(FINISHED)
MOST = 4  # upstream tasks


def tally(total: int, ends: tuple[State, ...]) -> Tally:
    counted = Tally(total)
    for end in ends:
        counted.count(end)
    return counted


def test_states_are_spelled_as_on_the_wire() -> None:
    assert [str(state) for state in State] == [
        "notstarted",
        "running",
        "upforretry",
        "skipped",
        "failed",
        "successful",
        "cancelled",
    ]


def test_rules_are_spelled_as_on_the_wire() -> None:
    assert {str(rule) for rule in TriggerRule} == {
        "allSuccessful",
        "allDone",
        "allFailed",
        "allSkipped",
        "oneSuccessful",
        "oneFailed",
        "oneDone",
        "noneFailed",
        "noneFailedMinOneSuccessful",
        "noneSkipped",
        "always",
    }


def test_running_and_waiting_states_are_not_final() -> None:
    unfinished = {State.NOTSTARTED, State.RUNNING, State.UPFORRETRY}
    assert {state for state in State if not state.finished} == unfinished


def test_every_trigger_rule_is_tested() -> None:
    assert set(RULES) == set(TriggerRule)


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_task_without_upstream_tasks_runs(rule: TriggerRule) -> None:
    assert verdict(rule, Tally(0)) is Verdict.RUN


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_rule_agrees_with_the_model_when_all_upstream_tasks_have_ended(
    rule: TriggerRule,
) -> None:
    for total in range(1, MOST + 1):
        for ends in itertools.combinations_with_replacement(ENDS, total):
            expected = Verdict.RUN if runs(rule, ends) else Verdict.SKIP
            assert verdict(rule, tally(total, ends)) is expected, ends


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_rule_decides_as_soon_as_it_can_and_its_verdict_is_final(
    rule: TriggerRule,
) -> None:
    for total in range(1, MOST + 1):
        for seen in range(total):
            for ends in itertools.combinations_with_replacement(ENDS, seen):
                possible = {
                    runs(rule, ends + rest)
                    for rest in itertools.combinations_with_replacement(ENDS, total - seen)
                }
                said = verdict(rule, tally(total, ends))
                if said is not Verdict.WAIT:
                    assert possible == {said is Verdict.RUN}, ends
                elif rule is not TriggerRule.ALL_DONE:  # it always waits for all upstream tasks
                    assert possible == {True, False}, ends


@pytest.mark.parametrize("state", [state for state in State if not state.finished])
def test_only_final_states_are_counted(state: State) -> None:
    with pytest.raises(ValueError, match=f"^{state} is not the end of a task$"):
        Tally(1).count(state)


def test_a_tally_counts_every_final_state_once() -> None:
    counted = tally(5, (State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED))
    assert counts_of(counted) == (5, 1, 1, 1, 1)
    assert counted.done == 4
    counted.reset()
    assert counts_of(counted) == (5, 0, 0, 0, 0)
    assert counted.done == 0
