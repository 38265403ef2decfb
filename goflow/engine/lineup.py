"""The order of a job's unfinished executions, and overlap policies.

The rule that must not be broken: a new execution that must wait for all others of its job waits
only for the `tail`. An execution that is cancelled before it starts passes its predecessors on to
its successors (see `Runner`). So the memory of a queue is proportional to its length.

With `max_active` above 1 an execution waits for a place instead: it is `held` until fewer others
that came before it are unfinished. Backfills take no places: one may wait for an execution that is
held, which would then wait for the backfill.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from goflow.core.catchup import Overlap
from goflow.core.execution import Execution
from goflow.job import Job

if TYPE_CHECKING:
    from goflow.engine.runner import Runner


class NoRoom(Exception):
    """The job's overlap policy allows no new execution now; the message says why."""


class Lineup:
    """The unfinished executions of each job, in the order of their submits and retries."""

    def __init__(self) -> None:
        self._of_job: dict[str, dict[str, Runner]] = {}
        self._tails: dict[str, dict[str, Runner]] = {}
        # Ordered, since finding the first key of a dict that was emptied from the front is a scan.
        self._held: dict[str, OrderedDict[str, Runner]] = {}
        self._backfills: Counter[str] = Counter()  # unfinished ones of each job

    # -- overlap policies ------------------------------------------------------------

    def before(self, job: Job) -> "list[Runner]":
        """The executions that a new one of the job must wait for. Raises `NoRoom`."""
        unfinished = self.count(job.name)
        if job.overlap is Overlap.ALLOW or not unfinished:
            return []
        if job.overlap is Overlap.SKIP:
            first = self.first(job.name).execution.id
            raise NoRoom(f"execution {first} has not ended")
        waiting = unfinished - job.max_active
        if job.overlap is Overlap.QUEUE and waiting >= job.max_queued:
            raise NoRoom(f"{max(waiting, 0)} executions wait already, which is the limit")
        return [] if job.max_active > 1 else self.tail(job.name)

    def before_resumed(self, execution: Execution, job: Job | None) -> "list[Runner]":
        """The executions that a resumed execution must wait for after a restart."""
        if job is not None and job.overlap is not Overlap.ALLOW and execution.cause != "backfill":
            # After a retry its predecessors differ from those at the submit.
            return [] if job.max_active > 1 else self.tail(job.name)
        of_job = self._of_job.get(execution.job, {})
        return [of_job[id] for id in execution.after if id in of_job]

    def replace(self, job: Job, newest: "Runner") -> None:
        """Cancel all executions before the newest, if the job's policy is "replace"."""
        if job.overlap is not Overlap.REPLACE:
            return
        by = f"replaced by {newest.execution.id}"
        for runner in self.of(job.name):
            if runner is newest:
                return
            if not runner.execution.cancelling:
                runner.command(lambda execution, now: execution.cancel(now, by))

    def replace_again(self, job: Job) -> None:
        """Repeat `replace` after a restart, which may have interrupted it."""
        of_job = reversed(self.of(job.name))
        newest = next((one for one in of_job if _replaces(one.execution)), None)
        if newest is not None:
            self.replace(job, newest)

    def places(self, job: Job | None, cause: str) -> int | None:
        """The number of places that an execution of the job waits for one of; None if it waits for
        none, but perhaps for others. Backfills have a limit of their own."""
        if job is None or job.max_active == 1 or cause == "backfill":
            return None
        return job.max_active

    # -- the order of executions -------------------------------------------------------

    def of(self, job: str) -> "list[Runner]":
        """All executions of a job, oldest first."""
        return list(self._of_job.get(job, {}).values())

    def count(self, job: str) -> int:
        return len(self._of_job.get(job, ()))

    def first(self, job: str) -> "Runner":
        """The oldest execution of a job, which must have one."""
        return next(iter(self._of_job[job].values()))

    def tail(self, job: str) -> "list[Runner]":
        """The last executions of a job: once they have ended, all others have ended too."""
        return list(self._tails.get(job, {}).values())

    def add(self, runner: "Runner") -> None:
        """Add an execution, which waits for those in its `waits_for`, and for a place."""
        job, id = runner.execution.job, runner.execution.id
        if runner.places is not None and self._begun(job) >= runner.places:
            runner.held = True
            self._held.setdefault(job, OrderedDict())[id] = runner
        self._of_job.setdefault(job, {})[id] = runner
        self._backfills[job] += runner.execution.cause == "backfill"
        tail = self._tails.setdefault(job, {})
        for before in runner.waits_for:
            tail.pop(before.execution.id, None)
        tail[id] = runner

    def remove(self, runner: "Runner") -> None:
        """Remove an execution that has ended. What it still waited for joins the tail."""
        job, id = runner.execution.job, runner.execution.id
        of_job, tail = self._of_job[job], self._tails[job]
        del of_job[id]
        self._backfills[job] -= runner.execution.cause == "backfill"
        if tail.pop(id, None) is not None:
            tail |= _under_way(runner.waits_for, of_job)
        if job in self._held:
            self._held[job].pop(id, None)
            self._admit(job)
        if not of_job:
            del self._of_job[job], self._tails[job], self._backfills[job]

    def _begun(self, job: str) -> int:
        """The number of unfinished executions of a job that take places."""
        return self.count(job) - len(self._held.get(job, ())) - self._backfills[job]

    def _admit(self, job: str) -> None:
        """Let the first of those that are held begin, as many as there are places."""
        held = self._held[job]
        while held:
            first = next(iter(held.values()))
            if first.places is not None and self._begun(job) >= first.places:
                return
            del held[first.execution.id]
            first.held = False
            first.wake()
        del self._held[job]


def _replaces(execution: Execution) -> bool:
    """Whether it may have replaced others: no backfill, and no retry of hooks."""
    return execution.cause != "backfill" and not execution.closing


def _under_way(runners: "Iterable[Runner]", of_job: "dict[str, Runner]") -> "dict[str, Runner]":
    """Those of some runners that are unfinished, and instead of others those that they waited for.
    A runner hears a little later that one before it has ended."""
    found: dict[str, Runner] = {}
    ended: set[Runner] = set()
    unseen = [*runners]
    while unseen:
        one = unseen.pop()
        if of_job.get(one.execution.id) is one:
            found[one.execution.id] = one
        elif one not in ended:
            ended.add(one)
            unseen += one.waits_for
    return found
