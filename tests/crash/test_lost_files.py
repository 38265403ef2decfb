"""A server whose files are removed, killed or not: it reports that, and refuses changes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_kill import SERVER, Server, executions, until


def health(server: Server) -> tuple[int, str, str]:
    """The status, the health, and the error code or ""."""
    answer = server.client.get("/api/health")
    told: Any = answer.json()
    return answer.status_code, told["health"], told.get("error", {}).get("code", "")


OK = (200, "OK", "")


def test_commits_lost_after_a_kill_are_reported_in_a_notice_and_in_health(
    tmp_path: Path,
) -> None:
    first = Server(tmp_path)
    assert health(first) == OK
    first.submit("long")
    first.kill()
    (tmp_path / "store.db-wal").unlink()
    second = Server(tmp_path)
    assert health(second) == (503, "failing", "commits-lost")
    told = second.client.get("/api/health").json()["error"]["message"]
    assert "store.db-wal" in told
    assert any("store.db-wal" in line for line in second.said.splitlines())
    assert second.submit("chain")
    assert second.stop() == 0
    third = Server(tmp_path)
    assert health(third) == OK
    assert third.stop() == 0


def test_a_kill_with_all_files_in_place_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    id = server.submit("long")
    server.kill()
    server = Server(tmp_path)
    assert health(server) == OK
    assert id in [one["id"] for one in executions(server, jobname="long")]
    server.kill()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_moved_file_is_noticed_without_writes_and_recovers_when_it_is_back(
    tmp_path: Path, suffix: str
) -> None:
    server = Server(tmp_path)
    server.client.post("/api/jobs/chain/toggle", json={"active": False}).raise_for_status()
    # Also those that have not begun: a commit at the moment of the move asks for a restart.
    until(lambda: all(one["finished"] for one in executions(server)))
    file, aside = tmp_path / f"store.db{suffix}", tmp_path / "aside"
    file.rename(aside)
    until(lambda: health(server) == (503, "failing", "store-unavailable"))
    answer = server.client.post("/api/jobs/long/submit")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store-unavailable"
    aside.rename(file)
    until(lambda: health(server) == OK)
    assert server.submit("long")
    server.kill()


def test_a_second_server_on_a_hard_link_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "link.db").hardlink_to(tmp_path / "store.db")
    command = [sys.executable, str(SERVER), str(other / "link.db"), "0", "/dev/null"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "in use by another goflow server" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert health(server) == OK
    assert server.stop() == 0


def test_a_removed_lock_file_is_created_again_and_reported(tmp_path: Path) -> None:
    server = Server(tmp_path)
    (tmp_path / "store.db.lock").unlink()
    until(lambda: server.get("/api/health")["notices"])
    assert "store.db.lock was removed" in server.get("/api/health")["notices"][-1]["text"]
    assert (tmp_path / "store.db.lock").exists()
    assert server.stop() == 0
