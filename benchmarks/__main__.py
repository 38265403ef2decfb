"""Runs all benchmarks in order: `python -m benchmarks`, or `make bench`."""

from benchmarks import (
    history,
    latency,
    maps,
    pages,
    peers,
    record,
    recovery,
    results,
    soak,
    spawn,
    startup,
    streams,
    submits,
    templates,
    throughput,
    ticks,
    waits,
    watching,
)
from benchmarks.harness import Report

if __name__ == "__main__":
    report = Report(record.last())
    short = (throughput, maps, streams, watching, spawn, templates, latency, startup, submits,
             peers, history, pages, ticks, recovery, results, waits, soak)  # fmt: skip
    for benchmark in short:
        benchmark.main(report)
    record.keep(report.figures)
