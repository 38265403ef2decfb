"""What happened: facts about one execution, in the past tense, never changed.

Facts are the only truth the store keeps of an execution; its state is a fold of them.
A fact may gain fields with defaults, and never loses or renames one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from goflow.core.result import StoredResult


class Fact(msgspec.Struct, frozen=True, tag=True, tag_field="fact", omit_defaults=True):
    """Something that happened at the UTC instant `at`."""

    at: datetime


class Submitted(Fact, frozen=True, kw_only=True):
    """The execution was accepted. `cause` is "schedule", "api", "run" or "backfill".

    It begins when the executions in `after` have ended. `timeout` is in seconds from the
    start of its first attempt. `by` says who asked, for people.
    """

    id: str
    job: str
    plan: str
    cause: str
    params: dict[str, Any] = {}
    scheduled_at: datetime | None = None
    after: tuple[str, ...] = ()
    timeout: float | None = None
    by: str = ""


class TaskStarted(Fact, frozen=True):
    """Attempt number `attempt` (from 1) of a task was begun."""

    task: str
    attempt: int


class TaskSucceeded(Fact, frozen=True):
    """The attempt ended well; `result` is JSON.

    A result of more than `goflow.core.result.SMALL` bytes is in the store by itself, under
    this task and attempt. Then `result` is null here, `size` is the number of its bytes and
    `sha256` their hash.
    """

    task: str
    attempt: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""

    @property
    def stored(self) -> StoredResult | None:
        """Where the result is, if it is not in here."""
        if not self.sha256:
            return None
        return StoredResult(self.task, self.attempt, self.size, self.sha256)


class AttemptFailed(Fact, frozen=True):
    """The attempt failed, and another one is due at `retry_at`.

    With `interrupted` it was not the attempt that failed but the server that went away: that
    takes none of the task's retries.
    """

    task: str
    attempt: int
    error: str
    retry_at: datetime
    interrupted: bool = False


class TaskFailed(Fact, frozen=True):
    """The attempt failed, or was `interrupted`, and it was the last one."""

    task: str
    attempt: int
    error: str
    interrupted: bool = False


class TaskSkipped(Fact, frozen=True):
    """The task's trigger rule can no longer be met."""

    task: str


class CancelRequested(Fact, frozen=True):
    """Somebody asked for the execution to stop; nothing starts after this.

    `timeout` is set, to the execution's, when it was time that asked: then it has failed. So
    it has with a `defect`, which says what went wrong in goflow itself.
    """

    by: str = ""
    timeout: float | None = None
    defect: str = ""


class TaskCancelRequested(Fact, frozen=True):
    """Somebody asked for one task to stop, or not to start; the others go on."""

    task: str
    by: str = ""


class TaskCancelled(Fact, frozen=True):
    """The task will not run, or, if `attempt` is not 0, that attempt was ended early."""

    task: str
    attempt: int = 0


class MarkedSuccessful(Fact, frozen=True):
    """Somebody said by hand that a task that is not running counts as successful.

    `finished` is the state of the execution thereby, if it has finished, else None.
    """

    task: str
    by: str = ""
    finished: str | None = None


class MarkedSkipped(Fact, frozen=True):
    """Somebody said by hand that a task that is not running counts as skipped; see above."""

    task: str
    by: str = ""
    finished: str | None = None


class Finished(Fact, frozen=True):
    """Every task came to an end."""

    state: str


class Retried(Fact, frozen=True):
    """A finished execution was sent round again with these tasks; the others keep their end.

    With `params` it has those from now on. `asked` is the task that was asked for, if one was.
    """

    tasks: tuple[str, ...]
    by: str = ""
    params: dict[str, Any] | None = None
    asked: str | None = None


TaskFact = (
    TaskStarted
    | TaskSucceeded
    | AttemptFailed
    | TaskFailed
    | TaskSkipped
    | TaskCancelRequested
    | TaskCancelled
    | MarkedSuccessful
    | MarkedSkipped
)
AnyFact = Submitted | TaskFact | CancelRequested | Finished | Retried

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[AnyFact])


def encode_facts(facts: Sequence[AnyFact]) -> bytes:
    """Facts as one JSON array."""
    return _encoder.encode(facts)


def decode_facts(encoded: bytes) -> list[AnyFact]:
    """The facts that `encode_facts` encoded; `msgspec.DecodeError` on anything else."""
    return _decoder.decode(encoded)
