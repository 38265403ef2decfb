"""Settings for all tests: hypothesis profiles, and independence of the parent process."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# No deadlines, since the machine may be busy. By default, examples are the same in every run, so
# that only changes of the code change results; CONTRIBUTING.md describes searches.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")

# A shell ignores SIGINT in background jobs, and nohup ignores SIGHUP. Programs started by tests
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as goflow does."""
    return "asyncio"
