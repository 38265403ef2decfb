"""goflow works behind proxies with the documented configurations."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from tests.deploy.conftest import (
    CLIENT,
    DEADLINE,
    HOST,
    Change,
    Front,
    Made,
    Start,
    apache2,
    caddy,
    nginx,
)
from tests.deploy.jobs import NAMES

SPACED, PLAIN = ("--root-path", "/go flow"), ("--root-path", "goflow/")
TAKEN_OFF = [('ProxyPass "/" "http', 'ProxyPass "/goflow/" "http')]
# each setup: the proxy, changes to the documented configuration, goflow's options, the prefix
WAYS: dict[str, tuple[Callable[..., Made], list[Change], tuple[str, ...], str]] = {
    "nginx": (nginx, [], (), ""),
    "apache": (apache2, [], (), ""),
    "caddy": (caddy, [], (), ""),
    "nginx below a path": (
        nginx,
        [("location / {", 'location "/go flow/" {')],
        SPACED,
        "/go flow",
    ),
    "apache below a path": (
        apache2,
        [*TAKEN_OFF, ('/" nocanon', '/goflow/" nocanon')],
        PLAIN,
        "/goflow",
    ),
    "caddy below a path": (
        caddy,
        [("reverse_proxy", 'handle "/go flow/*" {\nreverse_proxy'), ("\n}", "\n}\n}")],
        SPACED,
        "/go flow",
    ),
    "apache takes the path off": (apache2, TAKEN_OFF, PLAIN, "/goflow"),
    "apache takes the path off and goflow is not told": (apache2, TAKEN_OFF, (), "/goflow"),
}


@pytest.fixture(params=WAYS)
def front(request: pytest.FixtureRequest, behind: Start) -> Front:
    make, changes, options, prefix = WAYS[request.param]
    return behind(make, *changes, options=options, prefix=prefix)


def run(front: Front, name: str) -> Any:
    """Submit the job, and wait until the execution has finished."""
    pressed = front.press(f"/api/jobs/{quote(name, safe='')}/submit")
    assert pressed.status_code == 200, pressed.text
    ends = time.monotonic() + DEADLINE
    while True:
        execution = front.ask("GET", f"/api/executions/{pressed.json()['id']}").json()
        if execution["finished"]:
            return execution
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_everything_works(front: Front, tmp_path: Path) -> None:
    # jobs with any name, requests from an origin with another port and scheme than goflow's
    assert front.ask("GET", "/api/jobs").json()["jobs"] == [*NAMES, "waits"]
    for name in NAMES:
        part = quote(name, safe="")
        assert front.ask("GET", f"/api/jobs/{part}").json()["job"] == name
        execution = run(front, name)
        assert (execution["job"], execution["state"]) == (name, "successful")
        log = front.ask("GET", f"/api/executions/{execution['id']}/tasks/{part}/logs")
        assert log.text == "hello\n"
        assert front.ask("GET", f"/ui/jobs/{part}").status_code == 200
    assert execution["actions"][0]["by"] == CLIENT

    # the dashboard's links have the prefix
    home = front.ask("GET", "/")
    assert home.status_code == 307
    there = urljoin(front.url("/"), home.headers["location"])
    assert there == front.url("/ui/")

    # a foreign page changes nothing
    for origin in ("https://evil.example", f"https://evil.{HOST}", "null"):
        refused = front.ask("POST", "/api/jobs/waits/submit", Origin=origin)
        assert refused.status_code == 403, origin

    # a client cannot bypass the guard with a proxy's headers
    said = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Host": "evil.example"}
    assert front.ask("GET", "/api/health", **said).status_code in (200, 308, 421)
    said = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    evil = {**said, "Origin": "https://evil.example"}
    assert front.ask("POST", "/api/jobs/waits/submit", **evil).status_code == 403

    # the stream is live: the event arrives while the task still runs
    with front.stream("/stream?jobname=waits") as events:
        id = front.press("/api/jobs/waits/submit").json()["id"]
        states = []
        for line in events.iter_lines():
            if line.startswith("data: "):
                seen = json.loads(line.removeprefix("data: "))
                assert seen["id"] == id
                states.append(seen["state"])
                if seen["tasks"][0]["state"] == "running":
                    (tmp_path / "goflow" / "open").touch()
            if states and states[-1] == "successful":
                break
    assert "running" in states


def test_unauthenticated_clients_are_refused(behind: Start) -> None:
    front = behind(nginx)
    front._client.auth = None
    assert front.ask("GET", "/api/jobs").status_code == 401


@pytest.mark.parametrize("proxy", [nginx, apache2, caddy])
def test_the_address_of_the_client_is_the_real_one(
    behind: Start, proxy: Callable[..., Made]
) -> None:
    front = behind(proxy)
    claim = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7"}
    id = front.ask("POST", "/api/jobs/a%2Fb/submit", **claim).json()["id"]
    execution = front.ask("GET", f"/api/executions/{id}").json()
    assert execution["actions"][0]["by"] == CLIENT
