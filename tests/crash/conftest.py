import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-rounds", type=int, default=20, help="how often the server under load is killed"
    )


@pytest.fixture
def kill_rounds(request: pytest.FixtureRequest) -> int:
    rounds: int = request.config.getoption("--kill-rounds")
    return rounds
