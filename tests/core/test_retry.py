"""Delays before the next attempt."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.retry import ConstantDelay, ExponentialBackoff
from goflow.errors import InvalidJob


@given(st.integers(1, 1_000))
def test_a_constant_delay_is_the_same_after_every_attempt(attempt: int) -> None:
    assert ConstantDelay(1.5).delay(attempt) == 1.5


def test_backoff_doubles_by_default_as_in_go() -> None:
    assert [ExponentialBackoff().delay(attempt) for attempt in range(1, 6)] == [2, 4, 8, 16, 32]


def test_backoff_takes_a_base_an_initial_delay_and_a_maximum() -> None:
    backoff = ExponentialBackoff(base=3, initial=0.5, maximum=10)
    assert [backoff.delay(attempt) for attempt in range(1, 5)] == [1.5, 4.5, 10, 10]


def test_backoff_is_at_most_a_day_by_default() -> None:
    assert ExponentialBackoff().delay(10_000) == 86_400
    assert ExponentialBackoff(base=1e308, initial=1e308).delay(1) == 86_400


def test_backoff_with_an_initial_delay_of_zero_stays_zero() -> None:
    assert ExponentialBackoff(initial=0).delay(1) == 0
    assert ExponentialBackoff(initial=0).delay(10_000) == 0


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 4), (0.5, 5), (1.0, 6)])
def test_jitter_adds_up_to_its_share(drawn: float, expected: float) -> None:
    assert ExponentialBackoff(jitter=0.5, random=lambda: drawn).delay(2) == expected


@given(
    st.floats(1, 1e308),
    st.floats(0, 1e308),
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 10_000),
)
def test_backoff_is_a_number_of_seconds_up_to_its_maximum(
    base: float, initial: float, maximum: float, jitter: float, drawn: float, attempt: int
) -> None:
    backoff = ExponentialBackoff(base, initial, maximum, jitter, lambda: drawn)
    seconds = backoff.delay(attempt)
    assert 0 <= seconds <= maximum
    assert backoff.delay(attempt + 1) >= seconds


NO_NUMBERS: list[Any] = [None, "1", True, [], 1j]
NOT_HONOURED = [-1, -0.1, math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize("value", NO_NUMBERS + NOT_HONOURED + [1e300])
@pytest.mark.parametrize(
    ("kind", "parameter"), [(ConstantDelay, "seconds"), (ExponentialBackoff, "maximum")]
)
def test_a_delay_beyond_the_calendar_is_refused_when_defined(
    kind: Any, parameter: str, value: object
) -> None:
    with pytest.raises(InvalidJob, match=f"^{kind.__name__}: {parameter} must be "):
        kind(**{parameter: value})


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(name, value) for name in ("base", "initial") for value in NO_NUMBERS + NOT_HONOURED]
    + [("base", 0.5), ("jitter", 1.1), ("jitter", -0.1), ("jitter", "some")],
)
def test_an_invalid_backoff_is_refused_when_defined(parameter: str, value: Any) -> None:
    with pytest.raises(InvalidJob, match=f"^ExponentialBackoff: {parameter} must be "):
        ExponentialBackoff(**{parameter: value})
