"""Commands that talk to a running server."""

import getpass
import json
import re
import socket
import threading
import urllib.request
import uuid

import pytest

from benchmarks.ports import number_of, reserved_port
from goflow.cli.server import user
from tests.cli.commands import JOBS, eventually

MORE = (
    JOBS
    + """
hanging = Job("hanging/with slash")
hanging.add(Task("hang on", Command.shell("echo begun; exec sleep 300")))
gf.add_job(hanging)

pair = Job("pair")
pair.add(Task("hang on", Command.shell("exec sleep 300")))
pair.add(Task("other", Command("true")))
gf.add_job(pair)

talking = Job("talking")

@talking.task(retries=1)
def talk(context):
    for n in range(3):
        print(f"attempt {context.attempt}, line {n}")
    if context.attempt == 1:
        raise ValueError("once more")

gf.add_job(talking)

gated = Job("gated")
gated.add(Task("gate", Command.shell("while [ ! -e open ]; do sleep 0.02; done")))

@gated.task(after=["gate"])
def tell(context):
    print(f"attempt {context.attempt}")

gf.add_job(gated)

mapped = Job("mapped")

@mapped.task
def find():
    return ["a", "b"]

@mapped.task(map_over="find", retries=1)
def load(find, context):
    print(f"{find}, attempt {context.attempt}")
    if find == "b":
        raise ValueError("bad")

gf.add_job(mapped)
"""
)


@pytest.fixture
def remote(goflow, spawn, main_py):
    """Run a client command against a server of the jobs above."""
    url = spawn("serve", main_py(MORE), "--port", "0").address()

    def run(*arguments):
        return goflow(*arguments, "--server", url)

    run.url = url
    return run


def submitted(remote, job, *arguments):
    result = remote("submit", job, *arguments)
    assert result.exit_code == 0, result.stderr
    return str(uuid.UUID(result.stdout.strip()))


def test_submit_prints_the_id_of_a_committed_execution(remote):
    id = submitted(remote, "etl", "-p", "rows=7", "-p", "day=3")
    followed = remote("logs", id, "fetch", "--follow")
    assert followed.stdout == "fetching 3\n"


def test_submit_with_wait_shows_changes_and_exits_by_the_result(remote):
    good = remote("submit", "etl", "--wait")
    assert good.exit_code == 0
    assert [line.split()[:2] for line in good.stdout.splitlines()[:2]] == [
        ["fetch", "running"],
        ["fetch", "successful"],
    ]
    bad = remote("submit", "broken", "--wait")
    assert bad.exit_code == 1
    assert "ValueError: no fuse left" in bad.stdout


def test_submit_with_wait_and_json_prints_the_execution(remote):
    answer = json.loads(remote("submit", "etl", "--wait", "--json").stdout)
    assert answer["state"] == "successful"
    assert [task["result"] for task in answer["tasks"]] == [["today", 3]] * 3


def test_submits_with_the_same_key_create_one_execution(remote):
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


def test_cancel_stops_an_execution_and_reports_a_finished_one(remote):
    id = submitted(remote, "hanging/with slash")
    eventually(lambda: remote("logs", id, "hang on").stdout == "begun\n")
    assert remote("cancel", id).stdout == f"execution {id} is being cancelled\n"
    assert remote("logs", id, "hang on", "--follow").stdout == "begun\n"
    again = remote("cancel", id)
    assert again.exit_code == 1
    assert "has already finished" in again.stderr


def test_retry_runs_failed_tasks_again(remote):
    failed = json.loads(remote("submit", "broken", "--wait", "--json").stdout)
    assert remote("retry", failed["id"]).stdout == f"{failed['id']} runs again\n"
    logs = remote("logs", failed["id"], "explode", "--attempt", "3", "--follow")
    assert logs.exit_code == 0


def ended(remote, id):
    """Wait until the execution has ended, and return it."""
    url = remote.url

    def look():
        with urllib.request.urlopen(f"{url}/api/executions/{id}") as answer:
            found = json.load(answer)
        return found["finished"] and found

    return eventually(look)


