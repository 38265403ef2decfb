"""The requests for slots of one execution's tasks."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from goflow.core.keys import Key, task_of
from goflow.engine.slots import Kind, Request, Slots, title
from goflow.job import Job


class Requests:
    """Waiting requests, and those of running attempts. `wake` is called when one is granted."""

    def __init__(self, job: Job | None, slots: Slots, wake: Callable[[], None]) -> None:
        self._job = job
        self._slots = slots
        self._wake = wake
        self._requests: dict[Key, Request] = {}
        self._granted: list[Request] = []
        self._asking = False
        self._lanes: dict[str, tuple[tuple[str, ...], float]] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._requests)

    def granted(self, request: Request) -> None:
        """Called by `Slots` when a request has its slot."""
        self._granted.append(request)
        if not self._asking:
            self._wake()

    def ask(self, keys: Iterable[Key], now: datetime) -> list[Key]:
        """Request slots for these tasks and items; returns all that have been granted one."""
        wanted = [(key, *self._lane(key)) for key in keys if key not in self._requests]
        wanted.sort(key=_priority, reverse=True)
        names = [key for key, _, _ in wanted]
        self._asking = True
        taken = self._slots.take_all(self, names, [lane for _, lane, _ in wanted])
        if taken is not None:
            self._requests.update(zip(names, taken, strict=True))
            self._granted += taken
        else:
            for key, lane, priority in wanted:
                self._requests[key] = self._slots.request(self, key, lane, priority, now)
        self._slots.grant()
        self._asking = False
        granted, self._granted = self._granted, []
        return [request.task for request in granted]

    def ask_to_look(self, key: Key, now: datetime, granted: Callable[[Key], None]) -> None:
        """Request a slot for a task or item that is under way; `granted` is called, perhaps at
        once, when it has one."""
        lane, priority = self._lane(key)
        look = Look(granted)
        request = self._slots.request(look, key, lane, priority, now)
        self._requests[key] = request
        self._slots.grant()
        if request.granted:
            granted(key)
        else:
            look.is_waiting = True

    def occupy(self, key: Key) -> None:
        """Take the slot of a task or item that is running already."""
        lane, _ = self._lane(key)
        self._requests[key] = self._slots.occupy(self, key, lane)

    def is_waiting(self, key: Key) -> bool:
        request = self._requests.get(key)
        return request is not None and not request.granted

    def obstacle(self, key: Key) -> str | None:
        """Why a waiting request is not granted, human-readable."""
        return self._slots.obstacle(self._requests[key])

    def take(self, key: Key) -> Request | None:
        """Leave the slot of a task to the caller, who gives it back by `give_back`."""
        return self._requests.pop(key, None)

    def give_back(self, request: Request) -> None:
        self._slots.release(request)

    def release(self, key: Key) -> None:
        """Give back the slot of a task, or withdraw its request."""
        if (request := self._requests.pop(key, None)) is not None:
            self._slots.release(request)

    def _lane(self, key: Key) -> tuple[tuple[str, ...], float]:
        """The resources that a task or item needs besides a slot, and its priority."""
        name = task_of(key)
        found = self._lanes.get(name)
        if found is None:
            found = self._lanes[name] = self._find_lane(name)
        return found

    def _find_lane(self, name: str) -> tuple[tuple[str, ...], float]:
        job = self._job
        if job is None or (task := job.find(name)) is None:
            return (), 0
        lane = []
        if job.max_running is not None:
            lane.append(title(Kind.JOB, job.name))
        if task.pool is not None:
            lane.append(title(Kind.POOL, task.pool))
        return tuple(lane), task.priority


class Look:
    """Implements `goflow.engine.slots.Waiter` for one look of a waiting task or item."""

    __slots__ = ("_call", "is_waiting")

    def __init__(self, call: Callable[[Key], None]) -> None:
        self._call = call
        self.is_waiting = False

    def granted(self, request: Request) -> None:
        if self.is_waiting:
            self._call(request.task)


def _priority(request: tuple[Key, tuple[str, ...], float]) -> float:
    return request[2]
