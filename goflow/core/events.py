"""Facts: the events of an execution, in the past tense.

The store keeps the facts of an execution, and its state is a fold of them. Facts are never
changed. A fact may gain fields with defaults; it never loses or renames one, since stored facts
must stay readable. `goflow.core.progress` says how a fact is added.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from goflow.core.cost import Cost
from goflow.core.graph import Plan
from goflow.core.keys import Key, key_of
from goflow.core.result import Chunked, Kept, StoredResult
from goflow.core.states import SkipReason


class Fact(msgspec.Struct, frozen=True, tag=True, tag_field="fact", omit_defaults=True):
    """Something that happened at the UTC instant `at`.

    `action` is set on facts that record a request by a person or a program, as `Detail.actions`
    shows it; such a fact has a field `by`, the user who requested it.
    """

    action: ClassVar[str | None] = None

    at: datetime

    @property
    def about(self) -> str | None:
        """The task that the fact is about, if it is about one."""
        return getattr(self, "task", None)


class Parent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The task, or the `item` of a mapped task, that started an execution. `depth` is the number
    of executions above it."""

    execution: str
    task: str
    item: int | None = None
    depth: int = 1

    @property
    def key(self) -> Key:
        """The task or item."""
        return key_of(self.task, self.item)


class Submitted(Fact, frozen=True, kw_only=True):
    """The execution was accepted. `cause` is "schedule", "after", "job", "api", "run" or
    "backfill". One that a task of another execution started has a `parent`.

    It begins when the executions in `after` have ended. `timeout` is in seconds from the
    start of its first attempt. The interval is that of a job with `interval=True`.
    """

    action = "submit"

    id: str
    job: str
    plan: str
    cause: str
    params: dict[str, Any] = {}
    scheduled_at: datetime | None = None
    after: tuple[str, ...] = ()
    timeout: float | None = None
    by: str = ""
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    parent: Parent | None = None


class RunFact(Fact, frozen=True):
    """A fact about a task, or about the `item` of a mapped task with that index."""

    task: str

    @property
    def key(self) -> Key:
        """The task or item that the fact is about."""
        return key_of(self.task, getattr(self, "item", None))


class TaskStarted(RunFact, frozen=True):
    """Attempt number `attempt` (from 1) of a task started."""

    attempt: int
    item: int | None = None


class Mapped(RunFact, frozen=True):
    """The items of a mapped task are known, and the task runs. `attempt` counts from 1 how often
    this happened. With `error` there are none, since the value to map over is unsuitable. `keys`
    has a key for each item, if the task gives them keys; not for items that a retry kept."""

    item: ClassVar[None] = None

    attempt: int
    items: int
    error: str = ""
    keys: tuple[str, ...] = ()


class TaskSucceeded(RunFact, frozen=True):
    """The attempt succeeded; `result` is JSON.

    The store keeps a result of more than `goflow.core.result.SMALL` bytes separately, under
    this task and attempt. Then `result` is null here, `size` is the number of its bytes and
    `sha256` their hash.

    Of a branch, `chosen` are the tasks directly downstream that go on; None for other tasks.
    `kept` has the artifacts. If the result is among them, `result` describes it.

    Each fact that ends an attempt has its `cost`, None if there is nothing to say.

    If the store keeps the result in chunks, of a generator, `chunked` says so, and `size` and
    `sha256` are those of the joined list. It also says so of a mapped task whose results are too
    large to be joined; then there is no hash.
    """

    attempt: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    sha256: str = ""
    item: int | None = None
    chosen: tuple[str, ...] | None = None
    kept: Kept | None = None
    cost: Cost | None = None
    chunked: Chunked | None = None

    @property
    def stored(self) -> StoredResult | None:
        """The location of a result that is kept separately, else None."""
        if self.kept is not None and (file := self.kept.result) is not None:
            return StoredResult(
                self.task, self.attempt, file.size, file.sha256, self.item, self.kept.format
            )
        if not self.sha256 and self.chunked is None:
            return None
        return StoredResult(
            self.task, self.attempt, self.size, self.sha256, self.item, chunked=self.chunked
        )


class Yielded(RunFact, frozen=True):
    """A running generator has yielded `items` more items, from the one with index `first`. The
    store keeps them apart, as one chunk; `size` is the number of bytes that they add to the
    list of all items as JSON. Those that repeat the items of an attempt before are no facts."""

    item: ClassVar[None] = None

    attempt: int
    first: int
    items: int
    size: int


class AttemptFailed(RunFact, frozen=True):
    """The attempt failed, and another one is due at `retry_at`.

    An attempt `interrupted` by the end of the server uses up none of the task's retries. With
    `tells`, the task's `on_retry` is called, and the next attempt waits for `OnRetryEnded`.
    """

    attempt: int
    error: str
    retry_at: datetime
    interrupted: bool = False
    item: int | None = None
    cost: Cost | None = None
    tells: bool = False


