"""A state that the tasks of an execution share, changed by a reducer in the manner of Redux.

goflow run examples/flow/state.py
"""

from typing import Any

from goflow import Context, Job
from goflow.state import combine_reducers


def rows(state: int = 0, action: Any = None) -> int:
    return state + action["rows"] if action["type"] == "loaded" else state


def files(state: tuple[str, ...] = (), action: Any = None) -> Any:
    return [*state, action["file"]] if action["type"] == "loaded" else state


job = Job("import", state=combine_reducers(rows=rows, files=files), description="A shared state")


@job.task
def find() -> list[str]:
    return ["a.csv", "b.csv", "c.csv"]


@job.task(map_over="find", max_parallel=1)
def load(find: str, context: Context) -> None:
    context.dispatch({"type": "loaded", "file": find, "rows": 10})


@job.task(after=["load"])
def report(context: Context) -> str:
    return f"{context.state['rows']} rows of {len(context.state['files'])} files"


@job.subscribe
def watch(state: Any) -> None:
    print(f"{state['rows']} rows so far")
