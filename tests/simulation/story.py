"""The events of one seed: client requests, faults, crashes, and the end.

`run(seed)` raises `Broken` if a promise is broken during the run or at its end.
"""

import asyncio
import logging
import re
import traceback
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

import msgspec

from goflow.core.events import (
    AnyFact,
    CancelRequested,
    Dispatched,
    Finished,
    MarkedSkipped,
    MarkedSuccessful,
    OnRetryEnded,
    Retried,
    TaskCancelRequested,
    TaskSucceeded,
)
from goflow.core.keys import Item, Key, item_of, task_of
from goflow.core.states import State
from goflow.core.summary import listed
from goflow.core.timetable import Timetable
from goflow.engine.broadcast import SNAPSHOT
from goflow.engine.control import Definition
from goflow.engine.entries import read_states, read_switches
from goflow.errors import InvalidJob, InvalidRequest, Unavailable
from goflow.stores.base import Committed, Tick, TickOutcome
from tests.simulation.jobs import POOLS, add, draw_job, edited
from tests.simulation.world import PATIENCE, Broken, Process, World

SOON = timedelta(seconds=30)
MANY = 100
# The reason of a tick for an execution without a due time that a job did not run after.
REFUSED = re.compile(r"it does not run after execution (?P<id>\S+) of job ")


def search(seeds: Iterable[int]) -> Iterator[tuple[int, str | None]]:
    """Seeds and their broken promises, like `broken`, on all cores."""
    # Spawned, since a process with threads should not be forked.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(_searched, seeds, chunksize=5)


def _searched(seed: int) -> tuple[int, str | None]:
    logging.disable()
    return seed, broken(seed)


def broken(seed: int) -> str | None:
    """The trace and the promise that a seed breaks, or None."""
    try:
        run(seed)
    except Broken as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return None


def run(seed: int | str) -> World:
    """Run all events of a seed; returns the world afterwards."""
    with World(seed) as world:
        Story(world).run()
    return world


