"""A hostile server can only fail the attempt of a `Get` or `Post`, and only in time."""

import asyncio
import functools
import gzip
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import Get, Post
from goflow.errors import TaskFailed
from goflow.operators import dial
from goflow.operators.charset import decoder
from goflow.operators.inflate import GIVES, TAKES, Gunzip
from tests.operators.memory_log import MemoryLog, context_with
from tests.operators.sockets import Script, Server, answers, says

# Seconds of processor time, since other processes use this machine as well. These responses
# once blocked the loop for 10, and now take milliseconds.
FROZEN = 3
# Without a time, so that a test has the same name in every run.
zipped = functools.partial(gzip.compress, mtime=0)

GZIPPED = "Content-Encoding: gzip"


def run(operator: Get | Post) -> str:
    """The result; checks that the loop was not blocked."""

    async def main() -> str:
        longest, before = 0.0, time.thread_time()
        task = asyncio.ensure_future(operator.run(context_with(MemoryLog())))
        while not task.done():
            await asyncio.sleep(0)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
        assert longest < FROZEN
        return await task

    return asyncio.run(main())


def failure(operator: Get | Post) -> str:
    with pytest.raises(TaskFailed) as caught:
        run(operator)
    return str(caught.value)


def got(script: Script) -> str:
    with Server(script) as server:
        return run(Get(server.url))


def failed(script: Script, **options: float) -> str:
    with Server(script) as server:
        return failure(Get(server.url, **options)).removeprefix(f"GET {server.url}: ")  # type: ignore[arg-type]


# -- encodings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "charset",
    [
        *(
            "punycode",
            "idna",
            "utf-7",
            "unicode_escape",
            "raw-unicode-escape",
            "hex",
            "zlib",
            "rot13",
        ),
        *(
            "uu",
            "bz2",
            "undefined",
            "mbcs",
            "x" * 60_000,
            "..",
            "a.b",
            "\x80",
            '"',
            "",
            "utf8;",
            "none",
        ),
    ],
)
def test_a_charset_outside_the_web_standard_is_ignored(charset: str) -> None:
    body = b"-a1b2" * 50_000
    assert got(answers(body, f"Content-Type: text/plain; charset={charset}")) == body.decode()


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=utf-8", "größe".encode(), "größe"),
        ("text/plain", "größe".encode(), "größe"),
        ("", "größe".encode(), "größe"),
        ("text/html;CHARSET = 'x'", b"a", "a"),
        ('text/html; charset="windows-1252"', b"\x80", "€"),
        ("text/html; charset=ISO-8859-1", b"\xe9", "é"),
        ("text/html; charset=latin-1", b"\xe9", "é"),
        ("text/html; a=b; charset=utf_8; c=d", "é".encode(), "é"),
        ("text/html; charset=Shift_JIS", "日本".encode("shift_jis"), "日本"),
        ("text/html; charset=euc-kr", "한국".encode("euc_kr"), "한국"),
        ("text/html; charset=gb2312", "中国".encode("gb2312"), "中国"),
        ("text/html; charset=utf-16", "größe".encode("utf-16"), "größe"),
        ("text/html; charset=utf-16le", "größe".encode("utf-16-le"), "größe"),
        ("text/html; charset=utf-16", "\ufeffgröße".encode("utf-16-be"), "größe"),
        ("text/html; charset=utf-16be", "größe".encode("utf-16-be"), "größe"),
        ("application/json", b"\xef\xbb\xbf{}", "{}"),
        ("text/plain", b"\xff\xfe\xfd", "\ufffd\ufffd\ufffd"),
    ],
)
def test_a_body_is_decoded_by_encodings_of_the_web_standard(
    content_type: str, body: bytes, text: str
) -> None:
    assert got(answers(body, f"Content-Type: {content_type}")) == text


def test_characters_split_between_chunks_are_decoded() -> None:
    text = "aéß日💥" * 40_000
    for name in ("utf-8", "utf-16le", "gb18030"):
        assert got(answers(text.encode(name), f"Content-Type: text/plain; charset={name}")) == text


def test_content_types_are_parsed_quickly() -> None:
    for hostile in (";" * 60_000, "; " * 30_000, "; charset" * 6_000, ";" + " " * 60_000 + "x"):
        assert decoder(hostile, b"").decode(b"a", True) == "a"


