"""Waiting for an event or an instant."""

import asyncio
from datetime import timedelta

import pytest

from goflow.engine.clock import wait
from goflow.testing import FakeClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancellation_ends_the_wait_at_any_moment(turns: int) -> None:
    """Also in the turns of the event loop in which the wait is ending on its own."""
    clock, event = FakeClock(), asyncio.Event()

    async def wait_for_ever() -> None:
        while True:
            await wait(event, clock, clock.now() + timedelta(days=1))

    waiting = asyncio.create_task(wait_for_ever())
    for _ in range(4):
        await asyncio.sleep(0)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(8):
        await asyncio.sleep(0)
    assert waiting.cancelled()


async def test_a_fake_sleep_counts_from_its_call() -> None:
    clock = FakeClock()
    sleeping = asyncio.ensure_future(clock.sleep(10))
    clock.advance(seconds=10)
    await sleeping
