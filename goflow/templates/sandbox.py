"""The Jinja2 environment of templates.

The rule that must not be broken: a template reaches nothing but its values. They have the types
of JSON and those of times, and of their attributes and methods only those in `operations` can be
used.
"""

from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing

from goflow.shown import kind, shown
from goflow.templates import filters
from goflow.templates.operations import (
    ATTRIBUTES,
    attributes_of,
    called,
    pay_for_arguments,
    size_of_operation,
)
from goflow.templates.spending import Rendering, is_value, name_of

KEYS_NAMED = 10  # in a message
GLOBALS: dict[str, Any] = {"dict": dict, "namespace": Namespace, "range": range}


class Missing(StrictUndefined):
    """A value that does not exist. Any use of it fails, except `is defined` and `default`."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        name, owner = self._undefined_name, self._undefined_obj
        if owner is missing:
            if name in ("item", "index"):
                return f"{name!r} exists only in a task with map_over"
            return f"{name!r} is undefined"
        if isinstance(owner, dict):
            keys = ", ".join(shown(key) for key in list(owner)[:KEYS_NAMED]) or "nothing"
            more = ", …" if len(owner) > KEYS_NAMED else ""
            return f"there is no {name!r} among {keys}{more}"
        if owner is None:
            return f"None has no {name!r}"
        called = f"the {kind(owner)} {shown(owner, 80)}" if is_value(owner) else name_of(owner)
        return f"{called} has no {name!r}"


class Results(dict[str, Any]):
    """The results of upstream tasks. A task without one, as it was skipped, has None."""


@pass_context
def _finalized(context: Rendering, value: Any) -> str:
    text = context.text(value)
    context.made.append(text)
    return text


class Sandbox(ImmutableSandboxedEnvironment):
    """Implements the rule of this module, and that of `spending`."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])
    context_class = Rendering

    def __init__(self) -> None:
        super().__init__(
            undefined=Missing,
            keep_trailing_newline=True,
            optimized=False,  # constants are not computed unpaid
            cache_size=0,
            finalize=_finalized,
        )
        self.globals = dict(GLOBALS)
        self.filters = dict(filters.FILTERS)
        self.tests = dict(filters.TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`; of a dict it is an item, rather than a method of that name."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if type(obj) is Results and attribute not in ATTRIBUTES[dict]:
            return None
        return self._attribute(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`."""
        if type(obj) is Results:
            return obj.get(argument)
        if isinstance(obj, str | list | tuple | dict | range):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self._attribute(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def _attribute(self, obj: Any, name: str) -> Any:
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        if isinstance(obj, Namespace):
            held: dict[str, Any] = object.__getattribute__(obj, "_Namespace__attrs")
            return held[name] if name in held else self.undefined(obj=held, name=name)
        if not name.startswith("_") and not hasattr(obj, name):
            return self.undefined(obj=obj, name=name)
        if name in attributes_of(obj):
            return getattr(obj, name)
        message = f"a template must not use {name!r} of a {kind(obj)}"
        return self.undefined(message, name=name, obj=obj, exc=SecurityError)

    def call(__self, __context: Any, __obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method that templates may call."""
        kwargs.pop("_loop_vars", None)  # the generated code adds these
        kwargs.pop("_block_vars", None)
        if isinstance(__obj, Undefined):
            __obj._fail_with_undefined_error()
        if __obj not in (dict, Namespace, range):
            return called(__context, __obj, args, kwargs)
        pay_for_arguments(__context, args, kwargs)
        return __obj(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator."""
        context.spend(size_of_operation(context, operator, left, right))
        return self.binop_table[operator](left, right)
