"""Logs of attempts, for tests."""

import asyncio

from goflow.engine.clock import Clock, SystemClock
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.tasklog import Append, TaskLog


def task_log(
    append: Append,
    *,
    limit: int = 16 * 1024 * 1024,
    clock: Clock | None = None,
    backlog: Backlog | None = None,
) -> TaskLog:
    """A log on the running loop; by default the only one."""
    return TaskLog(
        append,
        asyncio.get_running_loop(),
        clock=clock or SystemClock(),
        backlog=backlog or Backlog(SystemClock()),
        limit=limit,
    )
