"""Catch-up: of the due times since the last one, each either fires or is missed, exactly once,
for every schedule, policy and time span."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.core.catchup import Backlog, CatchUp, Missed, Policy, backlog
from goflow.core.schedule import Schedule

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEARS = 174 * 365 * DAY
EVERY_MINUTE = Schedule("* * * * *")


def noon(minutes: int) -> datetime:
    return NOON + minutes * MINUTE


def found(minutes: int, policy: Policy) -> Backlog:
    """The backlog of a minutely schedule, `minutes` after noon."""
    return backlog(EVERY_MINUTE, NOON, NOON, noon(minutes) + timedelta(seconds=30), policy)


# -- examples --------------------------------------------------------------------------


def test_future_due_times_are_not_recorded() -> None:
    before = NOON - timedelta(microseconds=1)
    for choice in CatchUp:
        assert backlog(EVERY_MINUTE, NOON, NOON, before, Policy(choice)) == Backlog([], None)


def test_a_due_time_equal_to_now_fires() -> None:
    assert backlog(EVERY_MINUTE, NOON, NOON, NOON, Policy()) == Backlog([NOON], None)


def test_latest_fires_the_newest_due_time_only() -> None:
    assert found(3, Policy()) == Backlog([noon(3)], Missed(NOON, noon(2), 3))


def test_none_misses_every_due_time() -> None:
    assert found(3, Policy(CatchUp.NONE)) == Backlog([], Missed(NOON, noon(3), 4))


def test_all_fires_every_due_time_oldest_first() -> None:
    assert found(3, Policy(CatchUp.ALL)) == Backlog([noon(n) for n in range(4)], None)


def test_all_fires_the_newest_due_times_up_to_the_limit() -> None:
    policy = Policy(CatchUp.ALL, limit=2)
    assert found(3, policy) == Backlog([noon(2), noon(3)], Missed(NOON, noon(1), 2))


@pytest.mark.parametrize("choice", [CatchUp.LATEST, CatchUp.ALL])
def test_due_times_older_than_the_window_are_missed(choice: CatchUp) -> None:
    policy = Policy(choice, window=timedelta(seconds=29))
    assert found(3, policy) == Backlog([], Missed(NOON, noon(3), 4))


@pytest.mark.parametrize("choice", [CatchUp.LATEST, CatchUp.ALL])
def test_a_due_time_as_old_as_the_window_fires(choice: CatchUp) -> None:
    policy = Policy(choice, window=timedelta(seconds=30))
    assert found(3, policy) == Backlog([noon(3)], Missed(NOON, noon(2), 3))


def test_every_keeps_the_phase_of_its_anchor() -> None:
    every = Schedule("@every 7m")
    policy = Policy(CatchUp.ALL)
    anchor = noon(-70)
    assert backlog(every, anchor, NOON, noon(20), policy).fire == [noon(0), noon(7), noon(14)]


def test_a_schedule_without_further_due_times_has_no_backlog() -> None:
    last = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    found = backlog(EVERY_MINUTE, last, last - MINUTE, last + 59 * timedelta(seconds=1), Policy())
    assert found == Backlog([last], Missed(last - MINUTE, last - MINUTE, 1))


# -- compared with a walk over all due times ------------------------------------------

UNEVEN = "*/20 3-5 * 1 *"  # three times an hour, for some hours, in one month

small = st.sampled_from(
    [
        (Schedule("* * * * *"), 90 * MINUTE),
        (Schedule("*/7 * * * *"), 500 * MINUTE),
        (Schedule("30 2 * * *", "Europe/Berlin"), 100 * DAY),
        (Schedule("*/3 2 29 3 *", "Europe/Berlin"), 400 * DAY),
        (Schedule(UNEVEN), 400 * DAY),
        (Schedule("*/20 59 3 * * *", with_seconds=True), 9 * DAY),
        (Schedule("0 0 29 2 *"), 5_000 * DAY),
        (Schedule("@every 1s"), timedelta(seconds=200)),
        (Schedule("@every 7m13s"), 700 * MINUTE),
    ]
)
policies = st.builds(
    Policy,
    st.sampled_from(CatchUp),
    st.one_of(
        st.timedeltas(timedelta(0), timedelta(seconds=500)),
        st.timedeltas(timedelta(0), 500 * DAY),
    ),
    st.integers(1, 60),
)


class Case(NamedTuple):
    schedule: Schedule
    anchor: datetime
    due: datetime
    now: datetime
    policy: Policy


@st.composite
def cases(draw: st.DrawFn) -> Case:
    schedule, longest = draw(small)
    anchor = NOON + draw(st.timedeltas(timedelta(0), 300 * DAY))
    due = schedule.next(anchor + draw(st.timedeltas(timedelta(0), 9 * HOUR)), anchor=anchor)
    assert due is not None
    now = due + draw(st.timedeltas(-HOUR, longest))
    return Case(schedule, anchor, due, now, draw(policies))


def all_due(case: Case) -> list[datetime]:
    dues: list[datetime] = []
    at: datetime | None = case.due
    while at is not None and at <= case.now:
        dues.append(at)
        at = case.schedule.next(at, anchor=case.anchor)
    return dues


def fires(dues: list[datetime], now: datetime, policy: Policy) -> list[datetime]:
    """The rule as sentences."""
    young = [due for due in dues if due >= now - policy.window]
    match policy.catchup:
        case CatchUp.NONE:
            return []
        case CatchUp.LATEST:
            return dues[-1:] if dues[-1:] == young[-1:] else []
        case CatchUp.ALL:
            return young[-policy.limit :]


@given(cases())
def test_every_due_time_fires_or_is_missed_once(case: Case) -> None:
    dues = all_due(case)
    fire, missed = backlog(*case)
    assert fire == fires(dues, case.now, case.policy)
    rest = dues[: len(dues) - len(fire)]
    assert rest + fire == dues
    assert missed == (Missed(rest[0], rest[-1], len(rest)) if rest else None)


@given(cases(), st.floats(0, 1))
def test_a_second_look_continues_where_the_first_one_ended(case: Case, share: float) -> None:
    """Two looks together also record every due time once."""
    halfway = case.due + share * (case.now - case.due)
    accounted = 0
    due: datetime | None = case.due
    for now in (min(halfway, case.now), case.now):
        if due is None:
            continue
        fire, missed = backlog(*case._replace(due=due, now=now))
        accounted += len(fire) + (missed.number if missed else 0)
        if last := [*([missed.last] if missed else []), *fire]:
            due = case.schedule.next(last[-1], anchor=case.anchor)
    assert accounted == len(all_due(case))


# -- when the clock jumps --------------------------------------------------------------


class CountedSchedule(Schedule):
    """A schedule that counts its calls."""

    asked = 0

    def next(self, after: datetime, *, anchor: datetime | None = None) -> datetime | None:
        self.asked += 1
        return super().next(after, anchor=anchor)

    def count(self, after: datetime, last: datetime, *, anchor: datetime | None = None) -> int:
        self.asked += 1
        return super().count(after, last, anchor=anchor)


HUGE = {
    "every second": ("@every 1s", "UTC"),
    "each minute": ("0 * * * * *", "UTC"),
    "each second": ("* * * * * *", "UTC"),
    "dense in January": ("* * * * 1 *", "UTC"),
    "dense in an hour": ("* * 3 * * *", "Europe/Berlin"),
    "each leap day": ("0 0 0 29 2 *", "UTC"),
}
GREEDY = [
    Policy(),
    Policy(CatchUp.NONE),
    Policy(CatchUp.ALL, window=DAY, limit=100),
    Policy(CatchUp.ALL, window=36_500 * DAY, limit=1_000),
    Policy(CatchUp.ALL, limit=1_000_000),
]


@pytest.mark.parametrize("policy", GREEDY)
@pytest.mark.parametrize("name", HUGE)
def test_a_jump_by_174_years_is_cheap_and_fires_the_newest_due_times(
    name: str, policy: Policy
) -> None:
    """Cheap means a call for each due time that fires, and a count for each halving of the span."""
    schedule = CountedSchedule(*HUGE[name], with_seconds=True)
    due = schedule.next(NOON, anchor=NOON)
    assert due is not None
    now = due + YEARS
    fire, missed = backlog(schedule, NOON, due, now, policy)
    halvings = int(YEARS.total_seconds()).bit_length()
    assert schedule.asked <= len(fire) + halvings + 10
    assert missed is not None
    assert missed.first == due
    assert fire == sorted(set(fire))
    assert len(fire) <= policy.limit
    following = [*fire, schedule.next([missed.last, *fire][-1], anchor=NOON)]
    assert schedule.next(missed.last, anchor=NOON) == following[0], "none between the two"
    assert following[-1] is None or following[-1] > now, "none after them"
    for at, after in zip(fire, following[1:], strict=True):
        assert schedule.next(at, anchor=NOON) == after
    if policy.catchup is CatchUp.ALL and len(fire) < policy.limit:
        assert now - missed.last > policy.window


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("@every 1s", YEARS // timedelta(seconds=1)),
        ("0 * * * * *", YEARS // MINUTE),
        ("* * * * * *", YEARS // timedelta(seconds=1)),
    ],
)
def test_any_number_of_missed_due_times_is_counted_exactly(expression: str, number: int) -> None:
    schedule = Schedule(expression, with_seconds=True)
    fire, missed = backlog(schedule, NOON, NOON, NOON + YEARS, Policy())
    assert fire == [NOON + YEARS]
    assert missed is not None
    assert (missed.first, missed.number) == (NOON, number)
    assert schedule.next(missed.last, anchor=NOON) == NOON + YEARS
