import pytest


@pytest.fixture
def cut_stride(request: pytest.FixtureRequest) -> int:
    stride: int = request.config.getoption("--cut-stride")
    return stride


@pytest.fixture
def kill_rounds(request: pytest.FixtureRequest) -> int:
    rounds: int = request.config.getoption("--kill-rounds")
    return rounds
