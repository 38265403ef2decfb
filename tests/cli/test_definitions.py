"""`goflow list`, `check` and `graph`."""

import json

import pytest

from tests.cli.commands import JOBS

TEMPLATED = (
    "from goflow import Command, Job, Task, Template\n"
    "job = Job('etl')\n"
    "job.add(Task('say', Command('echo', [Template('a'), Template('{text}')])))\n"
)


def test_list_names_each_job_with_its_schedule(goflow, main_py):
    result = goflow("list", main_py(JOBS))
    header, etl, broken = result.stdout.splitlines()
    assert header.split() == ["JOB", "SCHEDULE", "ACTIVE", "TASKS", "NEXT"]
    assert etl.split()[:8] == ["etl", "0", "3", "*", "*", "*", "yes", "3"]
    assert etl.endswith("T03:00:00Z")
    assert broken.split() == ["broken", "-", "no", "2", "-"]


def test_list_shows_policies_that_are_not_the_default(goflow, main_py):
    usual, other = 'Job("etl", ', 'Job("etl", overlap="queue", catchup="all", '
    path = main_py(
        JOBS.replace(f'{usual}"0 3 * * *", True', f'{other}schedule="0 3 * * *", active=True')
    )
    header, etl, broken = goflow("list", path).stdout.splitlines()
    assert header.split()[-1] == "POLICY"
    assert etl.endswith("Z  overlap=queue catchup=all")
    assert broken.endswith("-")
    described = json.loads(goflow("list", path, "--json").stdout)["jobs"]
    assert [(job["overlap"], job["catchup"]) for job in described] == [
        ("queue", "all"),
        ("allow", "latest"),
    ]


def test_list_as_json_has_the_keys_of_the_api(goflow, main_py):
    etl, broken = json.loads(goflow("list", main_py(JOBS), "--json").stdout)["jobs"]
    assert etl["job"] == "etl"
    assert etl["active"] is True
    assert etl["dag"] == {"fetch": ["clean", "report"], "clean": ["report"], "report": []}
    assert etl["params"] == {"day": "today", "rows": 3}
    assert broken["next"] is None


def test_check_says_what_is_valid(goflow, main_py):
    result = goflow("check", main_py(JOBS))
    assert result.exit_code == 0
    assert result.stdout == "etl: valid, 3 tasks\nbroken: valid, 2 tasks\n"


FOLLOWING = (
    "from goflow import Command, Job, Task\n"
    "load = Job('load', after={after!r}, tasks=[Task('t', Command('true'))])\n"
    "report = Job('report', after=['load'], tasks=[Task('t', Command('true'))])\n"
)


def test_list_names_the_jobs_that_a_job_runs_after(goflow, main_py):
    path = main_py(FOLLOWING.format(after=[]))
    assert "report  after load  yes" in goflow("list", path).stdout


def test_check_refuses_circles_and_unknown_jobs(goflow, main_py):
    result = goflow("check", main_py(FOLLOWING.format(after="report")))
    assert result.exit_code == 1
    assert "jobs run after each other in a circle: 'load' → 'report' → 'load'" in result.stderr
    result = goflow("check", main_py(FOLLOWING.format(after="gone")))
    assert "job 'load' runs after 'gone', and there is no such job" in result.stderr


def test_check_counts_templates(goflow, main_py):
    path = main_py(TEMPLATED.format(text="{{ params.day }}"))
    assert goflow("check", path).stdout == "etl: valid, 1 task, 2 templates\n"


@pytest.mark.parametrize("command", ["check", "graph", "list"])
def test_a_mistake_in_a_template_is_shown_with_its_place(goflow, main_py, command):
    path = main_py(TEMPLATED.format(text="\\n{{ day }}"))
    result = goflow(command, path)
    assert result.exit_code == (1 if command == "check" else 2)
    where = "job 'etl', task 'say': args[1], line 2: unknown name 'day'"
    assert result.stderr.startswith(f"Error: {path}:3: {where}")


def test_a_result_that_is_not_upstream_is_shown_with_its_place(goflow, main_py):
    path = main_py(TEMPLATED.format(text="{{ results.nope }}"))
    result = goflow("check", path)
    assert result.exit_code == 1
    assert "task 'say': args[1], line 1: results has no 'nope': the task runs after no tasks" in (
        result.stderr
    )


def test_check_says_so_when_there_are_no_jobs(goflow, main_py):
    path = main_py("from goflow import Goflow\ngf = Goflow()\n")
    assert goflow("check", path).stdout == f"{path}: valid, no jobs\n"


def test_check_names_the_line_the_job_and_the_value_of_a_mistake(goflow, main_py):
    path = main_py("from goflow import Job\n\njob = Job('nightly', '61 * * * *')\n")
    result = goflow("check", path)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Error: {path}:3: job 'nightly'")
    assert "61" in line


