"""The example programs work as documented."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from goflow.testing import run

Example = Callable[[str], ModuleType]


def test_main_has_all_its_jobs(example: Example) -> None:
    assert [job.name for job in example("main.py").gf.jobs] == [
        "example-complex-analytics",
        "example-custom-operator",
        "disk-report",
        "fibonacci",
        "greet-people",
    ]


def test_main_reports_the_disk_usage_of_df(example: Example) -> None:
    execution = run(example("main.py").disk_report())
    assert execution.state == "successful"
    assert execution.tasks["disk"].result.splitlines()[1].endswith(" /")
    sizes = [int(line.split()[0]) for line in execution.tasks["largest"].result.splitlines()]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


def test_main_computes_fibonacci_numbers(example: Example) -> None:
    tasks = run(example("main.py").fibonacci()).tasks
    assert (tasks["tenth"].result, tasks["hundredth"].result) == (55, 354224848179261915075)


def test_main_greets_all_people_in_order(example: Example) -> None:
    execution = run(example("main.py").greetings, {"people": ["Zoe", "Ada"], "greeting": "Servus"})
    assert execution.tasks["say"].result == 2
    assert execution.tasks["say"].logs == "Servus, Ada!\nServus, Zoe!\nINFO said 2 greetings\n"


def test_custom_operator_counts_words_when_it_is_ready(example: Example) -> None:
    tasks = run(example("custom_operator.py").count_words()).tasks
    assert tasks["wait-until-ready"].result == "ready on attempt 3"
    assert tasks["count"].result == {"the": 3, "and": 2, "cat": 1}
    assert tasks["count"].logs == "8 words\n"


def test_custom_operator_refuses_a_text_without_words(example: Example) -> None:
    execution = run(example("custom_operator.py").count_words(), {"text": "  "})
    assert execution.tasks["count"].error == "parameter 'text' holds no words"


def test_an_order_placed_twice_through_fastapi_is_shipped_once(example: Example) -> None:
    program = example("fastapi_app.py")

    async def place_orders() -> None:
        transport = httpx2.ASGITransport(app=program.app)
        async with (
            program.gf.lifespan(program.app),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            first = (await client.post("/orders/7")).json()
            assert (await client.post("/orders/7")).json() == first
            await program.gf.engine.runners.finished(first["execution"])
            listed = (await client.get("/goflow/api/executions")).json()["executions"]
            assert [(one["id"], one["state"]) for one in listed] == [
                (first["execution"], "successful")
            ]
            detail = (await client.get(f"/goflow/api/executions/{first['execution']}")).json()
            assert detail["tasks"][1]["result"] == "parcel for order 7: handed over"

    asyncio.run(place_orders())


@pytest.mark.parametrize("file", ["main.py", "custom_operator.py", "reports/main.py"])
def test_the_command_line_finds_every_example_valid(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "goflow", "check", f"examples/{file}"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout
