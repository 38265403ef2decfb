"""Routes: the list of all endpoints, and the application that serves them.

The router and the OpenAPI document are made from the same list.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goflow.engine.engine import Engine
from goflow.engine.metrics import Metrics
from goflow.web import artifacts, executions, jobruns, jobs, ledger, logs, now, stream, system
from goflow.web.dashboard import Dashboard
from goflow.web.endpoint import Endpoint, Resource, Services
from goflow.web.guard import Guard
from goflow.web.openapi import OpenApi
from goflow.web.path import route_path
from goflow.web.responses import failure

# Every endpoint of the API but the OpenAPI document.
API: list[Endpoint] = [
    *system.ENDPOINTS,
    *jobs.ENDPOINTS,
    *ledger.ENDPOINTS,
    *now.ENDPOINTS,
    *executions.ENDPOINTS,
    *artifacts.ENDPOINTS,
    *jobruns.ENDPOINTS,
    *logs.ENDPOINTS,
    *stream.ENDPOINTS,
]


def build(
    engine: Engine,
    metrics: Metrics,
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
    - `body_limit`: bytes of a request body.
    - `shutdown`: open streams end when it is set.
    - `show_source`: whether clients may see the code of jobs and its location.
    """
    services = Services(
        engine=engine,
        metrics=metrics,
        version=goflow_version(),
        show_source=show_source,
        shutdown=shutdown or asyncio.Event(),
    )
    document = OpenApi(API, services.version)
    endpoints = [*API, document.endpoint, *Dashboard(ui, ui_policy).endpoints()]
    routes = _Routes(endpoints, services, body_limit)
    return Guard(ServerErrorMiddleware(routes, _defect), allowed_hosts, routes.own)


def goflow_version() -> str:
    """The version of this goflow."""
    import goflow  # not at the top: `goflow` imports this module

    return goflow.__version__


class _Routes:
    """Finds the resource of a path. Paths are matched in the encoding they were sent in.

    A name in a path stands for one segment, which is not empty; `{name:path}`, at the end, for all
    that follow. Compared by segments, since the regular expressions of starlette's router take a
    tenth of the start of a server to compile."""

    def __init__(self, endpoints: Sequence[Endpoint], services: Services, body_limit: int) -> None:
        by_path = defaultdict(list)
        for endpoint in endpoints:
            by_path[endpoint.path].append(endpoint)
        self._by_length = defaultdict[int, list[tuple[list[str], Resource]]](list)
        self._folders: list[tuple[str, str, Resource]] = []
        for path, found in by_path.items():
            resource = Resource(found, services, body_limit)
            if path.endswith(":path}"):
                folder, name = path.removesuffix(":path}").split("{")
                self._folders.append((folder, name, resource))
            else:
                segments = path.split("/")
                self._by_length[len(segments)].append((segments, resource))
        self.own = frozenset(path.split("/")[1] for path in by_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            send = _without_body(send)
        root, path = scope.get("root_path", ""), route_path(scope, self.own)
        if not path:
            last = quote(root.rpartition("/")[2])
            await RedirectResponse(f"./{last}/")(scope, receive, send)
            return
        app, names = self._find(path)
        inner = {**scope, "path": path, "root_path": "", "path_params": names, "mounted_at": root}
        await app(inner, receive, send)

    def _find(self, path: str) -> tuple[ASGIApp, dict[str, str]]:
        """The resource of a path, and the segments that the names in its path stand for."""
        segments = path.split("/")
        for wanted, resource in self._by_length.get(len(segments), ()):
            if (names := _matched(wanted, segments)) is not None:
                return resource, names
        for folder, name, resource in self._folders:
            if path.startswith(folder):
                return resource, {name: path[len(folder) :]}
        return _unknown, {}


def _matched(wanted: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    names = {}
    for one, segment in zip(wanted, segments, strict=True):
        if one.startswith("{") and segment:
            names[one[1:-1]] = segment
        elif one != segment:
            return None
    return names


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await failure(404, "not-found", "there is nothing at this path")(scope, receive, send)


async def _defect(request: Request, error: Exception) -> Response:
    return failure(500, "internal-error", "internal error; see the server's log")
