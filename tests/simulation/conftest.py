import pytest


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    return range(request.config.getoption("--seeds"))


@pytest.fixture
def kill_stride(request: pytest.FixtureRequest) -> int:
    stride: int = request.config.getoption("--kill-stride")
    return stride
