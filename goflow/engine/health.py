"""Health: defects of goflow, lost commits, and notices to the operators of the server."""

import heapq
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import UNSET

from goflow.engine.attempts.hanging import NAMED, Hanging
from goflow.engine.clock import Clock
from goflow.engine.live import LiveExecution
from goflow.shown import reason

logger = logging.getLogger(__name__)

KEPT = 100  # notices


class Notice(msgspec.Struct, frozen=True):
    """A human-readable warning for the operators of the server."""

    at: datetime
    text: str


class Health:
    """Information for operators. `entries` are the unfinished executions, when available.

    - `defect`: the last defect of goflow itself, or None.
    - `lost`: describes the committed changes that the store has lost, or None.
    """

    def __init__(self, clock: Clock, hanging: Hanging) -> None:
        self._clock = clock
        self.hanging = hanging
        self._notices: deque[Notice] = deque(maxlen=KEPT)
        self.entries: Iterable[LiveExecution] = ()
        self.defect: str | None = None
        self.lost: str | None = None

    @property
    def stuck(self) -> str | None:
        """The reason why no task can start; None while tasks can start."""
        return self.hanging.stuck

    def notices(self) -> list[Notice]:
        """The last notices, oldest first, then those that are true at the moment."""
        notices = list(self._notices)
        if (told := self.hanging.told) is not None:
            notices.append(Notice(*told))
        if self.hanging.may_be_stalled:
            running = (
                (since, f"task {name!r} of job {entry.job!r}")
                for entry in self.entries
                for name, since in entry.running.items()
                if entry.tasks[name].waiting is UNSET
            )
            text = self.hanging.stalled(heapq.nsmallest(NAMED, running))
            if text is not None:
                notices.append(Notice(self._clock.now(), text))
        return notices

    def notice(self, text: str) -> None:
        """Add a notice."""
        self._notices.append(Notice(self._clock.now(), text))
        logger.warning("%s", text)

    def notice_once(self, text: str) -> None:
        """Add a notice, unless the last ones contain it already."""
        if not self._knows(text):
            self.notice(text)

    def tell_defect(self, what: str, error: BaseException) -> None:
        """Report an error of goflow itself in `what`; everything else continues."""
        self.defect = f"{what}: {reason(error)}"
        text = f"a defect in {self.defect}"
        if not self._knows(text):
            self._notices.append(Notice(self._clock.now(), text))
        with suppress(Exception):  # a failing logging handler of the user must not make it worse
            logger.critical("defect in %s", what, exc_info=error)

    def _knows(self, text: str) -> bool:
        return any(notice.text == text for notice in self._notices)
