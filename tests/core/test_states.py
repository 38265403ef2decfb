"""States and trigger rules: the table of rules agrees with the model's sentences."""

import itertools

import pytest

from goflow.core.states import (
    RULES,
    SkipReason,
    State,
    Tally,
    TriggerRule,
    Verdict,
    skip_reason,
    verdict,
)
from tests.core import model
from tests.core.histories import counts_of
from tests.core.model import ABOUT_FAILURES, ENDINGS, U, runs

ENDS = sorted(ENDINGS)
MOST = 4  # upstream tasks


def tally(total: int, ends: tuple[str, ...]) -> Tally:
    counted = Tally(total)
    for end in ends:
        if end == U:
            counted.count(State.SKIPPED, unreached=True)
        else:
            counted.count(State(end))
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
    counted = tally(6, (State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED, U))
    assert counts_of(counted) == (6, 1, 1, 2, 1, 1)
    assert counted.done == 5
    counted.reset()
    assert counts_of(counted) == (6, 0, 0, 0, 0, 0)
    assert counted.done == 0


# -- skips -----------------------------------------------------------------------------


def test_reasons_are_spelled_as_on_the_wire() -> None:
    assert [str(reason) for reason in SkipReason] == [
        "upstream failed",
        "upstream skipped",
        "upstream cancelled",
        "upstream successful",
        "branch",
        "condition",
        "itself",
        "hand",
    ]


def test_a_skip_because_of_a_failure_counts_as_failed_for_the_rules_about_failures() -> None:
    for rule in TriggerRule:
        as_what = State.FAILED if rule in ABOUT_FAILURES else State.SKIPPED
        assert verdict(rule, tally(1, (U,))) is verdict(rule, tally(1, (as_what,))), rule


@pytest.mark.parametrize("rule", TriggerRule)
def test_the_reason_of_a_skip_is_the_one_of_the_model(rule: TriggerRule) -> None:
    for total in range(1, MOST + 1):
        for seen in range(1, total + 1):
            for ends in itertools.combinations_with_replacement(ENDS, seen):
                counted = tally(total, ends)
                if verdict(rule, counted) is Verdict.SKIP:
                    assert skip_reason(rule, counted) is model.skip_reason(rule, ends), ends
