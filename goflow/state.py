"""A state that only a reducer changes, in the manner of Redux.

`create_store` makes a store by itself. `Job(state=reducer)` gives each execution a store whose
actions are kept; see `goflow.engine.attempts.shared`.

The rule that must not be broken: a reducer returns a new state, and changes neither the state nor
the action that it was given.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

__all__ = ["Store", "StoreApi", "apply_middleware", "combine_reducers", "create_store"]

Reducer = Callable[[Any, Any], Any]
Dispatch = Callable[[Any], Any]
Unsubscribe = Callable[[], None]

INIT = {"type": "@@INIT"}  # the action by which reducers give their initial states


class StoreApi(NamedTuple):
    """The argument of middleware: reads the state, and dispatches through all middleware."""

    get_state: Callable[[], Any]
    dispatch: Dispatch


Middleware = Callable[[StoreApi], Callable[[Dispatch], Dispatch]]
Enhancer = Callable[[Callable[[Reducer, Any], "Store"]], Callable[[Reducer, Any], "Store"]]


class Store:
    """A state and the reducer that changes it. Made by `create_store`."""

    def __init__(self, reducer: Reducer, initial: Any = None) -> None:
        self._reducer = with_default(reducer)
        self._state = first_state(reducer, initial)
        self._listeners: dict[object, Callable[[], object]] = {}
        self._reducing = False
        self.dispatch: Dispatch = self._dispatch

    def get_state(self) -> Any:
        """The current state. Do not change it.

        Returns:
            The state that the reducer returned last.
        """
        return self._state

    def subscribe(self, listener: Callable[[], object]) -> Unsubscribe:
        """Call a function after each dispatch.

        Args:
            listener: Function of nothing; it asks `get_state()`.

        Returns:
            A function that ends the subscription.
        """
        key = object()
        self._listeners[key] = listener
        return lambda: void(self._listeners.pop(key, None))

    def _dispatch(self, action: Any) -> Any:
        if self._reducing:
            raise RuntimeError("a reducer must not dispatch actions")
        self._reducing = True
        try:
            self._state = self._reducer(self._state, action)
        finally:
            self._reducing = False
        for listener in list(self._listeners.values()):
            listener()
        return action


def void(_: object) -> None:
    return None


def create_store(
    reducer: Reducer, initial: Any = None, enhancer: "Enhancer | None" = None
) -> Store:
    """A store by itself, kept only in memory.

    Args:
        reducer: Function of the state and an action that returns the new state.
        initial: State at the beginning. If it is None, the reducer is called with the action
            `{"type": "@@INIT"}` and returns it; a parameter with a default receives that.
        enhancer: Made by `apply_middleware`.

    Returns:
        A store with `dispatch(action)`, `get_state()` and `subscribe(listener)`.

    Examples:
        >>> from goflow.state import create_store
        >>> def count(state=0, action=None):
        ...     return state + action["by"] if action["type"] == "add" else state
        >>> store = create_store(count)
        >>> unsubscribe = store.subscribe(lambda: print("now", store.get_state()))
        >>> _ = store.dispatch({"type": "add", "by": 2})
        now 2
        >>> unsubscribe()
        >>> _ = store.dispatch({"type": "add", "by": 1})
        >>> store.get_state()
        3
    """
    if enhancer is not None:
        return enhancer(Store)(reducer, initial)
    return Store(reducer, initial)


def combine_reducers(**reducers: Reducer) -> Reducer:
    """A reducer of a dict, with a reducer for each of its keys.

    Args:
        **reducers: Reducer of each key. Its state is None at first, or the default of its
            parameter.

    Returns:
        A reducer. It returns the same dict if no part has changed.

    Raises:
        ValueError: There are no reducers.

    Examples:
        >>> from goflow.state import combine_reducers, create_store
        >>> def rows(state=0, action=None):
        ...     return state + action["n"] if action["type"] == "loaded" else state
        >>> def files(state=(), action=None):
        ...     return [*state, action["file"]] if action["type"] == "loaded" else state
        >>> store = create_store(combine_reducers(rows=rows, files=files))
        >>> _ = store.dispatch({"type": "loaded", "file": "a.csv", "n": 3})
        >>> store.get_state()
        {'rows': 3, 'files': ['a.csv']}
    """
    if not reducers:
        raise ValueError("combine_reducers needs at least one reducer, such as rows=count")
    by_key = {key: with_default(reducer) for key, reducer in reducers.items()}

    def combined(state: Any, action: Any) -> Any:
        before = state if isinstance(state, dict) else {}
        after = {key: reducer(before.get(key), action) for key, reducer in by_key.items()}
        same = before.keys() == after.keys() and all(after[key] is before[key] for key in after)
        return state if same else after

    combined.is_combined = True  # type: ignore[attr-defined]
    return combined


def apply_middleware(*middleware: Middleware) -> Enhancer:
    """Wrap the dispatch of a store.

    Args:
        *middleware: Functions of a store's `get_state` and `dispatch` that return a function of
            the next dispatch that returns a dispatch. The first one sees an action first.

    Returns:
        An enhancer for `create_store`.

    Examples:
        >>> from goflow.state import apply_middleware, create_store
        >>> def shout(store):
        ...     return lambda next: lambda action: next(action.upper())
        >>> store = create_store(lambda state, action: action, "", apply_middleware(shout))
        >>> _ = store.dispatch("hello")
        >>> store.get_state()
        'HELLO'
    """

    def enhance(create: Callable[[Reducer, Any], Store]) -> Callable[[Reducer, Any], Store]:
        def enhanced(reducer: Reducer, initial: Any) -> Store:
            store = create(reducer, initial)
            store.dispatch = chained(middleware, store.get_state, store.dispatch)
            return store

        return enhanced

    return enhance


def chained(
    middleware: Iterable[Middleware], get_state: Callable[[], Any], dispatch: Dispatch
) -> Dispatch:
    """A dispatch through all middleware, the first one first."""

    def from_the_start(action: Any) -> Any:
        return whole(action)

    api = StoreApi(get_state, from_the_start)
    made = [one(api) for one in middleware]
    whole: Dispatch = reduce(lambda rest, one: one(rest), reversed(made), dispatch)
    return whole


def first_state(reducer: Reducer, initial: Any) -> Any:
    """The state before the first action. A reducer that is not made for `INIT` leaves it None."""
    is_combined = getattr(reducer, "is_combined", False)
    if initial is not None and not is_combined:
        return initial
    try:
        return with_default(reducer)(initial, dict(INIT))
    except Exception:
        if is_combined:
            raise
        return None


def with_default(reducer: Reducer) -> Reducer:
    """The reducer, called with the default of its first parameter instead of None."""
    try:
        first = next(iter(inspect.signature(reducer).parameters.values()), None)
    except (TypeError, ValueError):  # it has no readable signature
        return reducer
    if first is None or first.default is first.empty or first.default is None:
        return reducer
    default = first.default
    return lambda state, action: reducer(default if state is None else state, action)
