"""What runners and attempts are handed by the engine."""

from collections.abc import Awaitable, Callable

import msgspec

from goflow.core.keys import Key
from goflow.core.summary import Waiting
from goflow.engine.alarm import Alarm
from goflow.engine.attempts.abandoned import Abandoned
from goflow.engine.attempts.bars import Bars
from goflow.engine.attempts.hanging import Hanging
from goflow.engine.attempts.results import Results
from goflow.engine.clock import Clock
from goflow.engine.executors.choice import Executors
from goflow.engine.hints import Hints
from goflow.engine.journal import Journal
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.tasklog import Carried
from goflow.engine.slots import Slots
from goflow.engine.threads import Threads
from goflow.engine.turns import StartingLine
from goflow.operators.orphans import End
from goflow.stores.base import History


class Limits(msgspec.Struct, frozen=True):
    """Limits of one attempt, of one execution, and of all unfinished executions together."""

    result: int = 1024 * 1024  # bytes of JSON, of one attempt
    artifact: int = 1024 * 1024 * 1024  # bytes of one artifact
    log: int = 16 * 1024 * 1024  # characters, of one attempt
    results: int = 1024 * 1024 * 1024  # bytes of JSON of all the results of an execution
    params: int = 256 * 1024 * 1024  # bytes of JSON of the params of all unfinished executions


class Dependencies(msgspec.Struct, frozen=True):
    """Shared by all runners of an engine. `history` reads the committed facts of an execution;
    `on_defect` is called with a defect of goflow itself, and where it happened; `looked` with the
    time of the next look of a task or item that looked in vain again. `end_child` cancels an
    execution that a task started, given whether it waited for that. `measure_log` says how far the
    log of an attempt has got that keeps so many characters."""

    bars: Bars

    journal: Journal
    history: Callable[[str], Awaitable[History | None]]
    on_defect: Callable[[str, BaseException], None]
    results: Results
    clock: Clock
    slots: Slots
    starting_line: StartingLine
    abandoned: Abandoned
    hanging: Hanging
    executors: Executors
    limits: Limits
    backlog: Backlog
    epoch: str  # of the store
    server: str  # this process, in the form that process tags use
    end_orphans: End
    hints: Hints
    threads: Threads
    alarm: Alarm
    looked: Callable[[str, Key, Waiting], None]
    end_child: Callable[[str, bool], None]
    measure_log: Callable[[str, Key, int, int], Awaitable[Carried | None]]
