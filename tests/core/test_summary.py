"""An execution as others see it. That the folds agree with the execution, whatever
happens, is proven in test_execution_properties.py."""

from typing import Any

import msgspec
from msgspec import Raw

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    Finished,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    Submitted,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State, TriggerRule
from goflow.core.summary import PARAMS_SHOWN, Action, AttemptDetail, Detail, Summary, TaskDetail
from tests.core.histories import NOW, SECOND

PLAN = Plan((PlannedTask("a", retries=1), PlannedTask("b", ("a",), TriggerRule.NONE_FAILED)))
SUBMITTED = Submitted(
    NOW, id="e", job="j", plan=PLAN.id, cause="schedule", params={"x": 1}, scheduled_at=NOW
)
LATER, LATEST = NOW + SECOND, NOW + 2 * SECOND


def detail(*facts: AnyFact) -> Detail:
    return Detail.replay(PLAN, [SUBMITTED, *facts])


def task(name: str, state: State = State.NOTSTARTED, **details: Any) -> TaskDetail:
    """A row of a task of the plan."""
    planned = PLAN.tasks[PLAN.position[name]]
    return TaskDetail(name, state, retries=planned.retries, trigger_rule=planned.rule, **details)


def test_a_summary_is_spelled_as_the_api_of_go_spells_it() -> None:
    summary = Summary.begin(PLAN, SUBMITTED)
    summary.apply(PLAN, TaskStarted(LATER, "a", 1))
    assert msgspec.json.decode(msgspec.json.encode(summary)) == {
        "id": "e",
        "job": "j",
        "submitted": "2026-01-01T00:00:00Z",
        "modifiedTimestamp": "2026-01-01T00:00:01Z",
        "state": "running",
        "started": "2026-01-01T00:00:01Z",
        "finished": None,
        "scheduled_at": "2026-01-01T00:00:00Z",
        "cause": "schedule",
        "after": [],
        "reason": None,
        "params": {"x": 1},
        "tasks": [
            {
                "name": "a",
                "state": "running",
                "attempts": 1,
                "started": "2026-01-01T00:00:01Z",
                "finished": None,
            },
            {
                "name": "b",
                "state": "notstarted",
                "attempts": 0,
                "started": None,
                "finished": None,
            },
        ],
    }


def test_a_task_in_brief_tells_its_attempts_and_the_times_of_the_last_one() -> None:
    summary = Summary.begin(PLAN, SUBMITTED)
    seen = []
    for fact in (
        TaskStarted(NOW, "a", 1),
        AttemptFailed(LATER, "a", 1, "boom", LATER),
        TaskStarted(LATER, "a", 2),
        TaskFailed(LATEST, "a", 2, "boom"),
        TaskSkipped(LATEST, "b"),
        Finished(LATEST, "failed"),
        Retried(LATEST, ("a", "b")),
        TaskStarted(LATEST, "a", 3),
    ):
        summary.apply(PLAN, fact)
        row = summary.tasks[0]
        seen.append((row.attempts, row.started, row.finished))
    assert seen == [
        (1, NOW, None),
        (1, NOW, LATER),
        (2, LATER, None),
        (2, LATER, LATEST),
        (2, LATER, LATEST),
        (2, LATER, LATEST),
        (2, None, None),
        (3, LATEST, None),
    ]


def test_params_that_are_large_are_left_out_of_what_is_sent_at_each_change() -> None:
    fits = {"text": "x" * (PARAMS_SHOWN - len('{"text":""}'))}
    large = {"text": fits["text"] + "x"}
    for params, shown in ((fits, fits), (large, None)):
        submitted = msgspec.structs.replace(SUBMITTED, params=params)
        summary = Summary.begin(PLAN, submitted)
        assert msgspec.json.decode(summary.params) == shown
        assert Detail.replay(PLAN, [submitted]).params == params
        summary.apply(PLAN, Retried(LATER, ("a",)))
        assert msgspec.json.decode(summary.params) == shown
        summary.apply(PLAN, Retried(LATER, ("a",), "", {"y": 2}))
        assert msgspec.json.decode(summary.params) == {"y": 2}


def test_two_executions_of_one_plan_share_no_rows() -> None:
    one, other = Summary.begin(PLAN, SUBMITTED), Summary.begin(PLAN, SUBMITTED)
    one.apply(PLAN, TaskStarted(LATER, "a", 1))
    assert other == Summary.begin(PLAN, SUBMITTED)
    assert detail(TaskStarted(LATER, "a", 1)).tasks[0].attempts
    assert detail().tasks[0].attempts == []


def test_before_the_first_start_there_is_only_what_was_submitted() -> None:
    seen = detail()
    assert (seen.state, seen.started, seen.finished) == (State.NOTSTARTED, None, None)
    assert (seen.params, seen.cause, seen.scheduled_at) == ({"x": 1}, "schedule", NOW)
    assert seen.dag == {"a": ["b"], "b": []}
    assert seen.tasks == [task("a"), task("b")]


def test_every_attempt_keeps_its_times_and_its_error() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        AttemptFailed(NOW, "a", 1, "boom", LATER),
        TaskStarted(LATER, "a", 2),
        TaskSucceeded(LATEST, "a", 2, Raw(b"7")),
    )
    assert seen.tasks[0] == task(
        "a",
        State.SUCCESSFUL,
        started=LATER,
        finished=LATEST,
        error=None,
        result=Raw(b"7"),
        result_bytes=1,
        attempts=[
            AttemptDetail(1, State.FAILED, NOW, NOW, "boom", LATER),
            AttemptDetail(2, State.SUCCESSFUL, LATER, LATEST),
        ],
    )


