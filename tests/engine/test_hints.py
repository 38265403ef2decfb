"""Hints of outcomes: an attempt that ended before a kill does not run again."""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import Context, Job, Task
from goflow.core.cost import Cost
from goflow.core.events import Submitted
from goflow.core.execution import Cancelled, Failed, Interrupted, Outcome, Skipped, Succeeded
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import SkipReason
from goflow.engine.attempts.settling import hinted_lines
from goflow.engine.engine import Engine
from goflow.engine.hints import LINES, SIZE, Hint, Hints, hints_file, parse
from goflow.engine.options import Options
from goflow.engine.output.linetimes import pack, unpack
from goflow.engine.output.tasklog import Chunk
from goflow.engine.threads import Threads
from goflow.errors import StoreUnavailable
from goflow.operators.orphans import Orphan, Wanted
from goflow.operators.process_tag import parse as parse_tag
from goflow.stores.base import Change, Submit
from goflow.stores.logs import AppendLog
from goflow.stores.memory import MemoryStore
from goflow.stores.sqlite import SqliteStore
from goflow.testing import BEGINNING
from tests.engine.scripted import until

pytestmark = pytest.mark.anyio

OUTCOMES: list[Outcome] = [
    Succeeded(),
    Succeeded(msgspec.Raw(b'{"a":[1,"\xc3\xa4"]}')),
    Succeeded(size=5000, sha256="ab" * 32),
    Failed("no rain"),
    Failed("never", final=True),
    Succeeded(msgspec.Raw(b'"x"'), chosen=("x",)),
    Succeeded(size=5000, sha256="ab" * 32, chosen=("x", "y")),
    Succeeded(chosen=()),
    Skipped(),
    Skipped("the condition is false: params.full", SkipReason.CONDITION),
    Succeeded(cost=Cost(1.5, 4096, 12, {"rows": 3})),
    Succeeded(msgspec.Raw(b'"x"'), chosen=("x",), cost=Cost(log_bytes=1)),
    Failed("no rain", cost=Cost(0.5)),
    Skipped("no rows", cost=Cost(0.5)),
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
    opened.committed([1] * 4)
    assert len(hints(path)[0].found) == 5
    opened.committed([1])
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
    opened.committed([1] * (written // 2))  # of the first half
    assert opened.write("e", "t", 1, Failed("x" * 16_000)) == 1


def test_hints_are_written_without_end_though_some_outcome_is_always_uncommitted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ends"
    opened, _ = hints(path)
    opened.cut()
    uncommitted: deque[int] = deque()
    for number in range(2000):  # several times the size of the file
        half = opened.write("e", f"t{number}", 1, Failed("x" * 16_000))
        assert half
        uncommitted.append(half)
        if len(uncommitted) > 5:
            opened.committed([uncommitted.popleft()])
    found = {hint.task for hint in hints(path)[0].found}
    assert {f"t{number}" for number in range(1995, 2000)} <= found


def test_the_file_is_removed_at_a_stop_unless_it_is_needed(tmp_path: Path) -> None:
    needed, _ = hints(tmp_path / "ends")
    needed.cut()
    assert needed.write("e", "t", 1, Succeeded())
    needed.close()
    assert (tmp_path / "ends").exists()
    done, _ = hints(tmp_path / "ends")
    done.cut()
    assert done.write("e", "t", 1, Succeeded())
    done.committed([1])
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
    """An operator that counts its runs, prints lines, and fails the first `failures` times."""

    def __init__(self, failures: int = 0, lines: int = 1) -> None:
        self.runs = 0
        self.tag = ""
        self.failures = failures
        self.lines = lines

    async def run(self, context: Context) -> int:
        self.runs += 1
        self.tag = context.process_tag
        for number in range(self.lines):
            context.log(f"line {number}")
        if self.runs <= self.failures:
            raise RuntimeError("no rain")
        return self.runs


async def killed_after_an_end(
    job: Job, counting: Counting, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Run the job until the end of attempt 1 is hinted but not committed, nor are its last lines,
    as if the server were killed then. Returns the execution's id."""
    first = Engine(SqliteStore(folder / "a.db"), Options(stop_timeout=0))
    first.registry.register(job)
    await first.start()
    insist = first.journal.insist

    async def killed(*changes: Any) -> Any:
        if counting.runs:
            raise StoreUnavailable("killed")  # the store never receives the changes
        return await insist(*changes)

    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda *_: None)  # a log that is lost is reported
    monkeypatch.setattr(first.journal, "insist", killed)
    id = (await first.submissions.submit("j")).id
    await until(lambda: counting.runs)
    await until(lambda: b'"t"' in (folder / "a.db.ends").read_bytes()[:200])
    left = (folder / "a.db.ends").read_bytes()
    await first.stop()
    loop.set_exception_handler(handler)
    (folder / "a.db.ends").write_bytes(left)
    return id


@pytest.mark.parametrize(
    ("failures", "runs", "state", "lines"),
    [
        (0, 1, "successful", 1),
        (1, 2, "successful", 3),
        (9, 2, "failed", 1),
        (0, 1, "successful", 2000),
        (0, 1, "successful", 20_000),
    ],
)
async def test_an_attempt_that_had_ended_at_the_kill_does_not_run_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    runs: int,
    state: str,
    lines: int,
) -> None:
    counting = Counting(failures, lines)
    job = Job("j", tasks=[Task("t", counting, retries=1)])
    id = await killed_after_an_end(job, counting, tmp_path, monkeypatch)

    second = Engine(SqliteStore(tmp_path / "a.db"), Options(stop_timeout=0))
    second.registry.register(job)
    await second.start()
    try:
        await second.runners.finished(id)
        detail = await second.reader.execution(id)
        assert detail.state == state
        assert counting.runs == runs
        assert not any("interrupted" in (one.error or "") for one in detail.tasks[0].attempts)
        window = await second.reader.window(id, "t", 1, 0, None, 10_000)
        printed = [f"line {number}" for number in range(lines)]
        first_line = window.gaps[0][1] if window.gaps else 0
        assert window.lines[: lines - first_line] == printed[first_line:]
        if lines < 100:
            assert window.gaps == []
            assert ("no rain" in "".join(window.lines)) == (failures > 0)
        else:
            assert window.gaps == [(0, first_line)]
            assert LINES - 100 < sum(len(line) + 1 for line in window.lines) <= LINES
    finally:
        await second.stop()
    assert not (tmp_path / "a.db.ends").exists()


@pytest.mark.parametrize("hinted", [True, False])
async def test_processes_of_an_attempt_that_had_ended_at_the_kill_keep_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hinted: bool
) -> None:
    """Those of an interrupted attempt are ended."""
    counting = Counting()
    job = Job("j", tasks=[Task("t", counting, retries=1)])
    await killed_after_an_end(job, counting, tmp_path, monkeypatch)
    if not hinted:
        (tmp_path / "a.db.ends").unlink()
    tag = parse_tag(counting.tag)
    assert tag is not None
    left = tag._replace(server=".".join([*tag.server.split(".")[:2], "0"]))  # which has gone
    wanted: list[bool] = []

    class Scan(Threads):
        async def end_orphans(self, want: Wanted) -> list[Orphan]:
            wanted.append(want(left))
            return []

    second = Engine(SqliteStore(tmp_path / "a.db"), Options(stop_timeout=0), threads=Scan())
    second.registry.register(job)
    await second.start()
    await second.stop()
    assert wanted == [not hinted]


@pytest.mark.parametrize(
    ("stored", "first", "text"),
    [
        (0, 0, "zero\none\rand a half\ntwo\n"),
        (1, 1, "one\rand a half\ntwo\n"),
        (2, 2, "two\n"),
        (3, 3, ""),
        (9, 9, ""),
    ],
)
@pytest.mark.parametrize("unfinished", [False, True])
def test_recovery_adds_the_lines_of_a_hint_that_the_store_does_not_have(
    stored: int, first: int, text: str, unfinished: bool
) -> None:
    store = MemoryStore()
    store.open()
    plan = Plan((PlannedTask("t"),))
    changes: list[Change] = [
        Submit(Submitted(BEGINNING, id="e", job="j", plan=plan.id, cause="api"), plan)
    ]
    if stored:
        changes.append(AppendLog("e", "t", 1, 0, stored, "stored\n" * stored))
    if unfinished:
        changes.append(AppendLog("e", "t", 1, stored, 0, "on"))
    store.commit(changes)
    times = pack([1000, 2000, 3000])
    lines = Chunk(0, 3, "zero\none\rand a half\ntwo\n", times)
    added = hinted_lines(store.logs, Hint("e", "t", 1, last_lines=lines))
    if not text:
        assert added is None
    else:
        assert added is not None
        assert (added.first, added.lines, added.text) == (first, 3 - first, text)
        assert unpack(added.times) == [1000, 2000, 3000][first:]
        store.commit([added])
        kept = store.logs.read("e", "t", 1, 0, 1000)
        assert "".join(chunk.text for chunk in kept) == "stored\n" * stored + text
    store.close()
