"""The waiting tasks and items of one execution: looks in vain, and the next ones.

Between two looks a task has no slot, no log in memory and no asyncio task; an entry of the alarm
is all. The rule that must not be broken: a wait begins only when its fact is committed.
"""

from collections.abc import Callable, Container, Iterator
from datetime import timedelta
from functools import partial

import msgspec

from goflow.core.cost import Cost
from goflow.core.execution import Execution, Postponed
from goflow.core.keys import Key, item_of, task_of
from goflow.core.summary import Waiting
from goflow.engine.alarm import Entry
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.requests import Requests
from goflow.engine.journal import PATIENCE
from goflow.engine.output.tasklog import Carried
from goflow.errors import StoreUnavailable
from goflow.stores.base import Store

MEASURED = 256 * 1024  # characters of a log read at once


class Wait:
    """A wait of attempt `number`. `again` is the time of the next look, None during a look and
    while a reason is being committed. `log` is how far its log has got: None if it is empty, and
    not set if it is unknown, after a restart."""

    __slots__ = ("again", "began", "cost", "entry", "is_asking", "log", "number")

    def __init__(
        self, number: int, began: float, log: Carried | msgspec.UnsetType | None = msgspec.UNSET
    ) -> None:
        self.number = number
        self.began = began  # of the clock's `elapsed`, at the start of the attempt
        self.log = log
        self.cost: Cost | None = None  # of the looks so far, since the server started
        self.again: Waiting | None = None
        self.entry: Entry | None = None
        self.is_asking = False  # for a slot


