"""The runners of all unfinished executions."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from goflow.core.keys import Key
from goflow.core.summary import Waiting
from goflow.engine.lifetime import Lifetime
from goflow.engine.lineup import Lineup
from goflow.engine.room import Room
from goflow.engine.runner import Runner
from goflow.engine.slots import Resource, Slots
from goflow.stores.base import Outcome


class Runners(Mapping[str, Runner]):
    """Runners by execution. `drive` starts one; it is removed when its execution has ended, and
    then `on_end` is called."""

    def __init__(self, lifetime: Lifetime, lineup: Lineup, room: Room, slots: Slots) -> None:
        self._lifetime = lifetime
        self._lineup = lineup
        self._room = room
        self._slots = slots
        self._runners: dict[str, Runner] = {}
        self._driving: set[asyncio.Task[None]] = set()
        self.on_end: Callable[[Runner], object] = lambda runner: None

    def __getitem__(self, id: str) -> Runner:
        return self._runners[id]

    def __contains__(self, id: object) -> bool:
        return id in self._runners

    def __iter__(self) -> Iterator[str]:
        return iter(self._runners)

    def __len__(self) -> int:
        return len(self._runners)

    def drive(self, runner: Runner, *, for_schedule: bool = False) -> "asyncio.Future[Outcome]":
        """Start a runner. The future is done when the opening is committed; cancelling it does
        not cancel the runner."""
        self._runners[runner.execution.id] = runner
        self._room.take(runner.params_bytes, for_schedule=for_schedule)
        self._lineup.add(runner)
        # At once: the job may be removed before the task begins.
        limits = [self._slots.use(*limit) for limit in runner.limits]
        task = self._lifetime.spawn(self._drive(runner, limits, for_schedule), "an execution")
        self._driving.add(task)
        task.add_done_callback(self._driving.discard)
        return asyncio.shield(runner.opened)

    async def _drive(
        self, runner: Runner, limits: "list[Resource | None]", for_schedule: bool
    ) -> None:
        try:
            await runner.run()
        finally:
            for limit in limits:
                self._slots.leave(limit)
            del self._runners[runner.execution.id]
            self._room.give_back(runner.params_bytes, for_schedule=for_schedule)
            self._lineup.remove(runner)
            self.on_end(runner)

    async def finished(self, id: str) -> None:
        """Wait until an execution has no runner."""
        if (runner := self._runners.get(id)) is not None:
            await asyncio.shield(runner.over)

    def waiting(self, id: str, task: Key) -> str | Waiting | None:
        """The human-readable reason why a ready task does not run; or why a running task or item
        waits, and until when. None if it does not wait."""
        runner = self._runners.get(id)
        return None if runner is None else runner.waiting(task)

    async def stop(self, timeout: float) -> None:
        """Start nothing more, and wait up to `timeout` seconds for running attempts to end."""
        for runner in list(self._runners.values()):
            runner.stop()
        if self._driving:
            await asyncio.wait(self._driving, timeout=timeout)

    async def interrupt(self) -> None:
        """End the attempts that still run, and wait for the runners."""
        for runner in list(self._runners.values()):
            runner.interrupt()
        if self._driving:
            await asyncio.wait(self._driving)
