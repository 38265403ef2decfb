"""Templates in the operators of jobs, from the definition to the log of an attempt."""

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goflow import Command, ConstantDelay, Context, Get, InvalidJob, Job, Post, Task, Template
from goflow.engine.engine import Engine
from goflow.stores.sqlite import SqliteStore
from goflow.templates import fields
from goflow.testing import FinishedExecution, run
from tests.engine.scripted import job_of, running
from tests.test_start import loaded_after

SHOW = "import os, sys; print(sys.argv[1:], os.environ.get('DAY'), os.getcwd())"


def done(operator: Any, params: dict[str, Any] | None = None, **options: Any) -> FinishedExecution:
    return run(
        Job("j", params={"day": "2026-01-01"}, tasks=[Task("t", operator, **options)]), params
    )


def logs(operator: Any, **options: Any) -> str:
    return done(operator, **options).tasks["t"].logs


def error(operator: Any, **options: Any) -> str:
    execution = done(operator, **options)
    assert execution.state == "failed"
    assert execution.tasks["t"].error is not None
    return execution.tasks["t"].error


# -- where text is accepted ----------------------------------------------------------


def test_a_command_takes_templates_for_each_of_its_texts(tmp_path: Path) -> None:
    command = Command(
        Template("{{ params.python }}"),
        ["-c", SHOW, Template("{{ params.day }}"), "{{ params.day }}"],
        env={"DAY": Template("day {{ params.day }}")},
        cwd=Template("{{ params.folder }}"),
    )
    params = {"day": "2026-01-01", "python": sys.executable, "folder": str(tmp_path)}
    task = run(Job("j", params=params, tasks=[Task("t", command)])).tasks["t"]
    shown = f"['2026-01-01', '{{{{ params.day }}}}'] day 2026-01-01 {tmp_path}\n"
    assert task.result == shown
    assert task.logs == (
        f"rendered cmd: {sys.executable}\n"
        "rendered args[2]: 2026-01-01\n"
        "rendered env['DAY']: day 2026-01-01\n"
        f"rendered cwd: {tmp_path}\n{shown}"
    )


def test_a_plain_text_is_never_a_template() -> None:
    assert done(Command("echo", ["{{.Names}} {% x %} ${#y}"])).tasks["t"].result == (
        "{{.Names}} {% x %} ${#y}\n"
    )
    assert done(Command.shell("echo '{{.Names}}'")).tasks["t"].result == "{{.Names}}\n"


def test_results_of_upstream_tasks_are_known() -> None:
    job = Job("j")

    @job.task
    def extract() -> dict[str, int]:
        return {"rows": 7}

    say = Command("echo", [Template("{{ results.extract.rows }} rows")])
    job.add(Task("say", say, after=["extract"]))
    assert run(job).tasks["say"].result == "7 rows\n"


def test_a_template_of_shell_text_quotes_its_values() -> None:
    script = Template("echo {{ params.day }} '{{ params.day }}' \"{{ params.day }}\"")
    command = Command.shell(script, timeout=60)
    assert (
        done(command, {"day": "it's $HOME"}).tasks["t"].result
        == " ".join(["it's $HOME"] * 3) + "\n"
    )


def test_a_script_in_several_lines_is_indented_in_the_log() -> None:
    command = Command.shell(Template("set -e\necho {{ params.day }}"))
    assert logs(command) == "rendered script:\n  set -e\n  echo '2026-01-01'\n2026-01-01\n"


def test_templates_work_in_a_process_of_their_own() -> None:
    command = Command("echo", [Template("{{ params.day }}")])
    assert logs(command, isolation="process") == "rendered args[0]: 2026-01-01\n2026-01-01\n"


@dataclass(frozen=True)
class Say:
    """An operator of a user's."""

    texts: dict[str, list[Template]]

    def run(self, context: Context) -> str:
        return self.texts["all"][0].render(context)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_operator_of_ones_own_renders_templates(isolation: str) -> None:
    task = done(Say({"all": [Template("{{ task }}")]}), isolation=isolation).tasks["t"]
    assert task.result == "t"


def test_the_templates_of_an_operator_of_ones_own_are_checked() -> None:
    with pytest.raises(InvalidJob) as caught:
        job_of("j", Task("t", Say({"all": [Template(""), Template("{{ nope }}")]})))
    assert "task 't': texts['all'][1], line 1: unknown name 'nope'" in str(caught.value)


def test_an_operator_of_ones_own_fails_by_its_template() -> None:
    assert "template, line 1: there is no 'nope'" in error(
        Say({"all": [Template("{{ params.nope }}")]})
    )


