import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seconds", type=int, default=60, help="how long the bad jobs misbehave"
    )


@pytest.fixture
def chaos_seconds(request: pytest.FixtureRequest) -> int:
    seconds: int = request.config.getoption("--chaos-seconds")
    return seconds
