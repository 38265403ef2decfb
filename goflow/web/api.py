"""The API: each answer is read from the engine, which speaks of committed facts only."""

import ipaddress
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import date

from msgspec import Raw
from msgspec.structs import asdict as to_dict
from starlette.responses import Response, StreamingResponse

from goflow import zones
from goflow.core.states import State
from goflow.core.summary import Detail
from goflow.engine.engine import Engine
from goflow.engine.reader import Attempt
from goflow.engine.search import Search, containing, trouble
from goflow.engine.vitals import Vitals
from goflow.errors import InvalidRequest, NotFound
from goflow.job import Job, Task
from goflow.shown import kind
from goflow.stores.base import Activity, TickOutcome
from goflow.web.answer import as_file, failure
from goflow.web.endpoint import Call
from goflow.web.jobruns import job_runs
from goflow.web.now import now
from goflow.web.question import read_header
from goflow.web.system import system
from goflow.web.wire import (
    USER_PATTERN,
    Backfill,
    BackfilledView,
    Calendar,
    CalendarDay,
    ClockChangeView,
    Done,
    EncodedExecutions,
    EncodedOverview,
    EncodedOverviewJob,
    FoundLines,
    Health,
    JobRuns,
    Jobs,
    JobView,
    Lines,
    Now,
    SourceView,
    Submitted,
    SwitchView,
    System,
    TaskView,
    Ticks,
    TickView,
    Toggled,
    UnfinishedLine,
    Unhealthy,
    Upcoming,
    given,
)

KEY_LIMIT = 255  # characters of an Idempotency-Key
_BETWEEN_WORDS = re.compile(r"[^\w.:%@-]+", re.ASCII)


