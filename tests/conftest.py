"""Settings for all tests: hypothesis profiles, limits, and independence of the parent process."""

import asyncio
import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No deadlines, since the machine may be busy. By default, examples are the same in every run, so
# that only changes of the code change results; CONTRIBUTING.md describes searches.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
# A quarter of the examples, for a second run of the same rules on another version of Python.
settings.register_profile("few", settings.get_profile("same"), max_examples=25)
settings.load_profile("same")

# A shell ignores SIGINT in background jobs, and nohup ignores SIGHUP. Programs started by tests
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The sizes of the long tests: by default as long as every change can afford."""
    sizes = {
        "--chaos-seconds": (20, "how long the bad jobs misbehave, each at least once"),
        "--cut-stride": (40, "cut the power after each so many writes"),
        "--kill-rounds": (12, "how often the server under load is killed"),
        "--kill-stride": (12, "kill a simulated process at each so many steps"),
        "--seeds": (100, "how many seeds are simulated"),
    }
    for name, (usual, explained) in sizes.items():
        parser.addoption(name, type=int, default=usual, help=explained)


# A coroutine that hangs fails after this, and the traceback says where it waited. All else is
# ended by faulthandler, with the whole run.
PATIENCE = 180.0  # seconds


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _bounded(item.obj)


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            await test(*args, **kwargs)

    return bounded


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write down which test runs, for whoever finds that the run was ended in the middle."""
    if file := os.environ.get("GOFLOW_TEST_UNDER_WAY"):
        Path(file).write_text(nodeid, encoding="utf-8")


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as goflow does."""
    return "asyncio"
