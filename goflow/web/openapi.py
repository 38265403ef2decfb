"""The OpenAPI 3.1 document, made from the table of endpoints and the types they name."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from goflow.web.answer import json_answer
from goflow.web.endpoint import Call, Endpoint
from goflow.web.wire import Failure

REFS = "#/components/schemas/{name}"
JSON = "application/json"


class Document(msgspec.Struct):
    """An OpenAPI document; see https://spec.openapis.org/oas/v3.1.1.html."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    servers: list[dict[str, str]]


class OpenApi:
    """Describes `endpoints`, and itself."""

    def __init__(self, endpoints: Sequence[Endpoint], version: str) -> None:
        self.endpoint = Endpoint(
            method="GET",
            path="/openapi.json",
            summary="This document",
            handler=self.document,
            answer=Document,
        )
        self._table = [*endpoints, self.endpoint]
        self._version = version
        self._described: Document | None = None

    async def document(self, call: Call) -> Response:
        """The document, with the prefix under which it was asked for."""
        if self._described is None:
            self._described = describe(self._table, self._version)
        root = call.request.scope["mounted_at"]
        self._described.servers = [{"url": quote(root, safe="/%") or "/"}]
        return json_answer(self._described)


def describe(table: Sequence[Endpoint], version: str) -> Document:
    """The document of all endpoints."""
    shapes: set[type[msgspec.Struct]] = {Failure}
    for endpoint in table:
        shapes |= {endpoint.query, *endpoint.refusals.values()}
        if isinstance(endpoint.answer, type):
            shapes.add(endpoint.answer)
        if endpoint.body is not None:
            shapes.add(endpoint.body)
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFS)
    # A query is no object on the wire: its fields are described one by one.
    queries = {
        query: schemas.pop(query.__name__)["properties"]
        for query in {endpoint.query for endpoint in table}
    }
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        operation = _operation(endpoint, queries[endpoint.query])
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return Document(
        openapi="3.1.0",
        info={
            "title": "goflow",
            "version": version,
            "description": "A DAG scheduler and live dashboard in one Python process. "
            "Times are RFC 3339 in UTC.",
        },
        paths=paths,
        components={"schemas": schemas},
        servers=[],
    )


def _operation(endpoint: Endpoint, query: dict[str, Any]) -> dict[str, Any]:
    if isinstance(endpoint.answer, str):
        schema = {} if endpoint.answer == JSON else {"type": "string"}  # {}: whatever it is
        content = {endpoint.answer: {"schema": schema}}
    else:
        content = _json(endpoint.answer)
    answer: dict[str, Any] = {"description": "Done", "content": content}
    if endpoint.answer_headers:
        answer["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in endpoint.answer_headers.items()
        }
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        **({"deprecated": True} if endpoint.deprecated else {}),
        "parameters": _parameters(endpoint, query),
        "responses": {
            "200": answer,
            **{
                str(status): {"description": _MEANING[status], "content": _json(shape)}
                for status, shape in sorted(endpoint.refusals.items())
            },
            "default": {"description": "Refused", "content": _json(Failure)},
        },
    }
    if endpoint.body is not None:
        needed = any(field.required for field in msgspec.structs.fields(endpoint.body))
        operation["requestBody"] = {"required": needed, "content": _json(endpoint.body)}
    return operation


_MEANING = {
    400: "The request cannot be honoured; `field` names the part at fault",
    404: "There is no such job, execution, task, result or log",
    409: "It is not in a state that allows this",
    413: "The body is too large",
    503: "Not now; the same request may succeed later",
}


def _json(shape: type) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": REFS.format(name=shape.__name__)}}}


def _parameters(endpoint: Endpoint, query: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in endpoint.path_names
    ]
    for name, schema in query.items():
        found.append({"name": name, "in": "query", "required": False, "schema": schema})
    for name, (purpose, pattern) in endpoint.headers.items():
        found.append(
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": purpose,
                "schema": {"type": "string", "pattern": pattern},
            }
        )
    return found
