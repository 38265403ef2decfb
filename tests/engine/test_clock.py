"""Waiting for an event or an instant."""

import asyncio
from datetime import timedelta

import pytest

from goflow.engine.clock import wait
from goflow.testing import BEGINNING, FakeClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("steps", range(8))
async def test_who_is_cancelled_while_a_wait_ends_is_cancelled(steps: int) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(wait(event, FakeClock(), BEGINNING + timedelta(minutes=1)))
    await asyncio.sleep(0)
    event.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    expected = waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled() is expected
