"""A copy of a store whose server runs, has stopped or was killed."""

import json
import signal
import sqlite3
import urllib.request

import pytest

from tests.cli.commands import JOBS

FOREIGN = "print('not a store')"


def ids(url):
    with urllib.request.urlopen(f"{url}/api/executions") as answer:
        return [one["id"] for one in json.load(answer)["executions"]]


@pytest.mark.parametrize("end", [None, signal.SIGTERM, signal.SIGKILL])
def test_a_copy_has_acknowledged_changes_and_can_be_served(goflow, spawn, main_py, tmp_path, end):
    main = main_py(JOBS)
    server = spawn("serve", main, "--port", "0")
    url = server.address()
    told = goflow("submit", "etl", "--wait", "--json", "--server", url)
    id = json.loads(told.stdout)["id"]
    if end is not None:
        server.signal(end)
        server.wait()
    copied = goflow("backup", "copy.db")
    assert copied.exit_code == 0, copied.stderr
    assert copied.stdout.startswith("copy.db is a copy of goflow.db, ")
    if end is None:
        assert ids(url) == [id], "the server continues"
    else:
        spawn("serve", main, "--port", "0").address()  # and the next one starts
    served = spawn("serve", main, "--port", "0", "--store", "copy.db")
    assert ids(served.address()) == [id]


def test_a_copy_as_json_says_where_it_is(goflow, spawn, main_py, tmp_path):
    spawn("serve", main_py(JOBS), "--port", "0", "--store", "mine.db").address()
    told = json.loads(goflow("backup", "copy.db", "--store", "mine.db", "--json").stdout)
    assert told == {
        "file": "copy.db",
        "store": "mine.db",
        "bytes": (tmp_path / "copy.db").stat().st_size,
    }


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("none.db", "not there"),
        ("foreign.txt", "not a goflow store"),
        ("empty", "not a goflow store"),
        ("foreign.db", "not a goflow store"),
        (".", "not there"),
    ],
)
def test_a_file_that_is_not_a_store_is_not_copied(goflow, tmp_path, store, said):
    (tmp_path / "foreign.txt").write_text(FOREIGN * 100)
    (tmp_path / "empty").touch()
    with sqlite3.connect(tmp_path / "foreign.db") as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    result = goflow("backup", "copy.db", "--store", store)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "copy.db").exists()


def test_a_file_that_exists_is_left_alone(goflow, spawn, main_py, tmp_path):
    spawn("serve", main_py(JOBS), "--port", "0").address()
    (tmp_path / "there.txt").write_text("precious")
    result = goflow("backup", "there.txt")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert (tmp_path / "there.txt").read_text() == "precious"


def test_a_store_that_is_not_a_file_is_wrong_usage(goflow):
    result = goflow("backup", "copy.db", "--store", "postgres://somewhere/x")
    assert result.exit_code == 2
