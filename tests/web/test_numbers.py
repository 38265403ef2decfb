"""Numbers keep their digits from the request to the response, or are refused."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from goflow import Context, Goflow, Job, MemoryStore
from tests.web.conftest import Asker

KEPT = (
    *("0", "1", "-1", "1.0", "-0.0", "0.1", "0.30000000000000004", "1e22", "5e-324"),
    *("9007199254740991", "9007199254740993", "-9007199254740993"),
    *("9223372036854775808", "18446744073709551615", "18446744073709551616"),
    *("-9223372036854775809", "123456789012345678901234567890", "1" * 4300),
)


class Loose(msgspec.Struct):
    value: Any = None


def echoing(name: str, **options: Any) -> Job:
    """A task that returns its parameter, and a second one that returns the first one's result."""
    job = Job(name, **options)

    @job.task()
    def first(context: Context) -> Any:
        return context.params["value"]

    @job.task()
    def second(first: Any) -> Any:
        return first

    return job


@pytest.fixture
def ask() -> Iterator[Asker]:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(echoing("any"))
    gf.add_job(echoing("defaults", params={"value": None}))
    gf.add_job(echoing("class", params=Loose))
    with TestClient(gf, base_url="http://localhost") as client:
        yield Asker(client)


def submitted(ask: Asker, job: str, number: str) -> Any:
    headers = {"content-type": "application/json"}
    content = f'{{"params":{{"value":{number}}}}}'
    return ask.client.post(f"/api/jobs/{job}/submit", content=content, headers=headers)


@pytest.mark.parametrize("job", ["any", "defaults", "class"])
def test_a_parameter_keeps_its_digits(ask: Asker, job: str) -> None:
    answer = submitted(ask, job, f"[{','.join(KEPT)}]")
    assert answer.status_code == 200, answer.text
    id = answer.json()["id"]
    ask.finished(id)
    told = ask.client.get(f"/api/executions/{id}").text
    listed = f"[{','.join(KEPT)}]"
    assert f'"params":{{"value":{listed}}}' in told
    for task in ("first", "second"):  # the results are too large for the detail
        assert ask.client.get(f"/api/executions/{id}/tasks/{task}/result").text == listed


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1" * 5000, "01", "1."])
def test_a_number_that_cannot_be_stored_is_refused(ask: Asker, number: str) -> None:
    answer = submitted(ask, "any", number)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert ask.client.get("/api/executions").json()["executions"] == []
