"""Waits: operators that look for something, and look again later if it is not there.

The rule: a wait holds no slot between two looks. So `run` never sleeps; it raises `Later`.
"""

import asyncio
import glob
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, NoReturn, cast

from msgspec.structs import replace

from goflow import checks
from goflow.checks import defining
from goflow.core.retry import CENTURY
from goflow.core.schedule import find_zone
from goflow.core.states import State
from goflow.errors import InvalidJob, Later, TaskFailed
from goflow.operators.base import (
    Asking,
    Call,
    Context,
    Executions,
    FoundExecution,
    Log,
    Repeatable,
    call_of,
)
from goflow.operators.http import MAX_BODY, Get
from goflow.shown import shown
from goflow.templates import fields
from goflow.templates.template import Template

EVERY = 30.0  # seconds
VALUE_SHOWN = 80  # characters


def look_again(context: Context, every: float, timeout: float | None, why: str) -> NoReturn:
    """Raise `Later`, or fail the attempt once `timeout` seconds have passed since its first look.
    The last look is at the timeout."""
    if timeout is not None:
        left = timeout - context.waited
        if left <= 0:
            raise TaskFailed(f"timed out after {timeout:g} s: {why}")
        every = min(every, left)
    raise Later(every, why)


def _seconds(subject: str, value: object) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return checks.seconds(subject, value, CENTURY)


def _check_times(operator: Any, where: str) -> None:
    """Check `every` and `timeout`, which may be given as `timedelta`."""
    object.__setattr__(operator, "every", _seconds(f"{where}: every", operator.every))
    if operator.timeout is not None:
        object.__setattr__(operator, "timeout", _seconds(f"{where}: timeout", operator.timeout))


def _now(context: Context) -> datetime:
    """The time at the start of this look."""
    started = context.started_at or context.submitted_at
    return started + timedelta(seconds=context.waited)


