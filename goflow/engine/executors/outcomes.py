"""Outcomes of operators: results and errors as the engine keeps them.

The rule that must not be broken: anything that an operator returns or raises becomes an `Outcome`
of bounded size.
"""

import asyncio
import inspect
import os
import traceback
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from goflow import checks, forks
from goflow.core.execution import Failed, Outcome, Postponed, Skipped, Succeeded
from goflow.core.result import Format
from goflow.core.retry import CENTURY
from goflow.core.summary import WHY
from goflow.engine.executors import objects
from goflow.engine.executors.base import Work
from goflow.errors import Later, Skip, TaskFailed
from goflow.plain import Unfit, encode
from goflow.shown import kind, reason, tame, text_of

ERROR_LIMIT = 16 * 1024  # characters
WHY_LIMIT = 300  # characters of the reason of a wait
SOONEST = 0.01  # seconds until the next look, at least
_JSON = Format.JSON

_HOUSE = f"{Path(__file__).parents[2]}{os.sep}"


def run_sync(work: Work) -> Outcome | Awaitable[Any]:
    """Call a synchronous `run`; an awaitable that it returns is still to be awaited.

    Raises nothing, since a future cannot carry a StopIteration.
    """
    home = os.getpid()
    meter = work.context.meter
    begun = 0.0 if meter is None else meter.thread_time()
    outcome: Outcome | Awaitable[Any]
    try:
        if work.objects:
            objects.unpack(work)
        run = work.operator.run
        value = run(work.context) if work.call.takes_context else run()
        forks.ends_here(home)
        outcome = value if inspect.isawaitable(value) else succeeded(value, work)
    except BaseException as error:
        forks.ends_here(home, error)
        outcome = objects.with_files(raised(error), work)
    if meter is not None:
        meter.processor += meter.thread_time() - begun
    return outcome


async def awaited(value: Awaitable[Any], work: Work) -> Outcome:
    """The outcome of a coroutine or another awaitable. Raises its exception."""
    home = os.getpid()
    result = await value
    forks.ends_here(home)
    return await succeeded_async(result, work)


# -- results -----------------------------------------------------------------------


async def succeeded_async(value: object, work: Work) -> Outcome:
    """`succeeded` on an event loop, which does not wait for the disk."""
    if objects.takes_long(work):
        return await asyncio.to_thread(succeeded, value, work)
    return as_json(value, work.max_result)


def succeeded(value: object, work: Work) -> Outcome:
    """The outcome of an operator that returned this value."""
    if not objects.takes_long(work):
        return as_json(value, work.max_result)
    if work.format is not _JSON and value is not None:
        outcome = objects.kept(value, work)
    else:
        outcome = as_json(value, work.max_result)
    return objects.with_files(outcome, work)


def as_json(value: object, max_result: int) -> Outcome:
    """The outcome of an operator that returned this value and made no files."""
    if value is None:
        return Succeeded()
    try:
        encoded = encode(value)
    except Unfit as error:
        place = f"at `{error.path('result')}`: " if error.place else ""
        return _unkept(value, f"{place}{error.reason}")
    if len(encoded) > max_result:
        return Failed(
            f"the result is {len(encoded)} bytes as JSON, more than the {max_result} that are "
            "allowed; write it to a file or a database and return its location"
        )
    return Succeeded(msgspec.Raw(encoded))


def _unkept(value: object, reason: str) -> Failed:
    return Failed(
        f"the result, of type {kind(value)}, cannot be stored as JSON: {reason}; "
        "return numbers, text, lists, dicts, dataclasses or None"
    )


# -- errors ------------------------------------------------------------------------


def raised(error: BaseException) -> Outcome:
    """The outcome of an operator that raised this error. `sys.exit()` and `sys.exit(0)` are a
    success, as for a program; any other code or text is a failure with that reason."""
    if isinstance(error, Later):
        return _postponed(error)
    if isinstance(error, Skip):
        return Skipped(tame(text_of(error), WHY))
    if not isinstance(error, SystemExit):
        return failed(error)
    code = error.code
    if code is None or (isinstance(code, int) and code == 0):
        return Succeeded()
    told = f"exit code {int(code)}" if isinstance(code, int) else _exit_text(code)
    return Failed(_bounded(f"{told}\n\n{_trace_of(error)}".rstrip("\n")))


def _exit_text(code: object) -> str:
    try:
        return str.__str__(str(code)) or "SystemExit"
    except BaseException as failure:
        return f"SystemExit, whose text raises {kind(failure)}"


def _postponed(error: Later) -> Outcome:
    # A subclass may have fields of these names, with any values.
    try:
        seconds, why = error.seconds, error.why
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        seconds = float(checks.number("Later: seconds", seconds, 0, CENTURY, error=ValueError))
        why = checks.text("Later: why", why, error=ValueError)
    except BaseException as failure:
        told = text_of(failure) if type(failure) is ValueError else reason(failure)
        return Failed(_bounded(f"{told}\n\n{_trace_of(error)}".rstrip("\n")))
    return Postponed(max(seconds, SOONEST), tame(" ".join(why.split()), WHY_LIMIT))


def failed(error: BaseException) -> Failed:
    if isinstance(error, TaskFailed):
        # A subclass may have a field of that name, with any value.
        return Failed(_bounded(text_of(error) or kind(error)), error.final is True)
    text = text_of(error)
    headline = f"{kind(error)}: {text}" if text else kind(error)
    return Failed(_bounded(f"{headline}\n\n{_trace_of(error)}".rstrip("\n")))


def _trace_of(error: BaseException) -> str:
    try:
        outside = _outside(error.__traceback__)
        return "".join(traceback.TracebackException(type(error), error, outside).format())
    except BaseException as failure:  # its notes or its group may raise anything
        return f"<its traceback could not be formatted: {reason(failure)}>"


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame outside goflow, or all of it."""
    outside = trace
    while outside is not None and outside.tb_frame.f_code.co_filename.startswith(_HOUSE):
        outside = outside.tb_next
    return outside or trace


def _bounded(text: str) -> str:
    """The head and tail of a text, at most 16 Ki characters, encodable as UTF-8."""
    if len(text) > ERROR_LIMIT:
        half = ERROR_LIMIT // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
