"""Who may run now: a limit on attempts in all, per job and per pool.

Whoever waits goes in order of priority, then age; a point of priority is worth a minute of
waiting, so nobody starves. Waiting requests that need the same resources stand in one lane;
only the head of each lane is ever looked at, so a full pool costs the others nothing.
"""

import heapq
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

AGING = 60.0  # seconds of waiting that outweigh one point of priority

ALL = "all tasks"


class Waiter(Protocol):
    """Who asks for slots."""

    def granted(self, request: "Request") -> None:
        """The request has its slot, to be given back by `Slots.release`."""
        ...


class Request:
    """One task's wish to run. `lane` names the resources it needs besides `ALL`."""

    __slots__ = ("lane", "order", "task", "waiter", "withdrawn")

    def __init__(
        self, waiter: Waiter, task: str, lane: tuple[str, ...], order: tuple[float, int]
    ) -> None:
        self.waiter = waiter
        self.task = task
        self.lane = lane
        self.order = order
        self.withdrawn = False


class Resource:
    """So many may use it at once."""

    __slots__ = ("blocked", "name", "size", "taken")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.taken = 0
        self.blocked: set[tuple[str, ...]] = set()  # lanes that wait for it alone

    @property
    def full(self) -> bool:
        return self.taken >= self.size


class Slots:
    """`size` attempts in all; `pools` maps names to sizes."""

    def __init__(self, size: int, pools: Mapping[str, int] | None = None) -> None:
        self._all = Resource(ALL, size)
        self._resources: dict[str, Resource] = {}
        for pool, its_size in (pools or {}).items():
            self._resources[pool_name(pool)] = Resource(pool_name(pool), its_size)
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

    def limit(self, name: str, size: int) -> None:
        """Let there be a resource of this name."""
        self._resources.setdefault(name, Resource(name, size))

    def usage(self) -> dict[str, tuple[int, int]]:
        """For each resource how many use it and how many may."""
        resources = [self._all, *self._resources.values()]
        return {resource.name: (resource.taken, resource.size) for resource in resources}

    def request(
        self, waiter: Waiter, task: str, lane: tuple[str, ...], priority: float, now: datetime
    ) -> Request:
        """Wait in line; `grant` hands out what is free."""
        self._count += 1
        order = (now.timestamp() - priority * AGING, self._count)
        request = Request(waiter, task, lane, order)
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

    def obstacle(self, request: Request) -> str:
        """Why a request has to wait, for people."""
        resource = self._full_of(request.lane) or self._all
        return f"{resource.name}: {resource.taken} of {resource.size} in use"

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


def pool_name(pool: str) -> str:
    return f"pool {pool!r}"


def job_name(job: str) -> str:
    return f"tasks of job {job!r}"
