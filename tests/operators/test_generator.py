"""Generators: the result of a task is the list of what its function yields."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from goflow import InvalidJob, Job
from goflow.core.states import State
from goflow.operators import generator


def count(number: int) -> Iterator[Any]:
    row = {"number": 0}
    for row["number"] in range(number):
        yield row


async def count_later(number: int) -> AsyncIterator[Any]:
    for place in range(number):
        yield {"number": place}


@pytest.mark.parametrize("function", [count, count_later])
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_result_is_the_list_of_the_items_as_they_were_when_yielded(
    function: Any, isolation: str
) -> None:
    job = Job("j", params={"number": 3})
    job.task(name="count", isolation=isolation)(function)
    execution = job.run()
    assert execution.tasks["count"].error is None
    assert execution.tasks["count"].result == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_task_maps_over_what_a_generator_yields() -> None:
    job = Job("j", params={"number": 3})
    job.task(count)

    @job.task(map_over="count")
    def square(count: dict[str, int]) -> int:
        return count["number"] ** 2

    assert job.run().tasks["square"].result == [0, 1, 4]


def failure_of(function: Any) -> str:
    job = Job("j")
    job.task(name="t")(function)
    task = job.run().tasks["t"]
    assert (task.state, task.result) == (State.FAILED, None)
    return str(task.error)


def test_a_generator_that_never_ends_is_closed_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "ITEMS", 5)
    closed = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    assert "yields more than 5 items" in failure_of(endless)
    assert closed


def test_items_that_are_too_large_together_fail_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "BYTES", 1000)

    def large() -> Iterator[str]:
        for _ in range(3):
            yield "x" * 500

    assert "have more than 1,000 bytes" in failure_of(large)


def test_what_json_cannot_hold_fails_the_task_and_names_the_item() -> None:
    def odd() -> Iterator[Any]:
        yield 1
        yield {"rows": [object()]}

    error = failure_of(odd)
    assert "item 1 that the generator yields cannot be stored as JSON: at `rows[0]`" in error


def test_a_generator_that_raises_after_some_items_fails_the_task() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    assert "ValueError: no more" in failure_of(breaks)


def test_a_hook_is_no_generator() -> None:
    job = Job("j")
    with pytest.raises(InvalidJob, match="is a generator; a hook has no use for items"):
        job.on_success(count)