# -- when it is defined ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        (Command("a", [Template("{{ x")]), "args[0], line 1: unexpected end of template"),
        (Command("a", ["b", Template("\n{{ x }}")]), "args[1], line 2: unknown name 'x'"),
        (Command("a", env={"B": Template("{{ x }}")}), "env['B'], line 1: unknown name 'x'"),
        (Command.shell(Template("echo ${{ job }}")), "script, line 1: a value right after a $"),
        (Get(Template("http://{{ host }}/")), "url, line 1: unknown name 'host'"),
        (Get("http://a/", headers={"B": Template("{{ x }}")}), "headers['B'], line 1: unknown"),
        (Get("http://a/", params={"b": ["c", Template("{{ x }}")]}), "params['b'][1], line 1"),
        (Post("http://a/", Template("{{ x }}")), "body, line 1: unknown name 'x'"),
        (Post("http://a/", json={"a": [{"b": Template("{{ x }}")}]}), "json['a'][0]['b'], line 1"),
        (Post("http://a/", json=Template("{{ x }}")), "json, line 1: unknown name 'x'"),
    ],
)
def test_a_mistake_names_the_job_the_task_the_place_and_the_line(operator: Any, told: str) -> None:
    job = Job("etl")
    task = Task("load", operator)
    with pytest.raises(InvalidJob) as caught:
        job.add(task)
    assert str(caught.value).startswith(f"job 'etl', task 'load': {told}")
    assert job.tasks == []


@pytest.mark.parametrize("name", ["item", "index"])
def test_an_item_outside_a_mapped_task_is_a_mistake(name: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        job_of("j", Task("t", Command("echo", [Template(f"\n{{{{ {name} }}}}")])))
    assert str(caught.value) == (
        f"job 'j', task 't': args[0], line 2: {name!r} exists only in a task with map_over"
    )
    own = Template(f"{{% for {name} in [1, 2] %}}{{{{ {name} }}}}{{% endfor %}}")
    assert done(Command("echo", [own])).tasks["t"].result == "12\n"


class Names:
    def __init__(self, *names: str) -> None:
        self.names = names

    def run(self) -> list[dict[str, str]]:
        return [{"name": name} if name else {} for name in self.names]


def mapped(names: Names, **options: Any) -> Any:
    say = Command.shell(Template("echo {{ index }} {{ item.name }} {{ results.names.name }}"))
    tasks = [Task("names", names), Task("say", say, map_over="names", **options)]
    return run(Job("j", tasks=tasks)).tasks["say"]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_template_knows_its_item(isolation: str) -> None:
    task = mapped(Names("a", "it's"), isolation=isolation)
    assert task.result == ["0 a a\n", "1 it's it's\n"]


def test_a_template_that_fails_in_one_item_fails_in_no_other() -> None:
    task = mapped(Names("a", "", "b"))
    assert task.state == "failed"
    assert "script, line 1: there is no 'name' among nothing" in str(task.error)
    assert "1 of 3" in str(task.error)


def test_a_result_of_a_task_that_is_not_upstream_is_a_mistake() -> None:
    job = Job("etl")
    for name in ("extract", "clean"):
        job.add(Task(name, Command("true")))
    job.add(Task("load", Command("echo", [Template("\n{{ results.extract }}")]), after=["clean"]))
    job.task("extract") >> job.task("clean")
    with pytest.raises(InvalidJob) as caught:
        job.run()
    assert str(caught.value) == (
        "job 'etl', task 'load': args[0], line 2: results has no 'extract': the task runs after "
        "'clean', and only their results are known"
    )
    job.task("extract") >> job.task("load")
    assert job.run().state == "successful"


@pytest.mark.parametrize("text", [None, 5, b"x", Template("x")])
def test_the_text_of_a_template_is_a_str(text: Any) -> None:
    with pytest.raises(InvalidJob, match="Template: text must be a str"):
        Template(text)


def test_the_text_of_a_template_is_bounded() -> None:
    with pytest.raises(InvalidJob, match="262,145 characters, more than 262,144"):
        Template("x" * (256 * 1024 + 1))


def test_a_template_is_a_value() -> None:
    assert Template("a") == Template("a") != Template("b")
    assert len({Template("a"), Template("a")}) == 1
    assert pickle.loads(pickle.dumps(Template("a"))) == Template("a")
    assert repr(Command("echo", [Template("{{ job }}")])) == (
        "Command(cmd='echo', args=(Template('{{ job }}'),), cwd=None, timeout=None)"
    )


def test_json_that_holds_itself_is_refused() -> None:
    circle: list[Any] = [Template("x")]
    circle += [circle, circle]
    with pytest.raises(InvalidJob, match="json cannot be encoded"):
        Post("http://localhost/", json=circle)


def test_a_template_beyond_many_values_is_checked_when_it_is_rendered() -> None:
    post = Post("http://localhost:1/", json=[0] * 20_000 + [Template("{{ nope }}")])
    assert "json[20000], line 1: unknown name 'nope'" in error(post)


def test_a_template_is_no_key() -> None:
    with pytest.raises(InvalidJob, match="env name must be a str"):
        Command("a", env={Template("b"): "c"})  # type: ignore[dict-item]


def test_jobs_without_templates_do_not_import_jinja2() -> None:
    program = (
        "from goflow import Command, Get, Job, Post, Task, Template\n"
        "job = Job('j', tasks=[Task('a', Command('true')), Task('b', Command.shell('true'))])\n"
        "job.add(Task('p', Command('true'), isolation='process'))\n"
        "assert job.run().state == 'successful'\n"
    )
    assert "jinja2" not in loaded_after(program)
    one = "Job('k', tasks=[Task('a', Command(Template('{{ job }}')))])\n"
    assert "jinja2" in loaded_after(program + one)


# -- when an attempt begins --------------------------------------------------------------


def test_each_attempt_renders_anew() -> None:
    command = Command.shell(Template("echo {{ attempt }}; exit 1"))
    text = logs(command, retries=2, retry_delay=ConstantDelay(1))
    assert [line for line in text.splitlines() if line.startswith("rendered")] == [
        f"rendered script: echo '{n}'; exit 1" for n in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ params.nope }}", "there is no 'nope' among 'day'"),
        ("{{ params.__class__ }}", "a template must not use '__class__' of a dict"),
        ("{% for i in range(10**9) %}{% endfor %}", "it takes more than the 5,000,000"),
        ("{{ 'x' * 10**9 }}", "it takes more than the 5,000,000"),
        (
            "{% for i in range(9999) %}{{ i }}{% endfor %}{{ 1 / 0 }}",
            "ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_template_that_fails_fails_its_attempt_and_no_other(text: str, told: str) -> None:
    job = Job("j", params={"day": "2026-01-01"})
    job.add(Task("bad", Command("echo", ["a", Template(f"\n{text}")]), retries=1))
    job.add(Task("good", Command("echo", [Template("{{ params.day }}")])))
    tasks = run(job).tasks
    assert tasks["bad"].error is not None
    assert tasks["bad"].error.startswith(f"args[1], line 2: {told}")
    assert "Traceback" not in tasks["bad"].error
    assert len(tasks["bad"].attempts) == 2
    assert tasks["good"].result == "2026-01-01\n"


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        (Command("echo", [Template("{{ params.v }}")]), "must not contain a NUL character"),
        (Command(Template("{{ params.e }}")), "cmd must name a program, not ''"),
        (Command("echo", cwd=Template("{{ params.n }}")), "in '/no/such'"),
        (Get(Template("{{ params.v }}")), "url must be like https://host/path"),
        (Get("http://a/", headers={"A": Template("{{ params.n }}\r\nB: c")}), "must be one line"),
        (Post("http://a/", json=Template("{{ none }}")), "there is nothing to send"),
    ],
)
def test_a_rendered_value_is_checked_as_in_a_definition(operator: Any, told: str) -> None:
    params = {"v": "a\0b", "n": "/no/such", "e": ""}
    task = run(Job("j", params=params, tasks=[Task("t", operator)])).tasks["t"]
    assert task.state == "failed"
    assert told in str(task.error)