def test_check_has_a_line_for_each_problem(goflow, main_py):
    path = main_py("from goflow import Job\na = Job('a')\nb = Job('b')\n")
    result = goflow("check", path)
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert "'a' has no tasks" in first
    assert "'b' has no tasks" in second
    answer = json.loads(goflow("check", path, "--json").stdout)
    assert answer["valid"] is False
    assert len(answer["problems"]) == 2


def test_an_exception_in_the_file_is_shown_with_the_users_frames_only(goflow, main_py):
    path = main_py("def inner():\n    return 1 / 0\n\ninner()\n")
    result = goflow("check", path)
    assert result.exit_code == 1
    assert 'main.py", line 4, in <module>' in result.stderr
    assert 'main.py", line 2, in inner' in result.stderr
    assert "importlib" not in result.stderr
    assert "cli/program.py" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == f"Error: {path} failed to load: ZeroDivisionError: division by zero"


def test_a_syntax_error_is_shown_with_its_line(goflow, main_py):
    result = goflow("check", main_py("x = 1\ndef (:\n"))
    assert result.exit_code == 1
    assert "SyntaxError in line 2" in result.stderr.splitlines()[-1]


def test_a_missing_file_is_wrong_usage_for_check_too(goflow):
    assert goflow("check", "nowhere.py").exit_code == 2


def test_graph_draws_the_tree(goflow, main_py):
    result = goflow("graph", main_py(JOBS), "etl")
    assert result.stdout.splitlines() == [
        "etl",
        "  fetch",
        "  └─ clean",
        "     └─ report  (also after fetch)",
    ]


def test_graph_needs_a_name_if_there_are_several_jobs(goflow, main_py):
    result = goflow("graph", main_py(JOBS))
    assert result.exit_code == 2
    assert "'etl', 'broken'" in result.stderr
    assert goflow("graph", main_py(JOBS), "nope").exit_code == 2


def test_graph_can_write_dot_mermaid_and_json(goflow, main_py):
    path = main_py(
        "from goflow import Command, Job, Task\n"
        "job = Job('a \"b\"')\n"
        "job.add(Task('x\"', Command('true'))) >> job.add(Task('y', Command('true')))\n"
    )
    dot = goflow("graph", path, "--dot").stdout
    assert dot.splitlines()[0] == 'digraph "a \\"b\\"" {'
    assert '  "x\\"" -> "y";' in dot.splitlines()
    mermaid = goflow("graph", path, "--mermaid").stdout
    assert mermaid.splitlines() == ["flowchart TD", '  t0["x#34;"]', '  t1["y"]', "  t0 --> t1"]
    assert json.loads(goflow("graph", path, "--json").stdout)["dag"] == {'x"': ["y"], "y": []}


def test_a_graph_marks_branches_and_conditions(goflow, main_py):
    path = main_py(
        """
from goflow import Command, Job, Task

job = Job("j", params={"full": True})
job.branch(lambda: "x", name="pick")
job.add(Task("x", Command("true"), after=["pick"], when="params.full"))
"""
    )
    assert goflow("graph", path).stdout == "j\n  pick  (branch)\n  └─ x  (when params.full)\n"
    assert '"pick" [shape=diamond];' in goflow("graph", path, "--dot").stdout
    assert 't0{"pick"}' in goflow("graph", path, "--mermaid").stdout


WORDS = """
from datetime import timedelta
from goflow import (Command, Goflow, Job, RunJob, Task, Template, WaitFor, WaitForFile, WaitForJob,
                    WaitForUrl, WaitUntil, zipped)

def ready():
    return True

load = Job("load", tasks=[Task("rows", Command("true"))])
nightly = Job("nightly", tasks=[Task("load", RunJob("load"))])
wait = Job("wait", after="nightly")
for name, operator in {
    "check": WaitFor(ready),
    "file": WaitForFile("in/*.csv"),
    "any": WaitForFile(Template("in/{{ params.day }}")),
    "url": WaitForUrl("https://me:secret@example.com/up?token=secret"),
    "other": WaitForJob("load"),
    "pause": WaitUntil(timedelta(minutes=5)),
}.items():
    wait.add(Task(name, operator))
cities = Job("cities", tasks=[Task("a", Command("true")), Task("b", Command("true"))])
cities.add(Task("one", Command("true"), map_over="a", max_parallel=4))
cities.add(Task("each", Command("true"), map_over=["a", "b"]))
cities.add(Task("pair", Command("true"), map_over=zipped("a", "b")))

@cities.on_failure
def tell():
    pass

gf = Goflow()
for job in (load, nightly, wait, cities):
    gf.add_job(job)
"""


