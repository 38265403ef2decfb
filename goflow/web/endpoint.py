"""An endpoint: a method of a path, with its schemas and its handler.

The router and the OpenAPI document are made from the same `Endpoint`s, so they cannot disagree.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goflow.engine.engine import Engine
from goflow.engine.metrics import Metrics
from goflow.errors import GoflowError
from goflow.web.path import decode
from goflow.web.requests import read_body, read_query
from goflow.web.responses import error_response, failure, json_response
from goflow.web.schemas import Failure, NoQuery


class Services(Struct, frozen=True):
    """The dependencies of the handlers.

    - `show_source`: whether clients may see the code of jobs and its location.
    - `shutdown`: open streams end when it is set.
    """

    engine: Engine
    metrics: Metrics
    version: str
    show_source: bool
    shutdown: asyncio.Event


class Call(Struct, frozen=True):
    """A validated request. `query` and `body` have the types that the endpoint declares."""

    services: Services
    request: Request
    path: Mapping[str, str]
    query: Any
    body: Any

    @property
    def engine(self) -> Engine:
        return self.services.engine


Handler = Callable[[Call], Awaitable[Struct | Response]]


class Endpoint(Struct, frozen=True, kw_only=True):
    """A method of a path.

    - `response`: the schema of a 200, or its media type if it is not JSON.
    - `errors`: the schema of each other status.
    - `headers`: the request headers it reads, each with a description and a pattern.
    - `response_headers`: the headers of a 200, each with a description.
    - `deprecated`: kept for clients of Go's goflow.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    response: type[Struct] | str
    query: type[Struct] = NoQuery
    body: type[Struct] | None = None
    errors: Mapping[int, type[Failure]] = {}
    headers: Mapping[str, tuple[str, str]] = {}
    response_headers: Mapping[str, str] = {}
    deprecated: bool = False

    @property
    def path_names(self) -> list[str]:
        """The names of the path parameters."""
        return re.findall(r"{(\w+)", self.path)

    async def respond(
        self, services: Services, request: Request, path: Mapping[str, str], body_limit: int
    ) -> Response:
        """Validate the request, call the handler, and return its response or error."""
        try:
            query = read_query(request.scope.get("query_string", b""), self.query)
            body = None if self.body is None else await read_body(request, self.body, body_limit)
            response = await self.handler(Call(services, request, path, query, body))
        except GoflowError as error:
            return error_response(error, next(iter(path.values()), ""), self.errors)
        return response if isinstance(response, Response) else json_response(response)


class Resource:
    """All methods of one path, as an ASGI application."""

    def __init__(self, endpoints: Sequence[Endpoint], services: Services, body_limit: int) -> None:
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if "GET" in self._endpoints:
            self._endpoints["HEAD"] = self._endpoints["GET"]
        self._services = services
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return  # the client left before its request was complete
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        allowed = ", ".join(sorted(self._endpoints))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": f"{allowed}, OPTIONS"})
        endpoint = self._endpoints.get(request.method)
        if endpoint is None:
            return failure(
                405,
                "method-not-allowed",
                f"this path takes {allowed}, not {request.method[:20]}",
                headers={"allow": allowed},
            )
        path: dict[str, str] = {}
        for name, segment in request.path_params.items():
            if (text := decode(segment)) is None:
                return failure(404, "not-found", f"the {name} in the path is not UTF-8", name)
            path[name] = text
        return await endpoint.respond(self._services, request, path, self._body_limit)
