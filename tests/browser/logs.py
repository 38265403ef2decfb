"""Jobs with large, unusual or many logs. A file named `open` ends every wait."""

import time
from pathlib import Path

from goflow import Command, Context, Goflow, Job, Task

COLOURS = (
    "\x1b[1;31mred\x1b[0m \x1b[38;5;21mblue\x1b[0m \x1b[48;2;1;2;3;7mturned\x1b[0m",
    "10%\r100%",
    "\x1b]0;title\x07\x1b[2J<b>bold</b> & <script>document.title = 3</script>",
    "\u202egnp.exe \u2066isolated",
)

gf = Goflow(max_log=4_000_000)

strange = Job("strange")


@strange.task()
def writes(context: Context) -> dict[str, object]:
    for line in COLOURS:
        context.log(line)
    return {"<b>": ["\u202e"] * 200}


gf.add_job(strange)

# Jobs of their own for the lines that few tests need, since all of these lines are stored.
long, wide_lines, too_long = Job("long"), Job("wide"), Job("too long")


@long.task()
def hundred_thousand() -> None:
    for number in range(1, 100_001):
        needle = " needle" * (number % 25_000 == 0)
        print(f"line {number}{needle}" + " Error: here" * (number == 77_000))


def wide() -> None:
    for number in range(1, 301):
        print(f"wide {number}", "x" * 40 * (number % 20))


@too_long.task()
def cut() -> None:
    for number in range(1, 150_001):
        print(f"cut {number}", "." * 50)


for job in (long, wide_lines):
    job.task()(wide)
for job in (long, wide_lines, too_long):
    gf.add_job(job)

ticker = Job("ticker")


@ticker.task()
def ticks() -> None:
    number = 0
    while not Path("open").exists():
        number += 1
        print(f"tick {number}")
        time.sleep(0.02)
    print("the last tick")


gf.add_job(ticker)

progress = Job("progress")


@progress.task()
def downloads() -> None:
    print("begins")
    for percent in (10, 64):
        print(f"{percent} % of all\r", end="")
    while not Path("open").exists():
        time.sleep(0.02)
    print("100 %")


gf.add_job(progress)

picky = Job("picky", params={"limit": 10, "country": "de"})


@picky.task(retries=1)
def checks(context: Context, limit: int, country: str) -> str:
    for number in range(200):
        print(f"row {number}")
    print("now it gets serious")
    if limit < 20:
        raise ValueError(f"the limit {limit} is too low\n<i>not</i> markup")
    return f"{limit} of {country}"


gf.add_job(picky)

digits = Job("digits", params={"id": 1, "share": 1.0, "others": []})


@digits.task()
def gives(id: int, share: float, others: list[int | float]) -> dict[str, object]:
    return {"next": id + 1, "share": share, "others": others}


gf.add_job(digits)

large = Job("large")


@large.task()
def rows() -> dict[str, object]:
    return {"id": 9007199254740993, "rows": [f"row {number}" for number in range(2000)]}


@large.task()
def few(rows: dict[str, object]) -> int:
    return len(rows)


gf.add_job(large)

mapped = Job("mapped")


@mapped.task()
def lists() -> list[int]:
    return list(range(300))


@mapped.task(map_over="lists", max_parallel=4)
def halves(lists: int) -> int:
    print(f"halving {lists}")
    if lists == 7 and not Path("open").exists():
        raise ValueError(f"{lists} is odd")
    return lists // 2


gf.add_job(mapped)

many = Job("many")
for number in range(1200):
    after = [f"part-{number - 100}"] if number >= 100 else []
    many.add(Task(f"part-{number}", Command("true"), after=after))
gf.add_job(many)
