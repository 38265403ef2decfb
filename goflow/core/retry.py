"""Delays before the next attempt.

A retry delay is any object with `delay(attempt) -> seconds`, where `attempt` is the number of the
failed attempt, from 1.
"""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from goflow.checks import defining, number


class RetryDelay(Protocol):
    """The type of `Task(retry_delay=…)`."""

    def delay(self, attempt: int, /) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1."""
        ...


LARGEST = sys.float_info.max
CENTURY = 100 * 366 * 86_400.0


@dataclass(frozen=True)
class ConstantDelay:
    """Waits the same number of seconds after every failed attempt.

    Args:
        seconds: Seconds to wait, from 0 to a century.

    Raises:
        InvalidJob: `seconds` is not a number in that range.

    Examples:
        >>> from goflow import ConstantDelay
        >>> ConstantDelay(5).delay(1)
        5
    """

    seconds: float

    @defining("ConstantDelay")
    def __post_init__(self) -> None:
        number("ConstantDelay: seconds", self.seconds, 0, CENTURY)

    def delay(self, attempt: int, /) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1."""
        return self.seconds


@dataclass(frozen=True)
class ExponentialBackoff:
    """Waits `initial * base**attempt` seconds: 2, 4, 8, … by default.

    Args:
        base: Factor between one delay and the next, at least 1.
        initial: Seconds that are multiplied, at least 0.
        maximum: Longest delay in seconds, a day by default and a century at most.
        jitter: Share of the delay, from 0 to 1, that is added at random, so that tasks which
            failed together do not retry together.
        random: Returns numbers in [0, 1); for tests.

    Raises:
        InvalidJob: An argument is not a number in its range.

    Examples:
        >>> from goflow import ExponentialBackoff
        >>> backoff = ExponentialBackoff(base=3, initial=10, maximum=600)
        >>> [backoff.delay(attempt) for attempt in (1, 2, 3, 4)]
        [30.0, 90.0, 270.0, 600]
    """

    base: float = 2
    initial: float = 1
    maximum: float = 86_400
    jitter: float = 0
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    @defining("ExponentialBackoff")
    def __post_init__(self) -> None:
        number("ExponentialBackoff: base", self.base, 1, LARGEST)
        number("ExponentialBackoff: initial", self.initial, 0, LARGEST)
        number("ExponentialBackoff: maximum", self.maximum, 0, CENTURY)
        number("ExponentialBackoff: jitter", self.jitter, 0, 1)

    def delay(self, attempt: int, /) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1."""
        try:
            seconds = self.initial * float(self.base) ** attempt
        except OverflowError:
            seconds = self.maximum if self.initial else 0.0
        return min(seconds * (1 + self.jitter * self.random()), self.maximum)
