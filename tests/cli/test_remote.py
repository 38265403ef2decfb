"""Commands that talk to a running server."""

import json
import socket
import uuid

import pytest

from tests.cli.commands import JOBS, eventually

MORE = (
    JOBS
    + """
hanging = Job("hanging/with slash")
hanging.add(Task("hang on", Command.shell("echo begun; exec sleep 300")))
gf.add_job(hanging)

talking = Job("talking")

@talking.task(retries=1)
def talk(context):
    for n in range(3):
        print(f"attempt {context.attempt}, line {n}")
    if context.attempt == 1:
        raise ValueError("once more")

gf.add_job(talking)
"""
)


@pytest.fixture
def remote(goflow, spawn, main_py):
    """Run a client command against a server of the jobs above."""
    url = spawn("serve", main_py(MORE), "--port", "0").address()

    def run(*arguments):
        return goflow(*arguments, "--server", url)

    return run


def submitted(remote, job, *arguments):
    result = remote("submit", job, *arguments)
    assert result.exit_code == 0, result.stderr
    return str(uuid.UUID(result.stdout.strip()))


def test_submit_prints_the_id_of_a_committed_execution(remote):
    id = submitted(remote, "etl", "-p", "rows=7", "-p", "day=3")
    followed = remote("logs", id, "fetch", "--follow")
    assert followed.stdout == "fetching 3\n"


def test_submit_and_wait_shows_the_changes_and_exits_as_it_ended(remote):
    good = remote("submit", "etl", "--wait")
    assert good.exit_code == 0
    assert [line.split()[:2] for line in good.stdout.splitlines()[:2]] == [
        ["fetch", "running"],
        ["fetch", "successful"],
    ]
    bad = remote("submit", "broken", "--wait")
    assert bad.exit_code == 1
    assert "ValueError: no fuse left" in bad.stdout


def test_submit_and_wait_as_json_prints_the_execution(remote):
    answer = json.loads(remote("submit", "etl", "--wait", "--json").stdout)
    assert answer["state"] == "successful"
    assert [task["result"] for task in answer["tasks"]] == [["today", 3]] * 3


def test_submit_with_the_same_key_submits_once(remote):
    key = ("--idempotency-key", "first")
    assert submitted(remote, "etl", *key) == submitted(remote, "etl", *key)
    again = remote("submit", "etl", "-p", "rows=1", *key)
    assert again.exit_code == 1
    assert "Idempotency-Key" in again.stderr


def test_toggle_switches_over_or_sets(remote):
    assert remote("toggle", "etl").stdout == "etl is off\n"
    assert remote("toggle", "etl").stdout == "etl is on\n"
    assert remote("toggle", "etl", "--on").stdout == "etl is on\n"
    assert json.loads(remote("toggle", "etl", "--off", "--json").stdout)["active"] is False


def test_cancel_stops_an_execution_and_says_if_it_had_finished(remote):
    id = submitted(remote, "hanging/with slash")
    eventually(lambda: remote("logs", id, "hang on").stdout == "begun\n")
    assert remote("cancel", id).stdout == f"execution {id} is being cancelled\n"
    assert remote("logs", id, "hang on", "--follow").stdout == "begun\n"
    again = remote("cancel", id)
    assert again.exit_code == 1
    assert "had finished already" in again.stderr


def test_retry_runs_again_what_failed(remote):
    failed = json.loads(remote("submit", "broken", "--wait", "--json").stdout)
    assert remote("retry", failed["id"]).stdout == f"{failed['id']} runs again\n"
    logs = remote("logs", failed["id"], "explode", "--attempt", "3", "--follow")
    assert logs.exit_code == 0


def test_logs_follow_a_task_through_its_attempts(remote):
    id = submitted(remote, "talking")
    followed = remote("logs", id, "talk", "--follow").stdout
    second = followed.index("attempt 2, line 0")
    assert [line for line in followed[second:].splitlines() if "line" in line] == [
        f"attempt 2, line {n}" for n in range(3)
    ]
    first = remote("logs", id, "talk", "--attempt", "1").stdout
    assert first.startswith("attempt 1, line 0\nattempt 1, line 1\nattempt 1, line 2\n")
    assert "ValueError: once more" in first


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["submit", "nope"], "'nope'"),
        (["submit", "\udcff"], "Error"),
        (["submit", "etl", "--idempotency-key", "é"], "Idempotency-Key"),
        (["submit", "etl", "-p", "rows=many"], "'rows'"),
        (["toggle", "nope"], "'nope'"),
        (["cancel", "nope"], "'nope'"),
        (["retry", "nope"], "'nope'"),
        (["logs", "nope", "t"], "'nope'"),
        (["logs", "nope", "t", "--follow"], "'nope'"),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(remote, arguments, named):
    result = remote(*arguments)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert named in line


def test_a_key_that_is_no_header_is_wrong_usage(remote):
    result = remote("submit", "etl", "--idempotency-key", "two\nlines")
    assert result.exit_code == 2
    assert "cannot be sent" in result.stderr


def test_a_server_that_does_not_answer_exits_with_3(goflow):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = goflow("toggle", "etl", "--server", f"http://127.0.0.1:{port}")
    assert result.exit_code == 3
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Error: no goflow server answers at http://127.0.0.1:{port}")


def test_the_environment_says_where_the_server_is(goflow, monkeypatch):
    monkeypatch.setenv("GOFLOW_SERVER", "ftp://elsewhere")
    result = goflow("submit", "etl")
    assert result.exit_code == 2
    assert "ftp://elsewhere" in result.stderr
