import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.engine.clock import SystemClock
from goflow.engine.output.backlog import SHARE, SHARED, Backlog
from goflow.engine.output.linetimes import LineTimes, milliseconds, unpack, without
from goflow.engine.output.tasklog import CHUNK, LINE, MOMENT, Chunk, TaskLog
from goflow.testing import FakeClock
from tests.engine.logs import task_log

LIMIT = 16 * 1024 * 1024


class Kept:
    """A fake store of chunks, from which ranges are deleted. Appends can be delayed."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.appended: list[Chunk] = []
        self.under_way = 0
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, chunk: Chunk) -> None:
        assert self.under_way == 0, "one at a time"
        assert chunk.text.endswith("\n") or not chunk.lines
        assert chunk.text.count("\n") == chunk.lines
        assert len(chunk.text) <= CHUNK + 1
        assert len(unpack(chunk.times)) == max(chunk.lines, 1)
        self.under_way += 1
        await self.open.wait()
        self.under_way -= 1
        if chunk.forget is not None:
            begin, end = chunk.forget
            gone = [c for c in self.chunks if begin <= c.first and c.first + c.lines <= end]
            assert gone, "nothing is forgotten twice"
            self.chunks = [c for c in self.chunks if c not in gone]
        if self.chunks and not self.chunks[-1].lines:
            assert self.chunks.pop().first == chunk.replaces
        else:
            assert chunk.replaces is None
        self.chunks.append(chunk)
        self.appended.append(chunk)

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def times(self) -> list[int]:
        return [time for chunk in self.chunks for time in unpack(chunk.times)]


async def closed(log: TaskLog, kept: Kept, error: str | None = None) -> None:
    """Close a log, and store its last lines as the end of an attempt does."""
    await log.close(error)
    assert sum(len(chunk.text) for chunk in log.rest) <= CHUNK
    for chunk in log.rest:
        await kept.append(chunk)
    log.landed()


Scenario = Callable[[TaskLog, Kept], Awaitable[None]]


def played(scenario: Scenario, limit: int = LIMIT, **options: Any) -> Kept:
    async def main() -> Kept:
        kept = Kept()
        log = task_log(kept.append, limit=limit, **options)
        await scenario(log, kept)
        kept.open.set()
        await closed(log, kept)
        return kept

    return asyncio.run(main())


def test_lines_are_appended_as_they_arrive_in_order() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("one")
        log.write("tw")
        await shown(kept, "one\n")
        log.write("o\nthree\nfo")
        log("five")
        log.write("six")

    assert played(scenario).text == "one\ntwo\nthree\nfo\nfive\nsix\n"


def test_lines_written_during_an_append_go_into_the_next() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        log("first")
        await departed(kept)
        for i in range(1000):
            log(i)

    kept = played(scenario)
    assert [(chunk.first, chunk.lines) for chunk in kept.appended] == [(0, 1), (1, 1000)]


def test_lines_are_numbered_from_0_without_a_gap() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        for i in range(5000):
            log.write(f"{i}\n" * 10)
            if i % 100 == 0:
                await asyncio.sleep(0)
        assert log.lines == 50_000

    following = 0
    for chunk in played(scenario).appended:
        assert chunk.first == following
        following += chunk.lines
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


def test_an_empty_log_needs_no_append() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write("")

    assert played(scenario).appended == []


def test_close_appends_the_error_and_ends_the_last_line() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write("unfinished")
        await closed(log, kept, "the error\nin two lines")
        assert kept.text == "unfinished\nthe error\nin two lines\n"
        log("too late")

    assert played(scenario).text == "unfinished\nthe error\nin two lines\n"


def test_levels_are_named_and_arguments_formatted() -> None:
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


def test_characters_that_utf8_cannot_encode_are_escaped() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("a\ud800b\u20ac")

    assert played(scenario).text == "a\\ud800b€\n"


def test_threads_may_write_concurrently_and_lose_nothing() -> None:
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
        thread.join()  # on the loop, which has not processed the write yet
        await closed(log, kept)
        assert kept.text == "from a thread\n"

    played(scenario)


def test_the_head_stays_and_the_tail_has_the_newest_lines() -> None:
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
    # The oldest chunks are dropped whole, some together. A busy machine makes them larger.
    largest = max(len(chunk.text) for chunk in kept.chunks) + limit / 2 / 16
    assert limit / 2 - largest <= len(tail) * 10 <= limit / 2
    assert all(int(chunk.text[:9]) == chunk.first for chunk in kept.chunks)


def test_the_backlog_is_bounded_and_keeps_its_head_and_its_end() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        kept.open.clear()
        for i in range(200_000):
            log.write(f"{i:09}\n")
        assert log._pending <= LIMIT // 32 + LINE
        assert len(log._head) + len(log._tail) <= LIMIT // 32 // 500

    kept = played(scenario, LIMIT // 32)
    numbers = [int(line) for line in kept.text.splitlines()]
    head, tail = numbers[: LIMIT // 64 // 10], numbers[LIMIT // 64 // 10 + 1 :]
    assert head == list(range(len(head)))
    assert tail == list(range(200_000 - len(tail), 200_000))
    assert len(tail) * 10 >= 0.9 * LIMIT / 64
    assert all(int(chunk.text[:9]) == chunk.first for chunk in kept.chunks)


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
        await closed(log, kept, "the error")

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


def test_a_failed_append_is_raised_at_close_and_not_before() -> None:
    async def main() -> None:
        async def append(*_: object) -> None:
            raise OSError("broken")

        log = task_log(append)
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
        log("one")
        await departed(kept)
        closing = asyncio.create_task(log.close("the error"))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        kept.open.set()
        await closed(log, kept, "another error")
        assert kept.text == "one\nthe error\n"

    played(scenario)


def test_append_runs_outside_the_context_of_the_task() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")
    seen = []

    async def main() -> None:
        async def append(*_: object) -> None:
            seen.append(variable.get())

        log = task_log(append)
        variable.set("the task's")
        log("x\n" * CHUNK)
        await log.close()

    asyncio.run(main())
    assert set(seen) == {"clean"}


def test_writes_after_the_loop_has_closed_are_ignored() -> None:
    async def main() -> TaskLog:
        async def append(*_: object) -> None:
            raise AssertionError("nobody listens")

        return task_log(append)

    log = asyncio.run(main())
    thread = threading.Thread(target=log, args=("hello",))
    thread.start()
    thread.join()
    assert log.lines == 1


# -- the last lines -----------------------------------------------------------------------


def last_lines(log: TaskLog, limit: int) -> tuple[int, str, int] | None:
    found = log.unwritten(limit)
    if found is None:
        return None
    assert found.text.count("\n") == found.lines == len(unpack(found.times))
    assert len(found.text) <= limit
    return found.first, found.text, found.lines


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (100, (1, "two\nthree\nfour\n", 3)),
        (14, (2, "three\nfour\n", 2)),
        (11, (2, "three\nfour\n", 2)),
        (10, (3, "four\n", 1)),
        (4, (3, "…ur\n", 1)),
    ],
)
def test_the_unwritten_lines_are_those_that_are_not_stored(
    limit: int, found: tuple[int, str, int]
) -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("one")
        await shown(kept, "one\n")
        kept.open.clear()
        log("two")
        await departed(kept)
        log.write("three\nfo")
        log.write("ur")
        log.end()
        log("too late")
        assert last_lines(log, limit) == found
        kept.open.set()
        await log.close()
        assert last_lines(log, 100) == (2, "three\nfour\n", 2)

    assert played(scenario).text == "one\ntwo\nthree\nfour\n"


def test_a_log_that_is_stored_has_no_unwritten_lines() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("one")
        await shown(kept, "one\n")
        log.end()
        assert log.unwritten(100) is None

    assert played(scenario).text == "one\n"


# -- unfinished lines --------------------------------------------------------------------


async def departed(kept: Kept) -> None:
    """Wait until a chunk is on its way."""
    async with asyncio.timeout(60):
        while not kept.under_way:  # noqa: ASYNC110 - a store sets no event
            await asyncio.sleep(0.001)


async def shown(kept: Kept, text: str) -> None:
    """Wait until the log ends with `text`."""
    async with asyncio.timeout(60):
        while not kept.text.endswith(text):  # noqa: ASYNC110 - a store sets no event
            await asyncio.sleep(0.01)


def test_an_unfinished_line_is_shown_after_a_moment_and_replaced_when_finished() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("one")
        log.write("Password: ")
        await shown(kept, "one\nPassword: ")
        assert kept.chunks[-1].lines == 0
        assert kept.chunks[-1].first == log.lines == 1
        log.write("***")
        await shown(kept, "one\nPassword: ***")
        log.write("\nwelcome\n")

    kept = played(scenario)
    assert kept.text == "one\nPassword: ***\nwelcome\n"
    assert [(chunk.first, chunk.lines) for chunk in kept.chunks] == [(0, 1), (1, 2)]


def test_a_thread_that_prints_no_newline_is_shown_too() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        more = threading.Event()

        def work() -> None:
            log.write("50 %")
            assert more.wait(60)
            log.write("\r100 %")

        thread = asyncio.create_task(asyncio.to_thread(work))
        await shown(kept, "50 %")
        more.set()
        await thread
        await shown(kept, "50 %\r100 %")

    assert played(scenario).text == "50 %\r100 %\n"


def test_an_endless_progress_bar_is_cheap_and_shows_its_last_state() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        for number in range(100_000):
            log.write(f"\r{number:6} of 100000")
        await shown(kept, " 99999 of 100000")
        log("done")

    kept = played(scenario)
    assert kept.text.endswith("\r 99999 of 100000\ndone\n")
    assert kept.text.count("\n") == 2
    assert len(kept.text) <= LINE + 10
    assert len(kept.appended) <= 3


def test_a_text_with_many_carriage_returns_keeps_its_last_state() -> None:
    text = "".join(f"{number}%\r" for number in range(100_000))

    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write(text)
        log.write("\nnext\n")

    kept = played(scenario)
    assert kept.text.endswith("\r99999%\r\nnext\n")
    assert kept.text.count("\n") == 2


def test_a_few_carriage_returns_are_kept() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        log.write("1\r2\r")
        log.write("3\r\n")

    assert played(scenario).text == "1\r2\r3\r\n"


def test_a_line_finished_within_a_moment_is_appended_once() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        async with asyncio.timeout(60):
            while len(kept.appended) < 3 * MOMENT / 0.01:
                log.write("a ")
                await asyncio.sleep(0.01)
                log.write("line\n")

    assert all(chunk.lines for chunk in played(scenario).appended)


# -- times -------------------------------------------------------------------------------


def test_each_line_has_the_time_when_it_began() -> None:
    clock = FakeClock()
    begin = milliseconds(clock.now())

    async def scenario(log: TaskLog, kept: Kept) -> None:
        log("0")
        clock.advance(seconds=1)
        log.write("1 ")
        clock.advance(seconds=1)
        log.write("goes on\n2\n3\n")
        clock.set(clock.now() - timedelta(hours=1))
        log.write("x" * (LINE + 1))
        clock.advance(days=1000)
        log.write("end")

    assert [time - begin for time in played(scenario, clock=clock).times] == [
        0, 1000, 2000, 2000, -3_598_000, -3_598_000,
    ]  # fmt: skip


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1), st.integers(0, 100))
def test_packed_times_survive_a_round_trip(times: list[int], without_first: int) -> None:
    pack = LineTimes(times[0], 1)
    for time in times[1:]:
        pack.add(LineTimes(time, 1))
    assert unpack(pack.packed()) == times
    rest = without_first % len(times)
    assert unpack(without(pack.packed(), rest)) == times[rest:]
    assert len(pack) == len(pack.packed())


def test_times_take_a_byte_a_line() -> None:
    async def scenario(log: TaskLog, kept: Kept) -> None:
        for _ in range(1000):
            log("a line")

    kept = played(scenario)
    assert sum(len(chunk.times) for chunk in kept.chunks) < 1100


# -- the backlog of all logs ---------------------------------------------------------------


def test_threads_wait_for_the_store_and_lose_nothing() -> None:
    size = 8 * 1024 * 1024
    line = "x" * 999 + "\n"

    async def main() -> None:
        backlog = Backlog(SystemClock())
        kept = [Kept() for _ in range(8)]
        logs = [task_log(one.append, backlog=backlog) for one in kept]
        for one in kept:
            one.open.clear()

        def work(log: TaskLog) -> None:
            for _ in range(size // len(line)):
                log.write(line)

        threads = [asyncio.create_task(asyncio.to_thread(work, log)) for log in logs]
        await asyncio.wait(threads, timeout=1)
        assert not any(thread.done() for thread in threads)
        # the share of each log, and one chunk of each that is being appended
        assert backlog.size < SHARED + len(logs) * 2 * CHUNK
        for one in kept:
            one.open.set()
        await asyncio.gather(*threads)
        await asyncio.gather(*map(closed, logs, kept))
        for one in kept:
            assert one.text == line * (size // len(line))
        assert backlog.size == 0

    asyncio.run(main())


@pytest.mark.parametrize("letter", ["x", "\u20ac", "\U0001f600"])
def test_output_on_the_loop_is_bounded_in_bytes_and_keeps_its_end(letter: str) -> None:
    limit = 2 * 1024 * 1024

    async def main() -> None:
        backlog = Backlog(SystemClock(), limit)
        kept = [Kept() for _ in range(4)]
        logs = [task_log(one.append, backlog=backlog) for one in kept]
        for one in kept:
            one.open.clear()
        for number in range(2000):
            for log in logs:
                log(f"{number:06} {letter * 1000}")
            if number == 0:
                for one in kept:
                    await departed(one)
            assert backlog.size < limit + len(logs) * (SHARE[1] + 4 * LINE)
        for one in kept:
            one.open.set()
        await asyncio.gather(*map(closed, logs, kept))
        for one in kept:
            numbers = [int(text[:6]) for text in one.text.splitlines()]
            assert numbers[0] == 0
            assert numbers[-1] == 1999
            assert numbers == sorted(set(numbers))
        assert backlog.size == 0

    asyncio.run(main())


def test_a_waiting_thread_continues_when_its_log_is_closed() -> None:
    async def main() -> None:
        kept = Kept()
        log = task_log(kept.append)
        kept.open.clear()

        def work() -> None:
            while not log._closed:
                log("x" * 1000)

        thread = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.wait([thread], timeout=0.5)
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        kept.open.set()
        await asyncio.wait_for(closing, 60)
        await asyncio.wait_for(thread, 60)

    asyncio.run(main())


def test_a_thread_whose_log_cannot_be_written_is_not_blocked() -> None:
    async def main() -> None:
        async def append(_: Chunk) -> None:
            raise OSError("broken")

        backlog = Backlog(SystemClock())
        log = task_log(append, backlog=backlog)

        def work() -> None:
            for _ in range(20_000):
                log("x" * 1000)

        await asyncio.wait_for(asyncio.to_thread(work), 120)
        with pytest.raises(OSError, match="broken"):
            await log.close()
        assert backlog.size == 0

    asyncio.run(main())
