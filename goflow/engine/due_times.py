"""Due times: each one that the scheduler fires becomes an execution, or gets a reason why not."""

from goflow.core.timetable import Times
from goflow.engine.health import Health
from goflow.engine.ledger import Ledger
from goflow.engine.lineup import NoRoom
from goflow.engine.registry import Registry
from goflow.engine.skips import Skips
from goflow.engine.submissions import Request, Submissions
from goflow.errors import InvalidRequest
from goflow.job.skip_dates import SkipDatesFailed
from goflow.stores.base import Accounted


class DueTimes:
    """The scheduler calls `fire` for each due time."""

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        submissions: Submissions,
        skips: Skips,
        health: Health,
    ) -> None:
        self._registry = registry
        self._ledger = ledger
        self._submissions = submissions
        self._skips = skips
        self._health = health

    async def fire(self, name: str, accounted: Accounted, late: bool) -> str | None:
        """Create the execution of the due time `accounted.upto`, or return the reason why there is
        none.

        A due time that is `late`, with another one after it, uses no room reserved for due times
        that are on time. Raises `Unavailable`.
        """
        due = accounted.upto
        await self._ledger.written(name)
        state = self._ledger.states.get(name)
        # The clock may have been set back. A due time recorded as missed may still run then;
        # one that was skipped is not decided again.
        again = state is not None and due <= state.accounted
        if again and await self._ledger.was_skipped(name, due):
            return None
        if (job := self._registry.jobs.get(name)) is None:
            return "the job was removed"
        timing = self._registry.timing(name)
        times: Times | None = None
        if timing is not None and timing.is_plain:
            times = timing.schedules[0]
        elif timing is not None:
            times = self._ledger.times(name, anchor=accounted.anchor, once=accounted.anchor)
        if job.skip_dates is not None and times is not None:
            try:
                (skipped,) = await self._skips.reasons(job, times, [due])
            except SkipDatesFailed as error:
                self._health.notice_once(f"job {name!r} was due, and made no execution: {error}")
                return str(error)
            if skipped is not None:
                return skipped
        try:
            params = job.fill_params(None)
        except InvalidRequest as error:  # from the user's params class
            self._health.notice_once(f"the schedule of job {name!r} creates no executions: {error}")
            return str(error)
        request = Request(
            job,
            params,
            "schedule",
            due=due,
            times=times,
            accounted=self._ledger.current(name, accounted),
            for_schedule=not late,
        )
        try:
            await self._submissions.create_next(request)
        except NoRoom as no_room:
            return str(no_room)
        return None
