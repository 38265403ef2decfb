"""The shared state of one execution, which a reducer of its job changes.

The rule that must not be broken: an action is committed before its dispatch returns, and the state
is what the reducer made of the committed actions, in their order. An action that is refused leaves
the state as it was.

An attempt that runs again repeats its actions. So the actions of an attempt are numbered, and one
that equals that of the same number in the attempt before is not applied again. From the first that
differs on, all are new.

The reducer, middleware and subscribers are users' code, so they run in a thread of this execution.
If they do not return, the state is given up, and every later dispatch fails.
"""

import asyncio
import contextvars
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from datetime import datetime
from typing import Any

import msgspec

from goflow.core.events import AnyFact, Dispatched
from goflow.core.execution import Execution
from goflow.core.keys import Key
from goflow.core.result import SMALL
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.journal import PATIENCE
from goflow.engine.threads import NoThread
from goflow.errors import StoreUnavailable, TaskFailed
from goflow.job import Job
from goflow.operators.actions import Done, encoded
from goflow.operators.base import Log
from goflow.plain import Unfit, encode
from goflow.shown import reason, tame
from goflow.state import chained, with_default

ACTIONS = 10_000  # of one execution
ACTIONS_BYTES = 16 * 1024 * 1024  # bytes of JSON of all actions of an execution
STATE_LIMIT = 256 * 1024  # bytes of JSON
PATIENT = 10.0  # seconds that users' code may take for one action

Command = Callable[[Execution, datetime], list[AnyFact]]


class SharedState:
    """The shared state of an execution whose job has a reducer.

    `command` commits facts, and returns False if there were none.
    """

    def __init__(
        self,
        execution: Execution,
        job: Job,
        dependencies: Dependencies,
        command: Callable[[Command], Awaitable[bool]],
    ) -> None:
        assert job.reducer is not None
        self.current = job.initial_state  # as JSON
        self._execution = execution
        self._job = job
        self._reducer = with_default(job.reducer)
        self._dependencies = dependencies
        self._command = command
        self._lock = asyncio.Lock()
        self._executor: Executor | None = None
        self._loaded = not execution.dispatched
        self._bytes = 0
        self._said: dict[Key, list[bytes]] = {}  # digests of the actions of the last attempts
        self._stuck = False

    async def load(self) -> None:
        """Make the state of the committed actions. Raises `TaskFailed`."""
        async with self._lock:
            if self._loaded:
                return
            facts = [one for one in await self._facts() if isinstance(one, Dispatched)]
            state, rest = self._job.initial_state, list(facts)
            for place in range(len(facts) - 1, -1, -1):
                if facts[place].size <= SMALL:
                    state, rest = bytes(facts[place].state), facts[place + 1 :]
                    break
            for fact in rest:
                state = await self._work(self._reduced, state, bytes(fact.content))
            for fact in facts:
                self._note(fact.key, fact.number, bytes(fact.content))
            self.current, self._loaded = state, True

    async def _facts(self) -> list[AnyFact]:
        while True:
            try:
                history = await self._dependencies.history(self._execution.id)
            except StoreUnavailable:
                await self._dependencies.clock.sleep(PATIENCE)
            else:
                return [] if history is None else history.facts

    def of(self, key: Key, attempt: int, log: Log) -> "OfAttempt":
        """The state as an attempt has it."""
        return OfAttempt(self, key, attempt, log)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    # -- dispatching -----------------------------------------------------------------

    async def dispatch(self, one: "OfAttempt", action: bytes) -> None:
        """Apply and commit an action. Raises `TaskFailed`."""
        async with self._lock:
            if not self._job.middleware:
                await self._apply(one, action)
                return
            loop = asyncio.get_running_loop()

            def innermost(action: Any) -> Any:
                applied = self._apply(one, encoded(action), here=True)
                asyncio.run_coroutine_threadsafe(applied, loop).result()
                return action

            def get_state() -> Any:
                return msgspec.json.decode(self.current)

            def run() -> None:
                try:
                    chain = chained(self._job.middleware, get_state, innermost)
                    chain(msgspec.json.decode(action))
                except TaskFailed:
                    raise
                except BaseException as error:
                    told = f"the middleware raised {reason(error)} for {_named(action)}"
                    raise TaskFailed(told) from None

            await self._work(run)

    async def _apply(self, one: "OfAttempt", action: bytes, *, here: bool = False) -> None:
        """Apply an action, unless the attempt before has dispatched it. `here`: the thread of
        users' code waits for this."""
        number, digest = one.number + 1, _digest(action)
        said = self._said.get(one.key, ())
        if number <= len(said) and said[number - 1] == digest:
            one.number = number
            return
        if self._execution.dispatched >= ACTIONS:
            raise TaskFailed(
                f"the execution has dispatched {ACTIONS:,} actions, which is the limit; dispatch "
                "one action for many rows"
            )
        if self._bytes + len(action) > ACTIONS_BYTES:
            raise TaskFailed(
                f"the actions of this execution would take more than {ACTIONS_BYTES:,} bytes as "
                "JSON; write large values to files or a database"
            )
        if here:
            # Another thread, since that one waits; it is bounded by the wait for the first.
            after = await asyncio.to_thread(self._reduced, self.current, action)
        else:
            after = await self._work(self._reduced, self.current, action)
        state = msgspec.Raw(after if len(after) <= SMALL else b"null")

        def decide(execution: Execution, now: datetime) -> list[AnyFact]:
            raw, size = msgspec.Raw(action), len(after)
            return execution.dispatch(one.key, one.attempt, number, raw, state, size, now)

        if not await self._command(decide):
            raise TaskFailed("the attempt has ended, so its actions are not kept any more")
        one.number = number
        self.current = after
        self._note(one.key, number, action)
        if self._job.subscribers:
            if here:
                await asyncio.to_thread(self._tell, after, action, one.log)
            else:
                await self._work(self._tell, after, action, one.log)

    def _note(self, key: Key, number: int, action: bytes) -> None:
        said = self._said.setdefault(key, [])
        del said[number - 1 :]
        said.append(_digest(action))
        self._bytes += len(action)

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run users' code in the thread of this execution. Raises `TaskFailed`."""
        if self._stuck:
            raise TaskFailed(
                "the shared state was given up, since its reducer, middleware or a subscriber did "
                f"not return within {PATIENT:g} s"
            )
        if self._executor is None:
            self._executor = self._dependencies.threads.operators(1)
        run = contextvars.copy_context().run
        try:
            future = asyncio.wrap_future(self._executor.submit(run, function, *arguments))
        except NoThread as error:
            raise TaskFailed(f"no thread was available for the reducer: {error}") from None
        await asyncio.wait([future], timeout=PATIENT)
        if not future.done():
            self._stuck = True
            future.cancel()
            raise TaskFailed(
                f"the reducer, middleware or a subscriber of job {self._job.name!r} did not return "
                f"within {PATIENT:g} s; the shared state is given up"
            )
        return future.result()

    # -- users' code, in a thread ------------------------------------------------------

    def _reduced(self, state: bytes, action: bytes) -> bytes:
        """The state after an action, as JSON. Raises `TaskFailed`."""
        before, given = msgspec.json.decode(state), msgspec.json.decode(action)
        held = msgspec.json.encode((before, given))
        where = f"the reducer of job {self._job.name!r}"
        try:
            after = self._reducer(before, given)
        except BaseException as error:
            raise TaskFailed(f"{where} raised {reason(error)} for {_named(action)}") from None
        if inspect.iscoroutine(after):
            after.close()
            raise TaskFailed(f"{where} is async; a reducer must be an ordinary function")
        try:
            is_pure = msgspec.json.encode((before, given)) == held
        except Exception:
            is_pure = False
        if not is_pure:
            raise TaskFailed(
                f"{where} changed the state or the action that it was given, for {_named(action)}; "
                "a reducer must return a new state, such as {**state, …}"
            )
        try:
            made = encode(after)
        except Unfit as error:
            raise TaskFailed(
                f"{where} returned a state that JSON cannot hold, for {_named(action)}: "
                f"{error.path('state')}: {error.reason}"
            ) from None
        except BaseException as error:
            raise TaskFailed(f"{where} returned a state that raises {reason(error)}") from None
        if len(made) > STATE_LIMIT:
            raise TaskFailed(
                f"{where} returned a state of {len(made):,} bytes as JSON, more than the "
                f"{STATE_LIMIT:,} that it may have"
            )
        return made

    def _tell(self, state: bytes, action: bytes, log: Log) -> None:
        for listener in self._job.subscribers:
            values = [msgspec.json.decode(state), msgspec.json.decode(action)]
            try:
                listener(*values[: _taken(listener)])
            except BaseException as error:  # it changes nothing else
                log.warning("a subscriber of the shared state raised: %s", reason(error))


