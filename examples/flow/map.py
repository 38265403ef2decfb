"""A task per item of a list that is known only at run time.

goflow run examples/flow/map.py
"""

from goflow import Job

job = Job("pages", description="A task per page, four at once")


@job.task
def find() -> list[dict[str, str]]:
    return [{"name": name, "text": name * 3} for name in ("north", "south", "west")]


@job.task(map_over="find", max_parallel=4, item_key="{{ item.name }}", retries=2)
def measure(find: dict[str, str]) -> int:
    print("measuring", find["name"])
    return len(find["text"])


@job.task
def total(measure: list[int]) -> int:
    return sum(measure)
