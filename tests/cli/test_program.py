"""Loading the jobs in a user's file."""

import pickle
import sys

import pytest

from goflow.cli.program import NotLoaded, load
from goflow.cli.terminal import Unusable

TWO_JOBS = """
from goflow import Command, Goflow, Job, Task

def one() -> Job:
    return Job("one", tasks=[Task("t", Command("true"))])

def two() -> "Job":
    return Job("two", tasks=[Task("t", Command("true"))])
"""


def names(gf):
    return [job.name for job in gf.jobs]


def test_the_only_goflow_of_the_file_is_used(main_py):
    text = TWO_JOBS + "gf = Goflow()\nsame = gf\ngf.add_job(two)\n"
    assert names(load(main_py(text))) == ["two"]


def test_running_the_server_at_the_end_of_the_file_does_not_serve(main_py):
    text = TWO_JOBS + "gf = Goflow()\ngf.add_job(one)\ngf.run(':0')\n"
    assert names(load(main_py(text))) == ["one"]


def test_several_goflows_need_a_choice(main_py):
    path = main_py(TWO_JOBS + "a = Goflow()\nb = Goflow()\nb.add_job(one)\n")
    with pytest.raises(NotLoaded, match="several Goflow objects, a, b"):
        load(path)
    assert names(load(f"{path}:b")) == ["one"]


def test_a_name_of_another_object_is_refused(main_py):
    with pytest.raises(Unusable, match="'one' is not a Goflow"):
        load(f"{main_py(TWO_JOBS)}:one")


def test_without_a_goflow_jobs_and_functions_that_return_one_are_collected(main_py):
    text = TWO_JOBS + (
        "three = Job('three', tasks=[Task('t', Command('true'))])\n"
        "def _private() -> Job: raise AssertionError\n"
        "def with_argument(name) -> Job: raise AssertionError\n"
    )
    assert names(load(main_py(text))) == ["three", "one", "two"]


def test_a_job_made_by_a_function_of_the_file_is_listed_once(main_py):
    assert names(load(main_py(TWO_JOBS + "job = one()\n"))) == ["one", "two"]


def test_modules_beside_the_file_can_be_imported_and_its_objects_pickled(main_py, tmp_path):
    (tmp_path / "neighbour_of_main.py").write_text("NAME = 'from-a-neighbour'\n")
    gf = load(
        main_py(
            "from dataclasses import dataclass\n"
            "from goflow import Job, Task\n"
            "from neighbour_of_main import NAME\n"
            "@dataclass\n"
            "class Nothing:\n"
            "    n: int = 1\n"
            "    def run(self): pass\n"
            "job = Job(NAME, tasks=[Task('t', Nothing())])\n"
        )
    )
    [job] = gf.jobs
    [task] = job.tasks
    assert job.name == "from-a-neighbour"
    assert pickle.loads(pickle.dumps(task.operator)) == task.operator


def test_a_file_named_like_an_imported_module_does_not_replace_it(tmp_path):
    path = tmp_path / "goflow.py"
    path.write_text(TWO_JOBS)
    before = sys.modules["goflow"]
    assert names(load(str(path))) == ["one", "two"]
    assert sys.modules["goflow"] is before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Unusable, match=r"there is no file '.*nowhere\.py'"):
        load(str(tmp_path / "nowhere.py"))
    with pytest.raises(Unusable, match="is not a file"):
        load(str(tmp_path))


def test_a_file_without_jobs_is_refused(main_py):
    with pytest.raises(NotLoaded, match="defines no jobs"):
        load(main_py("x = 1\n"))


def test_a_file_that_exits_is_refused(main_py):
    with pytest.raises(NotLoaded, match=r"called sys\.exit"):
        load(main_py("import sys\nsys.exit(3)\n"))
