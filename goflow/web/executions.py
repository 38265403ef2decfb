"""Executions: the list, one of them with its results, cancel, retry and mark."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from starlette.responses import Response

from goflow.core.detail import Detail, ItemDetail, StateChange, TaskDetail
from goflow.core.keys import Asked, Item, NamedItem, key_of
from goflow.core.result import SMALL
from goflow.core.states import State
from goflow.core.summary import Listed, Waiting
from goflow.engine.control import Definition
from goflow.engine.reader import PAGE_LIMIT
from goflow.errors import InvalidRequest
from goflow.shown import kind
from goflow.web.endpoint import Call, Endpoint
from goflow.web.requests import USER_HEADER, read_header, requester
from goflow.web.schemas import CHANGE_ERRORS, Done, ExecutionRefused, Failure, given

# -- the list --------------------------------------------------------------------------

# The states, and an empty text for all of them.
StateFilter = Literal[
    "", "notstarted", "running", "upforretry", "skipped", "failed", "successful", "cancelled"
]


class ExecutionsQuery(Struct):
    """An empty `jobname` or `state` does not filter, as in Go's goflow."""

    jobname: Annotated[str, Meta(description="only executions of this job")] = ""
    state: Annotated[StateFilter, Meta(description="only executions in this state")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="page size")] = 100
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,18}$", description="`next` of the previous page")]
        | UnsetType
    ) = UNSET


class Executions(Struct):
    """A page of executions. `next` is the cursor of the next page, null on the last one."""

    executions: list[Listed]
    next: str | None


class EncodedExecutions(Struct):
    """`Executions` that the store keeps encoded."""

    executions: list[Raw]
    next: str | None


async def executions(call: Call) -> EncodedExecutions:
    query = call.query
    page = await call.engine.reader.page(
        query.jobname or None,
        State(query.state) if query.state else None,
        query.limit,
        given(query.cursor),
    )
    return EncodedExecutions([Raw(one) for one in page.executions], page.next)


# -- one execution and its results -----------------------------------------------------


class ExecutionQuery(Struct):
    since: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=2**53,
                description="a `version`: only the tasks that changed after it, and an empty "
                "`dag`; `since` in the response is null if it has all tasks nevertheless",
            ),
        ]
        | UnsetType
    ) = UNSET


async def execution(call: Call) -> Response:
    engine = call.engine

    def annotate(detail: Detail, tasks: Iterable[TaskDetail]) -> None:
        job, finished = engine.registry.jobs.get(detail.job), detail.state.finished
        detail.newer = job is not None and job.plan.id != detail.plan
        for task in tasks:
            found = None if job is None else job.find(task.name)
            task.operator = None if found is None else kind(found.operator)
            task.waiting = None if finished else engine.runners.waiting(detail.id, task.name)
            task.progress = engine.bars.of(detail.id, task.name) or UNSET

    body = await engine.reader.watch(call.path["id"], given(call.query.since), annotate)
    return Response(body, headers={"cache-control": "no-store"}, media_type="application/json")


ItemNumber = Annotated[
    int, Meta(ge=0, le=2**53, description="number of an item of a mapped task, from 0")
]


ItemKey = Annotated[
    str, Meta(min_length=1, max_length=250, description="key of an item, instead of `item`")
]


def asked_of(task: str, item: int | None, key: str | None) -> Asked:
    """The task that a request is about, or the item of it. Raises `InvalidRequest`."""
    if key is None:
        return key_of(task, item)
    if item is not None:
        raise InvalidRequest(
            "either item or key names an item, not both", code="invalid-item", field="key"
        )
    return NamedItem(task, key)


class ResultQuery(Struct):
    item: ItemNumber | UnsetType = UNSET
    key: ItemKey | UnsetType = UNSET
    attempt: (
        Annotated[
            int, Meta(ge=1, le=2**53, description="number of the attempt; the last by default")
        ]
        | UnsetType
    ) = UNSET


