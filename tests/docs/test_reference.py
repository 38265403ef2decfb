"""The lists in the documentation match the code: names, defaults, routes, commands, tables."""

import ast
import asyncio
import inspect
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

import goflow
from goflow import Goflow, Job, MemoryStore, Schedule, State, TriggerRule, plain
from goflow.artifacts import base as artifacts
from goflow.checks import NAME_LIMIT
from goflow.cli import main
from goflow.core import cost, detail, execution, result, summary
from goflow.core.states import Tally, verdict
from goflow.engine import (
    backfill,
    broadcast,
    families,
    feed,
    item_pages,
    reader,
    retention,
    scheduler,
)
from goflow.engine.attempts import mapped, shared, streams
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.executors import outcomes
from goflow.engine.options import Options
from goflow.engine.output import tasklog
from goflow.engine.room import SHARE
from goflow.job import itemkeys, mapping, skip_dates, task
from goflow.job import job as definition
from goflow.operators import actions, dial, exchange, generator, http, pickling, program
from goflow.templates import compiled, fields, spending, template
from goflow.web import jobs, requests, server
from goflow.web.acceptor import ConnectionLimits
from goflow.web.connection import Pace
from tests.docs.pages import ROOT, blocks

REFERENCE = ROOT / "docs" / "reference.md"