def test_cancel_stops_one_task_and_the_others_continue(remote):
    id = submitted(remote, "pair")
    cancelled = remote("cancel", id, "--task", "hang on")
    assert cancelled.stdout == f"task 'hang on' of execution {id} is being cancelled\n"
    found = ended(remote, id)
    assert [task["state"] for task in found["tasks"]] == ["cancelled", "successful"]
    again = remote("cancel", id, "--task", "hang on", "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["success"] is False


def test_retry_from_a_task_runs_it_with_or_without_the_tasks_after_it(remote):
    id = json.loads(remote("submit", "etl", "--wait", "--json").stdout)["id"]

    def attempts():
        return [len(task["attempts"]) for task in ended(remote, id)["tasks"]]

    assert remote("retry", id, "--task", "clean").exit_code == 0
    assert eventually(lambda: attempts()[2] == 2 and attempts()) == [1, 2, 2]
    assert remote("retry", id, "--task", "clean", "--only").exit_code == 0
    assert eventually(lambda: attempts()[1] == 3 and attempts()) == [1, 3, 2]


def test_retry_by_a_definition(remote):
    id = json.loads(remote("submit", "etl", "--wait", "--json").stdout)["id"]
    refused = remote("retry", id, "--definition", "newest")
    assert refused.exit_code == 1
    assert "there is nothing to retry" in refused.stderr
    assert remote("retry", id, "--task", "fetch", "--definition", "newest").exit_code == 0
    assert ended(remote, id)["actions"][-1]["action"] == "retry"
    assert remote("retry", id, "--definition", "oldest").exit_code == 2


def test_retry_changes_a_parameter_and_keeps_the_others(remote):
    done = remote("submit", "etl", "-p", "rows=7", "-p", "day=monday", "--wait", "--json")
    id = json.loads(done.stdout)["id"]
    assert remote("retry", id, "--task", "fetch", "-p", "rows=8").exit_code == 0
    again = ended(remote, id)
    assert again["params"] == {"day": "monday", "rows": 8}


def test_logs_follow_a_retried_task_without_its_earlier_attempts(remote, tmp_path):
    (tmp_path / "open").touch()
    id = json.loads(remote("submit", "gated", "--wait", "--json").stdout)["id"]
    assert remote("logs", id, "tell", "--follow").stdout == "attempt 1\n"
    (tmp_path / "open").unlink()
    assert remote("retry", id, "--task", "gate").exit_code == 0
    threading.Timer(1, (tmp_path / "open").touch).start()
    assert remote("logs", id, "tell", "--follow").stdout == "attempt 2\n"


def test_following_the_log_of_a_task_ends_with_the_task(remote, tmp_path):
    id = submitted(remote, "gated")
    eventually(lambda: remote("cancel", id, "--task", "tell").exit_code == 0)
    assert remote("logs", id, "tell", "--follow").stdout == ""
    (tmp_path / "open").touch()
    assert ended(remote, id)["state"] == "cancelled"


def test_retry_only_needs_a_task(remote):
    result = remote("retry", "any", "--only")
    assert result.exit_code == 2
    assert "--task" in result.stderr


def test_one_item_is_shown_followed_and_retried(remote):
    id = submitted(remote, "mapped")
    followed = remote("logs", id, "load", "--item", "1", "--follow").stdout
    begun = [line for line in followed.splitlines() if line.startswith("b, ")]
    assert begun in (["b, attempt 1", "b, attempt 2"], ["b, attempt 2"])
    ended(remote, id)
    assert remote("logs", id, "load", "--item", "0").stdout == "a, attempt 1\n"
    assert "no item 2" in remote("logs", id, "load", "--item", "2", "--follow").stderr
    assert remote("retry", id, "--task", "load", "--item", "1").exit_code == 0
    ended(remote, id)
    assert remote("logs", id, "load", "--item", "1").stdout.startswith("b, attempt 4\n")
    assert remote("logs", id, "load", "--item", "0").stdout == "a, attempt 1\n"


def test_an_item_that_does_not_run_is_neither_cancelled_nor_marked(remote):
    id = submitted(remote, "mapped")
    ended(remote, id)
    cancelled = remote("cancel", id, "--task", "load", "--item", "0")
    assert (cancelled.exit_code, "item 0 of task 'load'" in cancelled.stderr) == (1, True)
    assert remote("mark", id, "load", "skipped", "--item", "1").exit_code == 1


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_an_item_needs_a_task(remote, command):
    result = remote(command, "any", "--item", "1")
    assert result.exit_code == 2
    assert "--task" in result.stderr


def test_mark_lets_a_task_count_as_successful(remote):
    id = json.loads(remote("submit", "broken", "--wait", "--json").stdout)["id"]
    marked = remote("mark", id, "explode", "successful")
    assert marked.stdout == f"task 'explode' of execution {id} is successful\n"
    found = ended(remote, id)
    assert found["tasks"][0]["state"] == "successful"
    assert remote("mark", id, "explode", "successful").exit_code == 1
    assert remote("mark", id, "explode", "failed").exit_code == 2


def test_the_user_of_a_command_is_recorded(remote):
    id = submitted(remote, "hanging/with slash")
    remote("cancel", id)
    actions = ended(remote, id)["actions"]
    assert [action["action"] for action in actions] == ["submit", "cancel"]
    for action in actions:
        assert action["by"].startswith(f"{getpass.getuser()}@")


def test_the_user_name_is_sent_in_ascii(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "J\n\u00e9r\u00f4me " * 20)
    assert re.fullmatch("[!-~]{100}", user())


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
        (["cancel", "nope", "--task", "t"], "'nope'"),
        (["retry", "nope"], "'nope'"),
        (["retry", "nope", "-p", "a=1"], "'nope'"),
        (["mark", "nope", "t", "skipped"], "'nope'"),
        (["logs", "nope", "t"], "'nope'"),
        (["logs", "nope", "t", "--follow"], "'nope'"),
    ],
)
def test_a_refusal_is_shown_in_the_servers_words(remote, arguments, named):
    result = remote(*arguments)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert named in line


