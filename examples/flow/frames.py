"""A data frame as a result. Needs pandas, and pip install "goflow[arrow]".

goflow run examples/flow/frames.py
"""

from typing import Any

from goflow import Job

job = Job("frames", description="A data frame goes from task to task")


@job.task(result="arrow")
def cities() -> Any:
    import pandas

    return pandas.DataFrame({"city": ["Rome", "Oslo", "Turin"], "people": [2.8, 0.7, 0.8]})


@job.task
def largest(cities: Any) -> str:
    return str(cities.sort_values("people").iloc[-1]["city"])
