"""Hints of outcomes: an attempt that ended before a kill does not run again."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import Job, Task
from goflow.core.execution import Cancelled, Failed, Interrupted, Outcome, Succeeded
from goflow.engine.engine import Engine
from goflow.engine.hints import SIZE, Hints, hints_file, parse
from goflow.engine.options import Options
from goflow.stores.memory import MemoryStore
from goflow.stores.sqlite import SqliteStore
from tests.engine.scripted import until

pytestmark = pytest.mark.anyio

OUTCOMES: list[Outcome] = [
    Succeeded(),
    Succeeded(msgspec.Raw(b'{"a":[1,"\xc3\xa4"]}')),
    Succeeded(size=5000, sha256="ab" * 32),
    Failed("no rain"),
    Failed("never", final=True),
]


def hints(path: Path | None, epoch: str = "one") -> tuple[Hints, list[str]]:
    notices: list[str] = []
    opened = Hints(path, epoch, notices.append)
    opened.open()
    return opened, notices


def left_by_a_kill(path: Path, outcomes: list[Outcome]) -> None:
    killed, _ = hints(path)
    killed.cut()
    for number, outcome in enumerate(outcomes):
        assert killed.write("e", f"t{number}", 1, outcome)


def outcomes_of(found: Hints) -> list[Outcome]:
    return [hint.outcome for hint in found.found]


def plain(outcomes: list[Outcome]) -> list[object]:
    """Outcomes in comparable form, since a `Raw` equals only itself."""
    return [(type(one), msgspec.json.encode(one)) for one in outcomes]


def test_the_outcomes_that_a_killed_server_wrote_are_found(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path / "ends", OUTCOMES)
    found, notices = hints(tmp_path / "ends")
    assert plain(outcomes_of(found)) == plain(OUTCOMES)
    assert [hint.task for hint in found.found] == [f"t{n}" for n in range(len(OUTCOMES))]
    assert notices == []


@pytest.mark.parametrize("outcome", [Cancelled(), Interrupted()], ids=repr)
def test_a_stopped_attempt_leaves_no_hint(tmp_path: Path, outcome: Outcome) -> None:
    opened, _ = hints(tmp_path / "ends")
    opened.cut()
    assert not opened.write("e", "t", 1, outcome)


def test_nothing_is_written_before_recovery_is_done(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path / "ends", OUTCOMES)
    found, _ = hints(tmp_path / "ends")
    assert not found.write("e", "t", 1, Succeeded())
    assert len(hints(tmp_path / "ends")[0].found) == len(OUTCOMES)


@pytest.mark.parametrize("place", [30, 60, -1])
def test_hints_before_the_damage_are_used_and_the_damage_is_reported(
    tmp_path: Path, place: int
) -> None:
    path = tmp_path / "ends"
    left_by_a_kill(path, OUTCOMES)
    data = bytearray(path.read_bytes())
    data[place if place >= 0 else len(data.rstrip(b"\0")) - 1] ^= 0xFF
    path.write_bytes(data)
    found, notices = hints(path)
    assert plain(outcomes_of(found)) == plain(OUTCOMES[: len(found.found)])
    assert len(found.found) < len(OUTCOMES)
    (notice,) = notices
    assert "is damaged from byte" in notice
    assert "may run again" in notice


def test_a_truncated_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "ends"
    left_by_a_kill(path, OUTCOMES)
    data = path.read_bytes().rstrip(b"\0")
    counts = []
    for length in range(len(data) + 1):
        hints_read, _ = parse(data[:length], data.index(b"\n") + 1)
        counts.append(len(hints_read))
        found = [hint.outcome for hint in hints_read]
        assert plain(found) == plain(OUTCOMES[: counts[-1]])
    assert counts == sorted(counts)
    assert counts[-1] == len(OUTCOMES)


def test_hints_of_another_store_are_ignored_with_a_notice(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path / "ends", OUTCOMES)
    found, notices = hints(tmp_path / "ends", "another")
    assert found.found == []
    assert "belongs to another store" in notices[0]


def test_committed_outcomes_are_overwritten_when_all_are_committed(tmp_path: Path) -> None:
    path = tmp_path / "ends"
    opened, _ = hints(path)
    opened.cut()
    for number in range(5):
        assert opened.write("e", f"t{number}", 1, Failed("x" * 1000))
    opened.committed(4)
    assert len(hints(path)[0].found) == 5
    opened.committed(1)
    assert hints(path)[0].found == []
    assert opened.write("e", "next", 1, Succeeded())
    found, notices = hints(path)
    assert [hint.task for hint in found.found] == ["next"]
    assert notices == []


def test_the_file_is_bounded_and_accepts_hints_again_after_the_commits(tmp_path: Path) -> None:
    path = tmp_path / "ends"
    opened, _ = hints(path)
    opened.cut()
    written = 0
    while opened.write("e", "t", 1, Failed("x" * 16_000)):
        written += 1
    assert written > SIZE // 20_000
    assert path.stat().st_size == SIZE
    assert len(hints(path)[0].found) == written
    opened.committed(written)
    assert opened.write("e", "t", 1, Succeeded())


def test_the_file_is_removed_at_a_stop_unless_it_is_needed(tmp_path: Path) -> None:
    needed, _ = hints(tmp_path / "ends")
    needed.cut()
    assert needed.write("e", "t", 1, Succeeded())
    needed.close()
    assert (tmp_path / "ends").exists()
    done, _ = hints(tmp_path / "ends")
    done.cut()
    assert done.write("e", "t", 1, Succeeded())
    done.committed(1)
    done.close()
    assert not (tmp_path / "ends").exists()


def test_a_file_that_cannot_be_created_causes_only_a_notice(tmp_path: Path) -> None:
    opened, notices = hints(tmp_path / "missing" / "ends")
    opened.cut()
    assert not opened.write("e", "t", 1, Succeeded())
    opened.close()
    assert "cannot be used" in notices[0]


def test_only_a_store_in_a_file_has_hints(tmp_path: Path) -> None:
    assert hints_file(MemoryStore()) is None
    assert hints_file(SqliteStore(tmp_path / "a.db")) == tmp_path / "a.db.ends"


class Counting:
    """An operator that counts its runs, and fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.runs = 0
        self.failures = failures

    async def run(self) -> int:
        self.runs += 1
        if self.runs <= self.failures:
            raise RuntimeError("no rain")
        return self.runs


