"""The API: each answer is read from the engine, which speaks of committed facts only."""

import re
from collections.abc import AsyncIterator

import tzdata  # type: ignore[import-untyped]
from msgspec import Raw
from msgspec.structs import asdict as to_dict
from starlette.responses import Response, StreamingResponse

from goflow.core.states import State
from goflow.core.summary import Detail
from goflow.engine.engine import Engine
from goflow.errors import InvalidRequest
from goflow.job import Job, Task
from goflow.stores.base import LogChunk, Row
from goflow.web.answer import failure
from goflow.web.endpoint import Call
from goflow.web.question import read_header
from goflow.web.wire import (
    USER_PATTERN,
    Backfill,
    BackfilledView,
    ClockChangeView,
    Done,
    EncodedExecutions,
    Health,
    Jobs,
    JobView,
    Mark,
    Overview,
    OverviewJob,
    Submitted,
    SwitchView,
    TaskView,
    Ticks,
    TickView,
    Toggled,
    Unhealthy,
    Upcoming,
    given,
)

KEY_LIMIT = 255  # characters of an Idempotency-Key


class Api:
    """The handlers; what they take and answer is written in the table in routes.py."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._version = goflow_version()
        self._tzdata = tzdata.__version__

    async def health(self, call: Call) -> Health | Response:
        engine = self._engine
        if engine.defect is not None:
            return failure(503, "defect", engine.defect, shape=Unhealthy)
        if (trouble := engine.journal.trouble) is not None:
            return failure(503, trouble.code, str(trouble), shape=Unhealthy)
        return Health(
            health="OK",
            version=self._version,
            tzdata=self._tzdata,
            jobs=len(engine.jobs),
            unfinished=len(engine.board),
            streams=len(engine.broadcast),
            notices=list(engine.notices),
        )

    # -- jobs ----------------------------------------------------------------------

    async def jobs(self, call: Call) -> Jobs:
        return Jobs(list(self._engine.jobs))

    async def job(self, call: Call) -> JobView:
        job = self._engine.job(call.path["name"])
        switch = self._engine.switched(job.name)
        return JobView(
            job=job.name,
            tasks=[task.name for task in job.tasks],
            dag=job.plan.downstream,
            schedule=job.schedule,
            active=self._engine.active(job.name),
            timezone=job.timezone,
            description=job.description,
            tags=list(job.tags),
            params=job.params,
            next=self._engine.due(job.name),
            switched=None if switch is None else SwitchView(switch.at, switch.by),
            overlap=job.overlap,
            catchup=job.catchup.catchup,
            timeout=job.timeout,
            task_details=[_view(task) for task in job.tasks],
        )

    async def overview(self, call: Call) -> Overview:
        jobs = self._engine.jobs
        recent = await self._engine.reader.recent(list(jobs), call.query.last)
        return Overview(
            [self._overview_of(job, recent.get(name, [])) for name, job in jobs.items()]
        )

    def _overview_of(self, job: Job, rows: list[Row]) -> OverviewJob:
        return OverviewJob(
            job=job.name,
            schedule=job.schedule,
            timezone=job.timezone,
            active=self._engine.active(job.name),
            description=job.description,
            tags=list(job.tags),
            next=self._engine.due(job.name),
            executions=[self._mark(row) for row in rows],
        )

    def _mark(self, row: Row) -> Mark:
        """The board is ahead of what was read from the store, if it knows the execution."""
        if (entry := self._engine.board.get(row.id)) is None:
            return Mark(row.id, row.state, row.submitted, row.modified)
        now = entry.summary
        return Mark(row.id, now.state, row.submitted, now.modifiedTimestamp)

    async def submit(self, call: Call) -> Submitted:
        name = call.path["name"]
        key = _checked_key(read_header(call.request, "Idempotency-Key"))
        accepted = await self._engine.submit(name, call.body.params, key=key, by=asker(call))
        return Submitted(name, True, accepted.submitted, accepted.id)

    async def toggle(self, call: Call) -> Toggled:
        name = call.path["name"]
        active = await self._engine.toggle(name, given(call.body.active), by=asker(call))
        return Toggled(name, True, active)

    async def ticks(self, call: Call) -> Ticks:
        name, reader = self._engine.job(call.path["name"]).name, self._engine.reader
        found = await reader.ticks(name, given(call.query.cursor), call.query.limit)
        more = await reader.ticks(name, found[-1].due, 1) if found else []
        shown = [TickView(**to_dict(tick)) for tick in found]
        return Ticks(name, shown, found[-1].due if more else None)

    async def upcoming(self, call: Call) -> Upcoming:
        name = call.path["name"]
        times = self._engine.upcoming(name, call.query.n)
        schedule = self._engine.schedule(name)
        changes = [
            ClockChangeView(due, change.reason)
            for due in times
            if schedule is not None and (change := schedule.clock_change(due)) is not None
        ]
        return Upcoming(name, self._engine.active(name), times, changes)

    async def backfill(self, call: Call) -> Backfill:
        name, body = call.path["name"], call.body
        done = await self._engine.backfill(
            name,
            body.start,
            body.end,
            parallel=body.parallel,
            params=given(body.params),
            dry_run=body.dry_run,
            by=asker(call),
        )
        views = [BackfilledView(one.due, one.execution, one.created) for one in done]
        return Backfill(name, True, body.dry_run, views)

    # -- executions ----------------------------------------------------------------

    async def executions(self, call: Call) -> EncodedExecutions:
        query = call.query
        page = await self._engine.reader.page(
            query.jobname or None,
            State(query.state) if query.state else None,
            query.limit,
            given(query.cursor),
        )
        return EncodedExecutions([Raw(one) for one in page.executions], page.next)

    async def execution(self, call: Call) -> Detail:
        detail = await self._engine.reader.execution(call.path["id"])
        if not detail.state.finished:
            for task in detail.tasks:
                task.waiting = self._engine.waiting(detail.id, task.name)
        return detail

    async def log(self, call: Call) -> Response:
        after = call.query.after
        log = await self._engine.reader.log(
            call.path["id"], call.path["task"], given(call.query.attempt), after
        )
        return StreamingResponse(
            _lines(log.chunks, after),
            headers={
                "cache-control": "no-store",
                "x-goflow-attempt": str(log.attempt),
                "x-goflow-next-line": str(max(log.end, after)),
            },
            media_type="text/plain; charset=utf-8",
        )

    async def cancel(self, call: Call) -> Done:
        id = call.path["id"]
        return Done(id, await self._engine.cancel(id, by=asker(call)))

    async def retry(self, call: Call) -> Done:
        id, body = call.path["id"], call.body
        await self._engine.retry(
            id,
            task=given(body.task),
            following=body.following,
            params=given(body.params),
            by=asker(call),
        )
        return Done(id, True)

    async def cancel_task(self, call: Call) -> Done:
        id = call.path["id"]
        return Done(id, await self._engine.cancel_task(id, call.path["task"], by=asker(call)))

    async def mark(self, call: Call) -> Done:
        id = call.path["id"]
        state = State(call.body.state)
        await self._engine.mark(id, call.path["task"], state, by=asker(call))
        return Done(id, True)


def asker(call: Call) -> str:
    """Who asks, for people: what the header X-Goflow-User says, and where from."""
    user = read_header(call.request, "X-Goflow-User") or ""
    if not re.fullmatch(USER_PATTERN, user):
        raise InvalidRequest(
            f"X-Goflow-User must be up to 100 visible ASCII characters, not {user[:80]!r}",
            code="invalid-user",
            field="X-Goflow-User",
        )
    address = "" if call.request.client is None else call.request.client.host
    return f"{user} from {address}" if user and address else user or address


def goflow_version() -> str:
    """The version of this goflow."""
    import goflow  # by now all of it is there, which was not so at the top

    return goflow.__version__


def _view(task: Task) -> TaskView:
    return TaskView(
        name=task.name,
        operator=type(task.operator).__name__,
        trigger_rule=task.trigger_rule,
        retries=task.retries,
        timeout=task.timeout,
        pool=task.pool,
        priority=task.priority,
        after=task.after,
    )


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (
        1 <= len(key) <= KEY_LIMIT and all("!" <= letter <= "~" for letter in key)
    ):
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {KEY_LIMIT} visible ASCII characters, not {key[:80]!r}",
            code="invalid-idempotency-key",
            field="Idempotency-Key",
        )
    return key


async def _lines(chunks: AsyncIterator[LogChunk], after: int) -> AsyncIterator[bytes]:
    """The text from line `after` on; where lines are missing, one line says how many."""
    async for chunk in chunks:
        if chunk.first > after:
            yield f"[… {chunk.first - after:,} lines left out …]\n".encode()
        yield chunk.text.encode("utf-8", "replace")
        after = chunk.first + chunk.lines
