"""The two example jobs of Go's goflow behave like the originals."""

import pytest

from goflow import Goflow, MemoryStore
from goflow.examples import PositiveAddition, RandomFailure, complex_analytics, custom_operator
from goflow.testing import run


def test_complex_analytics_has_the_tasks_and_edges_of_the_original() -> None:
    job = complex_analytics()
    assert job.name == "example-complex-analytics"
    assert {task.name: task.after for task in job.tasks} == {
        "sleep-one": [],
        "add-one-one": ["sleep-one"],
        "sleep-two": ["add-one-one"],
        "add-two-four": ["sleep-two"],
        "add-three-four": ["add-one-one"],
        "whoops-with-constant-delay": ["sleep-one"],
        "whoops-with-exponential-backoff": ["sleep-one"],
        "totally-skippable": ["whoops-with-constant-delay", "whoops-with-exponential-backoff"],
        "clean-up": ["totally-skippable"],
    }


def test_complex_analytics_fails_after_its_retries_and_cleans_up() -> None:
    execution = run(complex_analytics())
    tasks = execution.tasks
    assert execution.state == "failed"
    assert {name for name, task in tasks.items() if task.state == "failed"} == {
        "whoops-with-constant-delay",
        "whoops-with-exponential-backoff",
    }
    assert len(tasks["whoops-with-constant-delay"].attempts) == 6
    assert len(tasks["whoops-with-exponential-backoff"].attempts) == 2
    assert tasks["totally-skippable"].state == "skipped"
    assert tasks["clean-up"].logs == "cleaning up now\n"
    results = [tasks[name].result for name in ("add-one-one", "add-two-four", "add-three-four")]
    assert results == ["2\n", "6\n", "7\n"]


def test_retries_of_complex_analytics_wait_for_their_delays() -> None:
    attempts = run(complex_analytics()).tasks["whoops-with-exponential-backoff"].attempts
    assert attempts[0].retry_at is not None
    assert attempts[0].finished is not None
    assert (attempts[0].retry_at - attempts[0].finished).total_seconds() == 2


def test_custom_operator_adds_before_the_random_failure() -> None:
    execution = run(custom_operator())
    assert execution.tasks["positive-addition"].result == 11
    luck = execution.tasks["random-failure"]
    assert (luck.state, luck.error) == ("failed", "unlucky") or luck.result in (0, 1, 2)


def test_adding_a_negative_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="can't add negative numbers"):
        PositiveAddition(5, -1).run()


def test_random_failure_fails_with_probability_one_in_n() -> None:
    with pytest.raises(Exception, match="unlucky"):
        RandomFailure(1).run()
    assert RandomFailure(10**12).run() < 10**12


def test_show_examples_registers_both_jobs_with_active_schedules() -> None:
    gf = Goflow(MemoryStore(), show_examples=True)
    assert [(job.name, job.active) for job in gf.jobs] == [
        ("example-complex-analytics", True),
        ("example-custom-operator", True),
    ]