class Waits:
    """Waits by task or item. `look` is called to look again, with a slot."""

    def __init__(
        self,
        execution: Execution,
        dependencies: Dependencies,
        requests: Requests,
        look: Callable[[Key, int], object],
    ) -> None:
        self._execution = execution
        self._dependencies = dependencies
        self._requests = requests
        self._look = look
        self._waits: dict[Key, Wait] = {}
        self._at_once: set[Key] = set()  # to look again without a wait
        self.stopped = False

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._waits))

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, key: Key) -> bool:
        return key in self._waits

    def again(self, key: Key) -> Waiting | None:
        """Why a task or item waits, and until when; None if it does not, or is looking."""
        wait = self._waits.get(key)
        return None if wait is None else wait.again

    # -- beginning and going on ------------------------------------------------------

    def resume(self, found: Container[Key]) -> None:
        """Take up the waits of an execution that was replayed, but for looks that were `found`
        going on."""
        for key in self._execution.waits:
            run = self._execution.run(key)
            self._waits[key] = Wait(run.attempt, self._began(key))
            if key in found:
                self._execution.looking.add(key)
            else:
                self.begin(key)

    def postpone(self, key: Key, number: int, log: Carried | None, cost: Cost | None) -> None:
        """Note a look in vain; `begin` or `go_on` follows."""
        if (wait := self._waits.get(key)) is None:
            wait = self._waits[key] = Wait(number, self._began(key))
        wait.log, wait.cost = log, cost

    def begin(self, key: Key) -> None:
        """Wait as the committed facts say."""
        waiting = self._execution.run(key).waiting
        if waiting is not None and key in self._waits:
            self._set(key, waiting)

    def go_on(self, key: Key, outcome: Postponed) -> None:
        """Wait again for the same reason."""
        again = self._dependencies.clock.now() + timedelta(seconds=outcome.seconds)
        waiting = Waiting(outcome.why, again, outcome.seconds)
        self._set(key, waiting)
        self._dependencies.looked(self._execution.id, key, waiting)

    def _began(self, key: Key) -> float:
        """The start of an attempt, of the clock's `elapsed`."""
        clock, started = self._dependencies.clock, self._execution.run(key).started_at
        now = clock.now()
        return clock.elapsed() - max(now - (started or now), timedelta(0)).total_seconds()

    def waited(self, key: Key) -> float:
        """The seconds since the first look; 0.0 in the first one."""
        wait = self._waits.get(key)
        return 0.0 if wait is None else self._dependencies.clock.elapsed() - wait.began

    def _set(self, key: Key, waiting: Waiting) -> None:
        wait = self._waits[key]
        wait.again = waiting
        if self.stopped:
            return
        if key in self._at_once:
            self._ask(key)
        else:
            wait.entry = self._dependencies.alarm.set(waiting.again, partial(self._ask, key))

    def look_now(self, key: Key) -> None:
        """Look again at once. A look that is under way, or the first one, is followed by another
        one at once if it is in vain."""
        wait = self._waits.get(key)
        if wait is None or wait.again is None:
            self._at_once.add(key)
        elif wait.entry is not None:
            entry, wait.entry = wait.entry, None
            entry.ring()

    def _ask(self, key: Key) -> None:
        """Ask for a slot, to look again."""
        wait = self._waits[key]
        wait.entry, wait.is_asking = None, True
        self._at_once.discard(key)
        self._requests.ask_to_look(key, self._dependencies.clock.now(), self._granted)

    def _granted(self, key: Key) -> None:
        wait = self._waits[key]
        wait.again, wait.is_asking = None, False
        self._execution.looking.add(key)
        self._look(key, wait.number)

    # -- ending ------------------------------------------------------------------------

    def end(self, key: Key) -> Wait | None:
        """End a wait; returns it, unless its task is looking right now or its reason is being
        committed."""
        wait = self._waits.get(key)
        if wait is None or wait.again is None:
            return None
        self.forget(key)
        return wait

    def forget(self, key: Key) -> None:
        """Forget a wait that is over."""
        self._at_once.discard(key)
        if (wait := self._waits.pop(key, None)) is not None:
            self._rest(key, wait)

    def _rest(self, key: Key, wait: Wait) -> None:
        if wait.entry is not None:
            wait.entry.cancel()
            wait.entry = None
        if wait.is_asking:
            wait.is_asking = False
            self._requests.release(key)

    def stop(self) -> None:
        """Look no more. The next start of the server goes on."""
        self.stopped = True
        for key, wait in self._waits.items():
            self._rest(key, wait)

    def cost(self, key: Key) -> Cost | None:
        """The cost of the looks of a task or item so far; None if there is nothing to say."""
        return self._waits[key].cost

    # -- logs --------------------------------------------------------------------------

    async def log(self, key: Key) -> Carried | None:
        """How far the log of a waiting task has got; None for no lines."""
        wait, given = self._waits[key], self._dependencies
        while isinstance(wait.log, msgspec.UnsetType):
            try:
                wait.log = await given.measure_log(
                    self._execution.id, key, wait.number, given.limits.log
                )
            except StoreUnavailable:
                await given.clock.sleep(PATIENCE)
        return wait.log


def measure(store: Store, execution: str, key: Key, attempt: int, limit: int) -> Carried | None:
    """How far the log of an attempt has got that is in the store; None if it is empty. The work is
    proportional to its size, which is bounded."""
    logs, place = store.logs, (execution, task_of(key), attempt)
    item = item_of(key)
    end = logs.end(*place, item)
    unfinished = logs.unfinished(*place, item)
    if not end and unfinished is None:
        return None
    after, room, tail = 0, limit, limit - limit // 2
    kept: list[tuple[int, int, int]] = []
    while after < end and (chunks := logs.read(*place, after, MEASURED, item)):
        for chunk in chunks:
            if not chunk.lines or chunk.first < after:
                continue
            size = len(chunk.text)
            if room <= tail:
                if kept and kept[-1][2] + size <= tail // 16:
                    first, _, before = kept.pop()
                    kept.append((first, chunk.first + chunk.lines, before + size))
                else:
                    kept.append((chunk.first, chunk.first + chunk.lines, size))
            room -= size
        last = chunks[-1]
        if last.first + last.lines <= after:
            break
        after = last.first + last.lines
    return Carried(end, room, tuple(kept), "" if unfinished is None else unfinished.text)
