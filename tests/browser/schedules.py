"""Jobs with schedules of all kinds, drawn from a seed."""

import random

from goflow import Command, Goflow, InvalidJob, Job, Schedule, Task

WRITTEN = [
    *("* * * * *", "0 9 1-7 * 1-5", "*/45 * * * *", "*/90 * * * *", "0 */36 * * *", "5/15 * * * *"),
    *("0 9 */2 * 1", "0 0 ? * 7", "0 0 1-31 * 1", "0 0 * * 0-6", "0 0 1 * 0-7", "0 22 * * 5/1"),
    *("0 0-23 * * *", "0,30 0-23 * * *", "0 */5 * * *", "0 */2 * * *", "30 1-23/2 * * *"),
    *("* 0-23 * * *", "0 0 29 2 *", "0 0 31 * *", "0 9-17 * JAN-mar,DEC MON-FRI", "0 0 */40 * *"),
    *("* * * * * *", "*/7 * * * * *", "30 * * * * *", "0,20 5 */3 * * *", "0 0 0 1 1 ?"),
    *("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"),
    *("TZ=UTC 0 9 * * *", "CRON_TZ=UTC  */5 * * * *", " 0\t9 * * * "),
    *("@every 1s", "@every 1500ms", "@every 1h30m10s", "@every 90m", "@every 0.5h", "@every 36h"),
    *("@every 1ns", "@every +1m", "@every 24h0m1.999s", "@every 100h", "@every 61s"),
]
NAMES = {
    4: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    5: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}
RANGES = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def field(draw: random.Random, number: int) -> str:
    """A random text of a field, with all syntax."""
    low, high = RANGES[number]

    def value() -> int:
        return draw.randint(low, high)

    def written(one: int) -> str:
        names = NAMES.get(number, [])
        named = one - low < len(names) and draw.random() < 0.3
        return draw.choice([str.upper, str.lower])(names[one - low]) if named else str(one)

    def item() -> str:
        first, last = sorted((value(), value()))
        step = draw.choice([1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 90])
        return draw.choice(
            [
                *[written(first)] * 3,
                f"{written(first)}-{written(last)}",
                f"{written(first)}-{written(last)}/{step}",
                f"{written(first)}/{step}",
                f"*/{step}",
            ]
        )

    kind = draw.random()
    if kind < 0.35:
        return "?" if number in (3, 5) and kind < 0.05 else "*"
    return ",".join(item() for _ in range(draw.choice([1, 1, 1, 2, 3])))


def expressions(count: int) -> list[str]:
    """`count` valid expressions, always the same."""
    draw = random.Random(10)
    found = [*WRITTEN]
    while len(found) < count:
        with_seconds = draw.random() < 0.3
        text = " ".join(field(draw, number) for number in range(0 if with_seconds else 1, 6))
        try:
            Schedule(text, with_seconds=True)
        except InvalidJob:
            continue
        found.append(text)
    return found


EXPRESSIONS = expressions(400)

gf = Goflow(with_seconds=True)
for number, expression in enumerate(EXPRESSIONS):
    gf.add_job(Job(f"{number}", schedule=expression, tasks=[Task("only", Command("true"))]))
