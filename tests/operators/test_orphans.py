import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from goflow.operators import orphans
from goflow.operators.process_tag import (
    ProcessTag,
    has_gone,
    parse,
    start_of,
    tagged,
    task_key,
    tasks_by_key,
    this_server,
)

TAG = ProcessTag("e" * 16, this_server(), "some-execution", task_key("a task"), 1)


@contextmanager
def process(tag: ProcessTag) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"], env=tagged(str(tag))) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_tag_is_parsed_from_its_text() -> None:
    assert parse(str(TAG)) == TAG


@pytest.mark.parametrize("text", ["", "a:b:c", "a:b:c:-:1", "a:b:c:1:-1", "a:b:c:1:1:1"])
def test_other_texts_are_not_tags(text: str) -> None:
    assert parse(text) is None


def test_a_task_is_found_by_its_key_or_its_former_position() -> None:
    names = ["extract", "Transform · 变换", "load" * 60]
    keys = tasks_by_key(names)
    assert [keys[task_key(name)] for name in names] == names
    assert [keys[str(position)] for position in range(3)] == names, "of a server before an upgrade"
    assert task_key("other") not in keys
    assert "3" not in keys


def test_the_key_of_a_task_does_not_change_when_a_job_grows() -> None:
    before, after = tasks_by_key(["a", "b"]), tasks_by_key(["new", "a", "b"])
    assert before[task_key("b")] == after[task_key("b")] == "b"


def test_only_processes_with_the_tag_are_ended() -> None:
    other = TAG._replace(attempt=2)
    with process(TAG) as ours, process(other) as theirs:
        warnings: list[str] = []
        asyncio.run(orphans.end_tagged(str(TAG), warnings.append))
        assert ours.wait(10) == -signal.SIGTERM
        assert theirs.poll() is None
        assert warnings == [f"ended processes that the task had left running: {ours.pid}"]


def test_a_recycled_pid_is_not_signalled() -> None:
    """Another process has the PID now, with another start time or tag."""
    with process(TAG) as running:
        (found,) = (one for one in orphans.scan() if one.pid == running.pid)
        assert orphans._open(found._replace(start=found.start - 1)) is None
        assert orphans._open(found._replace(tag=TAG._replace(attempt=7))) is None
        pidfd = orphans._open(found)
        assert pidfd is not None
        os.close(pidfd)
        running.kill()
        running.wait()
        assert orphans._open(found) is None


def test_simultaneous_requests_share_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scan = orphans.scan

    def counted() -> Any:
        scans.append(1)
        return scan()

    monkeypatch.setattr(orphans, "scan", counted)

    async def main() -> None:
        sweeps = [orphans.end_tagged(f"none:{n}", pytest.fail) for n in range(100)]
        await asyncio.gather(*sweeps)

    asyncio.run(main())
    assert len(scans) <= 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_scan_that_was_cancelled_at_any_turn_does_not_prevent_the_next_one(turns: int) -> None:
    """The event loop cancels all tasks at its end. An attempt scans again then."""

    async def main() -> list[orphans.Orphan]:
        first = asyncio.create_task(orphans.end(lambda _: False))
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await orphans.end(lambda _: False)

    assert asyncio.run(main()) == []


def test_a_server_is_gone_only_when_its_process_is() -> None:
    assert not has_gone(this_server())
    namespace, pid, start = this_server().split(".")
    assert has_gone(f"{namespace}.{pid}.{int(start) - 1}")
    assert not has_gone(f"1{namespace}.{pid}.{int(start) - 1}"), "another namespace's are not ours"
    assert not has_gone("nonsense")


def test_a_missing_process_has_no_start_time() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert start_of(ended.pid) is None
