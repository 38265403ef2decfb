import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from goflow.operators import leftovers
from goflow.operators.cookie import Cookie, has_gone, marked, parse, start_of, this_server

COOKIE = Cookie("e" * 16, this_server(), "some-execution", 0, 1)


@contextmanager
def process(cookie: Cookie) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"], env=marked(str(cookie))) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_cookie_can_be_read_again() -> None:
    assert parse(str(COOKIE)) == COOKIE


@pytest.mark.parametrize("text", ["", "a:b:c", "a:b:c:d:1", "a:b:c:1:-1", "a:b:c:1:1:1"])
def test_what_is_no_cookie_is_not_taken_for_one(text: str) -> None:
    assert parse(text) is None


def test_only_what_has_the_cookie_is_ended() -> None:
    other = COOKIE._replace(attempt=2)
    with process(COOKIE) as ours, process(other) as theirs:
        warnings: list[str] = []
        asyncio.run(leftovers.end_of(str(COOKIE), warnings.append))
        assert ours.wait(10) == -signal.SIGTERM
        assert theirs.poll() is None
        assert warnings == [f"ended processes that the task had left running: {ours.pid}"]


def test_a_recycled_pid_is_not_signalled() -> None:
    """The PID is somebody else's by now, who has another start time or another cookie."""
    with process(COOKIE) as running:
        (found,) = (one for one in leftovers.look() if one.pid == running.pid)
        assert leftovers._hold(found._replace(start=found.start - 1)) is None
        assert leftovers._hold(found._replace(cookie=COOKIE._replace(attempt=7))) is None
        pidfd = leftovers._hold(found)
        assert pidfd is not None
        os.close(pidfd)
        running.kill()
        running.wait()
        assert leftovers._hold(found) is None


def test_many_who_ask_share_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    look = leftovers.look

    def counted() -> Any:
        scans.append(1)
        return look()

    monkeypatch.setattr(leftovers, "look", counted)

    async def main() -> None:
        sweeps = [leftovers.end_of(f"none:{n}", pytest.fail) for n in range(100)]
        await asyncio.gather(*sweeps)

    asyncio.run(main())
    assert len(scans) <= 2


def test_a_server_is_gone_only_when_its_process_is() -> None:
    assert not has_gone(this_server())
    namespace, pid, start = this_server().split(".")
    assert has_gone(f"{namespace}.{pid}.{int(start) - 1}")
    assert not has_gone(f"1{namespace}.{pid}.{int(start) - 1}"), "another namespace's are not ours"
    assert not has_gone("nonsense")


def test_a_process_that_is_not_there_has_no_start_time() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert start_of(ended.pid) is None