async def result(call: Call) -> Response:
    query = call.query
    asked = asked_of(call.path["task"], given(query.item), given(query.key))
    found = await call.engine.reader.result(call.path["id"], asked, given(query.attempt))
    headers = {
        "cache-control": "no-cache",
        "etag": f'"{found.sha256}"',
        "x-goflow-attempt": str(found.attempt),
    }
    if headers["etag"] in (read_header(call.request, "If-None-Match") or ""):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type="application/json")


# -- the items of a mapped task --------------------------------------------------------


class ItemsQuery(Struct):
    """An empty `state` or `key` does not filter."""

    state: Annotated[StateFilter, Meta(description="only items in this state")] = ""
    key: Annotated[
        str, Meta(max_length=250, description="only items with this text in their key")
    ] = ""
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,9}$", description="`next` of the previous page")]
        | UnsetType
    ) = UNSET
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="page size")] = 100


class Items(Struct):
    """A page of items, in order. `next` is the cursor of the next page, null on the last one."""

    items: list[ItemDetail]
    next: str | None


async def items(call: Call) -> Items:
    query = call.query
    page = await call.engine.reader.items(
        call.path["id"],
        call.path["task"],
        State(query.state) if query.state else None,
        int(given(query.cursor) or 0),
        query.limit,
        query.key,
    )
    id, task = call.path["id"], call.path["task"]
    for item in page.items:
        item.progress = call.engine.bars.of(id, Item(task, item.index)) or UNSET
        if item.waiting is not None:
            waiting = call.engine.runners.waiting(id, Item(task, item.index))
            item.waiting = waiting if isinstance(waiting, Waiting) else item.waiting
    return Items(page.items, page.next)


# -- the shared state ------------------------------------------------------------------


class StateQuery(Struct):
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,9}$", description="`next` of the previous page")]
        | UnsetType
    ) = UNSET
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="page size")] = 100


class SharedStateView(Struct):
    """The shared state of an execution, `actions` in all, and a page of the changes, newest
    first. `state` is null before the first action of a job that is gone, and if it takes more than
    4,096 bytes; `state_bytes` is its size. `next` is the cursor of the next page, null on the last
    one."""

    state: Raw
    state_bytes: int
    actions: int
    changes: list[StateChange]
    next: str | None


async def shared_state(call: Call) -> SharedStateView:
    engine, query = call.engine, call.query
    cursor = given(query.cursor)
    before = None if cursor is None else int(cursor)
    page = await engine.reader.shared_state(call.path["id"], before, query.limit)
    if (last := page.last) is not None:
        return SharedStateView(last.state, last.state_bytes, last.number, page.changes, page.next)
    row = await engine.reader.execution(call.path["id"])
    job = engine.registry.jobs.get(row.job)
    first = b"null" if job is None else job.initial_state
    shown = first if len(first) <= SMALL else b"null"
    return SharedStateView(Raw(shown), len(first), 0, [], None)


# -- changes ---------------------------------------------------------------------------


async def cancel(call: Call) -> Done:
    id = call.path["id"]
    return Done(id, await call.engine.control.cancel(id, by=requester(call.request)))


class CancelTaskBody(Struct, forbid_unknown_fields=True):
    """With `item` or `key`, only that item of a mapped task is cancelled."""

    item: ItemNumber | UnsetType = UNSET
    key: ItemKey | UnsetType = UNSET


async def cancel_task(call: Call) -> Done:
    id, asked = call.path["id"], _asked(call)
    return Done(id, await call.engine.control.cancel_task(id, asked, by=requester(call.request)))


def _asked(call: Call) -> Asked:
    return asked_of(call.path["task"], given(call.body.item), given(call.body.key))


