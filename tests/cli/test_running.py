"""`goflow run`."""

import json
import re
import signal
import subprocess

import pytest

from tests.cli.commands import JOBS, eventually, in_a_terminal

HANGING = """
from goflow import Command, Job, Task

job = Job("hanging")
job.add(Task("hang", Command.shell("echo $$ > shell.pid; sleep 300 & echo $! > sleep.pid; wait")))
"""


MAPPED = """
from goflow import Job

job = Job("pages")

@job.task
def find():
    return [1, 2, 3]

@job.task(map_over="find")
def fetch(find):
    assert find != 2
"""


STREAM = """
from goflow import Job

job = Job("orders")

@job.task
def read():
    yield from (1, 2, 3)

@job.task(map_over="read")
def price(read):
    return 100 * read
"""


def test_the_items_of_a_generator_are_counted(goflow, main_py):
    told = goflow("run", main_py(STREAM)).stdout
    assert re.search("read +successful  attempt 1  .* 3 items yielded", told)
    assert re.search("price +successful .* 3 of 3 items", told)


REPORTING = """
import pathlib, time
from goflow import Context, Job

job = Job("load")

@job.task
def rows(context: Context):
    for done in range(3):
        context.progress(600 * done, 1200, f"page {done}")
        context.count("rows", 600)
        time.sleep(1)
"""


def test_progress_is_printed_in_few_lines_and_costs_are_in_the_json(goflow, main_py):
    path = main_py(REPORTING)
    lines = goflow("run", path).stdout.splitlines()
    told = [line for line in lines if line.split()[1:2] == ["progress"]]
    assert told[0] == "rows  progress    0 of 1,200, 0 %, page 0"
    answer = json.loads(goflow("run", path, "--json").stdout)
    (task,) = answer["tasks"]
    assert task["cost"]["counts"] == answer["cost"]["counts"] == {"rows": 1800}
    assert task["attempts"][0]["cost"]["processor_seconds"] >= 0


SHARING = """
from goflow import Context, Job

def total(state, action):
    return {**state, "rows": state["rows"] + action["rows"]}

job = Job("sums", state=total, initial={"rows": 0, "of": "\u202e"})

@job.task
def add(context: Context):
    for rows in (1, 2):
        context.dispatch({"rows": rows})
"""


def test_the_shared_state_is_printed_at_the_end(goflow, main_py):
    lines = goflow("run", main_py(SHARING)).stdout.splitlines()
    assert lines[-4:-1] == ["", r'State: {"rows": 3, "of": "\u202e"}', ""]
    assert "State:" not in goflow("run", main_py(JOBS), "etl").stdout


def test_a_terminal_shows_a_bar_of_the_progress(main_py, tmp_path):
    _, screen = in_a_terminal(["run", main_py(REPORTING)], tmp_path)
    assert re.search("━{10}─{10}  600 of 1,200, 50 %, page 1", screen)


def test_a_successful_execution_exits_with_0_and_a_line_per_change(goflow, main_py):
    result = goflow("run", main_py(JOBS), "etl")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    changes = [line.split()[:4] for line in lines[:6]]
    assert changes == [
        [task, state, "attempt", "1"]
        for task in ("fetch", "clean", "report")
        for state in ("running", "successful")
    ]
    assert re.fullmatch(r".*  \d+\.\ds", lines[1])
    assert re.fullmatch(r"etl successful in \d+\.\ds", lines[-1])


def test_a_failed_execution_exits_with_1_and_ends_with_its_errors(goflow, main_py):
    result = goflow("run", main_py(JOBS), "broken")
    assert result.exit_code == 1
    words = [line.split() for line in result.stdout.splitlines()]
    states = [line[1] for line in words if line[:1] == ["explode"]][:4]
    assert states == ["running", "upforretry", "running", "failed"]
    assert ["never", "skipped", "task", "'explode'", "failed"] in words
    assert "explode failed in attempt 2:" in result.stdout
    assert "ValueError: no fuse left" in result.stdout