class OfAttempt:
    """Implements `goflow.operators.base.Shared`. `number` counts the actions that are kept."""

    def __init__(self, shared: SharedState, key: Key, attempt: int, log: Log) -> None:
        self.key = key
        self.attempt = attempt
        self.log = log
        self.number = 0
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._open: list[Dispatching] = []

    def state(self) -> Any:
        return msgspec.json.decode(self._shared.current)

    def dispatch(self, action: Any) -> "Awaitable[None]":
        work = self._shared.dispatch(self, encoded(action))
        if _running_loop() is self._loop:
            dispatching = Dispatching(self._loop.create_task(work))
            self._open = [one for one in self._open if one.matters]
            self._open.append(dispatching)
            return dispatching
        asyncio.run_coroutine_threadsafe(work, self._loop).result()
        return Done()

    async def settled(self) -> str | None:
        """Wait for all dispatches; the error of one that nobody awaited, or None."""
        for one in self._open:
            await asyncio.wait([one.task])
        for one in self._open:
            if not one.is_awaited and (error := one.task.exception()) is not None:
                return f"an action was not kept: {reason(error)}"
        return None


class Dispatching:
    """A dispatch by async code, which goes on whether it is awaited or not."""

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self.task = task
        self.is_awaited = False
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def matters(self) -> bool:
        """Whether it goes on, or has failed and nobody knows."""
        if not self.task.done():
            return True
        return not self.is_awaited and self.task.exception() is not None

    def __await__(self) -> Generator[Any, None, None]:
        self.is_awaited = True
        return asyncio.shield(self.task).__await__()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _digest(action: bytes) -> bytes:
    return hashlib.blake2b(action, digest_size=16).digest()


def _named(action: bytes) -> str:
    return f"the action {tame(action.decode(errors='replace'), 200)}"


def _taken(listener: Callable[..., Any]) -> int:
    """How many arguments a subscriber takes: up to two."""
    try:
        parameters = inspect.signature(listener).parameters.values()
    except (TypeError, ValueError):
        return 0
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(2, sum(one.kind in kinds for one in parameters))
