"""Artifacts of attempts: the list, and each as a download.

The rule that must not be broken: a download is found by its name in the attempt's facts, and its
content by the hash there; no part of a request becomes part of a path.
"""

from collections.abc import AsyncIterator, Iterator

from msgspec import Struct
from starlette.responses import Response, StreamingResponse

from goflow.core.result import Artifact
from goflow.errors import NotFound
from goflow.web.endpoint import Call, Endpoint
from goflow.web.executions import ResultQuery
from goflow.web.requests import read_header
from goflow.web.responses import attachment
from goflow.web.schemas import Failure, given

BINARY = "application/octet-stream"


class Artifacts(Struct):
    """The artifacts of an attempt: files that it made, and its result if that is no JSON. Without
    `attempt` in the query they are of the last successful one; null if there is none."""

    attempt: int | None
    artifacts: list[Artifact]


async def _found(call: Call) -> Artifacts:
    attempt, found = await call.engine.reader.artifacts(
        call.path["id"], call.path["task"], given(call.query.attempt), given(call.query.item)
    )
    return Artifacts(attempt, list(found))


async def artifacts(call: Call) -> Artifacts:
    return await _found(call)


async def artifact(call: Call) -> Response:
    id, name = call.path["id"], call.path["name"]
    found = next((one for one in (await _found(call)).artifacts if one.name == name), None)
    if found is None:
        raise NotFound(
            f"task {call.path['task']!r} of execution {id!r} has no artifact {name!r}",
            field="name",
        )
    stem, dot, suffix = name.rpartition(".")
    headers = {
        "cache-control": "no-cache",
        "etag": f'"{found.sha256}"',
        "content-length": str(found.size),
        "content-disposition": attachment(stem if dot else name, f"{dot}{suffix}" if dot else ""),
        "x-content-type-options": "nosniff",
    }
    if headers["etag"] in (read_header(call.request, "If-None-Match") or ""):
        del headers["content-length"]
        return Response(status_code=304, headers=headers)
    chunks = call.engine.artifacts.chunks(id, found)
    first = await call.engine.reader.read(_next, chunks)  # raises `ResultLost`
    return StreamingResponse(_pieces(call, first, chunks), headers=headers, media_type=BINARY)


async def _pieces(call: Call, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await call.engine.reader.read(_next, chunks)


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/artifacts",
        summary="The artifacts of an attempt",
        handler=artifacts,
        query=ResultQuery,
        response=Artifacts,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/artifacts/{name}",
        summary="An artifact as a download",
        handler=artifact,
        query=ResultQuery,
        response=BINARY,
        errors={404: Failure, 503: Failure},
        headers={"If-None-Match": ("the response is 304 if the artifact has this ETag", ".*")},
        response_headers={"ETag": "changes with the content"},
    ),
]
