import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from goflow.engine.tasklog import CHUNK, LINE, TaskLog

LIMIT = 16 * 1024 * 1024


class Kept:
    """What a store would keep: chunks come, ranges go. Appending can be held up."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int, str]] = []
        self.appended: list[tuple[int, int, str]] = []
        self.under_way = 0
        self.open = asyncio.Event()
        self.open.set()

    async def append(
        self, first: int, lines: int, text: str, forget: tuple[int, int] | None
    ) -> None:
        assert self.under_way == 0, "one at a time"
        assert text.endswith("\n")
        assert text.count("\n") == lines
        assert len(text) <= CHUNK + 1
        self.under_way += 1
        await self.open.wait()
        self.under_way -= 1
        if forget is not None:
            begin, end = forget
            gone = [c for c in self.chunks if begin <= c[0] and c[0] + c[1] <= end]
            assert gone, "nothing is forgotten twice"
            self.chunks = [c for c in self.chunks if c not in gone]
        self.chunks.append((first, lines, text))
        self.appended.append((first, lines, text))

    @property
    def text(self) -> str:
        return "".join(text for _, _, text in self.chunks)


Scenario = Callable[[TaskLog, Kept], Awaitable[None]]


def played(scenario: Scenario, limit: int = LIMIT) -> Kept:
    async def main() -> Kept:
        kept = Kept()
        log = TaskLog(kept.append, asyncio.get_running_loop(), limit=limit)
        await scenario(log, kept)
        kept.open.set()
        await log.close()
        return kept

    return asyncio.run(main())


def test_lines_are_handed_on_as_they_come_and_keep_their_order() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("one")
        log.write("tw")
        await asyncio.sleep(0)
        assert kept.text == "one\n"
        log.write("o\nthree\nfo")
        log("five")
        log.write("six")

    assert played(scenario).text == "one\ntwo\nthree\nfo\nfive\nsix\n"


def test_what_comes_while_an_append_is_in_flight_goes_with_the_next() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        log("first")
        await asyncio.sleep(0)
        for i in range(1000):
            log(i)

    kept = played(scenario)
    assert [(first, lines) for first, lines, _ in kept.appended] == [(0, 1), (1, 1000)]


def test_lines_are_numbered_from_0_without_a_gap() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        for i in range(5000):
            log.write(f"{i}\n" * 10)
            if i % 100 == 0:
                await asyncio.sleep(0)
        assert log.lines == 50_000

    following = 0
    for first, lines, _ in played(scenario).appended:
        assert first == following
        following += lines
    assert following == 50_000


def test_a_text_is_cut_into_chunks_and_a_long_line_into_lines() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("x" * (10 * LINE))
        log("y" * LINE)
        log.write("z" * (2 * LINE + 1))

    kept = played(scenario)
    assert len(kept.appended) > 2
    lines = kept.text.splitlines()
    assert [(line[0], len(line)) for line in lines] == (
        [("x", LINE)] * 10 + [("y", LINE)] + [("z", LINE)] * 2 + [("z", 1)]
    )


def test_a_log_that_nobody_wrote_to_costs_no_append() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write("")

    assert played(scenario).appended == []


def test_close_appends_the_error_and_ends_the_last_line() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write("unfinished")
        await log.close("the error\nin two lines")
        assert kept.text == "unfinished\nthe error\nin two lines\n"
        log("too late")

    assert played(scenario).text == "unfinished\nthe error\nin two lines\n"


def test_levels_are_named_and_arguments_put_in() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log({"a": 1})
        log.debug("d")
        log.info("%s of %d", "one", 2)
        log.warning("100%")
        log.error("%(a)s", {"a": "b"})
        log.info("%d", "not a number")
        try:
            raise KeyError("missing")
        except KeyError:
            log.exception("it failed")

    lines = played(scenario).text.splitlines()
    assert lines[:5] == ["{'a': 1}", "DEBUG d", "INFO one of 2", "WARNING 100%", "ERROR b"]
    assert lines[5].startswith("INFO %d ('not a number',) (TypeError")
    assert lines[6:8] == ["ERROR it failed", "Traceback (most recent call last):"]
    assert lines[-1] == "KeyError: 'missing'"


def test_what_utf8_cannot_hold_is_written_as_an_escape() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("a\ud800b\u20ac")

    assert played(scenario).text == "a\\ud800b€\n"


def test_threads_may_write_at_once_and_lose_nothing() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        def work(name: int) -> None:
            for i in range(500):
                log(f"{name} {i}")

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
        finally:
            sys.setswitchinterval(interval)

    lines = played(scenario).text.splitlines()
    for name in range(4):
        mine = [line for line in lines if line.startswith(f"{name} ")]
        assert mine == [f"{name} {i}" for i in range(500)]


def test_close_waits_for_a_thread_that_has_just_written() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        thread = threading.Thread(target=log, args=("from a thread",))
        thread.start()
        thread.join()  # on the loop: it has not heard of it yet
        await log.close()
        assert kept.text == "from a thread\n"

    played(scenario)


def test_the_head_stays_and_the_tail_is_the_newest() -> None:
    limit = 200_000

    async def scenario(log: TaskLog, kept: Kept) -> None:
        for i in range(100_000):
            log(f"{i:09}")
            if i % 100 == 0:
                await asyncio.sleep(0)

    kept = played(scenario, limit)
    numbers = [int(line) for line in kept.text.splitlines()]
    head = numbers[: next(i for i, number in enumerate(numbers) if number != i)]
    tail = numbers[len(head) :]
    assert len(head) == limit // 2 // 10
    assert tail == list(range(100_000 - len(tail), 100_000))
    assert 0.9 * limit / 2 <= len(tail) * 10 <= limit / 2
    assert all(int(text[:9]) == first for first, _, text in kept.chunks)


def test_what_piles_up_is_bounded_and_its_head_and_its_end_survive() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        for i in range(1_000_000):
            log.write(f"{i:09}\n")
        assert log._pending <= LIMIT // 32 + LINE
        assert len(log._head) + len(log._tail) <= LIMIT // 32 // 500

    kept = played(scenario, LIMIT // 32)
    numbers = [int(line) for line in kept.text.splitlines()]
    head, tail = numbers[: LIMIT // 64 // 10], numbers[LIMIT // 64 // 10 + 1 :]
    assert head == list(range(len(head)))
    assert tail == list(range(1_000_000 - len(tail), 1_000_000))
    assert len(tail) * 10 >= 0.9 * LIMIT / 64
    assert all(int(text[:9]) == first for first, _, text in kept.chunks)


def test_nothing_within_the_limit_is_lost_though_the_store_is_slow() -> None:
    line = "x" * 63 + "\n"

    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        for _ in range(LIMIT // len(line)):
            log.write(line)

    assert played(scenario).text == line * (LIMIT // len(line))


def test_the_error_is_kept_after_a_flood() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        log.write("x" * 79 + "\n" * 100_000)
        asyncio.get_running_loop().call_soon(kept.open.set)
        await log.close("the error")

    assert played(scenario, 10_000).text.endswith("\nthe error\n")


@pytest.mark.parametrize("size", [200_000, LIMIT - 100_000])
def test_drain_waits_while_the_log_has_room_and_not_after(size: int) -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        log.write("x\n" * (size // 2))
        draining = asyncio.create_task(log.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        kept.open.set()
        await asyncio.wait_for(draining, 60)
        kept.open.clear()
        log.write("x\n" * LIMIT)
        await asyncio.wait_for(log.drain(), 60)

    played(scenario)


def test_an_append_that_fails_surfaces_at_close_and_stops_nobody_before() -> None:
    async def main() -> None:
        async def append(*_: object) -> None:
            raise OSError("broken")

        log = TaskLog(append, asyncio.get_running_loop(), limit=LIMIT)
        log("x\n" * 100_000)
        await log.drain()
        await log.drain()
        log("two")
        with pytest.raises(OSError, match="broken"):
            await log.close()

    asyncio.run(main())


def test_a_cancelled_close_can_be_called_again() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        closing = asyncio.create_task(log.close("the error"))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        kept.open.set()
        await log.close("the error")
        assert kept.text == "the error\n"

    played(scenario)


def test_append_runs_outside_the_context_of_the_task() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")
    seen = []

    async def main() -> None:
        async def append(*_: object) -> None:
            seen.append(variable.get())

        log = TaskLog(append, asyncio.get_running_loop(), limit=LIMIT)
        variable.set("the task's")
        log("one")
        await log.close()

    asyncio.run(main())
    assert seen == ["clean"]


def test_after_the_loop_has_closed_a_thread_writes_into_the_void() -> None:
    async def main() -> TaskLog:
        async def append(*_: object) -> None:
            raise AssertionError("nobody listens")

        return TaskLog(append, asyncio.get_running_loop(), limit=LIMIT)

    log = asyncio.run(main())
    thread = threading.Thread(target=log, args=("hello",))
    thread.start()
    thread.join()
    assert log.lines == 1
