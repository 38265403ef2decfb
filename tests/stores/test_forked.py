"""A fork of a process with an open store: it has no descriptor of the store and cannot harm it,
even if it closes a connection."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
from datetime import UTC, datetime
from goflow import forks
from goflow.stores.base import Touch
from goflow.stores.sqlite import SqliteStore

store = SqliteStore(sys.argv[1])
store.open()
store.commit([Touch(datetime.now(UTC))])
store.version()  # there is a reader
before = os.stat(sys.argv[1] + "-wal").st_ino
with forks.disinherited():
    pid = os.fork()
    if pid == 0:
        files = [f"/dev/fd/{fd}" for fd in range(3, 30)]
        held = [file for file in files if "store.db" in os.path.realpath(file)]
        for connection in (*store._readers, store._writer):
            connection.close()
        os._exit(len(held))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert os.stat(sys.argv[1] + "-wal").st_ino == before
store.commit([Touch(datetime.now(UTC))])
store.close()
import sqlite3
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA integrity_check").fetchone()[0])
"""


def test_a_fork_has_no_descriptor_of_the_store_and_cannot_remove_its_log(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ok\n", "", 0)
