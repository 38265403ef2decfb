"""The server itself: its versions, its store, its limits, and how it has been doing."""

import platform
import sqlite3
from datetime import datetime
from functools import cache
from importlib.metadata import version

from goflow import zones
from goflow.engine.engine import Engine
from goflow.engine.vitals import EVERY, Sample, Vitals
from goflow.web.now import pool
from goflow.web.wire import Load, SlotsView, StoreView, System


async def system(
    engine: Engine, vitals: Vitals, goflow_version: str, after: datetime | None
) -> System:
    """All of it, with the samples later than `after`."""
    store = StoreView(type(engine.store).__name__, await vitals.store_bytes())
    every, *limits = engine.usage()
    return System(
        at=engine.clock.now(),
        started=engine.started_at,
        versions={"goflow": goflow_version, **versions_below()},
        store=store,
        slots=SlotsView(every.size, every.taken, every.waiting),
        pools=[pool(usage) for usage in (every, *limits)],
        listeners=len(engine.broadcast),
        jobs=len(engine.jobs),
        active_jobs=engine.scheduled,
        unfinished=len(engine.board),
        notices=engine.all_notices(),
        load=_load(vitals.since(after)),
    )


@cache
def versions_below() -> dict[str, str]:
    """The versions of what goflow stands on."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "tzdata": f"{zones.database().version}, {zones.database().source}",
        **{package: version(package) for package in ("starlette", "uvicorn")},
    }


def _load(samples: list[Sample]) -> Load:
    columns = {
        name: [getattr(sample, name) for sample in samples] for name in Sample.__struct_fields__
    }
    return Load(every=EVERY, **columns)
