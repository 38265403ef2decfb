"""Writes access.log, the input of the report example. The output is always the same.

    python examples/reports/make_access_log.py

The log covers a week of a small documentation site, in the combined format of Apache and nginx. It
has more traffic by day, crawlers, vulnerability scans, a search outage of two hours, and some
damaged lines. Addresses are from the ranges reserved for documentation.
"""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

LINES = 10_400
FIRST_DAY = datetime(2026, 9, 14, tzinfo=UTC)
DAYS = 7
OUTAGE = range(62, 64)  # hours since the start in which the search answers 503

# path, weight, size of the answer in bytes
PAGES = [
    ("/", 30, 5_120),
    ("/docs/quickstart", 22, 9_300),
    ("/docs/schedules", 12, 14_800),
    ("/docs/retries", 9, 7_450),
    ("/docs/reference", 14, 31_000),
    ("/search?q=cron", 8, 2_210),
    ("/search?q=retry+delay", 5, 2_380),
    ("/static/site.css", 34, 11_900),
    ("/static/site.js", 30, 48_200),
    ("/favicon.ico", 12, 1_150),
    ("/blog/2026/one-process", 7, 12_600),
    ("/download/goflow.tar.gz", 3, 884_000),
]
PROBES = ["/wp-login.php", "/.env", "/admin/", "/docs/<script>alert(1)</script>", "/phpmyadmin"]
BROWSERS = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/143.0",
    "Mozilla/5.0 (Macintosh) Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0",
]
CRAWLERS = ["ExampleBot/2.1 (+http://bot.example/)", "curl/8.14.1"]


class Draw:
    """Uses only `random.random`, which is stable across Python versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        return int(self._random.random() * n)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def one(self, choices: list[str]) -> str:
        return choices[self.below(len(choices))]

    def page(self) -> tuple[str, int]:
        place = self.below(sum(weight for _, weight, _ in PAGES))
        for path, weight, size in PAGES:
            if place < weight:
                return path, size
            place -= weight
        raise AssertionError("weights add up")


def hours() -> list[int]:
    """Requests in each hour of the week: fewer at night and on weekends."""
    weights = []
    for hour in range(24 * DAYS):
        day = 1.2 - math.cos((hour % 24 - 3) / 24 * 2 * math.pi)
        weights.append(day * (0.5 if hour // 24 >= 5 else 1.0))
    counts = [int(weight / sum(weights) * LINES) for weight in weights]
    counts[12] += LINES - sum(counts)
    return counts


def visitor(draw: Draw) -> str:
    # a product, so that a few addresses are frequent
    return f"203.0.113.{1 + draw.below(15) * draw.below(15)}"


def line(draw: Draw, at: datetime, hour: int) -> str:
    agent, client, referrer = draw.one(BROWSERS), visitor(draw), "-"
    method, status = "GET", 200
    path, size = draw.page()
    if draw.chance(0.02):  # a vulnerability scan
        client, agent = f"198.51.100.{20 + draw.below(4)}", "-"
        path, status, size = draw.one(PROBES), 404, 512
    elif draw.chance(0.08):  # a crawler
        client, agent = f"192.0.2.{1 + draw.below(3)}", draw.one(CRAWLERS)
        method = "HEAD" if draw.chance(0.3) else "GET"
    elif draw.chance(0.3):
        referrer = "https://site.example/"
        if path.startswith("/static/"):
            status, size = 304, 0
    if path.startswith("/search") and hour in OUTAGE:
        status, size = 503, 190
    elif status == 200 and draw.chance(0.004):
        status, size = 500, 240
    elif path == "/" and draw.chance(0.05):
        status, size = 301, 178
    shown = "-" if method == "HEAD" or size == 0 else str(size + draw.below(40))
    when = at.strftime("%d/%b/%Y:%H:%M:%S +0000")
    request = f"{method} {path} HTTP/1.1"
    return f'{client} - - [{when}] "{request}" {status} {shown} "{referrer}" "{agent}"'


def damage(draw: Draw, good: str) -> str:
    """Damage as in real logs: truncated lines, binary input, invalid dates, zero bytes."""
    match draw.below(4):
        case 0:
            return good[: 20 + draw.below(40)]
        case 1:
            return good.replace('"GET ', '"\\x16\\x03\\x01').replace(" HTTP/1.1", "")
        case 2:
            return good.replace("/Sep/", "/Sxp/")
        case _:
            return "\\x00" * 12 + good[30:60]


def make() -> str:
    draw = Draw(20_260_914)
    lines = []
    for hour, count in enumerate(hours()):
        begin = FIRST_DAY + timedelta(hours=hour)
        for second in sorted(draw.below(3600) for _ in range(count)):
            written = line(draw, begin + timedelta(seconds=second), hour)
            lines.append(damage(draw, written) if draw.chance(0.006) else written)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(__file__).with_name("access.log")
    target.write_text(make(), encoding="utf-8", newline="\n")
    print(f"{target}: {target.stat().st_size:,} bytes")
