"""Attempts that were given up and still run: each holds a slot until its thread ends."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec


class AbandonedAttempt(msgspec.Struct, frozen=True):
    """An attempt that runs since `started` and was given up at `abandoned`."""

    execution: str
    job: str
    task: str
    attempt: int
    started: datetime | None
    abandoned: datetime


class Abandoned:
    """Those that still run, in the order in which they were given up."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Future[Any], AbandonedAttempt] = {}

    def __iter__(self) -> Iterator[AbandonedAttempt]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def add(self, attempt: AbandonedAttempt, running: "asyncio.Future[Any]") -> None:
        """Keep an attempt on the list until it is done."""
        self._running[running] = attempt
        running.add_done_callback(lambda done: self._running.pop(done, None))
