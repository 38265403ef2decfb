"""All benchmarks, one after the other: `python -m benchmarks`, or `make bench`."""

from benchmarks import history, latency, pages, spawn, startup, submits, throughput
from benchmarks.harness import Report

if __name__ == "__main__":
    for benchmark in (throughput, spawn, latency, startup, submits, history, pages):
        benchmark.main(Report())
