"""The jobs in most tests. A file named `open` in the working directory ends the wait."""

from goflow import Command, Goflow, Job, Task

STRANGE = 'a/b <img src=x onerror="document.title=1"> & "q" ..%2F مرحبا \u202etxt.exe'

gf = Goflow()


WAIT = """
echo the gate is closed
while [ ! -e open ]; do sleep 0.02; done
echo the gate is open
"""

gate = Job("gate", description="Waits to be let through", tags=["slow"])
gate.add(Task("before", Command("true")))
gate.add(Task("wait", Command.shell(WAIT), after=["before"]))
gate.add(Task("after", Command("true"), after=["wait"]))
gf.add_job(gate)

mixed = Job("mixed", schedule="0 0 1 1 *", active=True)
mixed.add(Task("works", Command("echo", ["<b>bold</b>"])))
mixed.add(Task("breaks", Command.shell("echo 'to no avail' >&2; exit 3"), retries=1))
mixed.add(Task("never", Command("true"), after=["works", "breaks"]))
mixed.add(Task("always", Command("true"), after=["never"], trigger_rule="allDone"))
gf.add_job(mixed)

strange = Job(STRANGE, description="<script>document.title = 2</script>", tags=["<i>"])
strange.add(Task(STRANGE, Command("echo", [STRANGE])))
gf.add_job(strange)

counted = Job("counted", params={"limit": 10, "country": "de"})


@counted.task()
def show(limit: int, country: str) -> str:
    return f"{limit + 1} of {country}"


gf.add_job(counted)

if __name__ == "__main__":
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    uvicorn.run(
        Starlette(routes=[Mount("/tools/my flow", gf)], lifespan=gf.lifespan),
        port=0,
        timeout_graceful_shutdown=1,
    )
