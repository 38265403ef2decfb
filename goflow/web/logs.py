"""Logs of attempts: as text, as a window of lines, and searched."""

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response, StreamingResponse

from goflow.core.states import State
from goflow.core.summary import Time
from goflow.engine.reader import Attempt
from goflow.engine.search import Search, containing, trouble
from goflow.errors import InvalidRequest
from goflow.web.endpoint import Call, Endpoint
from goflow.web.executions import ResultQuery, asked_of
from goflow.web.responses import attachment
from goflow.web.schemas import Count, Failure, given


class AttemptQuery(ResultQuery):
    after: Annotated[
        Count, Meta(description="the first line to return, counted from 0; skips earlier ones")
    ] = 0


async def _attempt(call: Call) -> Attempt:
    query = call.query
    asked = asked_of(call.path["task"], given(query.item), given(query.key))
    return await call.engine.reader.attempt(call.path["id"], asked, given(query.attempt))


# -- as text ---------------------------------------------------------------------------


class LogQuery(AttemptQuery):
    tail: Annotated[Count, Meta(description="only this many lines, the last")] | UnsetType = UNSET
    download: Annotated[bool, Meta(description="as a file download")] = False
    timestamps: Annotated[
        bool, Meta(description="begin each line with its time in UTC and a space")
    ] = False


async def log(call: Call) -> Response:
    query, attempt = call.query, await _attempt(call)
    found = await call.engine.reader.log_of(
        *attempt.place, query.after, given(query.tail), timestamps=query.timestamps
    )
    headers = {
        "cache-control": "no-store",
        "x-goflow-attempt": str(attempt.number),
        "x-goflow-next-line": str(max(found.end, found.after)),
        "x-goflow-lines": str(found.end),
    }
    if query.download:
        item = "" if attempt.item is None else f"-{attempt.item}"
        name = f"{attempt.job}-{attempt.task}{item}-{attempt.number}"
        headers["content-disposition"] = attachment(name, ".log")
    return StreamingResponse(
        _encoded(found.texts), headers=headers, media_type="text/plain; charset=utf-8"
    )


async def _encoded(texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for text in texts:
        yield text.encode("utf-8", "replace")


# -- a window of lines -----------------------------------------------------------------


class LinesQuery(AttemptQuery):
    tail: Annotated[Count, Meta(description="only this many lines, the last")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=10_000, description="maximum number of lines")] = 1000


class UnfinishedLine(Struct):
    """A line without its end. `time` is its beginning, null if it was not recorded."""

    text: str
    time: Time | None


class Lines(Struct, kw_only=True):
    """Lines of the log of an attempt in `state`. `attempt` is 0 if no attempt has started.

    `first` is the number of the first line in `lines`, and `end` the number of the line that the
    log will get next. `gaps` are ranges `[from, to)` of dropped lines; line `to` is in `lines`.
    `next` is the `after` to continue from, and `more` says whether more lines are there already.
    `times` has the beginning of each of `lines`, null if it was not recorded. `unfinished` is
    line `end` as far as it has been written; it is among `lines` once it is complete.
    """

    attempt: int
    state: State
    first: int
    end: int
    lines: list[str]
    times: list[Time | None]
    unfinished: UnfinishedLine | None
    gaps: list[tuple[int, int]]
    next: int
    more: bool


async def lines(call: Call) -> Lines:
    query, attempt = call.query, await _attempt(call)
    window = await call.engine.reader.window(
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


# -- searched --------------------------------------------------------------------------


class FindQuery(AttemptQuery):
    """Either `text` or `errors` is required."""

    text: (
        Annotated[
            str,
            Meta(min_length=1, max_length=200, description="part of a line, case-insensitive"),
        ]
        | UnsetType
    ) = UNSET
    errors: Annotated[bool, Meta(description="lines that look like errors or warnings")] = False
    limit: Annotated[int, Meta(ge=1, le=1000, description="maximum number of lines")] = 1000


class FoundLines(Struct, kw_only=True):
    """Line numbers. If `more` is true, the search has not reached the end: `next` is the `after`
    to continue from."""

    attempt: int
    lines: list[int]
    next: int
    more: bool


async def find(call: Call) -> FoundLines:
    query = call.query
    search = _search(given(query.text), query.errors)
    attempt = await _attempt(call)
    found = await call.engine.reader.find(*attempt.place, search, query.after, query.limit)
    return FoundLines(
        attempt=attempt.number,
        lines=found.numbers,
        next=found.next,
        more=found.next < found.end,
    )


def _search(text: str | None, errors: bool) -> Search:
    if (text is None) is not errors:
        raise InvalidRequest(
            "either text or errors=true is required, not both", code="invalid-text", field="text"
        )
    if text is None:
        return trouble
    if "\n" in text:
        raise InvalidRequest(
            "text is searched within lines, so it must not contain a line break",
            code="invalid-text",
            field="text",
        )
    return containing(text)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/logs",
        summary="The log of an attempt as text",
        handler=log,
        query=LogQuery,
        response="text/plain",
        errors={404: Failure},
        response_headers={
            "X-Goflow-Attempt": "number of the attempt; 0 if none has started",
            "X-Goflow-Next-Line": "the `after` to continue from; dropped lines count",
            "X-Goflow-Lines": "number of lines so far; dropped lines count",
        },
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/lines",
        summary="A window of the log of an attempt, line by line",
        handler=lines,
        query=LinesQuery,
        response=Lines,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/find",
        summary="The lines of an attempt's log that contain a text, or look like errors",
        handler=find,
        query=FindQuery,
        response=FoundLines,
        errors={404: Failure},
    ),
]
