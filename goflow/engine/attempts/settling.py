"""The facts by which attempts end: the outcome, and when the task is tried again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from goflow.core.events import AnyFact
from goflow.core.execution import Execution, Failed, Outcome
from goflow.core.keys import Key
from goflow.core.retry import CENTURY
from goflow.engine.hints import Hint
from goflow.engine.journal import UnknownOutcome
from goflow.engine.output.linetimes import without
from goflow.errors import Unavailable
from goflow.job import Job, Task
from goflow.shown import reason
from goflow.stores.base import Change
from goflow.stores.logs import AppendLog, Logs


def settle(
    execution: Execution, task: Task | None, key: Key, outcome: Outcome, now: datetime
) -> AnyFact:
    """End the running attempt of a task; the fact is applied, and must be committed."""
    delay = 0.0
    if isinstance(outcome, Failed) and execution.will_retry(key, outcome):
        delay, outcome = _delay(execution, task, key, outcome)
    tells = task is not None and task.on_retry is not None
    return execution.settle(key, outcome, now, delay, tells=tells)


def settle_hinted(
    execution: Execution, job: Job | None, hints: Iterable[Hint], now: datetime
) -> list[AnyFact]:
    """End the running attempts that had ended when the server was killed, as hints tell."""
    facts = []
    for hint in hints:
        task = None if job is None else job.find(hint.task)
        facts.append(settle(execution, task, hint.key, hint.outcome, now))
    return facts


def hinted_lines(logs: Logs, hint: Hint) -> AppendLog | None:
    """The last lines of a log that a hint has and the store has not. If lines before them are
    lost, the numbers of lines have a gap, which readers show."""
    lines = hint.last_lines
    if lines is None:
        return None
    place = hint.execution, hint.task, hint.attempt
    stored = max(0, logs.end(*place, hint.item) - lines.first)
    if stored >= lines.lines:
        return None
    text, times = lines.text, lines.times
    if stored:
        text, times = text.split("\n", stored)[stored], without(times, stored)
    unfinished = logs.unfinished(*place, hint.item)
    return AppendLog(
        *place,
        lines.first + stored,
        lines.lines - stored,
        text,
        times=times,
        replaces=None if unfinished is None else unfinished.first,
        item=hint.item,
    )


def report_lost_log(error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "the log of an attempt could not be written", "exception": error}
    )


async def commit_ends(
    commit: Callable[..., Awaitable[object]],
    changes: Sequence[Change],
    last_lines: Sequence[AppendLog],
) -> None:
    """Commit the ends of attempts with the last lines of their logs, in one transaction. `changes`
    has their facts.

    Lines that the store cannot write do not change an outcome: they are reported, and the ends are
    committed without them. `commit` is a method of the journal.
    """
    if last_lines:
        try:
            await commit(*last_lines, *changes)
        except (Unavailable, UnknownOutcome):
            raise
        except Exception:
            for change in last_lines:
                try:
                    await commit(change)
                except (Unavailable, UnknownOutcome):
                    raise
                except Exception as error:
                    report_lost_log(error)
        else:
            return
    await commit(*changes)


def _delay(
    execution: Execution, task: Task | None, key: Key, failed: Failed
) -> tuple[float, Failed]:
    """Ask the task's retry delay, which is the user's code and may do anything."""
    if task is None:
        return 0.0, failed
    number = execution.run(key).attempt
    try:
        seconds = float(task.retry_delay.delay(number))
        if not 0 <= seconds <= CENTURY:
            raise ValueError(f"{seconds!r} is not from 0 to {CENTURY:g} seconds")
    except BaseException as error:  # a SystemExit would end the event loop
        why = reason(error)
        told = f"not retried: retry_delay.delay({number}) returned no delay: {why}"
        return 0.0, Failed(f"{failed.error}\n\n{told}", True, failed.cost)
    return seconds, failed
