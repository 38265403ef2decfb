"""The requests for slots of one execution's tasks."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from goflow.engine.slots import Kind, Request, Slots, title
from goflow.job import Job


class Requests:
    """Waiting requests, and those of running attempts. `wake` is called when one is granted."""

    def __init__(self, job: Job | None, slots: Slots, wake: Callable[[], None]) -> None:
        self._job = job
        self._slots = slots
        self._wake = wake
        self._requests: dict[str, Request] = {}
        self._granted: list[Request] = []
        self._asking = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._requests)

    def granted(self, request: Request) -> None:
        """Called by `Slots` when a request has its slot."""
        self._granted.append(request)
        if not self._asking:
            self._wake()

    def ask(self, names: Iterable[str], now: datetime) -> list[str]:
        """Request slots for these tasks; returns all tasks that have been granted one."""
        self._asking = True
        new = [(name, *self._lane(name)) for name in names if name not in self._requests]
        new.sort(key=_priority, reverse=True)
        for number, (name, lane, priority) in enumerate(new):
            self._requests[name] = self._slots.request(
                self, name, lane, priority, now, together=len(new) - number
            )
        self._slots.grant()
        self._asking = False
        granted, self._granted = self._granted, []
        return [request.task for request in granted]

    def occupy(self, name: str) -> None:
        """Take the slot of a task that is running already."""
        lane, _ = self._lane(name)
        self._requests[name] = self._slots.occupy(self, name, lane)

    def is_waiting(self, name: str) -> bool:
        request = self._requests.get(name)
        return request is not None and not request.granted

    def obstacle(self, name: str) -> str | None:
        """Why a waiting request is not granted, human-readable."""
        return self._slots.obstacle(self._requests[name])

    def take(self, name: str) -> Request | None:
        """Leave the slot of a task to the caller, who gives it back by `give_back`."""
        return self._requests.pop(name, None)

    def give_back(self, request: Request) -> None:
        self._slots.release(request)

    def release(self, name: str) -> None:
        """Give back the slot of a task, or withdraw its request."""
        if (request := self._requests.pop(name, None)) is not None:
            self._slots.release(request)

    def _lane(self, name: str) -> tuple[tuple[str, ...], float]:
        """The resources that a task needs besides a slot, and its priority."""
        job = self._job
        if job is None or (task := job.find(name)) is None:
            return (), 0
        lane = []
        if job.max_running is not None:
            lane.append(title(Kind.JOB, job.name))
        if task.pool is not None:
            lane.append(title(Kind.POOL, task.pool))
        return tuple(lane), task.priority


def _priority(request: tuple[str, tuple[str, ...], float]) -> float:
    return request[2]
