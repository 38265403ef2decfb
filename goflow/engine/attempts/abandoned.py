"""Abandoned attempts that still run. Each holds a slot until its thread ends."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from goflow.engine.slots import Resource, title


class AbandonedAttempt(msgspec.Struct, frozen=True):
    """An attempt that has run since `started` and was abandoned at `abandoned`, and the reason."""

    execution: str
    job: str
    task: str
    attempt: int
    started: datetime | None
    abandoned: datetime
    why: str
    item: int | msgspec.UnsetType = msgspec.UNSET  # of a mapped task


class Abandoned:
    """The abandoned attempts that still run, oldest first."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Future[Any], AbandonedAttempt] = {}
        self._held: Counter[Resource] = Counter()  # slots of each limit

    def __iter__(self) -> Iterator[AbandonedAttempt]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def add(
        self,
        attempt: AbandonedAttempt,
        running: "asyncio.Future[Any]",
        limits: Sequence[Resource] = (),
    ) -> None:
        """List an attempt until `running` is done; `limits` are the resources that it occupies."""

        def ended(_: "asyncio.Future[Any]") -> None:
            del self._running[running]
            self._held.subtract(limits)

        self._running[running] = attempt
        self._held.update(limits)
        running.add_done_callback(ended)

    @property
    def taken_up(self) -> list[str]:
        """The pools and jobs whose whole limit is occupied by abandoned attempts."""
        return [title(one.kind, one.name) for one, held in self._held.items() if held >= one.size]
