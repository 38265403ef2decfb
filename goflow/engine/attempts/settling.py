"""The facts by which attempts end: the outcome, and when the task is tried again."""

from collections.abc import Iterable
from datetime import datetime

from goflow.core.events import AnyFact
from goflow.core.execution import Execution, Failed, Outcome
from goflow.core.retry import CENTURY
from goflow.engine.hints import Hint
from goflow.job import Job, Task
from goflow.shown import reason


def settle(
    execution: Execution, task: Task | None, name: str, outcome: Outcome, now: datetime
) -> AnyFact:
    """End the running attempt of a task; the fact is applied, and must be committed."""
    delay = 0.0
    if isinstance(outcome, Failed) and execution.will_retry(name, outcome):
        delay, outcome = _delay(execution, task, name, outcome)
    return execution.settle(name, outcome, now, delay)


def settle_hinted(
    execution: Execution, job: Job | None, hints: Iterable[Hint], now: datetime
) -> list[AnyFact]:
    """End the running attempts that had ended when the server was killed, as hints tell."""
    facts = []
    for hint in hints:
        name = hint.task
        if name in execution.running and execution.tasks[name].attempt == hint.attempt:
            task = None if job is None else job.find(name)
            facts.append(settle(execution, task, name, hint.outcome, now))
    return facts


def _delay(
    execution: Execution, task: Task | None, name: str, failed: Failed
) -> tuple[float, Failed]:
    """Ask the task's retry delay, which is the user's code and may do anything."""
    if task is None:
        return 0.0, failed
    number = execution.tasks[name].attempt
    try:
        seconds = float(task.retry_delay.delay(number))
        if not 0 <= seconds <= CENTURY:
            raise ValueError(f"{seconds!r} is not from 0 to {CENTURY:g} seconds")
    except BaseException as error:  # a SystemExit would end the event loop
        why = reason(error)
        told = f"not tried again: retry_delay.delay({number}) gave no delay: {why}"
        return 0.0, Failed(f"{failed.error}\n\n{told}", final=True)
    return seconds, failed
