"""Checks the params of requests against a job, without blocking the event loop."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from goflow.job import Job
from goflow.job.patterns import too_slow


class ParamChecks:
    """`executor` runs slow checks: matches of the user's patterns."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def check(self, job: Job, given: Mapping[str, Any] | None) -> None:
        """Raise `InvalidRequest` for params whose match with a pattern takes too long."""
        if doubtful := job.doubtful_params(given):
            loop = asyncio.get_running_loop()
            slow = await loop.run_in_executor(self._executor, too_slow, doubtful)
            if slow is not None:
                raise job.refuse_slow(slow)

    async def fill(self, job: Job, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The params with the job's defaults filled in. Raises `InvalidRequest`."""
        await self.check(job, given)
        return job.fill_params(given)
