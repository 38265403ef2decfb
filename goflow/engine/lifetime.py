"""The engine's lifetime: whether it runs, and its background tasks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from goflow.engine.clock import Clock
from goflow.engine.health import Health
from goflow.errors import Stopping, Unavailable

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds before failed work is restarted; doubled each time
LONGEST = 60.0  # the maximum of these seconds


class Lifetime:
    """From `begin` to `stop` the engine accepts requests; `end` cancels background tasks."""

    def __init__(self, clock: Clock, health: Health) -> None:
        self._clock = clock
        self._health = health
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepting = False
        self.stopping = False

    def begin(self) -> None:
        self._accepting = True

    def stop(self) -> None:
        self._accepting = False
        self.stopping = True

    def check(self) -> None:
        """Raise `Stopping` unless the engine accepts requests."""
        if not self._accepting:
            raise Stopping("the server is stopping")

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> "asyncio.Task[Any]":
        """Run `work` in the background until the engine stops; an error is a defect."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep_up(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Run `work` in the background, and restart it after a defect, since nothing else would do
        its work."""
        self.spawn(self._keep_up(work, what), what)

    async def end(self) -> None:
        """Cancel background tasks, and wait for them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_up(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        pause = PAUSE
        while True:
            try:
                await work()
            except Exception as error:
                if self.stopping and isinstance(error, Unavailable):
                    return
                self._health.tell_defect(what, error)
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, Unavailable) and self.stopping:
                logger.warning("stopped before everything was written: %s", error)
                return
            self._health.tell_defect(task.get_name(), error)