@pytest.mark.parametrize(
    ("job", "lines"),
    [
        ("nightly", ["nightly", "  load  (runs job load)", "  then: wait"]),
        (
            "wait",
            [
                "wait  (after nightly)",
                "  check  (waits for ready)",
                "  file  (waits for file in/*.csv)",
                "  any  (waits for file in/{{ params.day }})",
                "  url  (waits for https://example.com/up)",
                "  other  (waits for job load)",
                "  pause  (waits for 5m00s after it is due)",
            ],
        ),
        (
            "cities",
            [
                "cities",
                "  a",
                "  ├─ one  (for each item of a, 4 at once)",
                "  ├─ each  (for each combination of a, b)  (also after b)",
                "  └─ pair  (for each pair of a, b)  (also after b)",
                "  b",
                "  on failure: tell",
            ],
        ),
    ],
)
def test_a_graph_tells_waits_maps_other_jobs_and_hooks(goflow, main_py, job, lines):
    assert goflow("graph", main_py(WORDS), job).stdout.splitlines() == lines


STREAM = """
from goflow import Job

job = Job("orders")

@job.task
def read():
    yield 1

@job.task(map_over="read")
def price(read): ...

@job.task(map_over="read", item_key="{{ item }}")
def check(read): ...
"""


def test_a_graph_marks_streams(goflow, main_py):
    path = main_py(STREAM)
    assert goflow("graph", path).stdout.splitlines() == [
        "orders",
        "  read  (yields items)",
        "  ├─ price  (for each item of read)",
        "  └─ check  (for each item of read)",
    ]
    dot = goflow("graph", path, "--dot").stdout
    assert '"read" -> "price" [style=dashed];' in dot
    assert '"read" -> "check";' in dot
    mermaid = goflow("graph", path, "--mermaid").stdout
    assert "t0 -.-> t1" in mermaid
    assert "t0 --> t2" in mermaid
    tasks = json.loads(goflow("graph", path, "--json").stdout)["tasks"]
    assert [task["stream"] for task in tasks] == [True, False, False]


def test_a_graph_has_shapes_for_waits_maps_and_other_jobs(goflow, main_py):
    path = main_py(WORDS)
    assert '"one" [peripheries=2];' in goflow("graph", path, "cities", "--dot").stdout
    assert '"file" [shape=octagon];' in goflow("graph", path, "wait", "--dot").stdout
    assert '"job nightly" [shape=plaintext];' in goflow("graph", path, "wait", "--dot").stdout
    assert 't2[["one"]]' in goflow("graph", path, "cities", "--mermaid").stdout
    assert 't1{{"file"}}' in goflow("graph", path, "wait", "--mermaid").stdout
    assert 't0>"load"]' in goflow("graph", path, "nightly", "--mermaid").stdout


def test_a_graph_as_json_has_waits_maps_and_other_jobs(goflow, main_py):
    path = main_py(WORDS)
    nightly = json.loads(goflow("graph", path, "nightly", "--json").stdout)
    assert (nightly["after"], nightly["followers"]) == ([], ["wait"])
    assert nightly["tasks"][0]["runs"] == "load"
    wait = json.loads(goflow("graph", path, "wait", "--json").stdout)
    assert [task["waits_for"] for task in wait["tasks"]][:2] == ["ready", "file in/*.csv"]
    pair = json.loads(goflow("graph", path, "cities", "--json").stdout)["tasks"][4]
    assert (pair["map_over"], pair["zipped"]) == (["a", "b"], True)


def test_a_run_says_what_a_branch_chose(goflow, main_py):
    path = main_py(
        """
from goflow import Command, Job, Task

job = Job("j")
job.branch(lambda: "x", name="pick")
job.add(Task("x", Command("true"), after=["pick"]))
"""
    )
    lines = goflow("run", path).stdout.splitlines()
    assert any(line.startswith("pick") and line.endswith("  chose x") for line in lines)
    assert goflow("run", path, "--json").stdout.count('"chosen": [') == 1


def test_a_run_says_why_tasks_are_skipped(goflow, main_py):
    path = main_py(
        """
from goflow import Command, Job, Skip, Task

job = Job("j")
job.branch(lambda: "x", name="pick")

@job.task(after=["pick"])
def x():
    raise Skip("no rows,\\nagain")

job.add(Task("y", Command("true"), after=["pick"]))
"""
    )
    lines = goflow("run", path).stdout.splitlines()
    assert any(line.endswith("  no rows, again") and "skipped" in line for line in lines)
    assert any(
        line.split() == ["y", "skipped", "branch", "'pick'", "chose", "'x'"] for line in lines
    )
