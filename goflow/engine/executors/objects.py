"""Results that are no JSON, and files, where an operator runs: in its thread or process.

The rule that must not be broken: an attempt without any of them does no work here.
"""

import msgspec

from goflow.artifacts.base import RESULT, Refused
from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.core.keys import key_of
from goflow.core.result import Artifact, Format, Kept
from goflow.engine.executors.base import Work
from goflow.errors import ResultLost, TaskFailed
from goflow.shown import reason


def unpack(work: Work) -> None:
    """Put the objects into the context's results. Raises `TaskFailed`."""
    from goflow.artifacts.formats import decode

    context = work.context
    assert context.artifacts is not None
    for name, stored in work.objects.items():
        try:
            file = Artifact(f"{RESULT}{stored.format}", stored.size, stored.sha256)
            body = context.artifacts.read(context.execution_id, file)
            context.results[name] = decode(body, stored.format)  # type: ignore[index]
        except ResultLost as lost:
            raise TaskFailed(f"the result of task {name!r}: {lost}") from None
        except BaseException as error:  # users' classes may raise anything
            raise TaskFailed(
                f"the result of task {name!r} cannot be read from {stored.format}: {reason(error)}"
            ) from error


def kept(value: object, work: Work) -> Outcome:
    """Keep the result of an operator. The outcome describes it."""
    from goflow.artifacts.formats import described, encode

    context = work.context
    if context.artifacts is None:
        return Failed("there is no place for results that are no JSON", final=True)
    try:
        body, about = encode(value, work.format)
        name = f"{RESULT}{work.format}"
        file = context.artifacts.keep(context.execution_id, name, body)
    except (TaskFailed, Refused) as error:
        return Failed(str(error))
    except OSError as error:
        return Failed(f"the result could not be kept: {reason(error)}")
    return Succeeded(described(about, file.size), kept=Kept(work.format, file))


def with_files(outcome: Outcome, work: Work) -> Outcome:
    """The outcome with the files that the attempt made, if it succeeded."""
    context = work.context
    if (artifacts := context.artifacts) is None or not artifacts.used:
        return outcome
    if not isinstance(outcome, Succeeded):
        return outcome
    key = key_of(context.task, context.index)
    try:
        files = artifacts.collect(context.execution_id, key, context.attempt)
    except Refused as error:
        return Failed(str(error))
    except OSError as error:
        return Failed(f"its artifacts could not be kept: {reason(error)}")
    if not files:
        return outcome
    known = outcome.kept or Kept()
    return msgspec.structs.replace(outcome, kept=msgspec.structs.replace(known, files=files))


def takes_long(work: Work) -> bool:
    """Whether the end of the operator writes to a disk."""
    artifacts = work.context.artifacts
    return work.format is not Format.JSON or (artifacts is not None and bool(artifacts.used))
