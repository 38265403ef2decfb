"""One route: what it takes, what it answers, and how a request becomes a call of it.

Both the router and the OpenAPI document are made from the same `Endpoint`s, so neither
can say what the other does not.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goflow.errors import GoflowError
from goflow.web.answer import failure, failure_of, json_answer
from goflow.web.path import decode
from goflow.web.question import read_body, read_query
from goflow.web.wire import Failure, NoQuery


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read and checked. `query` and `body` are of the endpoint's types."""

    request: Request
    path: Mapping[str, str]
    query: Any
    body: Any


Handler = Callable[[Call], Awaitable[Struct | Response]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A method of a path.

    - `answer`: the type of the JSON in a 200, or the media type of one that is not JSON.
    - `refusals`: the statuses it may answer otherwise, each with the type of its JSON.
    - `headers`: request headers it reads, each with what it is for and its pattern.
    - `answer_headers`: headers of a 200, each with what it says.
    - `deprecated`: it is kept for those who know it from Go's goflow.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: type[Struct] | str
    query: type[Struct] = NoQuery
    body: type[Struct] | None = None
    refusals: Mapping[int, type[Failure]] = field(default_factory=dict)
    headers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    deprecated: bool = False

    @property
    def path_names(self) -> list[str]:
        """The names of the parts of the path that vary."""
        return re.findall(r"{(\w+)", self.path)

    async def respond(self, request: Request, path: Mapping[str, str], limit: int) -> Response:
        """Read the request, call the handler, and put its answer or refusal on the wire."""
        try:
            query = read_query(request.scope.get("query_string", b""), self.query)
            body = None if self.body is None else await read_body(request, self.body, limit)
            answer = await self.handler(Call(request, path, query, body))
        except GoflowError as error:
            return failure_of(error, next(iter(path.values()), ""), self.refusals)
        return answer if isinstance(answer, Response) else json_answer(answer)


class Resource:
    """All methods of one path, as an ASGI application."""

    def __init__(self, endpoints: Sequence[Endpoint], body_limit: int) -> None:
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if "GET" in self._endpoints:
            self._endpoints["HEAD"] = self._endpoints["GET"]
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return  # it left before the request was whole: nobody waits for an answer
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
        return await endpoint.respond(request, path, self._body_limit)
