"""`goflow serve` and `goflow demo`."""

import json
import signal
import socket
import urllib.request

import pytest

from benchmarks.ports import number_of, reserved_port
from tests.cli.commands import JOBS, eventually

SLOW = """
from goflow import Command, Goflow, Job, Task

gf = Goflow("kept.db", stop_timeout=60)
gf.add_job(Job("slow", tasks=[Task("hang", Command("sleep", ["300"]))]))
gf.run(":1")
"""


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def test_it_serves_the_files_jobs_and_sigterm_ends_it_with_0(spawn, main_py):
    server = spawn("serve", main_py(JOBS), "--port", "0")
    assert get(server.address() + "/api/jobs") == {"jobs": ["etl", "broken"]}
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_it_listens_on_the_address_in_the_file_unless_an_option_is_given(spawn, main_py):
    with reserved_port() as reserved:
        port = number_of(reserved)
        file = main_py(f'{JOBS}\ngf.run(":{port}")\n')
        assert spawn("serve", file).address() == f"http://127.0.0.1:{port}"
        told = spawn("serve", file, "--port", "0", "--store", "other.db").address()
        assert told != f"http://127.0.0.1:{port}"


def test_a_second_sigint_ends_it_at_once(spawn, main_py, tmp_path):
    server = spawn("serve", main_py(SLOW), "--port", "0")
    url = server.address()
    submitted = urllib.request.Request(url + "/api/jobs/slow/submit", method="POST")
    with urllib.request.urlopen(submitted) as answer:
        id = json.load(answer)["id"]
    running = f"{url}/api/executions/{id}"
    eventually(lambda: get(running)["tasks"][0]["state"] == "running")
    server.signal(signal.SIGINT)
    eventually(lambda: refuses(url))
    assert not server.has_ended()
    server.signal(signal.SIGINT)
    assert server.wait() == 130


def refuses(url):
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_store_option_overrides_the_file(spawn, main_py, tmp_path):
    server = spawn("serve", main_py(SLOW), "--port", "0", GOFLOW_STORE="elsewhere.db")
    server.address()
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "kept.db").exists()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_an_allowed_host_name_is_served(spawn, main_py):
    server = spawn("serve", main_py(JOBS), "--port", "0", "--allowed-host", "goflow.test")
    request = urllib.request.Request(
        server.address() + "/api/jobs", headers={"Host": "goflow.test"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_demo_serves_the_example_jobs_from_a_file_in_the_folder(spawn, tmp_path):
    server = spawn("demo", "--port", "0")
    assert get(server.address() + "/api/jobs")["jobs"] == [
        "example-complex-analytics",
        "example-custom-operator",
        "example-flow",
        "example-follower",
    ]
    assert (tmp_path / "goflow.db").exists()


def test_a_port_in_use_is_an_error_in_one_line(spawn, main_py):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = spawn("serve", main_py(JOBS), "--port", str(port))
        assert server.wait() == 1
    [line] = server.errors.splitlines()
    assert line.startswith("Error: ")
    assert str(port) in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere.py"], "nowhere.py"),
        (["main.py", "--port", "70000"], "70000"),
        (["main.py", "--store", "mongodb://x"], "mongodb"),
    ],
)
def test_wrong_usage_exits_with_2(goflow, main_py, arguments, named):
    main_py(JOBS)
    result = goflow("serve", *arguments)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert named in last


@pytest.mark.parametrize("prefix", ["/größe", "gr%C3%B6%C3%9Fe/"])
def test_a_prefix_with_any_characters_is_served_stripped_or_not(spawn, main_py, prefix):
    url = spawn("serve", main_py(JOBS), "--port", "0", "--root-path", prefix).address()
    for path in ("", "/gr%C3%B6%C3%9Fe", "/gr%c3%b6%c3%9fe"):
        assert get(f"{url}{path}/api/jobs") == {"jobs": ["etl", "broken"]}
        assert get(f"{url}{path}/openapi.json")["servers"] == [{"url": "/gr%C3%B6%C3%9Fe"}]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--root-path", "http://a/b"), ("--root-path", "/a?b"), ("--trusted-proxy", "localhost")],
)
def test_an_invalid_option_for_proxies_is_reported(goflow, main_py, option, value):
    ended = goflow("serve", main_py(JOBS), "--port", "0", option, value)
    assert ended.exit_code == 2
    assert repr(value) in ended.output
    assert "Traceback" not in ended.output
