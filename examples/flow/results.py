"""Results with types: the next task receives what the annotation says.

goflow run examples/flow/results.py --logs
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from goflow import Job


@dataclass
class Sale:
    day: date
    price: float


class Model:
    """An object that JSON cannot hold."""

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def predict(self) -> float:
        return round(self.mean, 2)


job = Job("sales", description="Typed results, and one that is pickled")


@job.task
def extract() -> list[Sale]:
    return [Sale(date(2026, 11, 28), 9.5), Sale(date(2026, 11, 29), 12.0)]


@job.task
def latest(extract: list[Sale]) -> Sale:
    return max(extract, key=lambda sale: sale.day)


@job.task(result="pickle")
def train(extract: list[Sale]) -> Any:
    return Model(sum(sale.price for sale in extract) / len(extract))


@job.task
def report(latest: Sale, train: Any) -> str:
    text = f"{latest.price} on {latest.day:%A}, {train.predict()} expected"
    print(text)
    return text
