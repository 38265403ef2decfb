"""A store is given by a path, a URL, an object, or not at all."""

from pathlib import Path

import pytest

from goflow import MemoryStore, SqliteStore
from goflow.stores.registry import DEFAULT, SCHEMES, find_store


@pytest.mark.parametrize(
    ("named", "path"),
    [
        (None, DEFAULT),
        ("x.db", "x.db"),
        (Path("x.db"), "x.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
    ],
)
def test_a_path_is_a_file_of_sqlite(named, path):
    store = find_store(named)
    assert isinstance(store, SqliteStore)
    assert store._path == Path(path)


def test_a_store_object_is_used_as_is():
    store = MemoryStore()
    assert find_store(store) is store


@pytest.mark.parametrize("wrong", [MemoryStore, object(), 5, b"x.db"])
def test_a_value_that_is_not_a_store_is_refused(wrong):
    with pytest.raises(ValueError, match="store must be a path"):
        find_store(wrong)


def test_an_unknown_scheme_is_refused_with_the_known_ones_and_without_the_password():
    with pytest.raises(ValueError, match=r"oracle://.*sqlite://") as refused:
        find_store("oracle://scott:tiger@host/x")
    assert "tiger" not in str(refused.value)


def test_a_host_in_a_path_is_refused():
    with pytest.raises(ValueError, match="three slashes"):
        find_store("sqlite://x.db")


def test_an_added_scheme_is_found(monkeypatch):
    monkeypatch.setitem(SCHEMES, "other", lambda url: MemoryStore())
    assert isinstance(find_store("other://x"), MemoryStore)
    with pytest.raises(ValueError, match=r"sqlite://, other://"):
        find_store("another://x")


def test_a_memory_store_cannot_be_copied_from_outside(tmp_path):
    with pytest.raises(Exception, match="while it is open"):
        MemoryStore().backup_unopened(str(tmp_path / "copy.db"))
