"""Slots: limits on running attempts, in total, per job and per pool.

Requests are granted by priority, then age. A point of priority is worth a minute of waiting, so
no request starves. Waiting requests for the same resources form a lane. Only the head of each
lane is ever examined, so a full pool costs the others nothing.

The rule that must not be broken: a lane with requests is in one place only, either among the
heads or aside at the one full resource that it waits for.
"""

import enum
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from goflow.core.keys import Key

AGING = 60.0  # seconds of waiting that outweigh one point of priority

Order = tuple[float, int]


class Kind(enum.StrEnum):
    """Which running tasks a limit counts."""

    ALL = "all"
    JOB = "job"
    POOL = "pool"


class Usage(NamedTuple):
    """How a limit is used: slots `taken`, the `size` of the limit, and tasks `waiting`, for this
    limit or another one. `name` is the name of the job or pool."""

    kind: Kind
    name: str
    taken: int
    size: int
    waiting: int


class Waiter(Protocol):
    """A runner that requests slots."""

    def granted(self, request: "Request") -> None:
        """Called when the request has its slot. `Slots.release` gives it back."""
        ...


class Request:
    """A request of one task or item for a slot: it waits, is granted, and in the end is done."""

    __slots__ = ("done", "granted", "lane", "task", "waiter")

    def __init__(self, waiter: Waiter, task: Key, lane: "Lane") -> None:
        self.waiter = waiter
        self.task = task
        self.lane = lane
        self.granted = False
        self.done = False


class Resource:
    """A limit: `size` tasks may use it at once."""

    __slots__ = ("aside", "kind", "lifted", "name", "size", "taken", "users", "waiting")

    def __init__(self, kind: Kind, name: str, size: int) -> None:
        self.kind = kind
        self.name = name
        self.size = size
        self.taken = 0
        self.waiting = 0  # requests in lanes that need it
        self.aside: set[Lane] = set()  # lanes that wait for it
        self.users = 0  # executions that may still request it
        self.lifted = False  # to be removed as soon as it is unused

    @property
    def full(self) -> bool:
        return self.taken >= self.size

    @property
    def usage(self) -> Usage:
        return Usage(self.kind, self.name, self.taken, self.size, self.waiting)


class Lane:
    """The waiting requests for the same resources, besides the total limit."""

    __slots__ = ("key", "obstacle", "resources", "shown", "waiting", "withdrawn")

    def __init__(self, key: tuple[str, ...], resources: tuple[Resource, ...]) -> None:
        self.key = key
        self.resources = resources
        self.waiting: list[tuple[Order, Request]] = []
        self.withdrawn = 0  # requests in `waiting` that are done, and removed later
        self.shown: Order | None = None  # its place among the heads, if it has one
        self.obstacle: Resource | None = None  # the resource it stands aside at, if any

    @property
    def full(self) -> Resource | None:
        """The first resource without room; None if all have room."""
        return next((resource for resource in self.resources if resource.full), None)

    def push(self, order: Order, request: Request) -> None:
        heapq.heappush(self.waiting, (order, request))

    def pop(self) -> Request:
        return heapq.heappop(self.waiting)[1]

    def withdraw(self) -> None:
        """Count a withdrawn request. They are removed once they are half of all requests, which
        bounds both the cost of each and the memory of all."""
        self.withdrawn += 1
        if 2 * self.withdrawn > len(self.waiting):
            self.waiting = [entry for entry in self.waiting if not entry[1].done]
            heapq.heapify(self.waiting)
            self.withdrawn = 0

    def head(self) -> Order | None:
        """The order of the next request; None if there is none."""
        while self.waiting and self.waiting[0][1].done:
            heapq.heappop(self.waiting)
            self.withdrawn -= 1
        return self.waiting[0][0] if self.waiting else None


