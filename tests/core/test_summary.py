"""An execution as lists, the stream and its page show it. test_execution_properties.py proves
that they always agree with the fold."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from goflow.core.detail import Action, AttemptDetail, Detail, TaskDetail
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
from goflow.core.execution import Execution
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State, TriggerRule
from goflow.core.summary import (
    PARAMS_SHOWN,
    TASKS_SHOWN,
    Listed,
    Summary,
    TaskSummary,
    listed,
)
from tests.core.histories import NOW, SECOND

PLAN = Plan((PlannedTask("a", retries=1), PlannedTask("b", ("a",), TriggerRule.NONE_FAILED)))
SUBMITTED = Submitted(
    NOW, id="e", job="j", plan=PLAN.id, cause="schedule", params={"x": 1}, scheduled_at=NOW
)
LATER, LATEST = NOW + SECOND, NOW + 2 * SECOND
ENDED: list[AnyFact] = [
    TaskStarted(NOW, "a", 1),
    TaskFailed(NOW, "a", 1, "boom"),
    TaskSkipped(NOW, "b"),
    Finished(NOW, "failed"),
]


def detail(*facts: AnyFact) -> Detail:
    return Detail.replay(PLAN, [SUBMITTED, *facts])


def task(name: str, state: State = State.NOTSTARTED, **details: Any) -> TaskDetail:
    """A row of a task of the plan."""
    planned = next(one for one in PLAN.tasks if one.name == name)
    return TaskDetail(name, state, retries=planned.retries, trigger_rule=planned.rule, **details)


def test_a_summary_has_the_json_of_gos_api() -> None:
    summary = Execution.replay(PLAN, [SUBMITTED, TaskStarted(LATER, "a", 1)]).summary()
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
        "parent": None,
        "reason": None,
        "params": {"x": 1},
        "taskCounts": {"notstarted": 1, "running": 1},
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


def test_a_task_summary_has_the_number_of_attempts_and_the_times_of_the_last_one() -> None:
    execution = Execution(PLAN, SUBMITTED)
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
        execution.apply(fact)
        row = execution.summary().tasks[0]
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


def test_large_params_are_left_out_of_summaries() -> None:
    fits = {"text": "x" * (PARAMS_SHOWN - len('{"text":""}'))}
    large = {"text": fits["text"] + "x"}
    for params, shown in ((fits, fits), (large, None)):
        submitted = msgspec.structs.replace(SUBMITTED, params=params)
        assert msgspec.json.decode(Summary.created(PLAN, submitted).params) == shown
        assert Detail.replay(PLAN, [submitted]).params == params
        execution = Execution.replay(PLAN, [submitted, *ENDED])
        execution.apply(Retried(LATER, ("a",)))
        assert msgspec.json.decode(execution.summary().params) == shown
        execution = Execution.replay(PLAN, [submitted, *ENDED])
        execution.apply(Retried(LATER, ("a",), "", {"y": 2}))
        assert msgspec.json.decode(execution.summary().params) == {"y": 2}


def test_two_executions_of_one_plan_share_no_rows() -> None:
    one, other = Execution(PLAN, SUBMITTED), Execution(PLAN, SUBMITTED)
    one.apply(TaskStarted(LATER, "a", 1))
    assert other.summary() == Execution(PLAN, SUBMITTED).summary()
    assert detail(TaskStarted(LATER, "a", 1)).tasks[0].attempts
    assert detail().tasks[0].attempts == []


def test_before_the_first_start_a_detail_has_only_the_submit() -> None:
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


def test_a_failure_and_the_skip_after_it_are_shown() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskFailed(LATER, "a", 1, "boom"),
        TaskSkipped(LATER, "b"),
        Finished(LATER, "failed"),
    )
    assert (seen.state, seen.finished) == (State.FAILED, LATER)
    assert (seen.tasks[0].state, seen.tasks[0].error) == (State.FAILED, "boom")
    assert seen.tasks[1] == task("b", State.SKIPPED, finished=LATER)


def test_a_task_cancelled_between_attempts_keeps_its_last_attempt() -> None:
    (row, _) = detail(
        TaskStarted(NOW, "a", 1),
        AttemptFailed(NOW, "a", 1, "boom", LATEST),
        CancelRequested(LATER),
        TaskCancelled(LATER, "a"),
    ).tasks
    assert (row.state, row.finished) == (State.CANCELLED, LATER)
    assert row.attempts == [AttemptDetail(1, State.FAILED, NOW, NOW, "boom", LATEST)]


def test_a_stopped_attempt_is_shown_as_cancelled() -> None:
    (row, _) = detail(
        TaskStarted(NOW, "a", 1), CancelRequested(LATER), TaskCancelled(LATEST, "a", 1)
    ).tasks
    assert row.attempts == [AttemptDetail(1, State.CANCELLED, NOW, LATEST)]


def test_a_retried_task_keeps_its_attempts_but_shows_no_earlier_error() -> None:
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


def test_a_retried_task_shows_no_earlier_result() -> None:
    seen = detail(
        TaskStarted(NOW, "a", 1),
        TaskSucceeded(NOW, "a", 1, Raw(b"7")),
        TaskStarted(NOW, "b", 1),
        TaskSucceeded(NOW, "b", 1),
        Finished(NOW, "successful"),
        Retried(LATER, ("a",)),
    )
    assert seen.tasks[0].result == Raw(b"null")
    assert seen.tasks[0].attempts == [AttemptDetail(1, State.SUCCESSFUL, NOW, NOW)]


def test_every_request_is_shown_with_its_user_and_time() -> None:
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


def test_a_mark_changes_the_state_of_the_task_and_keeps_its_attempts() -> None:
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


def test_a_timeout_is_the_reason_until_the_execution_is_retried() -> None:
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


def test_a_detail_shows_what_an_execution_waits_for() -> None:
    waiting = msgspec.structs.replace(SUBMITTED, after=("d", "c"))
    assert Summary.created(PLAN, waiting).after == ("d", "c")
    assert Detail.replay(PLAN, [waiting]).after == ("d", "c")


def wide(tasks: int) -> Execution:
    plan = Plan(tuple(PlannedTask(f"t{number}") for number in range(tasks)))
    return Execution(plan, SUBMITTED)


def test_a_summary_of_many_tasks_has_only_their_counts() -> None:
    few, many = wide(TASKS_SHOWN), wide(TASKS_SHOWN + 1)
    for execution in (few, many):
        execution.apply(TaskStarted(LATER, "t7", 1))
    assert len(few.summary().tasks) == TASKS_SHOWN
    assert few.summary().taskCounts == {State.NOTSTARTED: TASKS_SHOWN - 1, State.RUNNING: 1}
    assert many.summary().tasks == []
    assert many.summary().taskCounts == {State.NOTSTARTED: TASKS_SHOWN, State.RUNNING: 1}


def stored_by_an_older_version(tasks: Sequence[TaskSummary]) -> bytes:
    """A summary without counts, and with all tasks."""
    summary = Summary(id="e", job="j", submitted=NOW, modifiedTimestamp=NOW, tasks=list(tasks))
    whole = msgspec.json.decode(msgspec.json.encode(summary))
    del whole["taskCounts"]
    return msgspec.json.encode(whole)


def test_a_summary_stored_by_an_older_version_is_cut_when_listed() -> None:
    rows = [TaskSummary(f"t{number}", State.SUCCESSFUL) for number in range(TASKS_SHOWN)]
    few = msgspec.json.decode(listed(stored_by_an_older_version(rows), 7), type=Listed)
    assert (few.version, few.tasks) == (7, rows)
    assert few.taskCounts == {State.SUCCESSFUL: TASKS_SHOWN}
    rows.append(TaskSummary("last", State.FAILED))
    many = msgspec.json.decode(listed(stored_by_an_older_version(rows), 7), type=Listed)
    assert (many.version, many.tasks) == (7, [])
    assert many.taskCounts == {State.SUCCESSFUL: TASKS_SHOWN, State.FAILED: 1}


def test_a_summary_of_this_version_is_listed_unchanged() -> None:
    for execution in (wide(1), wide(TASKS_SHOWN + 1)):
        encoded = msgspec.json.encode(execution.summary())
        assert listed(encoded, 7) == encoded[:-1] + b',"version":7}'


def test_a_damaged_summary_is_listed_unchanged() -> None:
    assert listed(b'{"id":5}', 7) == b'{"id":5,"version":7}'
