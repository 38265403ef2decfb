"""All benchmarks, one after the other: `python -m benchmarks`, or `make bench`."""

from benchmarks import (
    history,
    latency,
    pages,
    recovery,
    soak,
    spawn,
    startup,
    submits,
    throughput,
    ticks,
    watching,
)
from benchmarks.harness import Report

if __name__ == "__main__":
    short = (throughput, watching, spawn, latency, startup, submits, history, pages, ticks,
             recovery, soak)  # fmt: skip
    for benchmark in short:
        benchmark.main(Report())
