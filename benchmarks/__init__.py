"""Benchmarks, one script per question. They print figures and do not fail a run."""
