"""Warns when hanging attempts hold the slots, so that no task can start.

The rule: a warning describes the current state. It disappears when the attempt ends.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from goflow.engine.attempts.abandoned import Abandoned
from goflow.engine.clock import Clock
from goflow.engine.slots import Slots

STALLED = 300.0  # seconds without a start, while tasks wait, until a warning
NAMED = 5  # attempts or tasks listed in a warning
WAY_OUT = (
    "Python cannot stop a thread: a restart of the server ends them, and tasks with "
    'isolation="process" can be stopped'
)


class Hanging:
    """The effects of attempts that hold slots for long, or after they were abandoned."""

    def __init__(self, slots: Slots, abandoned: Abandoned, clock: Clock) -> None:
        self._slots = slots
        self._abandoned = abandoned
        self._clock = clock
        self._last_start = clock.elapsed()

    def started(self) -> None:
        """A task has started."""
        self._last_start = self._clock.elapsed()

    @property
    def stuck(self) -> str | None:
        """The human-readable reason why no task can start; None if tasks can start."""
        if len(self._abandoned) < self._slots.size:
            return None
        return (
            f"no task can start: all {self._slots.size} slots are held by attempts that were given "
            f"up and run on: {self._names()}. {WAY_OUT}"
        )

    @property
    def told(self) -> tuple[datetime, str] | None:
        """A warning about abandoned attempts, and its start; None if there are none."""
        if not self._abandoned:
            return None
        left = self._slots.size - self._slots.taken
        count = len(self._abandoned)
        one = "1 attempt that was given up runs on"
        attempts = one if count == 1 else f"{count} attempts that were given up run on"
        text = f"{attempts}: {self._names()}. {left} of {self._slots.size} slots are left"
        if full := self._abandoned.taken_up:
            text += f", and none of {' and '.join(full)}"
        return next(iter(self._abandoned)).abandoned, f"{text}. {WAY_OUT}"

    def stalled(self, running: Sequence[tuple[datetime, str]]) -> str | None:
        """A warning that no task has started for long though some wait; None if that is not so.
        `running` lists the running tasks with their start, oldest first."""
        every = self._slots.usage()[0]
        passed = self._clock.elapsed() - self._last_start
        if not self.may_be_stalled:
            return None
        oldest = "; ".join(f"{name} since {_time(since)}" for since, name in running[:NAMED])
        return (
            f"no task has started for {passed / 60:.0f} minutes: all {every.size} slots are in "
            f"use, and {every.waiting} tasks wait. The oldest that run: {oldest}"
        )

    @property
    def may_be_stalled(self) -> bool:
        every = self._slots.usage()[0]
        is_full = every.taken >= every.size and every.waiting > 0
        return is_full and self._clock.elapsed() - self._last_start > STALLED

    def _names(self) -> str:
        names = [
            f"task {one.task!r} of job {one.job!r} (attempt {one.attempt}, execution "
            f"{one.execution}) since {_time(one.abandoned)}"
            for one in islice(self._abandoned, NAMED)
        ]
        more = len(self._abandoned) - len(names)
        return "; ".join([*names, f"and {more} more"] if more else names)


def _time(at: datetime) -> str:
    return f"{at.replace(tzinfo=None).isoformat(timespec='seconds')}Z"
