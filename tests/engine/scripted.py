"""A scripted operator that can succeed, fail or hang, and small helpers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from goflow import Context, Job, Task
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.stores.base import Change, Outcome, Store
from goflow.stores.memory import MemoryStore
from goflow.testing import FakeClock


@dataclass
class Scripted:
    """Follows `script` attempt by attempt, then always succeeds.

    A word is "ok", "fail" or "hang" (until `release` is called or the attempt is cancelled).
    """

    script: list[str] = field(default_factory=list)
    result: Any = None
    runs: list[int] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def run(self, context: Context) -> Any:
        word = self.script[len(self.runs)] if len(self.runs) < len(self.script) else "ok"
        self.runs.append(context.attempt)
        if word == "fail":
            raise ValueError(f"scripted to fail attempt {context.attempt}")
        if word == "hang":
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
        return self.result


@dataclass
class Blocking:
    """A sync operator that returns when `release` is set."""

    release: threading.Event = field(default_factory=threading.Event)
    runs: list[int] = field(default_factory=list)

    def run(self, context: Context) -> None:
        self.runs.append(context.attempt)
        assert self.release.wait(60)


class Gated(MemoryStore):
    """A store whose commits wait for the gate; `waiting` if one does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = False

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        self.waiting = not self.gate.is_set()
        assert self.gate.wait(60)
        return super().commit(batch)


def job_of(name: str, *tasks: Task, **options: Any) -> Job:
    return Job(name, tasks=tasks, **options)


@asynccontextmanager
async def running(
    *jobs: Job, store: Store | None = None, clock: Any = None, **options: Any
) -> AsyncIterator[Engine]:
    """A started engine with these jobs, stopped at the end."""
    engine = Engine(
        store if store is not None else MemoryStore(),
        Options(**{"stop_timeout": 0, **options}),
        clock=clock if clock is not None else FakeClock(),
    )
    for job in jobs:
        engine.registry.register(job)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until the condition holds; fail if it does not within the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def pass_until(clock: FakeClock, condition: Callable[[], object], *, seconds: float) -> None:
    """Let so many seconds pass, again and again, until the condition holds. Whoever is to be woken
    may not sleep yet when the clock is advanced, so a fixed number of times may be too few."""
    await until(lambda: condition() or clock.advance(seconds=seconds))


async def states(engine: Engine, id: str) -> dict[str, str]:
    """The state of each task, read from the store."""
    detail = await engine.reader.execution(id)
    return {task.name: task.state.value for task in detail.tasks} | {"": detail.state.value}