@pytest.mark.parametrize(
    ("failures", "runs", "state"), [(0, 1, "successful"), (1, 2, "successful"), (9, 2, "failed")]
)
async def test_an_attempt_that_had_ended_at_the_kill_does_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, runs: int, state: str
) -> None:
    """The end of attempt 1 is hinted but not committed, as if the server were killed then."""
    counting = Counting(failures)
    job = Job("j", tasks=[Task("t", counting, retries=1)])
    first = Engine(SqliteStore(tmp_path / "a.db"), Options(stop_timeout=0))
    first.registry.register(job)
    await first.start()
    insist = first.journal.insist

    async def killed(change: Any) -> Any:
        facts = getattr(change, "facts", ())
        if any(type(fact).__name__ in ENDS for fact in facts):
            raise ConnectionAbortedError("killed")  # the store never receives the change
        return await insist(change)

    monkeypatch.setattr(first.journal, "insist", killed)
    id = (await first.submissions.submit("j")).id
    await until(lambda: counting.runs)
    await until(lambda: b'"t"' in (tmp_path / "a.db.ends").read_bytes()[:200])
    left = (tmp_path / "a.db.ends").read_bytes()
    await first.stop()
    (tmp_path / "a.db.ends").write_bytes(left)

    second = Engine(SqliteStore(tmp_path / "a.db"), Options(stop_timeout=0))
    second.registry.register(job)
    await second.start()
    try:
        await second.runners.finished(id)
        detail = await second.reader.execution(id)
        assert detail.state == state
        assert counting.runs == runs
        assert not any("interrupted" in (one.error or "") for one in detail.tasks[0].attempts)
    finally:
        await second.stop()
    assert not (tmp_path / "a.db.ends").exists()


ENDS = ("TaskSucceeded", "TaskFailed", "AttemptFailed", "CancelRequested")