class OnRetryEnded(RunFact, frozen=True):
    """The `on_retry` that this failed attempt was followed by has ended, with this error if any."""

    attempt: int
    error: str = ""
    item: int | None = None


class TaskFailed(RunFact, frozen=True):
    """The attempt failed, or was `interrupted`, and it was the last one."""

    attempt: int
    error: str
    interrupted: bool = False
    item: int | None = None
    cost: Cost | None = None


class TaskPostponed(RunFact, frozen=True):
    """The attempt's operator looked in vain, and looks again at `again_at`; `why` says for what
    it waits. The attempt goes on. Further looks in vain are facts only if `why` changes."""

    attempt: int
    again_at: datetime
    why: str
    item: int | None = None


class TaskSkipped(RunFact, frozen=True):
    """The task did not run. If `attempt` is not 0, that attempt was running and skipped it.

    `why` explains the reason to people, in at most `goflow.core.summary.WHY` characters. Stores
    of older versions have facts without a reason: the trigger rule could no longer be met, or a
    mapped task had no items.
    """

    item: int | None = None
    attempt: int = 0
    reason: SkipReason | None = None
    why: str = ""
    cost: Cost | None = None


class Dispatched(RunFact, frozen=True):
    """An attempt dispatched its `number`-th action (from 1) to the shared state; `content` is the
    action as JSON. Actions that repeat those of the attempt before are no facts.

    `state` is the state after the action, of `size` bytes, and null if these are more than
    `goflow.core.result.SMALL`.
    """

    attempt: int
    number: int
    content: msgspec.Raw
    state: msgspec.Raw = msgspec.Raw(b"null")
    size: int = 0
    item: int | None = None


class ChildStarted(RunFact, frozen=True):
    """A running attempt has started the execution `child` of a job."""

    attempt: int
    child: str
    job: str
    item: int | None = None


class CancelRequested(Fact, frozen=True):
    """A cancel of the execution was requested; nothing starts after this.

    With `timeout`, in seconds, the execution failed because its time was over. With `defect`
    it failed because of an error in goflow itself.
    """

    action = "cancel"

    by: str = ""
    timeout: float | None = None
    defect: str = ""


class TaskCancelRequested(RunFact, frozen=True):
    """A cancel of one task or item was requested; the others continue."""

    action = "cancel task"

    by: str = ""
    item: int | None = None


class TaskCancelled(RunFact, frozen=True):
    """The task will not run. If `attempt` is not 0, that attempt was running and was stopped."""

    attempt: int = 0
    item: int | None = None
    cost: Cost | None = None


class MarkedSuccessful(RunFact, frozen=True):
    """A task that is not running was marked successful by hand.

    `finished` is the resulting state of a finished execution, None for an unfinished one.
    """

    action = "mark successful"

    by: str = ""
    finished: str | None = None
    item: int | None = None


class MarkedSkipped(RunFact, frozen=True):
    """A task that is not running was marked skipped by hand; as `MarkedSuccessful`."""

    action = "mark skipped"

    by: str = ""
    finished: str | None = None
    item: int | None = None


class Finished(Fact, frozen=True):
    """Every task has ended; `state` is the final state of the execution."""

    state: str


class Retried(Fact, frozen=True):
    """A finished execution was reopened to run these tasks again; the others keep their state.

    `params` replace those of the execution, unless None. `asked` is the task named in the
    request, if any. With `item`, only that item of it runs again. Otherwise, of a mapped task
    the items that did not succeed run again; all items are created anew if they all succeeded,
    or if a task upstream of it runs again.

    With `plan`, the execution goes on by that plan, and with that `timeout`. Its tasks keep the
    states, results and attempts of the tasks of the same name. `tasks` has all tasks that are new
    in it. Tasks and hooks that are not in it are dropped; their attempts stay readable.

    If `tasks` are hooks, only these run again, and the tasks and the final state stay.
    """

    action = "retry"

    tasks: tuple[str, ...]
    by: str = ""
    params: dict[str, Any] | None = None
    asked: str | None = None
    item: int | None = None
    plan: Plan | None = None
    timeout: float | None = None

    @property
    def about(self) -> str | None:
        """The task named in the request."""
        return self.asked


TaskFact = (
    TaskStarted
    | Mapped
    | Yielded
    | TaskSucceeded
    | AttemptFailed
    | OnRetryEnded
    | TaskFailed
    | TaskPostponed
    | TaskSkipped
    | Dispatched
    | ChildStarted
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
