"""How many examples a property test tries. The profile of hypothesis scales all of these numbers:
see `conftest.py`."""

from hypothesis import settings

FULL = 100  # examples of a test that names no number, unless a profile says otherwise


def examples(usual: int) -> int:
    """The number of examples of a test that usually tries `usual` of them."""
    return max(1, usual * settings().max_examples // FULL)
