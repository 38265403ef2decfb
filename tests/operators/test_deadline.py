"""A timeout depends on the time when the work ended, not on when the loop noticed it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goflow import Command, Job, Task
from goflow.operators.deadline import Deadline, real_work
from goflow.run import run_job
from tests.engine.scripted import until

pytestmark = pytest.mark.anyio


async def hold_up(loop_held: float, ready: Any) -> None:
    """Block the event loop for `loop_held` seconds when `ready` is true."""
    await until(ready)
    time.sleep(loop_held)  # noqa: ASYNC251


async def expires(*ended: Callable[[], bool]) -> bool:
    """Whether the deadline expires for work with these signs of its end."""
    with contextlib.ExitStack() as works:
        try:
            async with Deadline(0.05):
                for one in ended:
                    works.enter_context(real_work(one))
                await asyncio.Event().wait()
        except TimeoutError:
            return True
    return False


async def test_work_that_takes_too_long_is_cancelled_as_by_asyncio() -> None:
    with pytest.raises(TimeoutError):
        async with Deadline(0.01) as deadline:
            await asyncio.Event().wait()
    assert deadline.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with Deadline(None) as deadline:
        await asyncio.sleep(0.02)
    assert not deadline.expired


async def test_other_cancellations_propagate() -> None:
    async def limited() -> None:
        async with Deadline(1000):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_time_while_the_loop_is_blocked_does_not_count() -> None:
    async with Deadline(0.2) as deadline:
        sleeping = asyncio.ensure_future(asyncio.sleep(0.1, "done"))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251
        assert await sleeping == "done"
    assert not deadline.expired


async def test_the_deadline_waits_a_bounded_time_for_ended_work() -> None:
    told = asyncio.Event()
    async with Deadline(0.05) as deadline:
        with real_work(lambda: True):
            asyncio.get_running_loop().call_later(0.3, told.set)
            await told.wait()
    assert not deadline.expired
    assert await expires(lambda: True), "the notification never arrives"


async def test_the_deadline_does_not_wait_for_unfinished_work() -> None:
    assert await expires(lambda: False, lambda: True)


async def ran(task: Task, ready: Any, held: float) -> Any:
    """Run the task while the event loop is blocked when `ready` is true."""
    holding = asyncio.ensure_future(hold_up(held, ready))
    execution = await run_job(Job("j", tasks=[task]))
    await holding
    return execution.tasks[task.name]


@pytest.mark.parametrize("whose", ["task", "command"])
async def test_a_program_that_ended_while_the_loop_was_blocked_has_not_timed_out(
    whose: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    script = f"touch '{begun}'; sleep 0.2; seq 1 50000; echo last"
    command = Command.shell(script, timeout=2 if whose == "command" else None)
    task = Task("t", command, timeout=2 if whose == "task" else None)
    found = await ran(task, begun.exists, 3)
    assert (found.state, found.error) == ("successful", None)
    assert found.result.endswith("last\n")


async def test_a_value_that_a_thread_returned_in_time_counts() -> None:
    begun = threading.Event()

    class Quick:
        def run(self) -> str:
            begun.set()
            time.sleep(0.2)
            return "in time"

    found = await ran(Task("t", Quick(), timeout=1), begun.is_set, 2)
    assert (found.state, found.result) == ("successful", "in time")


async def test_an_async_task_whose_awaited_result_came_in_time_succeeds() -> None:
    begun = asyncio.Event()

    class Quick:
        async def run(self) -> str:
            begun.set()
            await asyncio.sleep(0.2)
            return "in time"

    found = await ran(Task("t", Quick(), timeout=1), begun.is_set, 2)
    assert (found.state, found.result) == ("successful", "in time")


@pytest.mark.parametrize(
    "operator", [Command("sleep", ["60"]), Command("sleep", ["60"], timeout=0.3)], ids=str
)
async def test_work_that_really_takes_too_long_times_out(operator: Command, tmp_path: Path) -> None:
    timeout = None if operator.timeout else 0.3
    found = await ran(Task("t", operator, timeout=timeout), lambda: True, 0.5)
    assert (found.state, found.error) == ("failed", "timed out after 0.3 s")
