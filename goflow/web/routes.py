"""The routes: one table, from which both the router and the OpenAPI document are made."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goflow.core.summary import Detail
from goflow.engine.engine import Engine
from goflow.engine.vitals import Vitals
from goflow.web.answer import failure
from goflow.web.api import Api, goflow_version
from goflow.web.dashboard import OWN_FOLDERS, Dashboard
from goflow.web.endpoint import Endpoint, Handler, Resource
from goflow.web.guard import Guard
from goflow.web.openapi import OpenApi
from goflow.web.path import route_path
from goflow.web.stream import Stream
from goflow.web.wire import (
    EVENT_ID,
    USER_PATTERN,
    Backfill,
    BackfillBody,
    Calendar,
    CalendarQuery,
    Done,
    ExecutionRefused,
    Executions,
    ExecutionsQuery,
    Failure,
    FindQuery,
    FoundLines,
    Health,
    JobMissing,
    JobRefused,
    JobRuns,
    JobRunsQuery,
    Jobs,
    JobView,
    Lines,
    LinesQuery,
    LogQuery,
    MarkBody,
    Now,
    NowQuery,
    Overview,
    OverviewQuery,
    ResultQuery,
    RetryBody,
    SourceView,
    StreamQuery,
    SubmitBody,
    SubmitRefused,
    Submitted,
    System,
    SystemQuery,
    Ticks,
    TicksQuery,
    ToggleBody,
    Toggled,
    ToggleRefused,
    Unhealthy,
    Upcoming,
    UpcomingQuery,
)

USER = {"X-Goflow-User": ("who asks, for people; kept with what was asked", USER_PATTERN)}
TEXT = "text/plain"
ANY_JSON = "application/json"
EVENTS = "text/event-stream"
PAGE = "text/html"


def build(
    engine: Engine,
    vitals: Vitals,
    *,
    ui: Path | None,
    ui_policy: str | None = None,
    allowed_hosts: Sequence[str],
    body_limit: int = 1024 * 1024,
    shutdown: asyncio.Event | None = None,
    show_source: bool = True,
) -> ASGIApp:
    """The ASGI application over a started engine, for scopes of type http.

    - `ui`: the folder with the built dashboard, None for the API alone.
    - `ui_policy`: see `Dashboard`.
    - `allowed_hosts`: see `Guard`.
    - `body_limit`: bytes of a request's body.
    - `shutdown`: when it is set, open streams end.
    - `show_source`: whether the code of jobs, and where it is, may be seen.
    """
    handlers = Api(engine, vitals, show_source=show_source)
    api = api_routes(handlers, Stream(engine, shutdown or asyncio.Event()))
    document = OpenApi(api, goflow_version())
    table = [*api, document.endpoint, *dashboard_routes(Dashboard(ui, ui_policy))]
    routes = _Routes(table, body_limit)
    return Guard(ServerErrorMiddleware(routes, _defect), allowed_hosts, routes.own)


def api_routes(api: Api, stream: Stream) -> list[Endpoint]:
    """The table of the API."""
    submit_refused = dict.fromkeys((400, 404, 409, 413, 503), SubmitRefused)
    toggle_refused = dict.fromkeys((400, 404, 413, 503), ToggleRefused)
    execution_refused = dict.fromkeys((400, 404, 409, 413, 503), ExecutionRefused)
    return [
        Endpoint(
            method="GET",
            path="/api/health",
            summary="Whether the server does its work",
            handler=api.health,
            answer=Health,
            refusals={503: Unhealthy},
        ),
        Endpoint(
            method="GET",
            path="/api/jobs",
            summary="The names of all jobs, in the order registered",
            handler=api.jobs,
            answer=Jobs,
        ),
        Endpoint(
            method="GET",
            path="/api/jobs/{name}",
            summary="A job: its tasks, who waits for whom, and its schedule",
            handler=api.job,
            answer=JobView,
            refusals={404: JobMissing},
        ),
        Endpoint(
            method="GET",
            path="/api/jobs/{name}/source",
            summary="The code that made a job, as it was when the job was registered",
            handler=api.source,
            answer=SourceView,
            refusals={404: Failure},
        ),
        Endpoint(
            method="GET",
            path="/api/overview",
            summary="Every job with its newest executions",
            handler=api.overview,
            query=OverviewQuery,
            answer=Overview,
        ),
        Endpoint(
            method="GET",
            path="/api/now",
            summary="What runs, what waits and why, and what comes next, over all jobs",
            handler=api.now,
            query=NowQuery,
            answer=Now,
        ),
        Endpoint(
            method="GET",
            path="/api/system",
            summary="The server itself: versions, store, limits, and how it has been doing",
            handler=api.system,
            query=SystemQuery,
            answer=System,
        ),
        Endpoint(
            method="GET",
            path="/api/jobruns",
            summary="Executions as Go's goflow 1 listed them, oldest first; use /api/executions",
            handler=api.jobruns,
            query=JobRunsQuery,
            answer=JobRuns,
            deprecated=True,
        ),
        Endpoint(
            method="GET",
            path="/api/executions",
            summary="Executions, newest first",
            handler=api.executions,
            query=ExecutionsQuery,
            answer=Executions,
        ),
        Endpoint(
            method="GET",
            path="/api/executions/{id}",
            summary="An execution with every attempt of every task",
            handler=api.execution,
            answer=Detail,
            refusals={404: Failure},
        ),
        Endpoint(
            method="GET",
            path="/api/executions/{id}/tasks/{task}/result",
            summary="The result of one attempt, by default of the last one, as JSON",
            handler=api.result,
            query=ResultQuery,
            answer=ANY_JSON,
            refusals={404: Failure, 503: Failure},
            headers={"If-None-Match": ("answers 304 if the result is still this one", ".*")},
            answer_headers={
                "X-Goflow-Attempt": "the attempt this is the result of",
                "ETag": "changes with the result",
            },
        ),
        Endpoint(
            method="GET",
            path="/api/executions/{id}/tasks/{task}/logs",
            summary="The log of one attempt, by default of the last one",
            handler=api.log,
            query=LogQuery,
            answer=TEXT,
            refusals={404: Failure},
            answer_headers={
                "X-Goflow-Attempt": "the attempt this is the log of; 0 if none was begun",
                "X-Goflow-Next-Line": "`after` to go on from; lines left out count, too",
                "X-Goflow-Lines": "how many lines there are so far, those left out too",
            },
        ),
        Endpoint(
            method="GET",
            path="/api/executions/{id}/tasks/{task}/lines",
            summary="A window of the log of one attempt, line by line",
            handler=api.lines,
            query=LinesQuery,
            answer=Lines,
            refusals={404: Failure},
        ),
        Endpoint(
            method="GET",
            path="/api/executions/{id}/tasks/{task}/find",
            summary="The lines of one attempt's log that hold a text, or look like trouble",
            handler=api.find,
            query=FindQuery,
            answer=FoundLines,
            refusals={404: Failure},
        ),
        Endpoint(
            method="POST",
            path="/api/executions/{id}/cancel",
            summary="Stop an execution",
            handler=api.cancel,
            headers=USER,
            answer=Done,
            refusals=execution_refused,
        ),
        Endpoint(
            method="POST",
            path="/api/executions/{id}/retry",
            summary="Run again what did not succeed, or from a task on, under the same id",
            handler=api.retry,
            headers=USER,
            body=RetryBody,
            answer=Done,
            refusals=execution_refused,
        ),
        Endpoint(
            method="POST",
            path="/api/jobs/{name}/submit",
            summary="Run a job; the answer comes when the execution is durable",
            handler=api.submit,
            body=SubmitBody,
            answer=Submitted,
            refusals=submit_refused,
            headers={"Idempotency-Key": ("makes it safe to repeat", "^[!-~]{1,255}$")} | USER,
        ),
        Endpoint(
            method="POST",
            path="/api/jobs/{name}/toggle",
            summary="Switch a job's schedule on or off, or over",
            handler=api.toggle,
            headers=USER,
            body=ToggleBody,
            answer=Toggled,
            refusals=toggle_refused,
        ),
        Endpoint(
            method="GET",
            path="/api/jobs/{name}/ticks",
            summary="What became of each due time of a job, newest first",
            handler=api.ticks,
            query=TicksQuery,
            answer=Ticks,
            refusals={404: Failure},
        ),
        Endpoint(
            method="GET",
            path="/api/jobs/{name}/upcoming",
            summary="The next due times of a job",
            handler=api.upcoming,
            query=UpcomingQuery,
            answer=Upcoming,
            refusals={404: Failure},
        ),
        Endpoint(
            method="GET",
            path="/api/jobs/{name}/calendar",
            summary="What a job did on each day",
            handler=api.calendar,
            query=CalendarQuery,
            answer=Calendar,
            refusals={404: Failure},
        ),
        Endpoint(
            method="POST",
            path="/api/jobs/{name}/backfill",
            summary="Run a job for the due times of a range that have not run",
            handler=api.backfill,
            body=BackfillBody,
            answer=Backfill,
            refusals=dict.fromkeys((400, 404, 409, 413, 503), JobRefused),
            headers=USER,
        ),
        Endpoint(
            method="POST",
            path="/api/executions/{id}/tasks/{task}/cancel",
            summary="Stop one task, the others going on",
            handler=api.cancel_task,
            answer=Done,
            refusals=execution_refused,
            headers=USER,
        ),
        Endpoint(
            method="POST",
            path="/api/executions/{id}/tasks/{task}/mark",
            summary="Let a task count as successful or skipped, by hand",
            handler=api.mark,
            body=MarkBody,
            answer=Done,
            refusals=execution_refused,
            headers=USER,
        ),
        Endpoint(
            method="GET",
            path="/stream",
            summary="Recent executions, then every change, as server-sent events",
            handler=stream.listen,
            query=StreamQuery,
            answer=EVENTS,
            headers={"Last-Event-ID": ("resumes after the event of this id", EVENT_ID)},
        ),
    ]


def dashboard_routes(dashboard: Dashboard) -> list[Endpoint]:
    """The pages; they are for people and not in the OpenAPI document."""

    def page(path: str, summary: str, handler: Handler) -> Endpoint:
        return Endpoint(method="GET", path=path, summary=summary, handler=handler, answer=PAGE)

    own = OWN_FOLDERS if dashboard.is_own else ()

    return [
        Endpoint(
            method="GET",
            path=path,
            summary="To the dashboard",
            handler=dashboard.to_ui,
            answer=PAGE,
        )
        for path in ("/", "/ui")
    ] + [
        page("/ui/{view:path}", "The dashboard", dashboard.view),
        *(page(f"/{name}/{{file:path}}", "A file of it", dashboard.file) for name in own),
    ]


class _Routes:
    """Finds the resource of a path, which is matched as it was sent."""

    def __init__(self, table: Sequence[Endpoint], body_limit: int) -> None:
        by_path = defaultdict(list)
        for endpoint in table:
            by_path[endpoint.path].append(endpoint)
        self._router = Router(
            [Route(path, Resource(found, body_limit)) for path, found in by_path.items()],
            redirect_slashes=False,
            default=_unknown,
        )
        self.own = frozenset(path.split("/")[1] for path in by_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            send = _without_body(send)
        root, path = scope.get("root_path", ""), route_path(scope, self.own)
        if not path:
            last = quote(root.rpartition("/")[2])
            await RedirectResponse(f"./{last}/")(scope, receive, send)
            return
        inner = {**scope, "path": path, "root_path": "", "path_params": {}, "mounted_at": root}
        await self._router(inner, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await failure(404, "not-found", "there is nothing at this path")(scope, receive, send)


async def _defect(request: Request, error: Exception) -> Response:
    return failure(500, "internal-error", "the server failed; its log says how")
