"""The operator that `@job.task` makes of a Python function.

The rule that must not be broken: the source of each argument is determined from the function's
signature when the task is defined, never at run time.
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
    """An argument that receives the context."""

    def value(self, context: Context) -> Any:
        return context


class FromResult(msgspec.Struct, frozen=True):
    """An argument that receives an upstream task's result; `default` if the task has none."""

    task: str
    default: Any = None

    def value(self, context: Context) -> Any:
        results = context.results
        return results[self.task] if self.task in results else _own(self.default)


class FromParam(msgspec.Struct, frozen=True):
    """An argument that receives a job parameter; `default` if the execution lacks it."""

    name: str
    default: Any = None

    def value(self, context: Context) -> Any:
        params = context.params
        return params[self.name] if self.name in params else _own(self.default)


Source = FromContext | FromResult | FromParam


def _own(default: Any) -> Any:
    """A copy of a default for one call: a function may modify a list that it receives."""
    return copy.deepcopy(default) if type(default) in (list, dict, set) else default


class FunctionOperator(msgspec.Struct, frozen=True):
    """Calls `function` with keyword arguments from `arguments`; its return value is the result.

    `run` is a coroutine function if and only if `function` is.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Source]

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._run_async if inspect.iscoroutinefunction(self.function) else self._run_sync

    def param_hints(self) -> dict[str, Any]:
        """The function's annotations for job parameters, by parameter name."""
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
    """Make the operator of a function, and list its upstream tasks.

    A parameter annotated `Context`, or named `context`, receives the context. A parameter named
    like one of `tasks` receives its result, and one named like one of `params` its value. Others
    must have a default. `where` names job and task in errors. Raises `InvalidJob`.
    """
    _check_kind(function, where)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise InvalidJob(f"{where}: {shown(function)} has no readable signature") from None
    hints = _hints(function)
    arguments: dict[str, Source] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidJob(
                f"{where}: parameter {str(parameter)!r} accepts any argument; "
                "name the tasks and job parameters that the function needs"
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
    """The resolved annotations; none if one of them cannot be resolved."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except BaseException:  # an annotation may be any expression
        return {}


def _is_context(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.strip("'\" ").split(".")[-1] == "Context"
    return any(one is Context for one in (hint, *typing.get_args(hint)))


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "there are none"