# -- gzip --------------------------------------------------------------------------


def empty_blocks(size: int) -> bytes:
    """Valid gzip of empty content with `size` bytes: stored blocks without data."""
    blocks = (size - 23) // 5
    return b"\x1f\x8b\x08" + bytes(7) + b"\x00\x00\x00\xff\xff" * blocks + b"\x03\x00" + bytes(8)


def test_gzip_is_requested_unless_the_caller_sets_the_header() -> None:
    with Server(answers(b"hello")) as server:
        run(Get(server.url))
        run(Get(server.url, headers={"accept-encoding": "identity"}))
    assert [b"Accept-Encoding: gzip\r\n" in head for head in server.asked] == [True, False]
    assert b"accept-encoding: identity\r\n" in server.asked[1]


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (zipped(b"hello"), GZIPPED),
        (zipped(b"hello"), "content-encoding:X-GZIP"),
        (zipped(b"hello"), "Content-Encoding: identity, gzip,"),
        (zipped(b"hel") + zipped(b"") + zipped(b"lo"), GZIPPED),
        (zipped(b"hello") + bytes(100), GZIPPED),
        (zipped(b"hello") + b"\x1f", GZIPPED),
        (zipped(b"hello") + b"garbage" * 1000, GZIPPED),
        (b"hello", "Content-Encoding: identity"),
        (b"hello", "Content-Encoding:"),
    ],
)
def test_one_layer_of_compression_is_decoded(body: bytes, header: str) -> None:
    assert got(answers(body, header)) == "hello"


def test_an_empty_body_need_not_be_gzip() -> None:
    assert got(answers(b"", GZIPPED)) == ""


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([GZIPPED, GZIPPED, GZIPPED], "compressed 3 times"),
        (["Content-Encoding: gzip, gzip"], "compressed 2 times"),
        (["Content-Encoding: deflate, gzip"], "compressed 2 times"),
        (["Content-Encoding: " + "gzip," * 5000], "compressed 5000 times"),
        (["Content-Encoding: br"], "encoded as 'br'"),
        (["Content-Encoding: deflate"], "encoded as 'deflate'"),
        (["Content-Encoding: zstd"], "encoded as 'zstd'"),
        (["Content-Encoding: " + "x" * 1000], "encoded as 'xxx"),
    ],
)
def test_other_encodings_are_refused_with_a_clear_error(headers: list[str], reason: str) -> None:
    body = empty_blocks(28_000)
    for _ in range(2):
        body = zipped(body)
    error = failed(answers(body, *headers))
    assert reason in error
    assert len(error) < 200


