"""How long to wait before the next attempt.

A retry delay is any object with `delay(attempt) -> seconds`, where `attempt` is the
number of the attempt that failed, from 1.
"""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from goflow.defining import defining
from goflow.errors import InvalidJob
from goflow.shown import shown


class RetryDelay(Protocol):
    """What `Task(retry_delay=…)` takes."""

    def delay(self, attempt: int, /) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1."""
        ...


LARGEST = sys.float_info.max
CENTURY = 100 * 366 * 86_400.0


def _check(owner: object, name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(f"{type(owner).__name__}: {name} must be a number, not {shown(value)}")
    if not least <= value <= most:
        raise InvalidJob(
            f"{type(owner).__name__}: {name} must be from {least:g} to {most:g}, not {shown(value)}"
        )


@dataclass(frozen=True)
class ConstantDelay:
    """The same number of seconds after every failed attempt, at most a century's."""

    seconds: float

    @defining("ConstantDelay")
    def __post_init__(self) -> None:
        _check(self, "seconds", self.seconds, 0, CENTURY)

    def delay(self, attempt: int, /) -> float:
        return self.seconds


@dataclass(frozen=True)
class ExponentialBackoff:
    """`initial * base**attempt` seconds, so 2, 4, 8, … by default; at most `maximum` (a day).

    `jitter` (0 to 1, default 0) adds up to that share of the delay at random, so that
    tasks that failed together do not come back together; `random` gives numbers in [0, 1).
    """

    base: float = 2
    initial: float = 1
    maximum: float = 86_400
    jitter: float = 0
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    @defining("ExponentialBackoff")
    def __post_init__(self) -> None:
        _check(self, "base", self.base, 1, LARGEST)
        _check(self, "initial", self.initial, 0, LARGEST)
        _check(self, "maximum", self.maximum, 0, CENTURY)
        _check(self, "jitter", self.jitter, 0, 1)

    def delay(self, attempt: int, /) -> float:
        try:
            seconds = self.initial * float(self.base) ** attempt
        except OverflowError:
            seconds = self.maximum if self.initial else 0.0
        return min(seconds * (1 + self.jitter * self.random()), self.maximum)
