"""Text with values, filled in just before each attempt.

goflow run examples/flow/templates.py --param folder="it's mine" --logs
"""

from goflow import Command, Job, Task, Template

job = Job(
    "listing", params={"folder": "my files"}, description="Templates in arguments and scripts"
)


@job.task
def count() -> dict[str, int]:
    return {"rows": 7}


job.add(
    Task(
        "say",
        Command("echo", [Template("{{ params.folder }}: {{ results.count.rows }} rows")]),
        after=["count"],
    )
)
# In shell text each value is quoted for its place, so it is one argument, whatever it has.
job.add(Task("print", Command.shell(Template("printf '%s\n' {{ params.folder }} done"))))
