"""A server with a custom dashboard, in the folder `dashboard` of the working directory."""

from goflow import Command, Goflow, Job, Task

gf = Goflow(ui_path="dashboard")
job = Job("nightly", schedule="0 0 1 1 *")
job.add(Task("first", Command("true")))
job.add(Task("second", Command("true"), after=["first"]))
gf.add_job(job)
