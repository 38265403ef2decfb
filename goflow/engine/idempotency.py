"""Idempotency keys: a submit with the key of an earlier one gets the earlier answer.

The rule: two submits are the same if they give the same params. Defaults do not count, because they
may be computed each time, like today's date, or be edited.
"""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import msgspec

from goflow.engine.errands import Errands
from goflow.errors import Conflict, GoflowError

ASKED = "asked:"  # the prefix of fingerprints of given params; older ones are of filled params


class Submission(msgspec.Struct, frozen=True):
    """An accepted submit. `created` is False if its key had been used before."""

    id: str
    submitted: datetime
    created: bool


def fingerprint(given: Mapping[str, Any]) -> str:
    """The fingerprint of a submit's given params, which must be JSON."""
    return f"{ASKED}{_hash(given)}"


def agrees(kept: str | None, asked: str, filled: Callable[[], Mapping[str, Any]]) -> bool:
    """Whether a submit is the same as the one with the stored fingerprint `kept`.

    Early versions of goflow stored a fingerprint of the `filled` params, which matches while the
    defaults are the same.
    """
    if kept is None or kept.startswith(ASKED):
        return kept == asked
    return kept == _hash(filled())


def key_reused(key: str, job: str) -> Conflict:
    return Conflict(
        f"Idempotency-Key {key!r} was used before for job {job!r} with other params",
        code="idempotency-conflict",
        field="Idempotency-Key",
    )


class Keys:
    """Submits in progress, by job and key. Concurrent submits with the same key are one submit: the
    first one is carried out, and the others wait for it."""

    def __init__(self, errands: Errands) -> None:
        self._errands = errands
        self.under_way: dict[tuple[str, str], tuple[str, asyncio.Task[Submission]]] = {}

    async def submit_once(
        self, job: str, key: str, asked: str, submit: Callable[[], Coroutine[Any, Any, Submission]]
    ) -> Submission:
        """Call `submit`, unless one with this key is in progress; `asked` is the fingerprint."""
        while (first := self.under_way.get((job, key))) is not None:
            its_fingerprint, task = first
            same = its_fingerprint == asked
            try:
                accepted = await self._errands.outcome(task)
            except GoflowError:
                if same:
                    raise
                self._forget(job, key, task)  # a refused submit does not use up the key
                continue
            if not same:
                raise key_reused(key, job)
            return msgspec.structs.replace(accepted, created=False)
        task = self._errands.begin(submit(), "submit")
        self.under_way[job, key] = asked, task
        task.add_done_callback(functools.partial(self._forget, job, key))
        return await self._errands.outcome(task)

    def _forget(self, job: str, key: str, task: "asyncio.Task[Submission]") -> None:
        if (found := self.under_way.get((job, key))) is not None and found[1] is task:
            del self.under_way[job, key]


def _hash(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(params, order="sorted")).hexdigest()