def test_an_error_has_the_status_though_its_body_cannot_be_read() -> None:
    answer = answers(b"?", "Content-Encoding: br", status="404 Not Found")
    assert failed(answer) == "404 Not Found"
    assert failed(says(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf")) == "500 No: half"


@pytest.mark.parametrize(
    "body",
    [
        zipped(b"hello" * 1000)[:-1],
        zipped(b"hello" * 1000)[:20],
        b"\x1f",
        b"\x1f\x8b",
        b"hello",
        zipped(b"hello")[:-8] + bytes(8),
        zipped(b"hello") + zipped(b"hello")[:-1],
        zlib.compress(b"hello"),
    ],
)
def test_broken_gzip_is_a_clear_failure(body: bytes) -> None:
    assert failed(answers(body, GZIPPED)).startswith("200 OK, but the body is not valid gzip: ")


@pytest.mark.parametrize(
    "body",
    [
        lambda: empty_blocks(3_000_000),
        lambda: zipped(b"") * 150_000,
        lambda: zipped(bytes(300_000_000), 1),
        lambda: zipped(b"x") * 2_000_000,
    ],
    ids=["empty blocks", "empty members", "a bomb", "many members"],
)
def test_expensive_or_large_gzip_ends_at_the_limit(body: Callable[[], bytes]) -> None:
    assert "max_body=1048576" in failed(answers(body(), GZIPPED))


def test_endless_empty_gzip_ends_at_the_limit() -> None:
    def script(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        connection.sendall(b"\x1f\x8b\x08" + bytes(7))
        while True:
            connection.sendall(b"\x00\x00\x00\xff\xff" * 10_000)

    assert "max_body" in failed(script)


@given(
    st.lists(st.binary(max_size=300_000), min_size=1, max_size=4),
    st.integers(0, 2**32),
    st.sampled_from([b"", b"\x00" * 9, b"trash"]),
)
def test_gunzip_decompresses_in_bounded_steps(
    contents: list[bytes], seed: int, after: bytes
) -> None:
    packed = b"".join(zipped(content) for content in contents) + after
    cut, found, gunzip = random.Random(seed), b"", Gunzip()
    while packed:
        size = cut.randint(1, cut.choice([3, 100, 3 * TAKES]))
        for step in gunzip.steps(packed[:size]):
            assert len(step) <= GIVES
            found += step
        packed = packed[size:]
    gunzip.end()
    assert found == b"".join(contents)


# -- heads, bodies and time --------------------------------------------------------


def repeating(piece: bytes, before: bytes = b"HTTP/1.1 200 OK\r\n") -> Script:
    """A script that sends the piece repeatedly."""

    def script(connection: socket.socket, head: bytes) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(piece)

    return script


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (repeating(b"X: y\r\n" * 100), "sent more than 64 KiB of headers"),
        (repeating(b"x" * 1000, b"HTTP/1.1 200 OK\r\nX: "), "sent more than 64 KiB of headers"),
        (repeating(b"x" * 1000, b"HTTP/1.1 200 "), "sent more than 64 KiB of headers"),
        (repeating(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, b""), "sent more than 64 KiB of headers"),
        (
            repeating(b"HTTP/1.1 103 \r\nLink: </x>\r\n\r\n", b""),
            "sent more than 64 KiB of headers",
        ),
        (repeating(b" x\r\n" * 100, b"HTTP/1.1 200 OK\r\nX: y\r\n"), "more than 64 KiB of headers"),
        (answers(b"", *(["X: y"] * 2000)), "sent more than 1000 headers"),
    ],
)
def test_an_endless_head_fails_at_a_limit(script: Script, reason: str) -> None:
    assert reason in failed(script, timeout=60)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_chunks_of_one_byte_are_read_and_end_at_the_limit() -> None:
    assert got(says(CHUNKED, b"1\r\nx\r\n" * 50_000, b"0\r\n\r\n")) == "x" * 50_000
    assert "max_body=1000" in failed(repeating(b"1\r\nx\r\n" * 1000, CHUNKED), max_body=1000)


@pytest.mark.parametrize(
    "rest",
    [
        b"1;x=" + b"y" * 300_000,
        b"0\r\n" + b"X: y\r\n" * 50_000,
        b"ffffffffffffffffffffffff\r\n",
        b"-1\r\n",
    ],
)
def test_endless_or_invalid_framing_fails(rest: bytes) -> None:
    assert "200 OK, but" in failed(says(CHUNKED, rest))


def drip(piece: bytes, before: bytes = b"") -> Callable[[Server], Script]:
    """Sends the piece at intervals, so that data always arrives, but never the end."""

    def make(server: Server) -> Script:
        def script(connection: socket.socket, head: bytes) -> None:
            connection.sendall(before)
            while not server.ending.wait(0.02):
                connection.sendall(piece)

        return script

    return make


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (drip(b""), "waiting for the answer"),
        (drip(b"H"), None),
        (drip(b"X: y\r\n", OK), "waiting for the answer"),
        (drip(b"x", OK + b"X: "), "waiting for the answer"),
        (drip(b"HTTP/1.1 100 \r\n\r\n"), "waiting for the answer"),
        (drip(b"x", OK + b"\r\n"), "reading the body of the answer 200 OK"),
        (drip(b"1\r\nx\r\n", CHUNKED), "reading the body of the answer 200 OK"),
        (drip(b"X: y\r\n", CHUNKED + b"0\r\n"), "reading the body of the answer 200 OK"),
        (drip(zipped(b""), OK + b"Content-Encoding: gzip\r\n\r\n"), "reading the body"),
        (drip(b"x", b"HTTP/1.1 500 Oh\r\n\r\n"), "reading the body of the answer 500 Oh"),
    ],
)
def test_the_timeout_covers_the_whole_request(
    make: Callable[[Server], Script], reason: str | None
) -> None:
    with Server(lambda connection, head: make(server)(connection, head)) as server:
        error = failure(Get(server.url, timeout=0.3))
    if reason is not None:
        assert error.startswith(f"GET {server.url}: timed out after 0.3 s, {reason}")