def test_json_is_the_finished_execution_and_nothing_else(goflow, main_py):
    result = goflow("run", main_py(JOBS), "etl", "-p", "rows=5", "-p", "day=7", "--json")
    answer = json.loads(result.stdout)
    assert answer["state"] == "successful"
    assert answer["params"] == {"day": "7", "rows": 5}
    tasks = {task["name"]: task for task in answer["tasks"]}
    assert tasks["report"]["result"] == ["7", 5]
    assert tasks["fetch"]["logs"] == "fetching 7\n"


TYPED = """\
from __future__ import annotations
from datetime import date
from typing import Literal
import msgspec
from goflow import Job

class Params(msgspec.Struct):
    day: date
    rows: int = 3
    code: str = ""
    note: str | None = None
    kind: Literal["1", "2"] = "1"

job = Job("typed", params=Params)

@job.task
def show(context):
    return context.params
"""


def test_parameters_of_a_class_are_parsed_by_its_annotations(goflow, main_py):
    given = ["day=2026-01-02", "rows=5", "code=007", "note=null", "kind=2"]
    options = [part for each in given for part in ("-p", each)]
    result = goflow("run", main_py(TYPED), *options, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["params"] == {
        "day": "2026-01-02",
        "rows": 5,
        "code": "007",
        "note": None,
        "kind": "2",
    }
    text = goflow("run", main_py(TYPED), "-p", "day=2026-01-02", "-p", "note=7", "--json")
    assert json.loads(text.stdout)["params"]["note"] == "7"


@pytest.mark.parametrize(
    ("given", "named"), [([], "day"), (["-p", "day=tomorrow"], "day"), (["-p", "x=1"], "'x'")]
)
def test_parameters_that_do_not_fit_the_class_are_refused(goflow, main_py, given, named):
    result = goflow("run", main_py(TYPED), *given)
    assert result.exit_code in (1, 2)
    assert named in result.stderr
    assert result.stdout == ""


def test_logs_are_printed_on_request(goflow, main_py):
    result = goflow("run", main_py(JOBS), "etl", "--logs")
    assert "\nfetch, log:\nfetching today\n" in result.stdout


def test_the_only_job_needs_no_name(goflow, main_py):
    path = main_py(
        "from goflow import Command, Job, Task\n"
        "job = Job('only', tasks=[Task('t', Command('true'))])\n"
    )
    assert goflow("run", path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "'nowhere'"),
        ([], "'etl', 'broken'"),
        (["etl", "-p", "rows"], "'rows'"),
        (["etl", "-p", "rows=many"], "'rows'"),
        (["etl", "-p", "cows=1"], "'cows'"),
        (["etl", "-p", "rows=1", "-p", "rows=2"], "more than once"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_mistake(goflow, main_py, arguments, named):
    result = goflow("run", main_py(JOBS), *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert named in line


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_children_and_sets_the_exit_code(spawn, main_py, tmp_path, number, code):
    running = spawn("run", main_py(HANGING))
    files = [tmp_path / "shell.pid", tmp_path / "sleep.pid"]
    eventually(lambda: all(f.exists() and f.read_text().strip() for f in files))
    pids = [int(file.read_text()) for file in files]
    running.signal(number)
    assert running.wait() == code
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))
    assert running.errors.splitlines()[-1].startswith("Error: stopped by SIG")
    assert "Traceback" not in running.errors


def test_a_terminal_shows_the_tree_with_its_final_states(main_py, tmp_path):
    code, screen = in_a_terminal(["run", main_py(JOBS), "broken"], tmp_path)
    assert code == 1
    assert re.search(r"broken  failed  2 of 2 tasks", screen)
    assert re.search(r"✘ explode +failed", screen)
    assert re.search(r"└─ - never +skipped", screen)
    assert "ValueError: no fuse left" in screen


def test_a_mapped_task_is_shown_with_the_number_of_its_items(goflow, main_py, tmp_path):
    path = main_py(MAPPED)
    result = goflow("run", path)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("fetch  failed")]
    assert line.endswith("  2 of 3 items, 1 failed")
    code, screen = in_a_terminal(["run", path], tmp_path)
    assert code == 1
    assert re.search(r"✘ fetch +failed .* 2 of 3 items, 1 failed", screen)


