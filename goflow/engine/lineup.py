"""Who waits for whom among the unfinished executions of a job.

The rule that must not be broken: a new one that has to wait for all the others waits for the
`tail` only, however many there are. Whoever waits for one that ends early, because it was
cancelled before it began, takes over what that one still waited for (see `Runner`); so the
memory that a queue takes grows with its length, and not with the square of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goflow.engine.runner import Runner


class Lineup:
    """The unfinished executions of each job, in the order in which they came."""

    def __init__(self) -> None:
        self._of_job: dict[str, dict[str, Runner]] = {}
        self._tails: dict[str, dict[str, Runner]] = {}

    def of(self, job: str) -> "list[Runner]":
        """All of a job, oldest first."""
        return list(self._of_job.get(job, {}).values())

    def count(self, job: str) -> int:
        return len(self._of_job.get(job, ()))

    def first(self, job: str) -> "Runner":
        """The oldest one of a job, which has some."""
        return next(iter(self._of_job[job].values()))

    def tail(self, job: str) -> "list[Runner]":
        """Those of a job after whose end all others of it have ended too."""
        return list(self._tails.get(job, {}).values())

    def add(self, runner: "Runner") -> None:
        """One more, which waits for those in its `waits_for`."""
        job, id = runner.execution.job, runner.execution.id
        self._of_job.setdefault(job, {})[id] = runner
        tail = self._tails.setdefault(job, {})
        for before in runner.waits_for:
            tail.pop(before.execution.id, None)
        tail[id] = runner

    def remove(self, runner: "Runner") -> None:
        """It has ended; those that it still waited for may have nobody else behind them."""
        job, id = runner.execution.job, runner.execution.id
        of_job, tail = self._of_job[job], self._tails[job]
        del of_job[id]
        if tail.pop(id, None) is not None:
            tail |= _under_way(runner.waits_for, of_job)
        if not of_job:
            del self._of_job[job], self._tails[job]


def _under_way(runners: "Iterable[Runner]", of_job: "dict[str, Runner]") -> "dict[str, Runner]":
    return {one.execution.id: one for one in runners if of_job.get(one.execution.id) is one}
