"""The OpenAPI 3.1 document, generated from the endpoints and their schemas."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from goflow.web.endpoint import Call, Endpoint
from goflow.web.responses import json_response
from goflow.web.schemas import Failure

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
    """Serves the document of `endpoints` and of its own endpoint."""

    def __init__(self, endpoints: Sequence[Endpoint], version: str) -> None:
        self.endpoint = Endpoint(
            method="GET",
            path="/openapi.json",
            summary="This document",
            handler=self.document,
            response=Document,
        )
        self._endpoints = [*endpoints, self.endpoint]
        self._version = version
        self._described: Document | None = None

    async def document(self, call: Call) -> Response:
        """The document, with the path prefix of the request as its server."""
        if self._described is None:
            self._described = describe(self._endpoints, self._version)
        root = call.request.scope["mounted_at"]
        self._described.servers = [{"url": quote(root, safe="/%") or "/"}]
        return json_response(self._described)


def describe(endpoints: Sequence[Endpoint], version: str) -> Document:
    """The document of all endpoints."""
    types: set[type[msgspec.Struct]] = {Failure}
    for endpoint in endpoints:
        types |= {endpoint.query, *endpoint.errors.values()}
        if isinstance(endpoint.response, type):
            types.add(endpoint.response)
        if endpoint.body is not None:
            types.add(endpoint.body)
    ordered = sorted(types, key=lambda one: one.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFS)
    # Query parameters are described one by one, so their structs are not components.
    queries = {
        query: schemas.pop(query.__name__)["properties"]
        for query in {endpoint.query for endpoint in endpoints}
    }
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
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
    if isinstance(endpoint.response, str):
        schema = {} if endpoint.response == JSON else {"type": "string"}  # {}: any JSON
        content = {endpoint.response: {"schema": schema}}
    else:
        content = _json(endpoint.response)
    success: dict[str, Any] = {"description": "Success", "content": content}
    if endpoint.response_headers:
        success["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in endpoint.response_headers.items()
        }
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        **({"deprecated": True} if endpoint.deprecated else {}),
        "parameters": _parameters(endpoint, query),
        "responses": {
            "200": success,
            **{
                str(status): {"description": _STATUS_DESCRIPTIONS[status], "content": _json(schema)}
                for status, schema in sorted(endpoint.errors.items())
            },
            "default": {"description": "Error", "content": _json(Failure)},
        },
    }
    if endpoint.body is not None:
        needed = any(field.required for field in msgspec.structs.fields(endpoint.body))
        operation["requestBody"] = {"required": needed, "content": _json(endpoint.body)}
    return operation


_STATUS_DESCRIPTIONS = {
    400: "The request is invalid; `field` names the invalid part",
    404: "Unknown job, execution, task, attempt or result",
    409: "The job or execution is not in a state that allows this",
    413: "The request body is too large",
    422: "The parameters do not fit the job; `errors` has every wrong one",
    503: "Temporarily unavailable; the same request may succeed later",
}


def _json(schema: type) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": REFS.format(name=schema.__name__)}}}


def _parameters(endpoint: Endpoint, query: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in endpoint.path_names
    ]
    for name, schema in query.items():
        found.append({"name": name, "in": "query", "required": False, "schema": schema})
    for name, (description, pattern) in endpoint.headers.items():
        found.append(
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": description,
                "schema": {"type": "string", "pattern": pattern},
            }
        )
    return found