class Story:
    """One seed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.answers: dict[tuple[str, str], str] = {}  # the answers to submits with a key

    def run(self) -> None:
        self._draw()
        for _ in range(self.rng.randint(2, 5)):
            self._live()
            self._rest()
        self.settle()

    def _draw(self) -> None:
        rng, world = self.rng, self.world
        names = [f"j{number}" for number in range(rng.randint(1, 4))]
        for number, name in enumerate(names):
            # They start later ones, and run after earlier ones, so there is no circle.
            world.jobs[name] = draw_job(rng, name, names[:number], names[number + 1 :])
        world.options = {
            "max_running": rng.choice((1, 2, 4, 16)),
            "max_unfinished": rng.choice((12, 10_000)),
            "stop_timeout": rng.choice((0, 5)),
        }
        world.tell(f"{world.options}")
        for job in world.jobs.values():
            world.tell(f"{job}")

    # -- lives ---------------------------------------------------------------------------

    def _live(self) -> None:
        """A process starts, works, meets faults, and ends or dies."""
        rng, world = self.rng, self.world
        process = world.boot()
        world.tell("start")
        if rng.random() < 0.2:
            world.disk.kill_in = rng.randint(1, 3)
        if self.start(process):
            for _ in range(2):
                process.begin(self._use(process))
            process.begin(_listen(process))
            process.begin(_audit(process))
            for _ in range(rng.randint(1, 3)):
                self._disturb(process)
                process.run(rng.choice((0, 0.5, 8, 30, 120)))
            self._finish(process)
        world.disk.kill_in = None
        world.disk.refusing = world.disk.unreadable = 0
        world.tell("dead" if process.dead else "ended")
        world.end()

    def start(self, process: Process) -> bool:
        """Whether the process starts; checks that it remembers its switches."""
        try:
            process.call(process.engine.start())
        except Unavailable as error:
            self.world.tell(f"not started: {error}")
            return False
        if not process.dead:
            switches = read_switches(process.store)
            for name, job in process.engine.registry.jobs.items():
                on = switches[name].active if name in switches else job.active
                if process.engine.schedules.active(name) is not on:
                    raise self.world.broken(f"the switch of {name} is forgotten: {switches}")
        return not process.dead

    def _disturb(self, process: Process) -> None:
        rng, world = self.rng, self.world
        match rng.randrange(9):
            case 0:
                world.tell("the process is held up")
                process.loop.skip(rng.choice((1, 6, 70, 4000)))
            case 1:
                world.set_clock(timedelta(seconds=rng.choice((0.5, 65, 3700, 90_000))))
            case 2:
                world.set_clock(-timedelta(seconds=rng.choice((0.5, 3, 65, 1800))))
            case 3 | 4:
                world.disk.refusing = rng.choice((0.1, 0.5, 1))
                world.tell(f"refusing {world.disk.refusing}")
            case 5:
                world.disk.unreadable = rng.choice((0.1, 1))
                world.tell(f"unreadable {world.disk.unreadable}")
            case _:
                world.disk.refusing = world.disk.unreadable = 0

    def _finish(self, process: Process) -> None:
        rng, world = self.rng, self.world
        match rng.randrange(4):
            case 0:
                world.disk.kill_in = rng.randint(1, 12)
                process.run(30)
            case 1:
                healthy = not (world.disk.refusing or world.disk.unreadable)
                if rng.random() < 0.3:
                    process.begin(process.engine.stop())
                    process.run(10, steps=rng.randrange(60))
                    return
                world.tell("stop")
                process.call(process.engine.stop())
                running = [
                    e.id for e in world.disk.executions.values() if set(e.running) - set(e.waits)
                ]
                if healthy and running and not process.dead:
                    raise world.broken(f"{running} run after a stop")
            case _:
                process.run(10, steps=rng.randrange(200))

    def _rest(self) -> None:
        """Let time pass between two processes."""
        rng, world = self.rng, self.world
        world.down(rng.choice((0, 0, 1, 20, 700, 8000)))
        if rng.random() < 0.3:
            name = rng.choice(list(world.jobs))
            world.jobs[name] = edited(rng, world.jobs[name])
            world.tell(f"edited: {world.jobs[name]}")

    # -- clients -------------------------------------------------------------------------

    async def _use(self, process: Process) -> None:
        """Send random requests, and check that each answer agrees with the commits."""
        asks = [self._submit, self._submit, self._submit, self._cancel, self._cancel_task,
                self._retry, self._mark, self._toggle, self._backfill, self._replace_job,
                self._remove_job, self._resize_pool, self._look_for_forsaken]  # fmt: skip
        while True:
            await asyncio.sleep(self.rng.expovariate(0.3))
            ask = self.rng.choice(asks)
            try:
                await ask(process)
            except (InvalidRequest, Unavailable) as error:
                self.world.tell(f"{ask.__name__}: {type(error).__name__}: {error}")

    async def _submit(self, process: Process) -> None:
        job = self.rng.choice(list(self.world.jobs))
        key = self.rng.choice((None, f"k{self.rng.randrange(8)}"))
        params = self.rng.choice((None, None, {"n": self.rng.randrange(6)}))
        answer = await process.engine.submissions.submit(job, params, key=key)
        self.world.tell(f"acknowledged {job} {key} {answer.id} {answer.created}")
        self._promise(answer.id in self.world.disk.executions, f"submit of {answer.id}")
        if key is not None:
            known = self.answers.setdefault((job, key), answer.id)
            self._promise(known == answer.id, f"key {key} led to {known}, now to {answer.id}")

    async def _cancel(self, process: Process) -> None:
        if (id := self._one()) is not None and await process.engine.control.cancel(id):
            self.world.tell(f"acknowledged cancel {id}")
            self._promise(self._facts(id, CancelRequested), f"cancel of {id}")

    async def _cancel_task(self, process: Process) -> None:
        if (id := self._one()) is not None:
            key = self._some(id, list(self.world.disk.executions[id].named))
            if await process.engine.control.cancel_task(id, key):
                self.world.tell(f"acknowledged cancel {id} {key}")
                facts = self._facts(id, TaskCancelRequested, key)
                self._promise(facts, f"cancel of {key} of {id}")

    async def _retry(self, process: Process) -> None:
        if (id := self._one()) is not None:
            before = len(self._facts(id, Retried))
            execution = self.world.disk.executions[id]
            task: Key | None = self.rng.choice((None, *execution.named))
            if task is not None and task in execution.tasks:
                task = self._some(id, [task_of(task)])
            following = self.rng.random() < 0.5
            definition = self.rng.choice(list(Definition))
            await process.engine.control.retry(
                id, task=task, following=following, definition=definition
            )
            self.world.tell(f"acknowledged retry {id} {definition}")
            self._promise(len(self._facts(id, Retried)) > before, f"retry of {id}")

    async def _mark(self, process: Process) -> None:
        if (id := self._one()) is not None:
            key = self._some(id, list(self.world.disk.executions[id].tasks))
            state = self.rng.choice((State.SUCCESSFUL, State.SKIPPED))
            await process.engine.control.mark(id, key, state)
            self.world.tell(f"acknowledged mark {id} {key} {state}")
            kind = MarkedSuccessful if state is State.SUCCESSFUL else MarkedSkipped
            self._promise(self._facts(id, kind, key), f"mark of {key} of {id}")

    async def _toggle(self, process: Process) -> None:
        job = self.rng.choice(list(self.world.jobs))
        active = await process.engine.schedules.toggle(job, self.rng.choice((None, True, False)))
        self.world.tell(f"acknowledged toggle {job} {active}")
        self._promise(self.world.disk.switches.get(job) is active, f"toggle of {job}")
        if job in process.engine.registry.jobs:  # and was not removed meanwhile
            self._promise(process.engine.schedules.active(job) is active, f"toggle of {job}")

    async def _backfill(self, process: Process) -> None:
        job = self.rng.choice(list(self.world.jobs))
        now = process.clock.now()
        start = now - timedelta(seconds=self.rng.choice((10, 60, 400)))
        done = await process.engine.backfills.run(job, start, now, parallel=self.rng.randint(1, 2))
        self.world.tell(f"acknowledged backfill {job} {len(done)}")
        for one in done:
            self._promise(one.execution in self.world.disk.executions, f"backfill {one}")

    async def _replace_job(self, process: Process) -> None:
        """Edit a job, or bring back one that was removed."""
        name = self.rng.choice(list(self.world.jobs))
        if name in process.engine.registry.jobs:
            self.world.jobs[name] = edited(self.rng, self.world.jobs[name])
        fires = len(self.world.disk.executions)
        job = self.world.jobs[name]
        asked_for = {*job.after, *(task.runs for task in job.tasks if task.runs is not None)}
        try:
            process.register(name, replace=True)
        except InvalidJob as error:
            gone = asked_for - process.engine.registry.jobs.keys()
            self._promise(gone, f"{job} is refused: {error}")
            return
        self.world.tell(f"replaced: {job}")
        self._promise(len(self.world.disk.executions) == fires, f"{name}: an edit fires nothing")

    async def _remove_job(self, process: Process) -> None:
        """Remove a job, until it is replaced or the next process starts."""
        name = self.rng.choice(list(self.world.jobs))
        process.engine.registry.remove(name)
        self.world.tell(f"removed: {name}")

    async def _resize_pool(self, process: Process) -> None:
        pool, size = self.rng.choice(list(POOLS)), self.rng.choice((1, 2, 3))
        process.note_slots()
        process.engine.registry.set_pool(pool, size)
        self.world.tell(f"pool {pool} has {size}")

    async def _look_for_forsaken(self, process: Process) -> None:
        """The cancel of a task reaches the execution that it has started, soon."""
        refused, before = self.world.disk.refused, set(self.world.oracle.forsaken())
        await asyncio.sleep(10)
        after = before.intersection(self.world.oracle.forsaken())
        if refused == self.world.disk.refused and not self.world.disk.refusing:
            self._promise(not after, f"a cancel of {after}, whose parents have ended")

    def _one(self) -> str | None:
        """A random execution, more likely a recent one."""
        ids = list(self.world.disk.executions)
        return self.rng.choice(ids[-8:] if self.rng.random() < 0.8 else ids) if ids else None

    def _some(self, id: str, names: list[str]) -> Key:
        """A random one of some tasks, or one of its items."""
        name = self.rng.choice(names)
        task = self.world.disk.executions[id].named[name]
        number = len(task.items.runs or ()) if task.items is not None else 0
        return (
            Item(name, self.rng.randrange(number)) if number and self.rng.random() < 0.7 else name
        )

    def _facts(self, id: str, kind: type[AnyFact], key: Key | None = None) -> list[AnyFact]:
        return [
            fact
            for fact in self.world.disk.facts[id]
            if isinstance(fact, kind) and (key is None or getattr(fact, "key", None) == key)
        ]

    def _promise(self, kept: object, what: str) -> None:
        if not kept:
            self.world.problems.append(f"acknowledged, but not committed: {what}")

    # -- the end -------------------------------------------------------------------------

    def settle(self) -> None:
        """Stop injecting faults, let everything end, and check all promises."""
        world = self.world
        world.tell("settle")
        process = world.boot()
        self.start(process)
        process.begin(_listen(process))
        process.begin(_audit(process))
        engine = process.engine
        process.run(60)
        forsaken = list(world.oracle.forsaken())
        self._hold(not forsaken, f"{forsaken} go on, though their parents have ended")
        for name in engine.registry.jobs:
            self._catch_up(process, name)
            if not world.jobs[name].after:
                self._check_ledger(process, name)
            process.call(engine.schedules.toggle(name, False))
        self._wind_up(process)
        process.run(1000)  # abandoned attempts end too
        for name in engine.registry.jobs:
            if world.jobs[name].after:
                self._check_followed(process, name)
        self._check_executions(process)
        self._check_audit()
        self._check_states()
        world.oracle.check()
        world.check()
        self._check_told_of_retries()
        self._check_logs(process)
        for usage in engine.slots.usage():
            self._hold(not usage.taken, f"{usage}: slots are in use, and nothing runs")
            self._hold(not usage.waiting, f"{usage}: tasks wait, and nothing is unfinished")
        process.call(engine.stop())
        world.end()

    def _catch_up(self, process: Process, job: str) -> None:
        """Check that the job's next due time is handled soon, or when there is room for it."""
        engine, clock = process.engine, process.clock
        due = engine.schedules.due(job)
        on = engine.schedules.active(job) and "schedule" in self.world.jobs[job].options
        if on and due is None:  # `@once` has fired, or the end has passed
            state = engine.ledger.states[job]
            on = Timetable(state.parsed(), state.start).next(state.accounted) is not None
        self._hold(on is (due is not None), f"{job} is due at {due}, though it is on: {on}")
        if due is None or clock.now() - due < SOON:
            return
        limit, made = engine.options.max_unfinished, len(self.world.disk.executions)
        room = SOON if limit > 1000 else timedelta(0)  # how long there has been some
        steps = self._going_on(process, 1)
        # Other jobs may use the room, but not forever.
        while room < SOON and len(self.world.disk.executions) < made + MANY and next(steps, False):
            if engine.schedules.due(job) != due:
                return
            full = not engine.room.has_room(for_schedule=False)  # it may be one of many
            room = timedelta(0) if full else room + timedelta(seconds=1)
        self._hold(False, f"{job}: {due} was not seen by {clock.now()}")

    def _wind_up(self, process: Process) -> None:
        """Let everything end, including any backlog."""
        steps = self._going_on(process, 60)
        while process.engine.runners and next(steps, False):
            pass

    def _going_on(self, process: Process, step: float) -> Iterator[bool]:
        """Let time pass step by step until nothing changes. Without retries by clients, an
        execution has a bounded number of facts, so this ends."""
        disk, patience = self.world.disk, PATIENCE + self.world.went_back.total_seconds()
        progress, until = disk.progress, process.loop.time() + patience
        while process.loop.time() < until:
            process.run(step)
            if disk.progress > progress:
                progress, until = disk.progress, process.loop.time() + patience
            yield True

    def _hold(self, holds: object, problem: str) -> None:
        if not holds:
            self.world.problems.append(problem)
            self.world.check()

    def _check_executions(self, process: Process) -> None:
        world = self.world
        unfinished = process.store.unfinished()
        self._hold(not unfinished, f"never ended: {unfinished}")
        for id, execution in world.disk.executions.items():
            row = process.store.find(id)
            assert row is not None
            self._hold(row.state is execution.state, f"{id} is listed as {row.state}")
            self._hold(row.summary == msgspec.json.encode(execution.summary()), f"{row}")
            told = world.told.get(id)
            if id in world.too_old and told is None:
                continue
            known = told is not None and row.summary is not None
            self._hold(
                known and told == listed(row.summary, row.version),
                f"a listener received {id} as {told!r}, not {row}",
            )

    def _check_states(self) -> None:
        """Each state is that of the actions before it, and no attempt has an action twice."""
        for id, facts in self.world.disk.facts.items():
            reduce = self.world.jobs[self.world.disk.executions[id].job].options.get("state")
            state: Any = None
            numbers: dict[Any, int] = {}
            for fact in facts:
                if isinstance(fact, Dispatched):
                    state = (reduce or add)(state, msgspec.json.decode(fact.content))
                    kept = msgspec.json.decode(fact.state)
                    self._hold(kept == state, f"{id}: the state is {kept}, not {state}: {fact}")
                    attempt = fact.key, fact.attempt
                    before = numbers.get(attempt, fact.number - 1)
                    self._hold(fact.number == before + 1, f"{id}: {fact} follows {before}")
                    numbers[attempt] = fact.number

    def _check_told_of_retries(self) -> None:
        """An `on_retry` was called before it ended, unless the task lost it meanwhile."""
        for id, facts in self.world.disk.facts.items():
            for fact in facts:
                if isinstance(fact, OnRetryEnded) and "no on_retry any more" not in fact.error:
                    called = (id, fact.key, fact.attempt) in self.world.told_of_retry
                    self._hold(called, f"{id}: {fact} was not called")

    def _check_audit(self) -> None:
        """The subscriber has received every fact, whatever was killed on the way."""
        received: dict[str, list[AnyFact]] = {}
        for _, (execution, facts) in sorted(self.world.audited.items()):
            received.setdefault(execution, []).extend(facts)
        for id, facts in self.world.disk.facts.items():
            self._hold(received.get(id) == facts, f"{id}: a subscriber received {received.get(id)}")

    def _check_logs(self, process: Process) -> None:
        """Check that the output of a successful attempt is in its log, once and in order, unless
        the log was given up."""
        given_up = self.world.logs_given_up
        for (id, key, attempt), lines in self.world.said.items():
            task, item = task_of(key), item_of(key)
            succeeded: list[Any] = self._facts(id, TaskSucceeded, task)
            if any((fact.attempt, fact.item) == (attempt, item) for fact in succeeded):
                chunks = process.store.logs.read(id, task, attempt, 0, 10**6, item)
                kept = "".join(chunk.text for chunk in chunks).split("\n")[:-1]
                given_up -= kept != lines
                told = f"{id} {key} {attempt} said {lines}; kept is {kept}"
                self._hold(given_up >= 0 and set(kept) <= set(lines), told)

    def _check_ledger(self, process: Process, job: str) -> None:
        """Check that the job's ledger has every due time once, and nothing else."""
        world, epochs = self.world, self.world.disk.epochs.get(job, [])
        ledger = process.store.ticks(job, None, 100_000)
        ticks = [tick for tick in ledger if tick.outcome is not TickOutcome.MERGED]
        merged = {tick.into: tick for tick in ledger if tick.outcome is TickOutcome.MERGED}
        single = {tick.due: tick for tick in ticks if tick.count == 1}
        by_hand = {due for due, tick in single.items() if self._by_hand(tick)}
        if epochs:
            state, known = read_states(process.store)[job], process.engine.ledger.states[job]
            self._hold(state == known, f"{job}: {state} is in the store, not {known}")
            accounted = state.accounted, not state.on
            noted = epochs[-1].accounted, not process.engine.schedules.active(job)
            self._hold(accounted == noted, f"{job}: {state}, and not {noted}")
        due_times: set[datetime] = set()
        for epoch in epochs:
            times = epoch.times
            due = times.next(epoch.begun)
            while due is not None and due <= epoch.accounted:
                due_times.add(due)
                due = times.next(due)
        summed = Counter[datetime]()
        ascending = sorted(due_times)
        for tick in ticks:
            if tick.count > 1:
                assert tick.until is not None
                first, end = bisect_left(ascending, tick.due), bisect_right(ascending, tick.until)
                summed.update(ascending[first:end])
                counted = tick.count == end - first or world.went_back or len(epochs) > 1
                self._hold(counted, f"{job}: {tick} stands for {end - first} due times")
        # After a step back, the clock may repeat times, even from before the job was registered.
        # And a time may be due by an older schedule as well as by a newer one.
        once_only = not world.went_back and len(epochs) == 1
        for due in ascending:
            times = summed[due] + (due in single and not (summed[due] and due in by_hand))
            self._hold(times == 1 or (times and not once_only),
                       f"{job}: due time {due} is in the ledger {times} times")  # fmt: skip
        self._hold(merged.keys() <= single.keys(), f"{job}: merged into nothing: {merged}")
        if len({epoch.state.timing for epoch in epochs}) == 1:
            for due in single.keys() & due_times - by_hand:
                change = epochs[0].times.clock_change(due)
                told = (merged[due].due, merged[due].count) if due in merged else None
                merges = change is not None and change.merged
                wanted = (merges[0], len(merges)) if merges else None
                self._hold(told == wanted, f"{job}: {change} of {due} is recorded as {told}")
        strange = {
            due for due in single.keys() - due_times - by_hand if not self._was_due(job, due)
        }
        self._hold(not strange or world.went_back, f"{job}: {strange} are no due times")

    def _check_followed(self, process: Process, job: str) -> None:
        """Check that a job ran only after others, once for each due time or execution of theirs."""
        disk, others = self.world.disk, self.world.jobs[job].after
        ledger = process.store.ticks(job, None, 100_000)
        due_times = {due for other, due in disk.fired if other in others}
        lost = due_times - {tick.due for tick in ledger}
        lost = {due for due in lost if self._succeeded_since(job, due)}
        self._hold(not lost, f"{job} has nothing for {lost}, for which {others} have succeeded")
        for tick in ledger:
            if refused := REFUSED.match(tick.reason):
                id = refused["id"]
                cause = disk.executions[id]
                then = tick.due in {fact.at for fact in disk.facts[id]}
                told = f"{job}: {tick}, which is no success of {others} without a due time"
                free = cause.job in others and cause.scheduled_at is None
                self._hold(free and then and self._succeeded_once(id), told)
                continue
            for other in others:
                id = disk.fired.get((other, tick.due))
                succeeded = id is not None and self._succeeded_once(id)
                self._hold(succeeded, f"{job}: {tick}, and {other} has not succeeded for it")
        made = [one for one in disk.executions.values() if (one.job, one.cause) == (job, "after")]
        free = [one for one in made if one.scheduled_at is None]
        keys = [key for (of, key), _ in disk.keys.items() if of == job and key.startswith("after:")]
        self._hold(len(keys) == len(free), f"{job} ran {len(free)} times, after {keys}")
        for key in keys:
            self._hold(self._succeeded_once(key.removeprefix("after:")), f"{job} ran {key}")

    def _succeeded_since(self, job: str, due: datetime) -> bool:
        """Whether the others have succeeded for a due time since a job began to follow them."""
        disk = self.world.disk
        ids = [disk.fired.get((other, due), "") for other in self.world.jobs[job].after]
        if not all(id in disk.succeeded for id in ids) or job not in disk.follows:
            return False
        if any(self._facts(id, Retried) for id in ids):
            return False  # not all may have been successful at the same time
        return max(disk.succeeded[id] for id in ids) > disk.follows[job]

    def _succeeded_once(self, id: str) -> bool:
        """Whether an execution has been successful at some time."""
        succeeded = State.SUCCESSFUL
        return any(
            (isinstance(fact, Finished) and fact.state == succeeded)
            or (isinstance(fact, MarkedSuccessful | MarkedSkipped) and fact.finished == succeeded)
            for fact in self.world.disk.facts[id]
        )

    def _was_due(self, job: str, due: datetime) -> bool:
        """Whether an earlier schedule of the job had this due time. One that was being fired when
        the schedule was replaced is in the ledger, and moves no account."""
        before = due - timedelta(microseconds=1)
        return any(epoch.times.next(before) == due for epoch in self.world.disk.epochs[job][:-1])

    def _by_hand(self, tick: Tick) -> bool:
        execution = self.world.disk.executions.get(tick.execution or "")
        return execution is not None and execution.cause == "backfill"