def test_a_key_that_is_no_valid_header_is_wrong_usage(remote):
    result = remote("submit", "etl", "--idempotency-key", "two\nlines")
    assert result.exit_code == 2
    assert "invalid request" in result.stderr


def test_a_server_that_does_not_answer_exits_with_3(goflow):
    with reserved_port() as nobody:
        port = number_of(nobody)
        result = goflow("toggle", "etl", "--server", f"http://127.0.0.1:{port}")
    assert result.exit_code == 3
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Error: no goflow server responds at http://127.0.0.1:{port}")


def test_the_environment_sets_the_servers_address(goflow, monkeypatch):
    monkeypatch.setenv("GOFLOW_SERVER", "ftp://elsewhere")
    result = goflow("submit", "etl")
    assert result.exit_code == 2
    assert "ftp://elsewhere" in result.stderr


@pytest.mark.parametrize("path", ["", "/flow?token=s3cr3t-W0rd"])
def test_a_password_in_the_servers_address_is_never_shown(goflow, path):
    with reserved_port() as reserved:
        url = f"http://me:s3cr3t-W0rd@127.0.0.1:{number_of(reserved)}{path}"
        shown = goflow("submit", "job", "--server", url).output
    assert "me:***@127.0.0.1" in shown
    assert "refused the connection" in shown
    assert "s3cr3t" not in shown


def test_an_invalid_server_address_is_shown_without_its_password(goflow):
    for url in (
        "ftp://me:s3cr3t@a",
        "http://me:s3cr3t@a:port",
        "me:s3cr3t@a",
        "http://me:s3/cr3t@",
    ):
        ended = goflow("submit", "job", "--server", url)
        assert ended.exit_code == 2, ended.output
        assert "s3cr3t" not in ended.output
        assert "s3/cr3t" not in ended.output


def test_an_unknown_host_name_is_reported(goflow, monkeypatch):
    def asked(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "as it says")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    shown = goflow("submit", "job", "--server", "http://no.example:8181").output
    assert "the name 'no.example' is not known (DNS)" in shown
