"""After a power failure, acknowledged changes are there and the file is intact.

A real session of the store is recorded write by write. Then a new store opens the possible
contents after a power cut at any of them; see `disk`.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from goflow.core.events import Finished, Retried, Submitted, TaskStarted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.errors import GoflowError
from goflow.stores.base import (
    Accounted,
    Change,
    Idempotency,
    Purge,
    Put,
    Record,
    RecordTicks,
    Store,
    Submit,
    Tick,
    TickOutcome,
)
from goflow.stores.logs import AppendLog
from goflow.stores.sqlite import SqliteStore
from tests.crash.disk import Connection, Disk, RecordingVfs

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "goflow.db"
WRITES = 10_000  # of a session, at least

Session = tuple[Disk, list[list[object]]]


class RecordedStore(SqliteStore):
    """The real store, on a recording disk."""

    def __init__(self, path: Path, vfs: str) -> None:
        super().__init__(path)
        self._vfs = vfs

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = Connection(self._file, self._vfs)
        # Small, for many checkpoints in a short session.
        connection.execute("PRAGMA wal_autocheckpoint = 40")
        return connection  # type: ignore[return-value]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._writing() as connection:
            yield connection


def contents(store: Store) -> list[object]:
    rows = store.page(job=None, state=None, before=None, limit=1000)
    return [
        store.epoch,
        store.version(),
        store.entries("kind"),
        store.accounted(),
        store.ticks("job", None, 1000),
        store.unfinished(),
        rows,
        [store.history(row.id) for row in rows],
        [store.logs.read(row.id, "a", 1, 0, 10**6) for row in rows],
        store.recent(["job"], 100),
        store.activity("job", [BEGIN, BEGIN + timedelta(days=1)]),
    ]


def batches(rng: random.Random) -> Iterator[list[Change]]:
    """Commits like a server's: submits, ticks, progress, logs, ends, retries and purges."""
    plans = [Plan((PlannedTask(name),)) for name in "abc"]
    unfinished: list[str] = []
    yield [Put("kind", "key", b"1")]
    for number in range(90):
        now = BEGIN + timedelta(seconds=number)
        id, plan = f"x{number}", rng.choice(plans)
        fact = Submitted(now, id=id, job="job", plan=plan.id, cause="api", scheduled_at=now)
        key = Idempotency(f"k{number}", "") if rng.random() < 0.5 else None
        batch: list[Change] = [
            Submit(fact, plan, tick=True, idempotency=key, accounted=Accounted(BEGIN, now))
        ]
        unfinished.append(id)
        for execution in rng.sample(unfinished, min(3, len(unfinished))):
            batch.append(Record(execution, [TaskStarted(now, "a", 1)], State.RUNNING, now))
            text = rng.randbytes(rng.randrange(1, 4000)).hex() + "\n"
            batch.append(AppendLog(execution, "a", 1, number, 1, text))
        if len(unfinished) > 4:
            ended = unfinished.pop(rng.randrange(len(unfinished)))
            facts = [Finished(now, "failed")]
            brief = b'{"brief":1}'
            batch.append(Record(ended, list(facts), State.FAILED, now, brief, BEGIN, now))
            if rng.random() < 0.2:
                again = Record(ended, [Retried(now, ("a",))], State.NOTSTARTED, now)
                batch.append(again)
                unfinished.append(ended)
        yield batch
        if number % 10 == 9:
            tick = Tick(now, TickOutcome.MISSED, now, "it was down", 3, now)
            yield [
                RecordTicks("job", [tick], Accounted(BEGIN, now)),
                Put("kind", f"{number}", b"2"),
            ]
            yield [Purge(None, now - timedelta(seconds=50), 20, 5)]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The writes of two sessions of a store, and its contents after each commit. The disk's step
    ("committed", n) marks that commit n was acknowledged."""
    disk, held = Disk(), []
    vfs = RecordingVfs("recording", disk)
    store = RecordedStore(tmp_path_factory.mktemp("disk") / NAME, "recording")
    changes = batches(random.Random(7))
    for commits in (40, 1000):
        store.open()
        disk.steps.append(("committed", len(held)))
        held.append(contents(store))
        for batch in changes:
            store.commit(batch)
            disk.steps.append(("committed", len(held)))
            held.append(contents(store))
            commits -= 1
            if commits == 0:
                break
        store.close()
    vfs.unregister()
    return disk, held


def flaws(disk: Disk, held: list[list[object]], folder: Path, every: int) -> Iterator[str]:
    """The flaw after each cut, or ""."""
    for done, files in disk.after_cuts(random.Random(11), every):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        acknowledged = max(
            (step[1] for step in disk.steps[:done] if step[0] == "committed"), default=None
        )
        yield flaw(folder / NAME, held, acknowledged)
        for left in folder.iterdir():
            left.unlink()


def flaw(path: Path, held: list[list[object]], acknowledged: int | None) -> str:
    store = SqliteStore(path)
    try:
        store.open()
        found = contents(store)
    except (GoflowError, LookupError, msgspec.DecodeError) as error:
        return repr(error)  # a part is lost, and the rest is inconsistent
    finally:
        store.close()
    with closing(sqlite3.connect(path)) as file:
        (integrity,) = file.execute("PRAGMA integrity_check").fetchone()
    if integrity != "ok":
        return str(integrity)
    if acknowledged is None:
        return "" if found[1] == 0 else "it is not new"
    # The commit in progress at the power failure is there completely, or not at all.
    return "" if found in held[acknowledged : acknowledged + 2] else "something is lost"


def test_after_a_power_cut_the_file_is_intact_and_has_acknowledged_changes(
    session: Session, tmp_path: Path, cut_stride: int
) -> None:
    found = list(flaws(*session, tmp_path, every=cut_stride))
    assert set(found) == {""}
    assert len(found) >= WRITES // cut_stride


def test_the_session_has_checkpoints_and_purges(session: Session) -> None:
    disk, held = session
    kinds = {(step[0], str(step[1]).removeprefix(NAME)) for step in disk.steps}
    assert {("write", ""), ("sync", ""), ("write", "-wal"), ("sync", "-wal")} <= kinds
    assert {("write", "-journal"), ("delete", "-journal"), ("delete", "-wal")} <= kinds
    assert any(len(after[6]) < len(before[6]) for before, after in pairwise(held))  # type: ignore[arg-type]


def test_the_loss_is_detected_on_a_disk_that_does_not_sync(
    session: Session, tmp_path: Path
) -> None:
    disk, held = session
    lying = Disk()
    lying.steps = [step for step in disk.steps if step[0] != "sync"]
    found = list(flaws(lying, held, tmp_path, every=200))
    assert any(found)
