"""The argument of hooks: how an execution ended."""

from datetime import datetime
from typing import Any

import msgspec

from goflow.core.states import State


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended, as hooks are told it when all tasks have ended.

    Attributes:
        execution: Id of the execution.
        job: Name of the job.
        state: Final state of the execution: `successful`, `failed` or `cancelled`.
        failed: Names of the failed tasks, in the order added.
        errors: Errors of the failed tasks by name. Long ones are cut to their beginning and end,
            once those before take 256 Ki characters.
        reason: Reason of a failure that no failed task explains, such as a timeout; else None.
        params: Parameters of the execution, defaults included.
        scheduled_at: Due time in UTC; None if the execution was submitted by hand.
        submitted_at: Time of the submit, in UTC.
        started_at: Start of the first attempt; None if none has started.
        finished_at: End of the last task.

    Examples:
        >>> from goflow import Command, Job, Outcome, Task
        >>> job = Job("nightly", tasks=[Task("load", Command("false"))])
        >>> @job.on_failure
        ... def notify(outcome: Outcome):
        ...     print(f"{outcome.job} {outcome.state}: {outcome.errors}")
        >>> job.run().hooks["notify"].logs
        "nightly failed: {'load': 'exit code 1'}\\n"
    """

    execution: str
    job: str
    state: State
    failed: list[str]
    errors: dict[str, str]
    reason: str | None
    params: dict[str, Any]
    scheduled_at: datetime | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime
