from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, Optional

import pytest

import goflow
from goflow import Context, InvalidJob
from goflow.operators.base import inspect_operator
from goflow.operators.function import FunctionOperator, bind
from tests.operators.memory_log import MemoryLog, context_with

TASKS = ("fetch", "clean")
PARAMS = ("day", "limit")


def bound(function: Callable[..., Any]) -> tuple[FunctionOperator, list[str]]:
    return bind(function, tasks=TASKS, params=PARAMS, where="job 'j', task 't'")


def called(function: Callable[..., Any], **fields: Any) -> Any:
    value = bound(function)[0].run(context_with(MemoryLog(), **fields))
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def test_a_parameter_named_like_a_task_receives_its_result_and_makes_a_dependency() -> None:
    def both(fetch: int, clean: int) -> int:
        return fetch + clean

    assert bound(both)[1] == ["fetch", "clean"]
    assert called(both, results={"fetch": 1, "clean": 2}) == 3


def test_a_parameter_named_like_a_job_parameter_receives_its_value() -> None:
    assert bound(lambda day: day)[1] == []
    assert called(lambda day: day, params={"day": "today", "limit": 1}) == "today"


def test_a_task_takes_precedence_over_a_job_parameter_of_the_same_name() -> None:
    operator, upstream = bind(lambda a: a, tasks=["a"], params=["a"], where="t")
    assert upstream == ["a"]
    assert operator.run(context_with(MemoryLog(), results={"a": 1}, params={"a": 2})) == 1


def test_without_a_result_a_parameter_has_its_default_or_none() -> None:
    assert called(lambda fetch, clean="unclean": (fetch, clean)) == (None, "unclean")


def by_name(context):  # type: ignore[no-untyped-def]
    return context.task


def by_annotation(ctx: Context) -> str:
    return ctx.task


def by_dotted_annotation(ctx: goflow.Context) -> str:
    return ctx.task


def by_optional(ctx: Optional[Context] = None) -> str | None:  # noqa: UP045
    return ctx.task if ctx else None


def by_union(*, ctx: Context | None = None) -> str | None:
    return ctx.task if ctx else None


def beside_nonsense(ctx: Context, other: Nowhere = 1) -> str:  # type: ignore[name-defined]  # noqa: F821
    return ctx.task


@pytest.mark.parametrize(
    "function",
    [by_name, by_annotation, by_dotted_annotation, by_optional, by_union, beside_nonsense],
)
def test_the_context_is_passed_by_name_or_annotation(function: Callable[..., Any]) -> None:
    assert called(function) == "t"


def test_other_parameters_keep_their_defaults() -> None:
    assert called(lambda a=1, /, b=2, *, c=3: (a, b, c)) == (1, 2, 3)


def test_the_operator_is_async_if_the_function_is() -> None:
    async def slow(fetch: int) -> int:
        return fetch

    assert inspect_operator(bound(slow)[0], "t").is_async
    assert not inspect_operator(bound(lambda: 1)[0], "t").is_async
    assert inspect_operator(bound(lambda: 1)[0], "t").takes_context
    assert called(slow, results={"fetch": 5}) == 5


def test_partials_and_decorated_functions_are_accepted() -> None:
    def add(fetch: int, limit: int) -> int:
        return fetch + limit

    @functools.wraps(add)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return add(*args, **kwargs)

    assert called(functools.partial(add, limit=1), results={"fetch": 1}, params={"limit": 7}) == 8
    assert called(wrapper, results={"fetch": 1}, params={"limit": 7}) == 8


def test_methods_are_accepted() -> None:
    class Adder:
        def add(self, fetch: int) -> int:
            return fetch + 1

    assert called(Adder().add, results={"fetch": 1}) == 2


def positional_only(fetch: int, /) -> int:
    return fetch


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda unknown: 1, r"'unknown' is no task added before \(fetch, clean\), no parameter of"),
        (lambda *args: 1, r"parameter '\*args' accepts any argument"),
        (lambda **kwargs: 1, r"parameter '\*\*kwargs' accepts any argument"),
        (positional_only, "'fetch' is positional-only"),
        (int, "is not a function"),
        (7, "is not a function"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_defined(
    function: Any, reason: str
) -> None:
    with pytest.raises(InvalidJob, match=f"job 'j', task 't': .*{reason}"):
        bound(function)