def test_the_timeout_covers_all_redirects_together() -> None:
    def script(connection: socket.socket, head: bytes) -> None:
        if not server.ending.wait(0.1):
            connection.sendall(b"HTTP/1.1 302 On\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

    with Server(script) as server:
        assert "timed out after 0.5 s" in failure(Get(server.url, timeout=0.5))


def test_an_unanswered_handshake_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(Get(f"https://127.0.0.1:{port}/", timeout=0.3))
    assert error.endswith("timed out after 0.3 s, the TLS handshake")


def test_an_unread_body_is_not_awaited_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        error = failure(Post(url, b"x" * 50_000_000, timeout=0.3))
    assert "timed out after 0.3 s" in error


def test_a_hanging_name_lookup_blocks_no_other_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = threading.Event()
    asked = socket.getaddrinfo

    def slow(host: str, *arguments: object, **options: object) -> object:
        if host.endswith(".slow.example"):
            silent.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return asked(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main(url: str) -> None:
        gets = [
            Get(f"http://n{i}.slow.example/", timeout=0.3).run(context_with(MemoryLog()))
            for i in range(10)
        ]
        ended = asyncio.gather(*gets, return_exceptions=True)
        assert await Get(url).run(context_with(MemoryLog())) == "hello"
        assert await asyncio.to_thread(lambda: "a thread of the loop's") == "a thread of the loop's"
        for error in await ended:
            assert "timed out after 0.3 s, looking up the name 'n" in str(error)

    try:
        with Server(answers(b"hello")) as server:
            asyncio.run(main(server.url.replace("127.0.0.1", "localhost")))
    finally:
        silent.set()


@pytest.mark.parametrize("make", [drip(b""), drip(b"x", OK + b"\r\n"), drip(b"X: y\r\n", OK)])
def test_a_cancelled_request_ends_at_once(make: Callable[[Server], Script]) -> None:
    async def main(url: str) -> None:
        task = asyncio.ensure_future(Get(url, timeout=None).run(context_with(MemoryLog())))
        assert await asyncio.to_thread(server.was_asked.wait, 60)
        task.cancel()
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert task.cancelled()
        assert turns < 100

    with Server(lambda connection, head: make(server)(connection, head)) as server:
        asyncio.run(main(server.url))


def test_a_reset_connection_is_reported_with_its_phase() -> None:
    def reset_after(sent: bytes) -> Script:
        def script(connection: socket.socket, head: bytes) -> None:
            connection.sendall(sent)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        return script

    with Server(reset_after(b"")) as server:
        error = failure(Get(server.url))
        place = f"127.0.0.1:{server.port}"
    assert error == f"GET {server.url}: {place} reset the connection while waiting for the answer"
    with Server(reset_after(OK + b"Content-Length: 9\r\n\r\nhalf")) as server:
        error = failure(Get(server.url))
        place = f"127.0.0.1:{server.port}"
    assert (
        error
        == f"GET {server.url}: 200 OK, but {place} reset the connection while reading the body"
    )


def test_long_status_lines_are_shortened() -> None:
    assert len(failed(answers(b"", status="500 " + "x" * 50_000))) < 400
    far = "Location: http://127.0.0.1:1/" + "x" * 50_000
    assert len(failed(answers(b"", far, status="302 Found"))) < 400
    for location in (
        "ftp://" + "x" * 50_000,
        "http://[" + "x" * 50_000,
        "http://a/" + "\xff" * 9_000,
    ):
        assert len(failed(answers(b"", f"Location: {location}", status="302 Found"))) < 800


def test_limits_agree_with_the_messages() -> None:
    assert dial.MAX_HEAD == 64 * 1024
    body = b"x" * 1000
    head = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 60_000 + b"\r\nContent-Length: 1000\r\n\r\n"
    assert got(says(head + body)) == body.decode()
