"""A thousand jobs that run on request."""

from goflow import Command, Goflow, Job, Task

gf = Goflow()
for number in range(1000):
    gf.add_job(Job(f"job {number}", tasks=[Task("only", Command("true"))]))