def test_a_task_waiting_for_its_retry_shows_why() -> None:
    (row, _) = detail(TaskStarted(NOW, "a", 1), AttemptFailed(NOW, "a", 1, "boom", LATER)).tasks
    assert (row.state, row.error) == (State.UPFORRETRY, "boom")


def test_a_failure_and_the_skip_that_follows_show() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskFailed(LATER, "a", 1, "boom"),
        TaskSkipped(LATER, "b"),
        Finished(LATER, "failed"),
    )
    assert (seen.state, seen.finished) == (State.FAILED, LATER)
    assert (seen.tasks[0].state, seen.tasks[0].error) == (State.FAILED, "boom")
    assert seen.tasks[1] == task("b", State.SKIPPED, finished=LATER)


def test_a_task_cancelled_between_attempts_keeps_its_last_attempt_as_it_was() -> None:
    (row, _) = detail(
        TaskStarted(NOW, "a", 1),
        AttemptFailed(NOW, "a", 1, "boom", LATEST),
        CancelRequested(LATER),
        TaskCancelled(LATER, "a"),
    ).tasks
    assert (row.state, row.finished) == (State.CANCELLED, LATER)
    assert row.attempts == [AttemptDetail(1, State.FAILED, NOW, NOW, "boom", LATEST)]


def test_an_attempt_that_was_stopped_is_shown_as_cancelled() -> None:
    (row, _) = detail(
        TaskStarted(NOW, "a", 1), CancelRequested(LATER), TaskCancelled(LATEST, "a", 1)
    ).tasks
    assert row.attempts == [AttemptDetail(1, State.CANCELLED, NOW, LATEST)]


def test_a_task_sent_round_again_shows_no_error_of_before_but_keeps_its_attempts() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskFailed(NOW, "a", 1, "boom"),
        TaskSkipped(NOW, "b"),
        Finished(NOW, "failed"),
        Retried(LATER, ("a", "b")),
    )
    assert (seen.state, seen.started, seen.finished) == (State.NOTSTARTED, None, None)
    assert seen.tasks == [
        task("a", attempts=[AttemptDetail(1, State.FAILED, NOW, NOW, "boom")]),
        task("b"),
    ]


def test_a_task_sent_round_again_shows_no_result_of_before() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskSucceeded(NOW, "a", 1, Raw(b"7")),
        TaskSkipped(NOW, "b"),
        Finished(NOW, "successful"),
        Retried(LATER, ("a",)),
    )
    assert seen.tasks[0].result == Raw(b"null")
    assert seen.tasks[0].attempts == [AttemptDetail(1, State.SUCCESSFUL, NOW, NOW)]


def test_everything_that_somebody_asked_for_shows_with_who_and_when() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskCancelRequested(NOW, "a", "ann"),
        TaskFailed(NOW, "a", 1, "boom"),
        MarkedSkipped(LATER, "b", "bob"),
        Finished(LATER, "failed"),
        MarkedSuccessful(LATEST, "a", "cid", "successful"),
        Retried(LATEST, ("a",), "dan", {"x": 2}, "a"),
        CancelRequested(LATEST, "eve"),
    )
    assert seen.actions == [
        Action(NOW, "submit", "", params={"x": 1}),
        Action(NOW, "cancel task", "ann", "a"),
        Action(LATER, "mark skipped", "bob", "b"),
        Action(LATEST, "mark successful", "cid", "a"),
        Action(LATEST, "retry", "dan", "a", {"x": 2}),
        Action(LATEST, "cancel", "eve"),
    ]
    assert seen.params == {"x": 2}


def test_a_mark_shows_as_the_tasks_state_and_keeps_its_attempts() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskFailed(NOW, "a", 1, "boom"),
        TaskSkipped(NOW, "b"),
        Finished(NOW, "failed"),
        MarkedSuccessful(LATER, "a", "", "successful"),
    )
    assert (seen.state, seen.finished, seen.modifiedTimestamp) == (State.SUCCESSFUL, NOW, LATER)
    assert seen.tasks[0] == task(
        "a",
        State.SUCCESSFUL,
        started=NOW,
        finished=LATER,
        attempts=[AttemptDetail(1, State.FAILED, NOW, NOW, "boom")],
    )


def test_an_execution_that_was_out_of_time_says_so_until_it_is_sent_round_again() -> None:
    timed_out: list[AnyFact] = [
        TaskStarted(NOW, "a", 1),
        CancelRequested(LATER, timeout=1.0),
        TaskCancelled(LATER, "b"),
        TaskCancelled(LATER, "a", 1),
        Finished(LATER, "failed"),
    ]
    assert detail(*timed_out).reason == "timed out after 1 s"
    assert detail(*timed_out, Retried(LATEST, ("a", "b"))).reason is None
    assert detail(CancelRequested(LATER, "ann")).reason is None


def test_what_an_execution_waits_for_shows() -> None:
    waiting = msgspec.structs.replace(SUBMITTED, after=("d", "c"))
    assert Summary.begin(PLAN, waiting).after == ("d", "c")
    assert Detail.replay(PLAN, [waiting]).after == ("d", "c")
