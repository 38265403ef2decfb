"""A stand-alone store in the manner of Redux."""

from typing import Any

import pytest

from goflow.state import Store, apply_middleware, combine_reducers, create_store


def count(state: int = 0, action: Any = None) -> int:
    return state + action["by"] if action["type"] == "add" else state


def add(by: int) -> dict[str, Any]:
    return {"type": "add", "by": by}


def test_a_store_begins_with_the_given_state_or_with_that_of_the_reducer() -> None:
    assert create_store(count).get_state() == 0
    assert create_store(count, 5).get_state() == 5
    assert create_store(lambda state, action: action["missing"]).get_state() is None


def test_dispatch_returns_the_action_and_changes_the_state() -> None:
    store = create_store(count)
    assert store.dispatch(add(2)) == add(2)
    store.dispatch({"type": "unknown"})
    assert store.get_state() == 2


def test_listeners_are_called_until_they_unsubscribe() -> None:
    store = create_store(count)
    heard: list[int] = []

    def listen() -> None:
        heard.append(store.get_state())

    first, second = store.subscribe(listen), store.subscribe(listen)
    store.dispatch(add(1))
    first()
    first()
    store.dispatch(add(1))
    second()
    store.dispatch(add(1))
    assert heard == [1, 1, 2]


def test_a_reducer_that_raises_or_dispatches_leaves_the_state() -> None:
    def bad(state: int, action: Any) -> int:
        if action["type"] == "nested":
            store.dispatch(add(1))
        raise ValueError(action["type"])

    store: Store = create_store(bad, 7)
    with pytest.raises(ValueError, match="boom"):
        store.dispatch({"type": "boom"})
    with pytest.raises(RuntimeError, match="must not dispatch"):
        store.dispatch({"type": "nested"})
    assert store.get_state() == 7


def test_combined_reducers_keep_the_dict_if_nothing_changed() -> None:
    store = create_store(combine_reducers(a=count, b=count), {"a": 1})
    assert store.get_state() == {"a": 1, "b": 0}
    before = store.get_state()
    store.dispatch({"type": "unknown"})
    assert store.get_state() is before
    store.dispatch(add(1))
    assert store.get_state() == {"a": 2, "b": 1}
    with pytest.raises(ValueError, match="at least one reducer"):
        combine_reducers()


def test_middleware_wraps_dispatch_the_first_one_first() -> None:
    told: list[str] = []

    def named(name: str) -> Any:
        def middleware(store: Any) -> Any:
            def wrap(next: Any) -> Any:
                def dispatch(action: Any) -> Any:
                    told.append(f"{name} before {store.get_state()}")
                    result = next(action)
                    told.append(f"{name} after {store.get_state()}")
                    return result

                return dispatch

            return wrap

        return middleware

    store = create_store(count, 0, apply_middleware(named("a"), named("b")))
    assert store.dispatch(add(2)) == add(2)
    assert told == ["a before 0", "b before 0", "b after 2", "a after 2"]


def test_middleware_may_dispatch_from_the_start() -> None:
    def thunk(store: Any) -> Any:
        return lambda next: (
            lambda action: action(store.dispatch) if callable(action) else next(action)
        )

    store = create_store(count, 0, apply_middleware(thunk))
    store.dispatch(lambda dispatch: [dispatch(add(1)), dispatch(add(2))])
    assert store.get_state() == 3
