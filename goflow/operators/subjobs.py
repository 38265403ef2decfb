"""The operator that runs another job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from goflow import checks
from goflow.checks import defining
from goflow.core.states import FINISHED, State
from goflow.errors import Later, TaskFailed
from goflow.operators.base import Asking, Context, Executions
from goflow.templates import fields

# Seconds until it looks again. It is woken when the other execution ends; this is in case that
# was while the server was down.
EVERY = 30.0


@dataclass(frozen=True)
class RunJob(Asking):
    """Starts an execution of another job, and waits for its end without holding a slot.

    The execution is started once per attempt, whatever crashes. If it fails or is cancelled, the
    attempt fails; a retry starts another one. If the task is cancelled, so is the execution.

    The result is the results of the other execution's tasks, by name; without `wait`, its id.

    Args:
        job: Name of the other job. It must be registered when the server starts.
        params: Parameters for it. Values may be a `Template`, also in lists and dicts.
        wait: Whether to wait for the end of the execution.

    Raises:
        InvalidJob: An argument is invalid.

    Examples:
        >>> from goflow import RunJob, Task, Template
        >>> day = Template("{{ params.day }}")
        >>> task = Task("load", RunJob("load", params={"day": day}))
    """

    starts: ClassVar[bool] = True

    job: str
    params: Mapping[str, Any] | None = None
    wait: bool = field(default=True, kw_only=True)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("RunJob")
    def __post_init__(self) -> None:
        checks.name("job", self.job)
        params = checks.mapping("RunJob: params", self.params)
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "wait", checks.flag("RunJob: wait", self.wait))
        object.__setattr__(self, "_has_templates", fields.has_templates(params))

    def jobs(self) -> tuple[str, ...]:
        return (self.job,)

    async def ask(self, context: Context, executions: Executions) -> Any:
        params = self.params or {}
        if self._has_templates:
            rendered, texts = await fields.rendered(self, context, typed=["params"])
            params = rendered.params or {}
            if not context.waited:
                fields.log(context.log, texts)
        found = await executions.start(self.job, params, context)
        if not self.wait:
            return found.id
        named = f"execution {found.id} of job {self.job!r}"
        if found.state not in FINISHED:
            raise Later(EVERY, f"{named} has not ended")
        if found.state is not State.SUCCESSFUL:
            raise TaskFailed(f"{named} is {found.state}")
        return await executions.results(found)
