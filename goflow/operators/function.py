"""The operator that `@job.task` makes of a Python function.

The rule that must not be broken: the source and the type of each argument are determined from the
function's signature when the task is defined, never at run time.
"""

import contextlib
import copy
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from goflow.errors import InvalidJob, TaskFailed
from goflow.operators.base import Context
from goflow.shown import shown
from goflow.typed import Mismatch, Typed, typed

_HOUSE = f"{Path(__file__).parents[1]}{os.sep}"


class FromContext(msgspec.Struct, frozen=True):
    """An argument that receives the context."""

    def value(self, context: Context) -> Any:
        return context


class FromResult(msgspec.Struct, frozen=True):
    """An argument that receives an upstream task's result; `default` if the task has none.

    In a task mapped over that one, it receives the item.
    """

    task: str
    default: Any = None
    typed: Typed | None = None

    def value(self, context: Context) -> Any:
        results = context.results
        if self.task not in results:
            return _own(self.default)
        if self.typed is None or self.task in context.objects:
            return results[self.task]
        is_item = _is_item(results[self.task], context)
        what = f"item {context.index} of task" if is_item else "the result of task"
        return _converted(
            results[self.task],
            self.typed,
            context,
            self.task,
            f"{what} {self.task!r}",
            "item" if is_item else "result",
        )


class FromParam(msgspec.Struct, frozen=True):
    """An argument that receives a job parameter; `default` if the execution lacks it."""

    name: str
    default: Any = None
    typed: Typed | None = None
    hint: Any = None  # the annotation, resolved, if there is one

    def value(self, context: Context) -> Any:
        params = context.params
        if self.name not in params:
            return _own(self.default)
        if self.typed is None:
            return params[self.name]
        what = f"parameter {self.name!r} of the job"
        return _converted(params[self.name], self.typed, context, self.name, what, self.name)


class FromParams(msgspec.Struct, frozen=True):
    """An argument that receives all job parameters, as an instance of the class that declares
    them."""

    name: str
    typed: Typed

    def value(self, context: Context) -> Any:
        return _converted(
            context.params, self.typed, context, self.name, "the job's params", "params"
        )


class FromOutcome(msgspec.Struct, frozen=True):
    """An argument that receives how the execution ended."""

    def value(self, context: Context) -> Any:
        return context.outcome


Source = FromContext | FromResult | FromParam | FromParams | FromOutcome


def _own(default: Any) -> Any:
    """A copy of a default for one call: a function may modify a list that it receives."""
    return copy.deepcopy(default) if type(default) in (list, dict, set) else default


class FunctionOperator(msgspec.Struct, frozen=True):
    """Calls `function` with keyword arguments from `arguments`; its return value is the result.

    `run` is a coroutine function if and only if `function` is.
    """

    yields: ClassVar[bool] = False  # whether `function` is a generator

    function: Callable[..., Any]
    arguments: Mapping[str, Source]

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._run_async if inspect.iscoroutinefunction(self.function) else self._run_sync

    def param_hints(self) -> dict[str, Any]:
        """The resolved annotations for job parameters, by parameter name."""
        return {
            source.name: source.hint
            for source in self.arguments.values()
            if isinstance(source, FromParam) and source.hint is not None
        }

    def _run_sync(self, context: Context) -> Any:
        return self.function(**self._values(context))

    async def _run_async(self, context: Context) -> Any:
        return await self.function(**self._values(context))

    def _values(self, context: Context) -> dict[str, Any]:
        return {name: source.value(context) for name, source in self.arguments.items()}


def bind(
    function: Callable[..., Any],
    *,
    tasks: Collection[str],
    params: Collection[str],
    where: str,
    declared: type | None = None,
) -> tuple[FunctionOperator, list[str]]:
    """Make the operator of a function, and list its upstream tasks.

    A parameter annotated `Context`, or named `context`, receives the context. A parameter named
    like one of `tasks` receives its result, and one named like one of `params` its value. One
    annotated with the class that has `declared` the params receives an instance. Others must have
    a default. `where` names job and task in errors. Raises `InvalidJob`.
    """
    _check_kind(function, where)
    signature, hints = _signature(function, where)
    arguments: dict[str, Source] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidJob(
                f"{where}: parameter {str(parameter)!r} accepts any argument; "
                "name the tasks and job parameters that the function needs"
            )
        source = _source(parameter, hints[name], tasks, params)
        if source is None and declared is not None and hints[name] is declared:
            whole = typed(declared)
            source = None if whole is None else FromParams(name, whole)
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
    if yields(function):
        from goflow.operators.generator import GeneratorOperator

        return GeneratorOperator(function, arguments), upstream
    return FunctionOperator(function, arguments), upstream