def test_a_small_terminal_shows_running_tasks_and_the_whole_tree_at_the_end(main_py, tmp_path):
    path = main_py(
        "from goflow import Command, Job, Task\n"
        "job = Job('wide', tasks=[Task(f't{n}', Command('true')) for n in range(29)])\n"
        "wait = 'until [ -e seen ]; do sleep 0.01; done'\n"
        "job.add(Task('last', Command.shell(wait)))\n"
    )

    def release(screen: str, process: object) -> None:
        if re.search(r"last +running.*\s+… and 23 more", screen):
            (tmp_path / "seen").touch()

    code, screen = in_a_terminal(["run", path], tmp_path, rows=10, watch=release)
    assert code == 0
    end = screen[screen.rindex("wide  successful  30 of 30 tasks") :]
    assert all(re.search(rf"✔ t{n} +successful", end) for n in range(29))


def test_ctrl_c_in_a_terminal_leaves_the_tree_with_stopped_tasks(main_py, tmp_path):
    path = main_py(HANGING)
    pressed = []

    def press(screen: str, process: "subprocess.Popen[bytes]") -> None:
        if re.search("hang +running", screen) and not pressed:
            pressed.append(True)
            process.send_signal(signal.SIGINT)

    code, screen = in_a_terminal(["run", path], tmp_path, watch=press)
    assert code == 130
    assert re.search(r"■ hang +stopped", screen)
    assert screen.rstrip().endswith("Error: stopped by SIGINT")


def test_a_second_signal_ends_it_at_once_and_restores_the_cursor(main_py, tmp_path):
    path = main_py(
        "from goflow import Command, Job, Task\n"
        "job = Job('stubborn')\n"
        "wait = 'trap \"touch asked\" TERM; while [ ! -e enough ]; do sleep 0.05; done'\n"
        "job.add(Task('deaf', Command.shell(wait)))\n"
    )
    sent = []

    def press(screen: str, process: "subprocess.Popen[bytes]") -> None:
        if re.search("deaf +running", screen) and len(sent) == 0:
            sent.append(process.send_signal(signal.SIGINT))
        if (tmp_path / "asked").exists() and len(sent) == 1:
            sent.append(process.send_signal(signal.SIGINT))

    code, raw = in_a_terminal(["run", path], tmp_path, watch=press, escapes=True)
    (tmp_path / "enough").touch()
    assert code == 130
    assert raw.endswith("\x1b[?25h")


WAITING = """
from goflow import Job, Task, WaitFor

looks = []

def arrived():
    looks.append(1)
    return len(looks) > 2

job = Job("import", tasks=[Task("file", WaitFor(arrived, every=0.2))])
"""


def test_a_waiting_task_says_once_for_what_it_waits(goflow, main_py):
    result = goflow("run", main_py(WAITING))
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if line.startswith("file")]
    assert lines[:2] == [
        "file  running     attempt 1",
        "file  waiting     arrived returned False; looks again in 0.2s",
    ]
    assert len(lines) == 3


def test_a_run_has_the_jobs_that_its_job_runs(goflow, main_py):
    path = main_py(
        """
from goflow import Command, Job, RunJob, Task

third = Job("third", tasks=[Task("say", Command("echo", ["three"]))])
second = Job("second", schedule="* * * * *", active=True, tasks=[Task("third", RunJob("third"))])
first = Job("first", tasks=[Task("second", RunJob("second"))])
after = Job("after", after="first", tasks=[Task("never", Command("false"))])
lost = Job("lost", tasks=[Task("nothing", RunJob("nothing"))])
"""
    )
    result = goflow("run", path, "first", "--json")
    assert result.exit_code == 0
    tasks = json.loads(result.stdout)["tasks"]
    assert tasks[0]["result"] == {"third": {"say": "three\n"}}
    assert "first successful in" in goflow("run", path, "first").stdout
    lost = goflow("run", path, "lost")
    assert lost.exit_code == 1
    assert "there is no job 'nothing'" in lost.stdout


def test_the_tree_counts_down_to_the_next_look(main_py, tmp_path):
    path = main_py(WAITING.replace("every=0.2", "every=0.6"))
    code, screen = in_a_terminal(["run", path], tmp_path)
    assert code == 0
    assert "arrived returned False; looks again in 0." in screen