def table(page: str, name: str) -> list[list[str]]:
    """The rows below the comment `<!-- table: name -->`, including the header."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- table: {name} -->\n((?:\|.*\n)+)", text)
    assert found is not None
    lines = found[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def signatures() -> list[ast.Call]:
    shown = "".join(block.text for block in blocks(REFERENCE) if block.language == "text")
    calls = ast.parse(shown.replace("*, ", "")).body  # calls have no bare star
    return [call.value for call in calls if isinstance(call, ast.Expr)]  # type: ignore[misc]


def test_every_public_name_is_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    missing = [name for name in goflow.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == ["__version__"]


@pytest.mark.parametrize("call", signatures(), ids=lambda call: ast.unparse(call.func))
def test_a_signature_has_the_parameters_and_defaults_of_the_code(call: ast.Call) -> None:
    thing: Any = goflow
    for part in ast.unparse(call.func).split("."):
        thing = getattr(thing, part)
    parameters = inspect.signature(thing).parameters
    shown = [ast.unparse(each) for each in call.args] + [str(k.arg) for k in call.keywords]
    assert set(shown) == set(parameters) - {"random", "_content"}
    for keyword in call.keywords:
        default = parameters[str(keyword.arg)].default
        if not isinstance(keyword.value, ast.Name):
            assert ast.literal_eval(keyword.value) == default


def test_every_route_is_in_the_reference_and_no_other() -> None:
    async def document() -> dict[str, Any]:
        gf = Goflow(MemoryStore(), ui_path=None)
        transport = httpx2.ASGITransport(app=gf)
        async with (
            gf.lifespan(),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            answer: dict[str, Any] = (await client.get("/openapi.json")).json()
            return answer

    routes = {
        f"`{method.upper()} {path}`"
        for path, methods in asyncio.run(document())["paths"].items()
        for method in methods
    }
    assert {row[0] for row in table("reference.md", "routes")[1:]} == routes - {
        "`GET /openapi.json`"
    }


def test_every_command_is_in_the_reference_and_no_other() -> None:
    rows = table("reference.md", "commands")[1:]
    assert [row[0].split()[1].strip("`") for row in rows] == list(main.commands)
    for name, text in ((row[0].split()[1].strip("`"), row[1]) for row in rows):
        known = {option for each in main.commands[name].params for option in each.opts}
        known |= {option for each in main.commands[name].params for option in each.secondary_opts}
        assert set(re.findall(r"`(--?[a-z-]+)", text)) <= known


def test_limits_match_the_code() -> None:
    options, limits, job = Options(), Limits(), Job("any")
    numbers = {
        "attempts that run at once": options.max_running,
        "unfinished executions": options.max_unfinished,
        "of these, reserved for schedules while one is on": options.max_unfinished // SHARE,
        "parameters of all unfinished executions, as JSON": limits.params,
        "due times that a job catches up with before other jobs get their turn": scheduler.PORTION,
        "schedules of a job": definition.SCHEDULES,
        "lists in one product of `map_over`": mapping.LISTS,
        "items of a mapped task": mapped.MAX_ITEMS,
        "the key of an item": itemkeys.KEY_LIMIT,
        "items that a generator yields": generator.ITEMS,
        "the items that a generator yields, without a task mapped over it, as JSON": (
            generator.BYTES
        ),
        "items that a generator is ahead of the tasks mapped over it": streams.AHEAD,
        "executions deep that `RunJob` starts others": families.DEEPEST,
        "time of an attempt of a hook, and of `on_retry`": int(task.HOOK_TIMEOUT),
        "interruptions of a task in a row, by the end of the server, after which it runs again": (
            execution.INTERRUPTIONS
        ),
        "the explanation of a skip, and the reason of a wait": summary.WHY,
        "names that an attempt counts": cost.COUNTS,
        "the name of a count": cost.COUNT_NAME,
        "names in the sums of counts of a task, an execution or a day": cost.COUNTS_SUMMED,
        "text beside a progress bar": cost.TEXT,
        "actions of an execution": shared.ACTIONS,
        "an action, as JSON": actions.ACTION_LIMIT,
        "a shared state, as JSON": shared.STATE_LIMIT,
        "time of the reducer and of subscribers for one action": int(shared.PATIENT),
        "levels of lists and dicts in a result": plain.NESTING_LIMIT,
        'a task with `isolation="process"`, pickled': pickling.SIZE_LIMIT,
        "the output of a `Command` that is its result": program.RESULT_LIMIT,
        "an iCalendar file of `skip_dates`": skip_dates.LARGEST_FILE,
        "a task's result, as JSON": limits.result,
        "all results of an execution together": limits.results,
        "an artifact": limits.artifact,
        "files of an attempt that are kept": artifacts.FILES,
        "the name of an artifact": artifacts.NAME_LIMIT,
        "tasks of an execution in lists and events": summary.TASKS_SHOWN,
        "a result in the detail of an execution": result.SMALL,
        "errors in the detail of an execution": detail.ERRORS_SHOWN,
        "attempts of an item in a page of items": item_pages.ATTEMPTS_SHOWN,
        "executions that tasks have started, in the detail of an execution": detail.CHILDREN_SHOWN,
        "errors of an execution, besides the logs": execution.ERRORS_KEPT,
        "parameters of users' requests, in the detail of an execution": detail.ASKED_SHOWN,
        "an attempt's log": limits.log,
        "a line of a log": tasklog.LINE,
        "an attempt's error": outcomes.ERROR_LIMIT,
        "a request's body": 1024 * 1024,
        "a request's head": server.HEAD_LIMIT,
        "query parameters of a request": requests.FIELDS_LIMIT,
        "the rate of a request's body, and of a client that reads a response": int(Pace().rate),
        "connections open at once": ConnectionLimits().total,
        "the response body of `Get` and `Post`": http.MAX_BODY,
        "the response headers of `Get` and `Post`": dial.MAX_HEAD,
        "redirects of `Get` and `Post`": exchange.MAX_REDIRECTS,
        "a template": template.TEXT_LIMIT,
        "what a template makes": compiled.OUTPUT_LIMIT,
        "what rendering a template may take": spending.ALLOWANCE,
        "rendered text in an attempt's log": fields.LOGGED,
        "templates in the description of a job": jobs.TEMPLATES_SHOWN,
        "executions on a page": reader.PAGE_LIMIT,
        "listeners of the stream": broadcast.LISTENER_LIMIT,
        "subscribers of the feed": feed.SUBSCRIBERS,
        "executions with changes that wait for one listener": broadcast.MAILBOX_LIMIT,
        "executions sent when a stream opens": broadcast.SNAPSHOT,
        "a name of a job or task": NAME_LIMIT,
        "a cron expression": goflow.core.schedule.LONGEST_EXPRESSION,
        "an `Idempotency-Key`": jobs.KEY_LIMIT,
        'waiting executions of a job with `overlap="queue"`': job.max_queued,
        'due times caught up with, with `catchup="all"`': job.catchup.limit,
        "due times in one backfill": backfill.LIMIT,
        "days that executions and ticks are kept": options.keep.days,
        "days that the counts in calendars are kept": retention.ACTIVITY.days,
        "executions that are kept": options.keep.executions,
    }
    rows = {row[0]: row[1] for row in table("reference.md", "limits")[1:]}
    assert set(rows) - set(numbers) == {"a program's time between SIGTERM and SIGKILL"}
    for what, number in numbers.items():
        assert re.match(r"[\d,]+", rows[what])[0] == f"{number:,}", what  # type: ignore[index]


def test_the_table_of_trigger_rules_matches_the_code() -> None:
    head, *rows = table("how-to/trigger-rules.md", "rules")
    assert [row[0].strip("`") for row in rows] == list(TriggerRule)
    for rule, *verdicts in rows:
        for upstream, said in zip(head[1:], verdicts, strict=True):
            tally = Tally(2)
            for state in upstream.split(", "):
                tally.count(State(state))
            assert verdict(TriggerRule(rule.strip("`")), tally).name.lower() == said


def test_the_table_of_clock_changes_matches_schedules() -> None:
    _, *rows = table("how-to/schedules.md", "fires")
    assert len(rows) == 5
    for expression, *nights in rows:
        schedule = Schedule(expression.strip("`"), "Europe/Berlin")
        for day, said in zip(
            [datetime(2027, 3, 28, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)],
            nights,
            strict=True,
        ):
            # from local midnight to 05:00 local time
            offset = timedelta(hours=1 if day.month == 3 else 2)
            at, until = day - offset - timedelta(seconds=1), day + timedelta(hours=4)
            fires = []
            while (fire := schedule.next(at)) is not None and fire < until:
                fires.append(f"{fire:%H:%M}")
                at = fire
            assert re.findall(r"\d\d:\d\d", said.partition("(")[0]) == fires, (expression, said)


def test_every_state_is_in_the_glossary_or_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert all(f"`{state}`" in text for state in State)


def test_the_paths_on_the_page_where_things_live_exist() -> None:
    text = (ROOT / "docs" / "where.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`(goflow/[\w/.]*)`", text))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_table_of_rooms_names_every_module() -> None:
    """Each in the row of its package. Commands and the tables of SQLite name their modules."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms")[2].partition("\n## ")[0]
    rows = {
        place: row
        for row in table.splitlines()
        for place in re.findall(r"`(goflow/[\w/.]*)`", row.split(" | ")[0])
    }
    missing = []
    for path in sorted((ROOT / "goflow").rglob("*.py")):
        package = f"{path.parent.relative_to(ROOT)}/"
        if path.stem.startswith("__") or package in ("goflow/cli/", "goflow/stores/sqlite/"):
            continue
        if f"{package}{path.name}" not in rows and f"`{path.stem}`" not in rows.get(package, ""):
            missing.append(f"{package}{path.name}")
    assert missing == []
