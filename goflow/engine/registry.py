"""The registry of jobs, by name, with their schedules; and of the pools that their tasks run in.

An execution keeps the definition it was created with, unless a retry takes the newest one.
Replacing or removing a job affects no execution under way.
"""

from collections.abc import Callable, Iterable

from goflow import checks
from goflow.core.graph import find_cycle
from goflow.core.timetable import Timing
from goflow.engine.options import Options
from goflow.engine.slots import Kind, Slots
from goflow.errors import Conflict, InvalidJob, NotFound
from goflow.job import Job
from goflow.operators.base import Asking


class Registry:
    """Jobs by name. `on_change` is called with the name of a job that was registered, replaced or
    removed. An engine that keeps no time defines no pools, so it accepts every pool name; and it
    runs no job after another. `followers` has the jobs that run after each job."""

    def __init__(self, options: Options, slots: Slots, *, keeps_time: bool = True) -> None:
        self._options = options
        self._slots = slots
        self._keeps_time = keeps_time
        self._timings: dict[str, Timing | None] = {}
        self.jobs: dict[str, Job] = {}
        self.followers: dict[str, dict[str, None]] = {}
        self._is_complete = False  # whether a job may only name those that are registered
        self.pools = dict(options.pools)  # sizes by name
        self.on_change: Callable[[str], None] = lambda job: None

    def register(self, job: Job, *, replace: bool = False) -> Job:
        """Add a job, before or after the start; with `replace`, instead of the job of that name.
        Raises `InvalidJob`; then nothing has changed."""
        if job.name in self.jobs and not replace:
            raise InvalidJob(f"job {job.name!r} is registered already; names must differ")
        job.seal()
        timing = job.timing_for(with_seconds=self._options.with_seconds)
        self._check_pools(job)
        if self._is_complete:
            self._check_asked(job)
            self._check_after(job.name, self.jobs | {job.name: job})
        self._follow(job.name, job.after)
        self.jobs[job.name] = job
        self._timings[job.name] = timing
        self._limit(job)
        self.on_change(job.name)
        return job

    def check_jobs_asked_for(self) -> None:
        """From now on a job may wait for, or run after, only jobs that are registered. Raises
        `InvalidJob` for one that names another, and for jobs that run after each other in a circle.
        An engine that keeps no time runs one job alone."""
        if self._keeps_time:
            for job in self.jobs.values():
                self._check_asked(job)
            self.check_after()
            self._is_complete = True

    def _check_asked(self, job: Job) -> None:
        for task in job.tasks:
            if isinstance(task.operator, Asking):
                for name in task.operator.jobs():
                    if name not in self.jobs and name != job.name:
                        known = ", ".join(map(repr, self.jobs)) or "none"
                        raise InvalidJob(
                            f"job {job.name!r}, task {task.name!r}: there is no job {name!r}; "
                            f"the jobs are {known}"
                        )

    def remove(self, name: str) -> None:
        """Remove a job: its schedule stops, and no more executions are created. Unfinished ones
        continue, and the history stays. Raises `NotFound`."""
        self.job(name)
        self._follow(name, ())
        removed = self.jobs.pop(name)
        del self._timings[name]
        self._slots.lift(Kind.JOB, name)
        if not self._keeps_time:
            for pool in removed.pools:
                if self._user_of(pool) is None:
                    self._slots.lift(Kind.POOL, pool)
        self.on_change(name)

    def job(self, name: str) -> Job:
        """The job of that name. Raises `NotFound`."""
        if (job := self.jobs.get(name)) is None:
            raise NotFound(f"there is no job {name!r}", field="job")
        return job

    def timing(self, name: str) -> Timing | None:
        """When a job is due; None without a schedule. Raises `NotFound`."""
        self.job(name)
        return self._timings[name]

    def check_after(self) -> None:
        """Refuse jobs that run after unknown ones, or after each other in a circle. Raises
        `InvalidJob`."""
        for job in self.jobs.values():
            if job.after:
                self._check_after(job.name, self.jobs)

    def _check_after(self, name: str, jobs: dict[str, Job]) -> None:
        """Refuse an unknown job, or a circle through this job."""
        for other in jobs[name].after:
            if other not in jobs:
                raise InvalidJob(f"job {name!r} runs after {other!r}, and there is no such job")
        reached, left = {name: jobs[name].after}, list(jobs[name].after)
        while left:
            if (other := left.pop()) not in reached:
                reached[other] = jobs[other].after if other in jobs else ()
                left += reached[other]
        if (cycle := find_cycle(reached)) is not None:
            path = " → ".join(repr(one) for one in reversed(cycle))
            raise InvalidJob(f"job {name!r}: jobs run after each other in a circle: {path}")

    def _follow(self, name: str, after: Iterable[str]) -> None:
        """Note which jobs a job runs after from now on."""
        if (replaced := self.jobs.get(name)) is not None:
            for other in replaced.after:
                of_other = self.followers[other]
                del of_other[name]
                if not of_other:
                    del self.followers[other]
        for other in after:
            self.followers.setdefault(other, {})[name] = None

    def set_pool(self, name: str, size: int) -> None:
        """Add a pool, or resize it. A larger one starts tasks that wait; a smaller one ends none.
        Raises `ValueError`."""
        pool = checks.name("pool", name)
        checks.count(f"pool {pool!r}: size", size, 1, error=ValueError)
        self.pools[pool] = size
        self._slots.limit(Kind.POOL, pool, size)

    def remove_pool(self, name: str) -> None:
        """Remove a pool that no registered job uses. It limits the executions under way that use
        it until they end. Raises `NotFound`, and `Conflict` if a job uses it."""
        if name not in self.pools:
            raise NotFound(f"there is no pool {name!r}", field="pool")
        if (job := self._user_of(name)) is not None:
            raise Conflict(f"pool {name!r} is used by job {job!r}; replace or remove the job first")
        del self.pools[name]
        self._slots.lift(Kind.POOL, name)

    def _user_of(self, pool: str) -> str | None:
        """A registered job that uses a pool, if there is one."""
        return next((job.name for job in self.jobs.values() if pool in job.pools), None)

    def _check_pools(self, job: Job) -> None:
        for task in [*job.tasks, *job.hooks]:
            if self._keeps_time and task.pool is not None and task.pool not in self.pools:
                known = ", ".join(map(repr, self.pools)) or "none"
                raise InvalidJob(
                    f"job {job.name!r}, task {task.name!r}: there is no pool {task.pool!r}; "
                    f"Goflow(pools={{…}}) has {known}"
                )

    def _limit(self, job: Job) -> None:
        if job.max_running is None:
            self._slots.lift(Kind.JOB, job.name)
        else:
            self._slots.limit(Kind.JOB, job.name, job.max_running)
        if not self._keeps_time:
            for pool in job.pools:
                self._slots.limit(Kind.POOL, pool, self._options.max_running)
