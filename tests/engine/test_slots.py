"""Slots compared with a naive model, for any requests, grants, releases and withdrawals."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from goflow.engine.slots import AGING, Kind, Request, Slots, title
from tests.effort import examples

NOW = datetime(2030, 1, 1, tzinfo=UTC)
JOBS, POOLS = ("a", "b"), ("p", "q")


def lane_of(job: str | None, pool: str | None) -> tuple[str, ...]:
    """The lane of a runner's request: the job's limit first."""
    lane = [title(Kind.JOB, job)] if job is not None else []
    return (*lane, title(Kind.POOL, pool)) if pool is not None else tuple(lane)


class Waits:
    """Records the granted requests, in order."""

    def __init__(self) -> None:
        self.got: list[Request] = []

    def granted(self, request: Request) -> None:
        self.got.append(request)


class Naive:
    """The rule in one sentence: while slots are free, the first request (by time minus priority)
    whose limits all have room gets one."""

    def __init__(self, size: int, limits: dict[str, int]) -> None:
        self.size = size
        self.limits = limits
        self.waiting: list[tuple[tuple[float, int], str, tuple[str, ...]]] = []
        self.holders: dict[str, tuple[str, ...]] = {}
        self.got: list[str] = []

    def taken(self, limit: str) -> int:
        return sum(limit in lane for lane in self.holders.values())

    def grant(self) -> None:
        for one in sorted(self.waiting):
            _, name, lane = one
            if len(self.holders) >= self.size:
                return
            if all(self.taken(limit) < self.limits[limit] for limit in lane):
                self.waiting.remove(one)
                self.holders[name] = lane
                self.got.append(name)


class SlotsMachine(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 4), sizes=st.lists(st.integers(1, 2), min_size=4, max_size=4))
    def begin(self, size: int, sizes: list[int]) -> None:
        names = [*(title(Kind.JOB, job) for job in JOBS), *(title(Kind.POOL, p) for p in POOLS)]
        self.naive = Naive(size, dict(zip(names, sizes, strict=True)))
        self.slots = Slots(size, dict(zip(POOLS, sizes[2:], strict=True)))
        for job, limit in zip(JOBS, sizes, strict=False):
            self.slots.limit(Kind.JOB, job, limit)
        self.waits = Waits()
        self.requests: dict[str, Request] = {}
        self.count = 0

    @rule(
        job=st.sampled_from([None, *JOBS]),
        pool=st.sampled_from([None, *POOLS]),
        age=st.integers(0, 3),
        priority=st.sampled_from([0, 0, 1, -1, 5]),
        at_once=st.booleans(),
    )
    def ask(
        self, job: str | None, pool: str | None, age: int, priority: int, at_once: bool
    ) -> None:
        lane = lane_of(job, pool)
        now = NOW + timedelta(seconds=self.count - 100 * age)
        self.count += 1
        name = f"t{self.count}"
        self.requests[name] = self.slots.request(self.waits, name, lane, priority, now)
        order = (now.timestamp() - priority * AGING, self.count)
        self.naive.waiting.append((order, name, lane))
        if at_once:  # runners send many requests before they call `grant`
            self.grant()

    @rule(
        wanted=st.lists(
            st.tuples(
                st.sampled_from([None, *JOBS]),
                st.sampled_from([None, *POOLS]),
                st.sampled_from([0, 1, 5]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def ask_together(self, wanted: list[tuple[str | None, str | None, int]]) -> None:
        """As a runner does: in the order of priority, and `grant` follows."""
        self.grant()
        now = NOW + timedelta(seconds=self.count)
        asked = []
        for job, pool, priority in sorted(wanted, key=lambda one: -one[2]):
            self.count += 1
            asked.append((f"t{self.count}", lane_of(job, pool), priority))
            order = (now.timestamp() - priority * AGING, self.count)
            self.naive.waiting.append((order, *asked[-1][:2]))
        names = [name for name, _, _ in asked]
        taken = self.slots.take_all(self.waits, names, [lane for _, lane, _ in asked])
        if taken is not None:
            self.requests.update(zip(names, taken, strict=True))
            self.waits.got += taken
        else:
            for name, lane, priority in asked:
                self.requests[name] = self.slots.request(self.waits, name, lane, priority, now)
        self.grant()

    @rule()
    def grant(self) -> None:
        self.slots.grant()
        self.naive.grant()

    @precondition(lambda self: self.naive.holders)
    @rule(data=st.data(), twice=st.booleans())
    def give_back(self, data: st.DataObject, twice: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.naive.holders)))
        del self.naive.holders[name]
        self.slots.release(self.requests[name])
        self.naive.grant()
        if twice:
            self.slots.release(self.requests[name])

    @precondition(lambda self: self.naive.waiting)
    @rule(data=st.data(), twice=st.booleans())
    def wait_no_longer(self, data: st.DataObject, twice: bool) -> None:
        one = data.draw(st.sampled_from(sorted(self.naive.waiting)))
        self.naive.waiting.remove(one)
        for _ in range(1 + twice):
            self.slots.release(self.requests[one[1]])

    @invariant()
    def slots_are_granted_in_the_order_of_the_model(self) -> None:
        if hasattr(self, "slots"):
            assert [request.task for request in self.waits.got] == self.naive.got

    @invariant()
    def use_and_waiting_agree_with_the_model(self) -> None:
        if not hasattr(self, "slots"):
            return
        waiting = Counter(limit for _, _, lane in self.naive.waiting for limit in lane)
        every, *limits = self.slots.usage()
        assert (every.taken, every.waiting) == (len(self.naive.holders), len(self.naive.waiting))
        for usage in limits:
            limit = title(usage.kind, usage.name)
            assert usage.taken == self.naive.taken(limit) <= usage.size
            assert usage.waiting == waiting[limit]

    @invariant()
    def memory_is_kept_only_for_waiting_requests(self) -> None:
        if hasattr(self, "slots"):
            lanes = self.slots._lanes.values()
            assert sum(len(lane.waiting) for lane in lanes) <= 2 * len(self.naive.waiting)
            assert {lane.key for lane in lanes} == {lane for _, _, lane in self.naive.waiting}
            assert len(self.slots._heads) <= 2 * len(lanes) + 17


SlotsMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40)
test_whatever_happens_slots_do_as_the_naive_model = SlotsMachine.TestCase


def test_a_lane_that_waited_for_two_limits_in_turn_loses_nothing() -> None:
    slots = Slots(10, {"p": 1})
    slots.limit(Kind.JOB, "a", 1)
    waits = Waits()

    def ask(lane: tuple[str, ...], seconds: float) -> Request:
        return slots.request(waits, "t", lane, 0, NOW + timedelta(seconds=seconds))

    both = lane_of("a", "p")
    of_job = ask(lane_of("a", None), 0)
    slots.grant()
    late = ask(both, 10)
    slots.grant()  # the lane waits for the job's limit
    of_pool = ask(lane_of(None, "p"), 1)
    early = ask(both, 2)
    slots.grant()
    slots.release(early)
    slots.release(of_job)
    slots.release(late)
    slots.release(of_pool)
    assert slots.taken == 0
    last = ask(both, 20)
    slots.grant()
    assert waits.got == [of_job, of_pool, last]


def test_a_request_withdrawn_while_a_limit_is_full_is_not_kept() -> None:
    slots = Slots(10, {"p": 1})
    waits = Waits()
    lane = lane_of(None, "p")
    slots.request(waits, "holder", lane, 0, NOW)
    slots.grant()
    for number in range(1000):
        slots.release(slots.request(waits, "t", lane, number, NOW))
        slots.grant()
    assert slots._lanes == {}
    assert len(slots._heads) < 50
