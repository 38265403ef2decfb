import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, which is what goflow runs on."""
    return "asyncio"