def test_what_takes_longer_is_rendered_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    async def to_thread(function: Any, *args: Any) -> Any:
        used.append(function.__name__)
        return function(*args)

    monkeypatch.setattr(fields.asyncio, "to_thread", to_thread)
    done(Command("echo", [Template("{{ params.day }}")]))
    assert used == []
    task = done(
        Command("echo", [Template("{% for i in range(3000) %}.{{ i }}{% endfor %}")])
    ).tasks["t"]
    assert task.result.endswith(".2999\n")
    assert used == ["_render"]


# -- the log -----------------------------------------------------------------------------


def test_a_long_rendered_text_is_cut_in_the_log() -> None:
    command = Command("true", [Template("{% for i in range(9) %}{{ 'x' * 9000 }}{% endfor %}")])
    text = logs(command)
    assert len(text) < 9000
    assert "72,808 characters left out" in text


def test_control_characters_are_escaped_in_the_log() -> None:
    command = Command("true", [Template("{{ params.v }}")])
    job = Job("j", params={"v": "a\r\x1b[31mb\tc"}, tasks=[Task("t", command)])
    assert run(job).tasks["t"].logs == "rendered args[0]: a\\r\\x1b[31mb\tc\n"


@pytest.mark.anyio
async def test_what_was_rendered_is_there_after_a_restart(tmp_path: Path) -> None:
    job = job_of("j", Task("t", Command("true", [Template("{{ execution_id }}")])))
    async with running(job, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
    async with running(job, store=SqliteStore(tmp_path / "goflow.db")) as engine:
        assert await log_of(engine, id) == f"rendered args[0]: {id}\n"


async def log_of(engine: Engine, id: str) -> str:
    log = await engine.reader.log_of(id, "t", 1)
    return "".join([text async for text in log.texts])
