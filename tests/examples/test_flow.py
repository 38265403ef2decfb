"""The examples of branches, maps, waits, results and the like do what they say."""

import asyncio
import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from goflow import Goflow, Job, MemoryStore, Schedule
from goflow.errors import InvalidParams
from goflow.examples import flow, follower
from goflow.testing import FinishedExecution, run
from tests.engine.scripted import until

Example = Callable[[str], ModuleType]
FILES = sorted(path.name for path in (Path(__file__).parents[2] / "examples/flow").glob("*.py"))


def states(execution: FinishedExecution) -> dict[str, str]:
    return {name: str(task.state) for name, task in execution.tasks.items()}


def test_results_have_the_types_of_annotations(example: Example) -> None:
    tasks = run(example("flow/results.py").job).tasks
    assert tasks["latest"].result == {"day": "2026-11-29", "price": 12.0}
    assert tasks["report"].result == "12.0 on Sunday, 10.75 expected"


def test_a_data_frame_goes_from_task_to_task(example: Example) -> None:
    assert run(example("flow/frames.py").job).tasks["largest"].result == "Rome"


def test_parameters_of_a_class_are_checked_and_converted(example: Example) -> None:
    job = example("flow/params.py").job
    execution = run(job, {"day": "2026-11-28", "kind": "long"})
    assert execution.tasks["export"].result == "100 long rows of 28.11.2026"
    with pytest.raises(InvalidParams, match="2 parameters are wrong"):
        run(job, {"day": "soon", "rows": 0})


def test_templates_are_filled_in_and_quoted_in_the_shell(example: Example) -> None:
    tasks = run(example("flow/templates.py").job, {"folder": "it's $HOME"}).tasks
    assert tasks["say"].result == "it's $HOME: 7 rows\n"
    assert tasks["print"].result == "it's $HOME\ndone\n"


@pytest.mark.parametrize(
    ("params", "skipped"),
    [
        ({"rows": 200}, {"short", "mail"}),
        ({"rows": 3}, {"full", "mail"}),
        ({"rows": 3, "mail": True}, {"full"}),
        ({"rows": 0, "mail": True}, {"full", "archive"}),
    ],
)
def test_a_branch_and_a_condition_choose(
    example: Example, params: dict[str, Any], skipped: set[str]
) -> None:
    ended = states(run(example("flow/branch.py").job, params))
    assert {name for name, state in ended.items() if state == "skipped"} == skipped
    assert set(ended.values()) == {"successful", "skipped"}


def test_each_page_is_measured(example: Example) -> None:
    execution = run(example("flow/map.py").job)
    assert execution.tasks["measure"].result == [15, 15, 12]
    assert execution.tasks["measure"].items == {"total": 3, "successful": 3}
    assert execution.tasks["total"].result == 42


def test_stream_measures_words_while_it_reads_them(example: Example) -> None:
    module = example("flow/stream.py")
    execution = run(module.job, {"most": 40})
    assert execution.state == "successful"
    assert len(execution.tasks["words"].result) == execution.tasks["note"].items["total"] == 40
    assert execution.tasks["report"].result.endswith("of 40 words are long")


def test_waits_end_when_the_file_is_there(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example("flow/wait.py")
    execution = run(module.job)
    assert execution.tasks["load"].result == 1
    assert execution.tasks["filled"].result == 21
    assert len(execution.tasks["load"].attempts) == 1
    assert not module.INBOX.exists()


def test_hooks_run_by_the_end_of_the_execution(example: Example) -> None:
    job = example("flow/hooks.py").job
    good, bad = run(job), run(job, {"fail": True})
    assert {name: str(hook.state) for name, hook in good.hooks.items()} == {
        "tell_all_is_well": "successful",
        "tell_the_team": "skipped",
        "tidy": "successful",
    }
    assert bad.hooks["tell_the_team"].logs == "backup failed: copy\n"
    assert bad.hooks["tidy"].logs == "tidied up\n"
    assert "tried again after: OSError: the disk is full\n" in bad.tasks["copy"].logs


def test_a_file_is_left_to_download(example: Example) -> None:
    task = run(example("flow/artifacts.py").job).tasks["write"]
    assert [(one.name, one.size) for one in task.artifacts] == [("cities.csv", 30)]


def test_tasks_share_a_state(example: Example) -> None:
    execution = run(example("flow/state.py").job)
    assert execution.shared_state == {"rows": 30, "files": ["a.csv", "b.csv", "c.csv"]}
    assert execution.tasks["report"].result == "30 rows of 3 files"


def test_schedules_are_due_when_they_say(example: Example) -> None:
    module = example("flow/schedules.py")
    after = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    due = Schedule(module.closing.schedule).next(after)
    assert due == datetime.datetime(2026, 12, 25, 18, tzinfo=datetime.UTC)
    assert module.shop.schedules == ("*/15 8-19 * * MON-FRI", "0 10 * * SAT")
    assert run(module.report).state == "successful"


async def served(jobs: list[Job], submit: str, last: str) -> dict[str, Any]:
    """The results of a job's first execution, after a submit of another job."""
    gf = Goflow(MemoryStore(), ui_path=None)
    for job in jobs:
        gf.add_job(job)
    store = gf.engine.store
    async with gf.lifespan(gf), asyncio.timeout(60):
        await gf.submit(submit)
        await until(lambda: store.page(job=last, state=None, before=None, limit=1))
        [row] = store.page(job=last, state=None, before=None, limit=1)
        await gf.engine.runners.finished(row.id)
        detail = await gf.engine.reader.execution(row.id)
    return {task.name: msgspec.json.decode(task.result) for task in detail.tasks}


def test_a_job_runs_another_one_and_gets_its_results(example: Example) -> None:
    module = example("flow/subjob.py")
    results = asyncio.run(served([module.load, module.nightly], "nightly", "nightly"))
    assert results["summary"] == "120 rows of 2026-11-28"


def test_a_job_runs_after_another_one(example: Example) -> None:
    module = example("flow/after.py")
    jobs = [module.orders, module.stock, module.mail]
    assert asyncio.run(served(jobs, "orders", "stock")) == {"count": 7}


@pytest.mark.parametrize("file", FILES)
def test_every_example_is_valid_and_linked_from_a_page(file: str) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "goflow", "check", f"examples/flow/{file}"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = "".join(path.read_text() for path in (root / "docs/how-to").glob("*.md"))
    assert f"examples/flow/{file}" in pages


def test_the_demo_has_maps_a_branch_a_wait_and_a_hook() -> None:
    execution = run(flow())
    assert execution.state == "successful"
    assert execution.tasks["measure"].items == {"total": 12, "successful": 12}
    assert execution.tasks["full-report"].skip
    assert execution.tasks["short-report"].result == "75 characters\n"
    assert execution.hooks["tidy"].state == "successful"
    assert execution.finished
    assert (execution.finished - execution.submitted).total_seconds() >= 20
    assert run(follower()).state == "successful"