def _parse(frame: bytes) -> tuple[str, bytes]:
    """The id and the data of a server-sent event."""
    fields = dict(line.split(b": ", 1) for line in frame.splitlines() if line)
    return fields[b"id"].decode(), fields[b"data"]


async def _audit(process: Process) -> None:
    """Subscribe to committed facts, and remember only some of the versions."""
    world, rng = process.world, process.rng
    while True:
        subscription = None
        try:
            subscription = await process.engine.feed.subscribe("audit", since=0)
            async for item in subscription:
                assert isinstance(item, Committed), "nothing is purged"
                world.audited[item.version] = item.execution, item.facts
                if rng.random() < 0.2:
                    await subscription.remember(item.version)
                if rng.random() < 0.02:
                    break
        except Unavailable:
            pass
        finally:
            if subscription is not None:
                subscription.close()
        await asyncio.sleep(1)


async def _listen(process: Process) -> None:
    """Read the stream, slowly at times, and reconnect at the last event."""
    world, rng = process.world, process.rng
    while True:
        listener = process.engine.broadcast.listen(None, world.last_event)
        try:
            async for events in listener:
                if world.last_event is None:
                    # A client without an id receives unfinished executions and recent ones.
                    executions = list(world.disk.executions.values())[:-SNAPSHOT]
                    world.too_old = {one.id for one in executions if one.finished}
                for event in events:
                    world.last_event, data = _parse(event.frame)
                    world.told[msgspec.json.decode(data)["id"]] = data
                if rng.random() < 0.05:
                    await asyncio.sleep(rng.choice((0, 0.5, 30)))
                if rng.random() < 0.02:
                    break
        except Unavailable:
            await asyncio.sleep(1)
        finally:
            listener.close()