class Api:
    """The handlers; what they take and answer is written in the table in routes.py."""

    def __init__(self, engine: Engine, vitals: Vitals, *, show_source: bool = True) -> None:
        self._engine = engine
        self._vitals = vitals
        self._show_source = show_source
        self._version = goflow_version()

    async def health(self, call: Call) -> Health | Response:
        engine = self._engine
        if engine.defect is not None:
            return failure(503, "defect", engine.defect, shape=Unhealthy)
        if (trouble := engine.journal.trouble) is not None:
            return failure(503, trouble.code, str(trouble), shape=Unhealthy)
        if engine.lost is not None:
            return failure(503, "commits-lost", engine.lost, shape=Unhealthy)
        if (stuck := engine.hanging.stuck) is not None:
            return failure(503, "stuck", stuck, subject="stuck", shape=Unhealthy)
        return Health(
            health="OK",
            version=self._version,
            tzdata=zones.database().version,
            tzdata_source=zones.database().source,
            jobs=len(engine.jobs),
            unfinished=len(engine.board),
            streams=len(engine.broadcast),
            notices=engine.all_notices(),
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
            params_schema=job.params_schema,
            next=self._engine.due(job.name),
            switched=None if switch is None else SwitchView(switch.at, switch.by),
            overlap=job.overlap,
            catchup=job.catchup.catchup,
            timeout=job.timeout,
            file=job.definition.file if self._show_source else None,
            line=job.definition.line if self._show_source else None,
            task_details=[_view(task) for task in job.tasks],
        )

    async def source(self, call: Call) -> SourceView:
        job = self._engine.job(call.path["name"])
        if not self._show_source:
            raise NotFound(
                "this server does not show the source of jobs: it has show_source=False",
                code="source-hidden",
                field="job",
            )
        found = await self._engine.reader.read(job.definition.source)
        return SourceView(job=job.name, file=job.definition.file, **found._asdict())

    async def overview(self, call: Call) -> EncodedOverview:
        jobs = self._engine.jobs
        names = [name for name in dict.fromkeys(call.query.job or jobs) if name in jobs]
        marks = await self._engine.reader.marks.newest(names, call.query.last)
        return EncodedOverview([self._overview_of(jobs[name], marks[name]) for name in names])

    def _overview_of(self, job: Job, marks: bytes) -> EncodedOverviewJob:
        return EncodedOverviewJob(
            job=job.name,
            schedule=job.schedule,
            timezone=job.timezone,
            active=self._engine.active(job.name),
            description=job.description,
            tags=list(job.tags),
            next=self._engine.due(job.name),
            params=job.has_params,
            executions=Raw(marks),
        )

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
        name, engine = call.path["name"], self._engine
        found = await engine.ticks(name, given(call.query.cursor), call.query.limit)
        more = await engine.reader.ticks(name, found[-1].due, 1) if found else []
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

    async def calendar(self, call: Call) -> Calendar:
        name, zone = call.path["name"], given(call.query.timezone)
        if zone is None:
            job = self._engine.jobs.get(name)
            zone = "UTC" if job is None else job.timezone
        days = await self._engine.calendar(name, zone, call.query.days)
        return Calendar(name, zone, [_day(day, did) for day, did in days])

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

    async def now(self, call: Call) -> Now:
        return await now(self._engine, call.query.ahead, call.query.limit, call.query.each)

    async def system(self, call: Call) -> System:
        after = given(call.query.after)
        return await system(self._engine, self._vitals, self._version, after)

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

    async def jobruns(self, call: Call) -> JobRuns:
        query = call.query
        return await job_runs(self._engine, query.jobname, query.state, query.limit)

    async def execution(self, call: Call) -> Detail:
        detail = await self._engine.reader.execution(call.path["id"])
        job = self._engine.jobs.get(detail.job)
        for task in detail.tasks:
            if job is not None and (found := job.find(task.name)) is not None:
                task.operator = operator_name(found)
            if not detail.state.finished:
                task.waiting = self._engine.waiting(detail.id, task.name)
        return detail

    async def result(self, call: Call) -> Response:
        result = await self._engine.reader.result(
            call.path["id"], call.path["task"], given(call.query.attempt)
        )
        headers = {
            "cache-control": "no-cache",
            "etag": f'"{result.sha256}"',
            "x-goflow-attempt": str(result.attempt),
        }
        if headers["etag"] in (read_header(call.request, "If-None-Match") or ""):
            return Response(status_code=304, headers=headers)
        return Response(result.body, headers=headers, media_type="application/json")

    async def log(self, call: Call) -> Response:
        query, attempt = call.query, await self._attempt(call)
        log = await self._engine.reader.log_of(
            *attempt.place, query.after, given(query.tail), timestamps=query.timestamps
        )
        headers = {
            "cache-control": "no-store",
            "x-goflow-attempt": str(attempt.number),
            "x-goflow-next-line": str(max(log.end, log.after)),
            "x-goflow-lines": str(log.end),
        }
        if query.download:
            name = f"{attempt.job}-{attempt.task}-{attempt.number}"
            headers["content-disposition"] = as_file(name, ".log")
        return StreamingResponse(
            _encoded(log.texts), headers=headers, media_type="text/plain; charset=utf-8"
        )

    async def lines(self, call: Call) -> Lines:
        query, attempt = call.query, await self._attempt(call)
        window = await self._engine.reader.window(
            *attempt.place, query.after, given(query.tail), query.limit
        )
        return Lines(
            attempt=attempt.number,
            state=attempt.state,
            first=window.first,
            end=window.end,
            lines=window.lines,
            times=window.times,
            unfinished=window.unfinished and UnfinishedLine(*window.unfinished),
            gaps=window.gaps,
            next=window.next,
            more=window.next < window.end,
        )

    async def find(self, call: Call) -> FoundLines:
        query = call.query
        search = _search(given(query.text), query.errors)
        attempt = await self._attempt(call)
        found = await self._engine.reader.find(*attempt.place, search, query.after, query.limit)
        return FoundLines(
            attempt=attempt.number,
            lines=found.numbers,
            next=found.next,
            more=found.next < found.end,
        )

    async def _attempt(self, call: Call) -> Attempt:
        return await self._engine.reader.attempt(
            call.path["id"], call.path["task"], given(call.query.attempt)
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
    if any(_is_address(word) for word in _BETWEEN_WORDS.split(user)):
        # An address is what the server saw. Nobody may claim one.
        raise InvalidRequest(
            f"X-Goflow-User is a name and must not hold an IP address: {user!r}",
            code="invalid-user",
            field="X-Goflow-User",
        )
    user = user.strip()
    address = "" if call.request.client is None else call.request.client.host
    return f"{user} from {address}" if user and address else user or address


def _is_address(word: str) -> bool:
    """Whether a word is an IP address, with or without a port."""
    for text in (word, word.rpartition(":")[0]):
        with suppress(ValueError):
            ipaddress.ip_address(text)
            return True
    return False


def goflow_version() -> str:
    """The version of this goflow."""
    import goflow  # by now all of it is there, which was not so at the top

    return goflow.__version__


def operator_name(task: Task) -> str:
    """What kind of operator a task has, for people."""
    return kind(task.operator)


def _view(task: Task) -> TaskView:
    return TaskView(
        name=task.name,
        operator=operator_name(task),
        trigger_rule=task.trigger_rule,
        retries=task.retries,
        timeout=task.timeout,
        pool=task.pool,
        priority=task.priority,
        after=task.after,
    )


def _day(day: date, did: Activity) -> CalendarDay:
    ticks = {outcome: did.counts.get(outcome, 0) for outcome in TickOutcome}
    return CalendarDay(
        day=day,
        states={state: count for state, count in did.counts.items() if state not in ticks},
        missed=ticks[TickOutcome.MISSED],
        skipped=ticks[TickOutcome.SKIPPED],
        seconds=did.took.total_seconds(),
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


async def _encoded(texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for text in texts:
        yield text.encode("utf-8", "replace")


def _search(text: str | None, errors: bool) -> Search:
    if (text is None) is not errors:
        raise InvalidRequest(
            "give either the text to find or errors=true", code="invalid-text", field="text"
        )
    if text is None:
        return trouble
    if "\n" in text:
        raise InvalidRequest(
            "text is part of one line, so it has no line break", code="invalid-text", field="text"
        )
    return containing(text)
