"""What comes next over all jobs, read off the scheduler's agenda."""

from datetime import datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import Schedule
from goflow.core.catchup import Backlog, Policy
from goflow.engine.scheduler import Scheduler, in_order_of_time
from goflow.testing import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio


def scheduler_of(minutes: dict[str, int]) -> Scheduler:
    """One with a job for each name, due every so many minutes."""

    async def nothing(*args: object) -> None:
        return None

    async def compute(*args: object) -> Backlog:
        raise AssertionError("nothing piles up")

    scheduler = Scheduler(FakeClock(), nothing, nothing, compute, lambda text: None)
    for job, every in minutes.items():
        schedule = Schedule(f"@every {every}m")
        scheduler.switch_on(job, schedule, BEGINNING, BEGINNING, Policy())
    return scheduler


@given(
    st.lists(st.integers(1, 90), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 40),
    st.integers(1, 130),
    st.integers(0, 120),
)
def test_the_next_due_times_are_those_of_all_that_are_on_in_order_of_time(
    every: list[int], off: set[int], limit: int, each: int, ahead: int
) -> None:
    minutes = {f"j{number:02}": every_one for number, every_one in enumerate(every)}
    scheduler = scheduler_of(minutes)
    for number in off:
        scheduler.switch_off(f"j{number:02}")
    until = BEGINNING + timedelta(minutes=ahead)
    expected: list[tuple[datetime, str]] = []
    for number, (job, step) in enumerate(minutes.items()):
        if number not in off:
            times = (BEGINNING + timedelta(minutes=step * n) for n in range(1, ahead // step + 1))
            expected += [(due, job) for due in islice(times, each)]
    found = in_order_of_time(scheduler.nearest(until, limit), until, limit, each)
    assert [one[:2] for one in found] == sorted(expected)[:limit]
