"""Room: limits on the number of unfinished executions and the memory of their params.

The rule that must not be broken: a flood of submits, retries and backfills never makes a schedule
miss a due time. So a tenth of the room is reserved for schedules while any is on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from goflow.engine.options import Options
from goflow.engine.scheduler import Scheduler
from goflow.errors import InvalidRequest, Unavailable

SHARE = 10  # one in ten unfinished executions is reserved for schedules


class Room:
    """Counts unfinished executions, and refuses more than the options allow."""

    def __init__(self, options: Options, scheduler: Scheduler) -> None:
        self._limit = options.max_unfinished
        self._params_limit = options.limits.params
        self._scheduler = scheduler
        self._unfinished = 0
        self._requested = 0  # of these, executions that use no room reserved for schedules
        self._params_bytes = 0
        self.reserved = 0  # executions that a backfill is about to create

    def take(self, params_bytes: int, *, for_schedule: bool) -> None:
        """Count one more execution."""
        self._unfinished += 1
        self._requested += not for_schedule
        self._params_bytes += params_bytes

    def give_back(self, params_bytes: int, *, for_schedule: bool) -> None:
        self._unfinished -= 1
        self._requested -= not for_schedule
        self._params_bytes -= params_bytes

    @property
    def for_schedules(self) -> int:
        """The number of executions reserved for schedules."""
        if self._limit == 1 or not len(self._scheduler):
            return 0
        return max(1, self._limit // SHARE)

    def has_room(self, *, for_schedule: bool, wanted: int = 1) -> bool:
        """Whether `wanted` more executions may be created."""
        more = self.reserved + wanted
        if self._unfinished + more > self._limit:
            return False
        return for_schedule or self._requested + more <= self._limit - self.for_schedules

    def check(self, *, for_schedule: bool, wanted: int = 1) -> None:
        """Raise `Unavailable` unless `wanted` more executions may be created."""
        if self.has_room(for_schedule=for_schedule, wanted=wanted):
            return
        number = self._unfinished + self.reserved
        if for_schedule:
            raise Unavailable(f"the limit of unfinished executions was reached: {self._limit}")
        but = ""
        if number < self._limit:
            but = f" of {self._limit} but for {self.for_schedules} kept for schedules"
        limit = "which is the limit" if wanted == 1 else f"so {wanted} more are above the limit"
        raise Unavailable(
            f"{number} executions are unfinished, {limit}{but}; wait until some have finished"
        )

    def check_params(self, params: dict[str, Any]) -> None:
        """Raise `Unavailable` if the params of all unfinished executions would use too much
        memory. A single execution always fits."""
        taken, limit = self._params_bytes, self._params_limit
        if taken and taken + len(msgspec.json.encode(params)) > limit:
            raise Unavailable(
                f"the params of {self._unfinished} unfinished executions use {taken:,} of "
                f"{limit:,} bytes; wait until some have finished"
            )

    @contextmanager
    def reserve(self, number: int) -> Iterator[Callable[[], None]]:
        """Reserve room for `number` executions. Call the yielded function just before each of
        them is created. Raises `InvalidRequest` and `Unavailable`."""
        most = self._limit - self.for_schedules
        if number > most:
            raise InvalidRequest(
                f"the range has {number} due times to run, and at most {most} executions that are "
                f"not scheduled may be unfinished; choose a smaller range",
                code="invalid-range",
                field="to",
            )
        self.check(for_schedule=False, wanted=number)
        left = number
        self.reserved += number

        def create_one() -> None:
            nonlocal left
            if left:
                left -= 1
                self.reserved -= 1

        try:
            yield create_one
        finally:
            self.reserved -= left
