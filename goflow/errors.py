"""The errors that goflow raises on purpose.

    GoflowError
    ├── InvalidJob            an invalid definition (also a ValueError)
    ├── InvalidRequest        an invalid request; names the field
    │   ├── InvalidParams     parameters of a job; names every wrong one
    │   ├── NotFound          unknown job, execution, task or log
    │   └── Conflict          the current state does not allow the request
    ├── Unavailable           try again later
    │   ├── StoreUnavailable  the store cannot be written now
    │   ├── ResultLost        the store has lost a result
    │   └── Stopping          the server accepts no new work
    ├── StoreError            the store cannot be opened
    ├── TaskFailed            raised by an operator to fail the attempt
    ├── Skip                  raised by an operator to skip the task
    └── Later                 raised by an operator to look again later

A message is one sentence that names the job, the task and the value, and says what to do. The
`code` is a stable word for programs.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple


class GoflowError(Exception):
    """Base class of all errors that goflow raises on purpose.

    Attributes:
        code: Stable word for programs, as in the API's error responses.

    Examples:
        >>> from goflow import GoflowError, Schedule
        >>> try:
        ...     Schedule("60 * * * *")
        ... except GoflowError as error:
        ...     print(error.code)
        invalid-job
    """

    code = "error"


class InvalidJob(GoflowError, ValueError):
    """A job, task, operator or schedule is invalid. The message names it and the value.

    Examples:
        >>> from goflow import InvalidJob, Job
        >>> try:
        ...     Job("")
        ... except InvalidJob as error:
        ...     print(error)
        job name '' has 0 characters; it must have 1 to 250
    """

    code = "invalid-job"


class InvalidRequest(GoflowError):
    """A request is invalid. It changed nothing.

    Attributes:
        field: Name of the invalid part of the request, or None.
    """

    code = "invalid-request"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.field = field


class WrongField(NamedTuple):
    """A wrong part of a request: its path, such as `params.owners[0].name`, and the reason."""

    field: str
    message: str


class InvalidParams(InvalidRequest):
    """The parameters do not fit the job.

    Attributes:
        errors: Every wrong field with its reason. `field` is the first one.
    """

    code = "invalid-params"

    def __init__(
        self, message: str, *, errors: Sequence[WrongField], code: str | None = None
    ) -> None:
        super().__init__(message, code=code, field=errors[0].field if errors else "params")
        self.errors = tuple(errors)


class NotFound(InvalidRequest):
    """The job, execution, task or log does not exist."""

    code = "not-found"


class Conflict(InvalidRequest):
    """The state of the job, execution or task does not allow the request."""

    code = "conflict"


class Unavailable(GoflowError):
    """The server cannot do this now. The same request may succeed later."""

    code = "unavailable"


class StoreUnavailable(Unavailable):
    """The store cannot be written now: it is locked, full or gone."""

    code = "store-unavailable"


class ResultLost(Unavailable):
    """The store has lost a result, or has a damaged copy of it."""

    code = "result-lost"


class Stopping(Unavailable):
    """The server is stopping and accepts no new work."""

    code = "stopping"


class StoreError(GoflowError):
    """The store cannot be opened. The message gives the reason.

    Examples:
        >>> from goflow import SqliteStore, StoreError
        >>> try:
        ...     SqliteStore("/no/such/folder/goflow.db").open()
        ... except StoreError as error:
        ...     print(error.code)
        store-error
    """

    code = "store-error"


class Skip(GoflowError):
    """Raised by an operator to skip the task, or the item of a mapped task.

    Tasks downstream then run or are skipped by their trigger rules.

    Args:
        why: The reason, which the dashboard and the log show. It is cut to 300 characters.

    Examples:
        >>> from goflow import Job, Skip
        >>> job = Job("load")
        >>> @job.task
        ... def extract():
        ...     raise Skip("no new orders")
        >>> execution = job.run()
        >>> execution.tasks["extract"].state
        <State.SKIPPED: 'skipped'>
        >>> execution.tasks["extract"].logs
        'skipped: no new orders\\n'
    """

    code = "skip"

    def __init__(self, why: str = "") -> None:
        super().__init__(why)


class TaskFailed(GoflowError):
    """Raised by an operator to fail the attempt for a known reason.

    The message becomes the attempt's error, without a traceback.

    Args:
        message: The reason.
        final: Whether to fail the task without further retries.

    Examples:
        >>> from goflow import Job, TaskFailed
        >>> job = Job("check")
        >>> @job.task
        ... def count_rows():
        ...     raise TaskFailed("orders has 0 rows")
        >>> job.run().tasks["count_rows"].error
        'orders has 0 rows'
        >>> job = Job("log-in")
        >>> @job.task(retries=5)
        ... def check_key():
        ...     raise TaskFailed("the key was revoked", final=True)
        >>> len(job.run().tasks["check_key"].attempts)
        1
    """

    code = "task-failed"
    final = False

    def __init__(self, message: str = "", *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Later(GoflowError):
    """Raised by an operator to end this look, and to be run again later in the same attempt.

    Until then the task waits: it is running, but holds no slot and no place in its pool, and uses
    up no retry. A restart of the server does not end the wait. The looks share the attempt's log.

    Args:
        seconds: Seconds until the next look, from 0 to a century; or a `timedelta`.
        why: What the task waits for. It is shown beside the time of the next look.

    Examples:
        >>> from goflow import Context, Job, Later
        >>> job = Job("fetch")
        >>> looks = []
        >>> @job.task
        ... def rows():
        ...     looks.append(1)
        ...     if len(looks) < 3:
        ...         raise Later(0.1, "the table is empty")
        ...     return len(looks)
        >>> task = job.run().tasks["rows"]
        >>> task.result, len(task.attempts)
        (3, 1)
    """

    code = "later"

    def __init__(self, seconds: "float | timedelta", why: str = "") -> None:
        super().__init__(seconds, why)
        self.seconds = seconds
        self.why = why
