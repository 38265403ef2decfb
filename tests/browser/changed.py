"""A later version of the job `mixed` of jobs.py: `breaks` is gone, and `joins` is new."""

from goflow import Command, Goflow, Job, Task

gf = Goflow()

mixed = Job("mixed")
mixed.add(Task("works", Command("echo", ["again"])))
mixed.add(Task("joins", Command("echo", ["hello"]), after=["works"]))
mixed.add(Task("never", Command("true"), after=["works", "joins"]))
gf.add_job(mixed)
