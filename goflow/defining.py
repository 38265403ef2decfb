"""What a user defines is looked at with care: its values may have methods that do anything.

The rule that must not be broken: whatever they raise while a definition is made or checked,
what comes out is `InvalidJob`, and it names what was being defined.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from goflow.errors import GoflowError, InvalidJob
from goflow.shown import reason, shown

P = ParamSpec("P")
T = TypeVar("T")


def defining(kind: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For a method that makes or checks a definition, of a thing of this kind: what a user's
    value raises in it is raised as `InvalidJob`, with the cause."""

    def of_method(method: Callable[P, T]) -> Callable[P, T]:
        # A frame that looks like the method's own, for who wants to know the caller's.
        @functools.wraps(method)
        def __init__(*args: P.args, **kwargs: P.kwargs) -> T:
            self = args[0]
            try:
                return method(*args, **kwargs)
            except (GoflowError, KeyboardInterrupt):
                raise
            except BaseException as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                    raise  # it was called with the wrong arguments, and has not begun
                where = f"{kind}{_name(self, args[1:], kwargs)}"
                raise InvalidJob(f"{where}: what it was given raises {reason(error)}") from error

        return __init__

    return of_method


def _name(self: object, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """The name of what is being defined, and of the task that it is about, for a message."""
    known = getattr(self, "__dict__", {}).get("name")
    name = known if known is not None else kwargs.get("name", args[0] if args else None)
    about = [] if known is None else [getattr(one, "__dict__", {}).get("name") for one in args]
    tasks = "".join(f", task {shown(task)}" for task in about if _is_text(task))
    return (f" {shown(name)}" if _is_text(name) else "") + tasks


def _is_text(value: object) -> bool:
    return issubclass(type(value), str)  # what it says of its class may raise