def bind_hook(function: Callable[..., Any], where: str) -> FunctionOperator:
    """Make the operator of a hook's function. It takes nothing or the `Outcome`, by any name, and
    may take the context, as a task may. `where` names job and hook in errors. Raises
    `InvalidJob`."""
    _check_kind(function, where)
    if yields(function):
        raise InvalidJob(f"{where}: {shown(function)} is a generator; a hook has no use for items")
    signature, hints = _signature(function, where)
    arguments: dict[str, Source] = {}
    for name, parameter in signature.parameters.items():
        has_default = parameter.default is not parameter.empty
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL) or (
            parameter.kind is parameter.VAR_KEYWORD
        ):
            raise InvalidJob(
                f"{where}: parameter {str(parameter)!r} cannot be passed by name; a hook takes "
                "one outcome, or nothing"
            )
        if name == "context" or is_context(hints.get(name, parameter.annotation)):
            arguments[name] = FromContext()
        elif not has_default or name == "outcome":
            if any(isinstance(one, FromOutcome) for one in arguments.values()):
                raise InvalidJob(
                    f"{where}: parameter {name!r} is one too many; a hook takes one outcome, or "
                    "nothing"
                )
            arguments[name] = FromOutcome()
    return FunctionOperator(function, arguments)


def _source(
    parameter: inspect.Parameter, hint: Any, tasks: Collection[str], params: Collection[str]
) -> Source | None:
    name = parameter.name
    default = None if parameter.default is parameter.empty else parameter.default
    if name == "context" or is_context(hint):
        return FromContext()
    if name in tasks:
        return FromResult(name, default, _typed(hint))
    if name in params:
        known = None if hint is parameter.empty or isinstance(hint, str) else hint
        return FromParam(name, default, _typed(hint), known)
    return None


def _typed(hint: Any) -> Typed | None:
    return None if hint is inspect.Parameter.empty or isinstance(hint, str) else typed(hint)


def _check_kind(function: object, where: str) -> None:
    if isinstance(function, type) or not callable(function):
        raise InvalidJob(f"{where}: {shown(function)} is not a function")


def yields(function: object) -> bool:
    """Whether a function is a generator, sync or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # An annotation that cannot be evaluated is no mistake.
        lenient = annotationlib.Format.FORWARDREF
        return inspect.signature(function, annotation_format=lenient)
    return inspect.signature(function)


def _signature(
    function: Callable[..., Any], where: str
) -> tuple[inspect.Signature, dict[str, Any]]:
    """A function's signature and the annotations of its parameters. Raises `InvalidJob`."""
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):
        raise InvalidJob(f"{where}: {shown(function)} has no readable signature") from None
    return signature, annotations_of(signature, function)


def annotations_of(signature: inspect.Signature, function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters, resolved, each by itself. One that cannot be resolved
    stays as it is."""
    hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    pending = [name for name, hint in hints.items() if _may_refer(hint)]
    if pending:
        names = _names_seen_by(function)
        for name in pending:
            hints[name] = _resolved(hints[name], names)
    return hints


def _may_refer(hint: Any) -> bool:
    """Whether an annotation may contain text."""
    return not (isinstance(hint, type) and not typing.get_args(hint))


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return typing.get_type_hints(holder, names, names, include_extras=True)["hint"]
    except BaseException:  # an annotation may be any expression
        return hint


def _names_seen_by(function: Callable[..., Any]) -> dict[str, Any]:
    """The names that an annotation of the function may use: those of the code that defines the
    task, of the function's module, and of its closure."""
    names: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HOUSE):
        frame = frame.f_back
    if frame is not None:
        names |= frame.f_locals
    plain = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    plain = getattr(plain, "__func__", plain)
    names = getattr(plain, "__globals__", {}) | names
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), cells or (), strict=False):
        with contextlib.suppress(ValueError):  # it has no value yet
            names[name] = cell.cell_contents
    return names


def _is_item(value: Any, context: Context) -> bool:
    """Whether a value is the item of a mapped task, or one of its parts."""
    item = context.item
    if context.index is None or value is item:
        return context.index is not None
    return isinstance(item, list) and any(one is value for one in item)


def _converted(
    value: Any, typed: Typed, context: Context, parameter: str, what: str, root: str
) -> Any:
    """The value in the type of a parameter. Raises `TaskFailed`."""
    try:
        return typed.convert(value, root)
    except Mismatch as error:
        raise TaskFailed(
            f"task {context.task!r}: its parameter {parameter!r} is annotated {typed.name}, and "
            f"{what} does not fit: {error}; it is {shown(value)}"
        ) from error


def is_context(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.strip("'\" ").split(".")[-1] == "Context"
    return any(one is Context for one in (hint, *typing.get_args(hint)))


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "there are none"
