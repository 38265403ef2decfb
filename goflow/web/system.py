"""The server itself: its health, versions, store, limits, and load."""

import platform
import sqlite3
from functools import cache
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from goflow import zones
from goflow.core.summary import Time
from goflow.engine.health import Notice
from goflow.engine.metrics import EVERY, Sample
from goflow.web.endpoint import Call, Endpoint
from goflow.web.now import PoolView
from goflow.web.responses import failure
from goflow.web.schemas import Error, Failure, given

# -- health ----------------------------------------------------------------------------


class Health(Struct, kw_only=True):
    """`tzdata` is the version of the time zone data in use, and `tzdata_source` its origin."""

    health: str
    version: str
    tzdata: str
    tzdata_source: str
    jobs: int
    unfinished: int
    streams: int
    notices: list[Notice]


class Unhealthy(Failure, kw_only=True):
    """`health` is a word for the defect."""

    health: str = "failing"

    @classmethod
    def about(cls, subject: str, error: Error) -> "Unhealthy":
        return cls(health=subject or "failing", error=error)


async def health(call: Call) -> Health | Response:
    engine = call.engine
    if engine.health.defect is not None:
        return failure(503, "defect", engine.health.defect, schema=Unhealthy)
    if (trouble := engine.journal.trouble) is not None:
        return failure(503, trouble.code, str(trouble), schema=Unhealthy)
    if engine.health.lost is not None:
        return failure(503, "commits-lost", engine.health.lost, schema=Unhealthy)
    if (stuck := engine.health.stuck) is not None:
        return failure(503, "stuck", stuck, subject="stuck", schema=Unhealthy)
    return Health(
        health="OK",
        version=call.services.version,
        tzdata=zones.database().version,
        tzdata_source=zones.database().source,
        jobs=len(engine.registry.jobs),
        unfinished=len(engine.live),
        streams=len(engine.broadcast),
        notices=engine.health.notices(),
    )


# -- the system page -------------------------------------------------------------------


class SystemQuery(Struct):
    after: Annotated[Time, Meta(description="only samples later than this")] | UnsetType = UNSET


class StoreView(Struct):
    kind: str
    bytes: int


class SlotsView(Struct):
    limit: int
    running: int
    waiting: int


class Load(Struct, kw_only=True):
    """Samples, oldest first, one every `every` seconds. The nth value of each list belongs to
    the nth time in `at`. See `goflow.engine.metrics.Sample`."""

    every: float
    at: list[Time]
    lateness: list[float]
    loop_lag: list[float]
    commit: list[float]
    commits: list[float]
    memory: list[int]
    processor: list[float]
    running: list[int]
    waiting: list[int]
    store_bytes: list[int]
    listeners: list[int]


class System(Struct, kw_only=True):
    """`active_jobs` counts jobs whose schedule is on. `slots` is the limit on all running
    tasks."""

    at: Time
    started: Time
    versions: dict[str, str]
    store: StoreView
    slots: SlotsView
    pools: list[PoolView]
    listeners: int
    jobs: int
    active_jobs: int
    unfinished: int
    notices: list[Notice]
    load: Load


async def system(call: Call) -> System:
    engine, metrics = call.engine, call.services.metrics
    store = StoreView(type(engine.store).__name__, await metrics.store_bytes())
    slots, *limits = engine.slots.usage()
    return System(
        at=engine.clock.now(),
        started=engine.started_at,
        versions={"goflow": call.services.version, **_versions()},
        store=store,
        slots=SlotsView(slots.size, slots.taken, slots.waiting),
        pools=[PoolView.of(usage) for usage in (slots, *limits)],
        listeners=len(engine.broadcast),
        jobs=len(engine.registry.jobs),
        active_jobs=len(engine.schedules),
        unfinished=len(engine.live),
        notices=engine.health.notices(),
        load=_load(metrics.since(given(call.query.after))),
    )


def _versions() -> dict[str, str]:
    """The versions of Python and of the main dependencies."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "tzdata": f"{zones.database().version}, {zones.database().source}",
        **{package: _installed(package) for package in ("starlette", "uvicorn")},
    }


@cache
def _installed(package: str) -> str:
    """The version of a package."""
    # Imported here, since it takes long and only this page needs it.
    from importlib.metadata import version

    return version(package)


def _load(samples: list[Sample]) -> Load:
    columns = {
        name: [getattr(sample, name) for sample in samples] for name in Sample.__struct_fields__
    }
    return Load(every=EVERY, **columns)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/health",
        summary="Whether the server works",
        handler=health,
        response=Health,
        errors={503: Unhealthy},
    ),
    Endpoint(
        method="GET",
        path="/api/system",
        summary="The server itself: versions, store, limits and load",
        handler=system,
        query=SystemQuery,
        response=System,
    ),
]