class RetryBody(Struct, forbid_unknown_fields=True):
    """Without `task`, all tasks that did not succeed run again. With it, that task runs again
    and, unless `following` is false, all tasks downstream of it. With `item` or `key`, only
    that item of a mapped task runs again. `params` replace the parameters of the execution.

    With the definition `same`, the execution keeps its tasks, dependencies, rules and numbers of
    retries. With `newest` it gets those of the job as it is now: tasks that are gone are dropped,
    new ones run too, and those that succeeded keep their results. A task's code is that of the job
    as it is now, in both cases."""

    task: str | UnsetType = UNSET
    item: ItemNumber | UnsetType = UNSET
    key: ItemKey | UnsetType = UNSET
    following: bool = True
    params: dict[str, Any] | UnsetType = UNSET
    definition: Literal["same", "newest"] = "same"


async def retry(call: Call) -> Done:
    id, body = call.path["id"], call.body
    task, item, key = given(body.task), given(body.item), given(body.key)
    if task is None and (item is not None or key is not None):
        field = "key" if item is None else "item"
        raise InvalidRequest("an item needs a task", code="invalid-item", field=field)
    await call.engine.control.retry(
        id,
        task=None if task is None else asked_of(task, item, key),
        following=body.following,
        params=given(body.params),
        definition=Definition(body.definition),
        by=requester(call.request),
    )
    return Done(id, True)


class MarkBody(Struct, forbid_unknown_fields=True):
    """With `item` or `key`, only that item of a mapped task that runs is marked."""

    state: Literal["successful", "skipped"]
    item: ItemNumber | UnsetType = UNSET
    key: ItemKey | UnsetType = UNSET


async def mark(call: Call) -> Done:
    id, state = call.path["id"], State(call.body.state)
    await call.engine.control.mark(id, _asked(call), state, by=requester(call.request))
    return Done(id, True)


_CHANGE_ERRORS = dict.fromkeys(CHANGE_ERRORS, ExecutionRefused)

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/executions",
        summary="Executions, newest first",
        handler=executions,
        query=ExecutionsQuery,
        response=Executions,
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}",
        summary="An execution with every attempt of every task",
        handler=execution,
        query=ExecutionQuery,
        response=Detail,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/result",
        summary="The result of an attempt as JSON",
        handler=result,
        query=ResultQuery,
        response="application/json",
        errors={404: Failure, 503: Failure},
        headers={"If-None-Match": ("the response is 304 if the result has this ETag", ".*")},
        response_headers={
            "X-Goflow-Attempt": "number of the attempt",
            "ETag": "changes with the result",
        },
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/tasks/{task}/items",
        summary="The items of a mapped task",
        handler=items,
        query=ItemsQuery,
        response=Items,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/executions/{id}/state",
        summary="The shared state of an execution, and how it changed",
        handler=shared_state,
        query=StateQuery,
        response=SharedStateView,
        errors={404: Failure},
    ),
    Endpoint(
        method="POST",
        path="/api/executions/{id}/cancel",
        summary="Cancel an execution",
        handler=cancel,
        response=Done,
        errors=_CHANGE_ERRORS,
        headers=USER_HEADER,
    ),
    Endpoint(
        method="POST",
        path="/api/executions/{id}/retry",
        summary="Run unsuccessful tasks again, or those from a given task on, under the same id",
        handler=retry,
        body=RetryBody,
        response=Done,
        errors=_CHANGE_ERRORS,
        headers=USER_HEADER,
    ),
    Endpoint(
        method="POST",
        path="/api/executions/{id}/tasks/{task}/cancel",
        summary="Cancel one task; the others continue",
        handler=cancel_task,
        body=CancelTaskBody,
        response=Done,
        errors=_CHANGE_ERRORS,
        headers=USER_HEADER,
    ),
    Endpoint(
        method="POST",
        path="/api/executions/{id}/tasks/{task}/mark",
        summary="Mark a task as successful or skipped by hand",
        handler=mark,
        body=MarkBody,
        response=Done,
        errors=_CHANGE_ERRORS,
        headers=USER_HEADER,
    ),
]
