"""GET /stream: recent executions, then every change, as server-sent events."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from goflow.web.endpoint import Call, Endpoint
from goflow.web.requests import read_header

EVENT_ID = "^([!-~]+-[0-9]{1,18})?$"


class StreamQuery(Struct):
    jobname: Annotated[str, Meta(description="only executions of this job")] = ""
    last_event_id: Annotated[
        str,
        Meta(
            pattern=EVENT_ID,
            description="like the header Last-Event-ID, which takes precedence",
        ),
    ] = ""


async def listen(call: Call) -> Response:
    if call.request.method == "HEAD":
        return Response(media_type="text/event-stream")
    from goflow.web.event_stream import EventStream  # loads a package that no other endpoint needs

    last = read_header(call.request, "Last-Event-ID") or call.query.last_event_id
    listener = call.engine.broadcast.listen(call.query.jobname or None, last or None)
    return EventStream(listener, call.services.shutdown)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/stream",
        summary="Recent executions, then every change, as server-sent events",
        handler=listen,
        query=StreamQuery,
        response="text/event-stream",
        headers={"Last-Event-ID": ("resumes after the event with this id", EVENT_ID)},
    ),
]
