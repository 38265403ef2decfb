"""Runs a Python function: what `@job.task` makes of one.

The rule that must not be broken: where each argument comes from is decided when the task is
written, from the function's signature, never at run time.
"""

import copy
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from goflow.errors import InvalidJob
from goflow.operators.base import Context
from goflow.shown import shown


class FromContext(msgspec.Struct, frozen=True):
    """The context itself."""

    def value(self, context: Context) -> Any:
        return context


class FromResult(msgspec.Struct, frozen=True):
    """The result of an upstream task; `default` if it has none, being skipped or failed."""

    task: str
    default: Any = None

    def value(self, context: Context) -> Any:
        results = context.results
        return results[self.task] if self.task in results else _own(self.default)


class FromParam(msgspec.Struct, frozen=True):
    """The value of a job parameter; `default` if the execution has none."""

    name: str
    default: Any = None

    def value(self, context: Context) -> Any:
        params = context.params
        return params[self.name] if self.name in params else _own(self.default)


Source = FromContext | FromResult | FromParam


def _own(default: Any) -> Any:
    """A default for one call alone: a function may append to a list that it is handed."""
    return copy.deepcopy(default) if type(default) in (list, dict, set) else default


class FunctionOperator(msgspec.Struct, frozen=True):
    """Calls `function` with keyword arguments from `arguments`; its value is the result.

    `run` is a coroutine function exactly if `function` is one.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Source]

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._run_async if inspect.iscoroutinefunction(self.function) else self._run_sync

    def param_hints(self) -> dict[str, Any]:
        """The annotations that it has for parameters of the job, by their names."""
        hints = _hints(self.function)
        return {
            source.name: hints[name]
            for name, source in self.arguments.items()
            if isinstance(source, FromParam) and name in hints
        }

    def _run_sync(self, context: Context) -> Any:
        return self.function(**self._values(context))

    async def _run_async(self, context: Context) -> Any:
        return await self.function(**self._values(context))

    def _values(self, context: Context) -> dict[str, Any]:
        return {name: source.value(context) for name, source in self.arguments.items()}


def bind(
    function: Callable[..., Any], *, tasks: Collection[str], params: Collection[str], where: str
) -> tuple[FunctionOperator, list[str]]:
    """The operator for a function, and the tasks it has to wait for.

    A parameter annotated `Context`, or named `context`, gets the context; one named like one
    of `tasks` that task's result; one named like one of `params` that job parameter; any
    other must have a default. `where` names job and task in errors. Raises `InvalidJob`.
    """
    _check_kind(function, where)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise InvalidJob(f"{where}: {shown(function)} does not tell its parameters") from None
    hints = _hints(function)
    arguments: dict[str, Source] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidJob(
                f"{where}: parameter {str(parameter)!r} says not what it wants; "
                "name the tasks and job parameters it needs"
            )
        source = _source(parameter, hints.get(name, parameter.annotation), tasks, params)
        if source is None and parameter.default is parameter.empty:
            raise InvalidJob(
                f"{where}: parameter {name!r} is no task added before ({_listed(tasks)}), "
                f"no parameter of the job ({_listed(params)}) and not the context, "
                "and has no default"
            )
        if source is not None and parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidJob(
                f"{where}: parameter {name!r} is positional-only, and arguments are passed "
                "by name; remove the '/'"
            )
        if source is not None:
            arguments[name] = source
    upstream = [one.task for one in arguments.values() if isinstance(one, FromResult)]
    return FunctionOperator(function, arguments), upstream


def _source(
    parameter: inspect.Parameter, hint: Any, tasks: Collection[str], params: Collection[str]
) -> Source | None:
    name = parameter.name
    default = None if parameter.default is parameter.empty else parameter.default
    if name == "context" or _is_context(hint):
        return FromContext()
    if name in tasks:
        return FromResult(name, default)
    if name in params:
        return FromParam(name, default)
    return None


def _check_kind(function: object, where: str) -> None:
    if isinstance(function, type) or not callable(function):
        raise InvalidJob(f"{where}: {shown(function)} is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(
            f"{where}: {shown(function)} is a generator, whose values would go nowhere; "
            "return a list instead of yielding"
        )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations with names resolved, or none where one of them cannot be."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except BaseException:  # an annotation may be any expression, and is none of our business
        return {}


def _is_context(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.strip("'\" ").split(".")[-1] == "Context"
    return any(one is Context for one in (hint, *typing.get_args(hint)))


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "there are none"