class Slots:
    """`size` attempts in all; `pools` maps names to sizes."""

    def __init__(self, size: int, pools: Mapping[str, int] | None = None) -> None:
        self._all = Resource(Kind.ALL, "all tasks", size)
        self._resources: dict[str, Resource] = {}
        for pool, its_size in (pools or {}).items():
            self.limit(Kind.POOL, pool, its_size)
        self._lanes: dict[tuple[str, ...], Lane] = {}  # those that have requests
        # Heads of lanes, by order. An outdated head is dropped when it comes up.
        self._heads: list[tuple[Order, Lane]] = []
        self._count = 0

    @property
    def size(self) -> int:
        return self._all.size

    @property
    def taken(self) -> int:
        """The number of slots in use."""
        return self._all.taken

    def limit(self, kind: Kind, name: str, size: int) -> None:
        """Set the limit on the running tasks of a job or pool.

        A higher limit grants slots to requests that wait. A lower one takes no slot back: no
        more are granted until enough have been released.
        """
        resource = self._resources.get(title(kind, name))
        if resource is None:
            self._resources[title(kind, name)] = Resource(kind, name, size)
            return
        resource.lifted = False
        resource.size = size
        self._bring_back(resource)
        self.grant()

    def lift(self, kind: Kind, name: str) -> None:
        """Remove a limit. It holds on for the executions that use it already."""
        if (resource := self._resources.get(title(kind, name))) is not None:
            resource.lifted = True
            self._forget_lifted(resource)

    def use(self, kind: Kind, name: str) -> Resource | None:
        """Keep a limit for an execution that may request it, until `leave`; None if there is no
        such limit."""
        resource = self._resources.get(title(kind, name))
        if resource is not None:
            resource.users += 1
        return resource

    def leave(self, resource: Resource | None) -> None:
        if resource is not None:
            resource.users -= 1
            self._forget_lifted(resource)

    def _forget_lifted(self, resource: Resource) -> None:
        if resource.lifted and not (resource.users or resource.taken or resource.waiting):
            self._resources.pop(title(resource.kind, resource.name), None)

    def _bring_back(self, resource: Resource) -> None:
        """Show the lanes that waited for this resource alone."""
        aside, resource.aside = resource.aside, set()
        for lane in aside:
            lane.obstacle = None
            self._show(lane)

    def usage(self) -> list[Usage]:
        """How each limit is used, the total limit first."""
        return [self._all.usage, *(resource.usage for resource in self._resources.values())]

    def request(
        self,
        waiter: Waiter,
        task: Key,
        lane: tuple[str, ...],
        priority: float,
        now: datetime,
    ) -> Request:
        """Request a slot, which `grant` grants. `lane` names the limits that count the task,
        besides the total limit, by their titles."""
        found = self._find(lane)
        request = Request(waiter, task, found)
        self._lanes[lane] = found
        self._count += 1
        self._count_waiting(found, 1)
        found.push((now.timestamp() - priority * AGING, self._count), request)
        self._show(found)
        return request

    def take_all(
        self, waiter: Waiter, tasks: Sequence[Key], lanes: Sequence[tuple[str, ...]]
    ) -> list[Request] | None:
        """Grant a slot at once to each of these tasks, which have these lanes. None, and no slot is
        granted, unless all limits have room for all of them and no request waits for one."""
        if self._heads or self._all.size - self._all.taken < len(tasks):
            return None
        found = {lane: self._find(lane) for lane in set(lanes)}
        needed: Counter[Resource] = Counter()
        for lane, number in Counter(lanes).items():
            if found[lane].waiting:
                return None
            for resource in found[lane].resources:
                needed[resource] += number
        if any(resource.size - resource.taken < number for resource, number in needed.items()):
            return None
        self._all.taken += len(tasks)
        for resource, number in needed.items():
            resource.taken += number
        requests = []
        for task, lane in zip(tasks, lanes, strict=True):
            request = Request(waiter, task, found[lane])
            request.granted = True
            requests.append(request)
        return requests

    def _find(self, lane: tuple[str, ...]) -> Lane:
        """The lane with this key, which may be new and without requests."""
        if (found := self._lanes.get(lane)) is not None:
            return found
        resources = (self._resources.get(name) for name in lane)
        return Lane(lane, tuple(one for one in resources if one is not None))

    def occupy(self, waiter: Waiter, task: Key, lane: tuple[str, ...]) -> Request:
        """Take a slot for a task that is running, whatever the limits."""
        request = Request(waiter, task, self._find(lane))
        self._take(request)
        return request

    def grant(self) -> None:
        """Grant free slots to the next requests."""
        while self._heads and not self._all.full:
            order, lane = heapq.heappop(self._heads)
            if lane.shown != order:
                continue
            lane.shown = None
            if lane.head() != order:  # it was withdrawn
                self._show(lane)
                continue
            if (full := lane.full) is not None:
                lane.obstacle = full
                full.aside.add(lane)
                continue
            request = lane.pop()
            self._show(lane)
            self._count_waiting(lane, -1)
            self._give(request)

    def release(self, request: Request) -> None:
        """Give a slot back, or withdraw a request; calling it again does nothing."""
        if request.done:
            return
        request.done = True
        lane = request.lane
        if not request.granted:
            self._count_waiting(lane, -1)
            lane.withdraw()
            if not lane.waiting:
                self._forget(lane)
            return
        self._all.taken -= 1
        for resource in lane.resources:
            resource.taken -= 1
            self._bring_back(resource)
            self._forget_lifted(resource)
        if self._heads:
            self.grant()

    def obstacle(self, request: Request) -> str:
        """A human-readable reason why a request waits."""
        resource = request.lane.full or self._all
        name = title(resource.kind, resource.name)
        return f"{name}: {resource.taken} of {resource.size} in use"

    def _count_waiting(self, lane: Lane, change: int) -> None:
        self._all.waiting += change
        for resource in lane.resources:
            resource.waiting += change

    def _give(self, request: Request) -> None:
        self._take(request)
        request.waiter.granted(request)

    def _take(self, request: Request) -> None:
        self._all.taken += 1
        for resource in request.lane.resources:
            resource.taken += 1
        request.granted = True

    def _show(self, lane: Lane) -> None:
        """Put a lane's head among the heads, unless the lane stands aside."""
        if lane.obstacle is not None:
            return
        order = lane.head()
        if order is None:
            self._forget(lane)
        elif order != lane.shown:
            lane.shown = order
            heapq.heappush(self._heads, (order, lane))
            self._drop_outdated_heads()

    def _forget(self, lane: Lane) -> None:
        """Delete a lane without requests; the next request for these resources creates it again."""
        lane.shown = None
        if lane.obstacle is not None:
            lane.obstacle.aside.discard(lane)
            lane.obstacle = None
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
            self._drop_outdated_heads()

    def _drop_outdated_heads(self) -> None:
        """Drop outdated heads once they are the majority, which bounds their memory."""
        if len(self._heads) > 2 * len(self._lanes) + 16:
            self._heads = [entry for entry in self._heads if entry[1].shown == entry[0]]
            heapq.heapify(self._heads)


def title(kind: Kind, name: str) -> str:
    """The name of a limit, in a lane and in messages."""
    match kind:
        case Kind.ALL:
            return name
        case Kind.JOB:
            return f"tasks of job {name!r}"
        case Kind.POOL:
            return f"pool {name!r}"
