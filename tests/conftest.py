"""What holds for every test: how hypothesis runs, and that nothing hangs on who started us."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# No example fails because the machine was busy. By default the examples are the same every
# time, so that a change is judged by what it changes; CONTRIBUTING.md says how to search.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")

# A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP ignored. The
# programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, which is what goflow runs on."""
    return "asyncio"
