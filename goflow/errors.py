"""Every error goflow raises on purpose.

    GoflowError
    ├── InvalidJob            a definition that cannot be honoured (also a ValueError)
    ├── InvalidRequest        a request that cannot be honoured; names the field at fault
    │   ├── NotFound          no such job, execution, task or log
    │   └── Conflict          it exists, but not in a state that allows this
    ├── Unavailable           try again later
    │   ├── StoreUnavailable  the store refused a write for now
    │   ├── ResultLost        the store has a result no more, or damaged
    │   └── Stopping          the engine takes no new work
    ├── StoreError            a store that cannot be opened at all
    └── TaskFailed            raised by an operator: this attempt failed, for a known reason

A message is one clear sentence that names the job, the task and the value, and says
what to do. The `code` is a stable word for programs.
"""


class GoflowError(Exception):
    """Base of all errors goflow raises on purpose."""

    code = "error"


class InvalidJob(GoflowError, ValueError):
    """A job, task, operator or schedule that cannot be honoured."""

    code = "invalid-job"


class InvalidRequest(GoflowError):
    """A request that cannot be honoured; it changed nothing.

    `field` names the part of the request at fault, or is None.
    """

    code = "invalid-request"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.field = field


class NotFound(InvalidRequest):
    """There is no such job, execution, task or log."""

    code = "not-found"


class Conflict(InvalidRequest):
    """It exists, but is not in a state that allows this."""

    code = "conflict"


class Unavailable(GoflowError):
    """Not now; the same request may succeed later."""

    code = "unavailable"


class StoreUnavailable(Unavailable):
    """The store refused a write for now (locked, full, gone)."""

    code = "store-unavailable"


class ResultLost(Unavailable):
    """The store no longer has a result as it was when the task ended."""

    code = "result-lost"


class Stopping(Unavailable):
    """The engine is stopping and takes no new work."""

    code = "stopping"


class StoreError(GoflowError):
    """The store cannot be opened: the message says what is wrong with it."""

    code = "store-error"


class TaskFailed(GoflowError):
    """This attempt failed for a known reason; its message is shown without a traceback."""

    code = "task-failed"
