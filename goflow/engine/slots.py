"""Who may run now: a limit on attempts in all, per job and per pool.

Whoever waits goes in order of priority, then age; a point of priority is worth a minute of
waiting, so nobody starves. Waiting requests that need the same resources stand in one lane;
only the head of each lane is ever looked at, so a full pool costs the others nothing.
"""

import enum
import heapq
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

AGING = 60.0  # seconds of waiting that outweigh one point of priority


class Kind(enum.StrEnum):
    """Whose running tasks a limit counts."""

    ALL = "all"
    JOB = "job"
    POOL = "pool"


class Usage(NamedTuple):
    """How many slots of a limit are in use, how many there are, and how many tasks wait for
    one, for this limit or another. `name` is that of the job or pool."""

    kind: Kind
    name: str
    taken: int
    size: int
    waiting: int


class Waiter(Protocol):
    """Who asks for slots."""

    def granted(self, request: "Request") -> None:
        """The request has its slot, to be given back by `Slots.release`."""
        ...


class Request:
    """One task's wish to run. `lane` names the resources it needs besides that of all tasks."""

    __slots__ = ("granted", "lane", "order", "task", "waiter", "withdrawn")

    def __init__(
        self, waiter: Waiter, task: str, lane: tuple[str, ...], order: tuple[float, int]
    ) -> None:
        self.waiter = waiter
        self.task = task
        self.lane = lane
        self.order = order
        self.granted = False
        self.withdrawn = False


class Resource:
    """So many may use it at once."""

    __slots__ = ("blocked", "kind", "name", "size", "taken", "waiting")

    def __init__(self, kind: Kind, name: str, size: int) -> None:
        self.kind = kind
        self.name = name
        self.size = size
        self.taken = 0
        self.waiting = 0  # requests, for it or for something else in their lane
        self.blocked: set[tuple[str, ...]] = set()  # lanes that wait for it alone

    @property
    def full(self) -> bool:
        return self.taken >= self.size

    @property
    def usage(self) -> Usage:
        return Usage(self.kind, self.name, self.taken, self.size, self.waiting)


class Slots:
    """`size` attempts in all; `pools` maps names to sizes."""

    def __init__(self, size: int, pools: Mapping[str, int] | None = None) -> None:
        self._all = Resource(Kind.ALL, "all tasks", size)
        self._resources: dict[str, Resource] = {}
        for pool, its_size in (pools or {}).items():
            self.limit(Kind.POOL, pool, its_size)
        self._lanes: dict[tuple[str, ...], list[tuple[tuple[float, int], Request]]] = {}
        # Heads of lanes, by order; one that is out of date is found out when it comes up.
        self._heads: list[tuple[tuple[float, int], tuple[str, ...]]] = []
        self._count = 0

    @property
    def size(self) -> int:
        return self._all.size

    @property
    def taken(self) -> int:
        """How many slots are in use."""
        return self._all.taken

    def limit(self, kind: Kind, name: str, size: int) -> None:
        """Let there be a limit on the running tasks of a job or pool."""
        self._resources.setdefault(title(kind, name), Resource(kind, name, size))

    def usage(self) -> list[Usage]:
        """How each limit is used, the one on all tasks first."""
        return [self._all.usage, *(resource.usage for resource in self._resources.values())]

    def request(
        self, waiter: Waiter, task: str, lane: tuple[str, ...], priority: float, now: datetime
    ) -> Request:
        """Wait in line; `grant` hands out what is free."""
        self._count += 1
        order = (now.timestamp() - priority * AGING, self._count)
        request = Request(waiter, task, lane, order)
        self._count_waiting(lane, 1)
        waiting = self._lanes.setdefault(lane, [])
        heapq.heappush(waiting, (order, request))
        if waiting[0][1] is request:
            heapq.heappush(self._heads, (order, lane))
        return request

    def grant(self) -> None:
        """Give free slots to those whose turn it is."""
        while self._heads and not self._all.full:
            order, lane = heapq.heappop(self._heads)
            waiting = self._lanes.get(lane)
            if not waiting or waiting[0][0] != order:
                continue
            if (full := self._full_of(lane)) is not None:
                full.blocked.add(lane)
                continue
            request = heapq.heappop(waiting)[1]
            self._show_head(lane)
            if not request.withdrawn:
                request.granted = True
                self._count_waiting(lane, -1)
                self._take(request)
                request.waiter.granted(request)

    def release(self, request: Request) -> None:
        """Give a granted slot back."""
        self._all.taken -= 1
        for name in request.lane:
            resource = self._resources[name]
            resource.taken -= 1
            blocked, resource.blocked = resource.blocked, set()
            for lane in blocked:
                self._show_head(lane)
        self.grant()

    def withdraw(self, request: Request) -> None:
        """Wait no longer; for requests that have not been granted."""
        request.withdrawn = True
        self._count_waiting(request.lane, -1)

    def obstacle(self, request: Request) -> str:
        """Why a request has to wait, for people."""
        resource = self._full_of(request.lane) or self._all
        name = title(resource.kind, resource.name)
        return f"{name}: {resource.taken} of {resource.size} in use"

    def _count_waiting(self, lane: tuple[str, ...], change: int) -> None:
        self._all.waiting += change
        for name in lane:
            self._resources[name].waiting += change

    def _take(self, request: Request) -> None:
        self._all.taken += 1
        for name in request.lane:
            self._resources[name].taken += 1

    def _full_of(self, lane: tuple[str, ...]) -> Resource | None:
        resources = (self._resources[name] for name in lane)
        return next((resource for resource in resources if resource.full), None)

    def _show_head(self, lane: tuple[str, ...]) -> None:
        waiting = self._lanes[lane]
        while waiting and waiting[0][1].withdrawn:
            heapq.heappop(waiting)
        if waiting:
            heapq.heappush(self._heads, (waiting[0][0], lane))
        else:
            del self._lanes[lane]


def title(kind: Kind, name: str) -> str:
    """What a limit is called, in a lane and for people."""
    match kind:
        case Kind.ALL:
            return name
        case Kind.JOB:
            return f"tasks of job {name!r}"
        case Kind.POOL:
            return f"pool {name!r}"