@dataclass(frozen=True)
class WaitFor(Repeatable):
    """Waits until a Python check returns something true, which is the result.

    An exception fails the attempt, with retries as for any task. `Task(timeout=…)` bounds each
    look, so that a check that hangs does not hold its slot for ever.

    Args:
        check: Function, sync or async, of nothing or one `Context`.
        every: Seconds from the end of a look to the next one; or a `timedelta`.
        timeout: Seconds from the first look after which the attempt fails; None for no limit.

    Raises:
        InvalidJob: An argument is invalid.

    Examples:
        >>> from goflow import Job, Task, WaitFor
        >>> rows = []
        >>> def enough():
        ...     rows.append(1)
        ...     return len(rows) if len(rows) > 2 else None
        >>> job = Job("wait", tasks=[Task("enough", WaitFor(enough, every=0.1, timeout=60))])
        >>> job.run().tasks["enough"].result
        3
    """

    check: Callable[..., Any]
    every: float = field(default=EVERY, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    _call: Call = field(init=False, repr=False, compare=False)

    @defining("WaitFor")
    def __post_init__(self) -> None:
        check = self.check
        if isinstance(check, type) or not callable(check):
            raise InvalidJob(f"WaitFor: check must be a function, not {shown(check)}")
        if inspect.isgeneratorfunction(check) or inspect.isasyncgenfunction(check):
            raise InvalidJob(f"WaitFor: check {shown(check)} is a generator; return a value")
        if (call := call_of(check)) is None:
            raise InvalidJob(f"WaitFor: check {shown(check)} must take nothing or one context")
        object.__setattr__(self, "_call", call)
        _check_times(self, "WaitFor")

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._run_async if self._call.is_async else self._run_sync

    def _run_sync(self, context: Context) -> Any:
        value = self._look(context)
        return (
            self._later(value, context)
            if inspect.isawaitable(value)
            else self._told(value, context)
        )

    async def _run_async(self, context: Context) -> Any:
        return self._told(await self._look(context), context)

    async def _later(self, value: Any, context: Context) -> Any:
        return self._told(await value, context)

    def _look(self, context: Context) -> Any:
        return self.check(context) if self._call.takes_context else self.check()

    def _told(self, value: Any, context: Context) -> Any:
        if value:
            return value
        name = getattr(self.check, "__name__", None) or type(self.check).__name__
        why = f"{name} returned {shown(value, VALUE_SHOWN)}"
        look_again(context, self.every, self.timeout, why)


@dataclass(frozen=True)
class WaitForFile(Repeatable):
    """Waits until a file or folder exists. The result is its path; for a pattern, the list of all
    matching paths, sorted.

    Args:
        path: Path, or a pattern with `*`, `?`, `[…]`, or `**` for any folders. It may be a
            `Template`. A relative one begins in the server's folder.
        settled: Seconds for which no file found may have changed, so that it is complete. Changes
            of content, size, name and permissions count. A `timedelta` is accepted.
        every: Seconds from the end of a look to the next one; or a `timedelta`.
        timeout: Seconds from the first look after which the attempt fails; None for no limit.

    Raises:
        InvalidJob: An argument is invalid.

    Examples:
        >>> from goflow import Job, Task, WaitForFile
        >>> job = Job("import", tasks=[Task("arrived", WaitForFile("/etc/host*", timeout=60))])
        >>> "/etc/hosts" in job.run().tasks["arrived"].result
        True
    """

    path: str | os.PathLike[str] | Template
    settled: float = field(default=0, kw_only=True)
    every: float = field(default=EVERY, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("WaitForFile")
    def __post_init__(self) -> None:
        where = "WaitForFile"
        if isinstance(self.path, Template):
            object.__setattr__(self, "_has_templates", True)
        else:
            if not isinstance(self.path, str | os.PathLike):
                raise InvalidJob(f"{where}: path must be a path, not {shown(self.path)}")
            path = checks.os_text(f"{where}: path", os.fspath(self.path))
            if not path:
                raise InvalidJob(f"{where}: path must not be empty")
            object.__setattr__(self, "path", path)
        if self.settled != 0:
            object.__setattr__(self, "settled", _seconds(f"{where}: settled", self.settled))
        _check_times(self, where)

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._render if self._has_templates else self._look

    async def _render(self, context: Context) -> Any:
        rendered, texts = await fields.rendered(self, context)
        if not context.waited:
            fields.log(context.log, texts)
        # In a thread, since a file system may hang.
        return await asyncio.to_thread(rendered._look, context)

    def _look(self, context: Context) -> str | list[str]:
        path = cast("str", self.path)
        exact = _changed(path)
        if exact is not None or not glob.has_magic(path):
            found = {} if exact is None else {path: exact}
        else:
            found = {
                one: changed
                for one in sorted(glob.glob(path, recursive=True))
                if (changed := _changed(one)) is not None
            }
        if not found:
            look_again(context, self.every, self.timeout, f"there is no {shown(path)}")
        newest = max(found, key=found.__getitem__)
        unchanged = _now(context).timestamp() - found[newest]
        if unchanged < self.settled:
            every = min(self.every, self.settled - min(max(unchanged, 0.0), self.settled))
            why = f"{shown(newest)} has changed within {self.settled:g} s"
            look_again(context, every, self.timeout, why)
        return path if exact is not None else list(found)


def _changed(path: str) -> float | None:
    """When a file last changed, in seconds since 1970; None if there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    # Programs that copy set the time of the content, but none can set that of the inode.
    return max(found.st_mtime, found.st_ctime)


@dataclass(frozen=True)
class WaitForUrl(Repeatable):
    """Waits until a GET request gets a status of 2xx. The result is the body as text.

    Any other status and any failed request means to look again; it is shown as the reason.

    Args:
        url: Address, http or https. It may be a `Template`, as may the values of `headers`.
        headers: Request headers, as with `Get`.
        every: Seconds from the end of a look to the next one; or a `timedelta`.
        timeout: Seconds from the first look after which the attempt fails; None for no limit.
        request_timeout: Seconds for each request.
        max_body: Largest body in bytes, as with `Get`. A larger one fails the look.

    Raises:
        InvalidJob: An argument is invalid, such as a URL without a host.

    Examples:
        >>> from goflow import Task, WaitForUrl
        >>> Task("up", WaitForUrl("https://example.com/health", every=10, timeout=600))
        Task('up', WaitForUrl('https://example.com/health', every=10.0, timeout=600.0))
    """

    url: str | Template
    headers: Mapping[str, str | Template] | None = field(
        default=None, kw_only=True, repr=False, hash=False
    )
    every: float = field(default=EVERY, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    request_timeout: float = field(default=30, kw_only=True)
    max_body: int = field(default=MAX_BODY, kw_only=True)
    _get: Get = field(init=False, repr=False, compare=False)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("WaitForUrl")
    def __post_init__(self) -> None:
        timeout = checks.seconds("WaitForUrl: request_timeout", self.request_timeout)
        get = Get(self.url, headers=self.headers, timeout=timeout, max_body=self.max_body)
        object.__setattr__(self, "_get", get)
        object.__setattr__(self, "headers", get.headers)
        has_templates = fields.has_templates(self.url, self.headers)
        object.__setattr__(self, "_has_templates", has_templates)
        _check_times(self, "WaitForUrl")

    async def run(self, context: Context) -> str:
        lines: list[str] = []
        quiet = replace(context, log=cast("Log", lambda line: lines.append(str(line))))
        try:
            body = await self._get.run(quiet)
        except TaskFailed as failure:
            if not context.waited:
                self._log(context, lines)
            why = str(failure).partition("\n")[0]
            look_again(context, self.every, self.timeout, why)
        self._log(context, lines)
        return body

    def _log(self, context: Context, lines: list[str]) -> None:
        """Log the first look and the last one; the reasons of the others are shown."""
        for line in lines:
            context.log(line)

    def shown_template(self, place: str, text: str) -> str:
        return self._get.shown_template(place, text)

    def __repr__(self) -> str:
        get = repr(self._get)
        return (
            f"WaitForUrl({get[len('Get(') : get.rindex(', timeout=')]}, every={self.every!r}, "
            f"timeout={self.timeout!r})"
        )


@dataclass(frozen=True)
class WaitUntil(Repeatable):
    """Waits until a time. There is no result.

    Args:
        when: An aware `datetime`; a `time` of the day, the first one at or after the due time of
            the execution; or a `timedelta` after that. For an execution that was submitted by
            hand, the time of the submit counts as its due time.
        timezone: IANA zone of a `time` without one; that of the job by default.

    Raises:
        InvalidJob: An argument is invalid, such as a `datetime` without a time zone.

    Examples:
        >>> from datetime import time, timedelta
        >>> from goflow import Job, Task, WaitUntil
        >>> Task("office-hours", WaitUntil(time(9, 30), timezone="Europe/Berlin"))
        Task('office-hours', WaitUntil(when=datetime.time(9, 30), timezone='Europe/Berlin'))
        >>> job = Job("pause", tasks=[Task("wait", WaitUntil(timedelta(seconds=0.2)))])
        >>> job.run().state == "successful"
        True
    """

    when: datetime | time | timedelta
    timezone: str | None = field(default=None, kw_only=True)

    @defining("WaitUntil")
    def __post_init__(self) -> None:
        when = self.when
        if not isinstance(when, datetime | time | timedelta):
            raise InvalidJob(
                f"WaitUntil: when must be a datetime, a time or a timedelta, not {shown(when)}"
            )
        if isinstance(when, datetime) and when.utcoffset() is None:
            raise InvalidJob(f"WaitUntil: {when!r} has no time zone; add tzinfo=")
        if isinstance(when, timedelta) and when < timedelta(0):
            raise InvalidJob(f"WaitUntil: {when!r} must not be negative")
        if self.timezone is not None:
            if not isinstance(when, time) or when.tzinfo is not None:
                raise InvalidJob("WaitUntil: timezone is for a time without tzinfo")
            find_zone(self.timezone)

    async def run(self, context: Context) -> None:
        until = self.time_for(context)
        left = (until - _now(context)).total_seconds()
        if left > 0:
            raise Later(min(left, CENTURY), f"until {until:%Y-%m-%d %H:%M:%S} UTC")

    def time_for(self, context: Context) -> datetime:
        """The time until which this execution waits, in UTC."""
        due, when = context.scheduled_at or context.submitted_at, self.when
        if isinstance(when, timedelta):
            try:
                return due + when
            except OverflowError:
                return datetime.max.replace(tzinfo=UTC)
        if isinstance(when, datetime):
            return when.astimezone(UTC)
        zone = when.tzinfo or find_zone(self.timezone or context.timezone)
        day = due.astimezone(zone).date()
        while True:  # at most twice: tomorrow's comes after any time of today
            until = datetime.combine(day, when.replace(tzinfo=zone)).astimezone(UTC)
            if until >= due:
                return until
            day += timedelta(days=1)


@dataclass(frozen=True)
class WaitForJob(Asking):
    """Waits until an execution of another job is successful. The result is its id.

    An execution that failed may be retried, so the task goes on waiting; what it waits for is
    shown.

    Args:
        job: Name of the other job. It must be registered when the server starts.
        which: "due" for the execution with the same due time as this one, or "newest" for the
            newest one at each look. An execution that was submitted by hand has no due time, and
            waits for the newest one.
        within: Seconds; or a `timedelta`. Any execution counts that has succeeded within so many
            seconds before a look, instead of `which`.
        every: Seconds from the end of a look to the next one; or a `timedelta`. It looks at once
            when an execution of the other job ends.
        timeout: Seconds from the first look after which the attempt fails; None for no limit.

    Raises:
        InvalidJob: An argument is invalid.

    Examples:
        >>> from datetime import timedelta
        >>> from goflow import Task, WaitForJob
        >>> task = Task("loaded", WaitForJob("load", timeout=3600))
        >>> task = Task("fresh", WaitForJob("load", within=timedelta(hours=6)))
    """

    job: str
    which: str = field(default="due", kw_only=True)
    within: float | None = field(default=None, kw_only=True)
    every: float = field(default=EVERY, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)

    @defining("WaitForJob")
    def __post_init__(self) -> None:
        checks.name("job", self.job)
        if self.which not in ("due", "newest"):
            raise InvalidJob(
                f"WaitForJob: which must be 'due' or 'newest', not {shown(self.which)}"
            )
        if self.within is not None:
            object.__setattr__(self, "within", _seconds("WaitForJob: within", self.within))
        _check_times(self, "WaitForJob")

    def jobs(self) -> tuple[str, ...]:
        return (self.job,)

    async def ask(self, context: Context, executions: Executions) -> str:
        if not executions.knows(self.job):
            raise TaskFailed(f"WaitForJob: there is no job {self.job!r} here")
        executions.watch(self.job, context)  # first, so that no end is missed
        found: FoundExecution | str | None
        if self.within is not None:
            found = await executions.newest(self.job, State.SUCCESSFUL)
            oldest = _now(context) - timedelta(seconds=self.within)
            if found is None or found.finished is None or found.finished < oldest:
                found = f"job {self.job!r} has not succeeded within {self.within:g} s"
        elif self.which == "due" and context.scheduled_at is not None:
            found = await executions.due(self.job, context.scheduled_at)
        else:
            found = await executions.newest(self.job)
        if found is None:
            found = f"job {self.job!r} has no execution"
        if isinstance(found, FoundExecution):
            if found.state is State.SUCCESSFUL:
                return found.id
            found = f"execution {found.id} of job {self.job!r} is {found.state}"
        look_again(context, self.every, self.timeout, found)
