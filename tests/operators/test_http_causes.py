"""The error of a failed request says in one sentence what failed, and where."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ports import number_of, reserved_port
from goflow import Get, Post
from goflow.errors import TaskFailed
from goflow.operators import dial, exchange
from goflow.operators.causes import of_connecting
from goflow.operators.names import Names
from tests.certificates import Authority, Certificate
from tests.operators.memory_log import MemoryLog, context_with
from tests.operators.sockets import Script, Server, answers, says


def failure(operator: Get | Post) -> str:
    """The error after the address."""
    with pytest.raises(TaskFailed) as caught:
        asyncio.run(operator.run(context_with(MemoryLog())))
    message = str(caught.value)
    assert "\n" not in message
    assert "object at 0x" not in message
    return message.partition(f" {operator.url}: ")[2]


# -- connections -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_without_a_listener(host: str) -> None:
    with reserved_port() as reserved:
        port = number_of(reserved)
        error = failure(Get(f"http://{host}:{port}/"))
    assert error == f"{host}:{port} refused the connection: cannot connect, nothing listens there"


def test_a_second_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [(2, 1, 6, "", (address, 0)) for address in ("127.0.0.9", "127.0.0.1")]
    with Server(answers(b"hello")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **o: infos)
        url = f"http://two.example:{server.port}/"
        assert asyncio.run(Get(url).run(context_with(MemoryLog()))) == "hello"
    assert f"Host: two.example:{server.port}\r\n".encode() in server.asked[0]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EHOSTUNREACH, "cannot connect to a.example:80: no route to host"),
        (errno.ENETUNREACH, "cannot connect to a.example:80: network is unreachable"),
        (errno.ETIMEDOUT, "cannot connect to a.example:80: it does not answer"),
        (errno.EMFILE, "cannot connect to a.example:80: too many open files"),
        (errno.ECONNREFUSED, "a.example:80 refused the connection"),
    ],
)
def test_an_unreachable_address(code: int, words: str) -> None:
    error = OSError("All connection attempts failed")
    unreachable = OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    error.__cause__ = ExceptionGroup("several", [OSError(code, os.strerror(code)), unreachable])
    assert str(of_connecting([error], "a.example:80", "a.example")).startswith(words)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (socket.EAI_NONAME, "the name 'no.example' is not known (DNS)"),
        (socket.EAI_AGAIN, "the name 'no.example' could not be looked up: no name server answers"),
        (socket.EAI_FAIL, "the name 'no.example' could not be looked up (DNS): as it says"),
    ],
)
def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    def asked(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "as it says")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    assert failure(Get("http://no.example/")).startswith(words)


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 70}.example", "-", "..", "xn--", "a_b..c"])
def test_an_invalid_name(host: str) -> None:
    error = failure(Get(f"http://{host}/"))
    assert "not valid" in error or "the name" in error


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (says(), "{place} closed the connection without an answer"),
        (says(b"HTTP/1.1 200 OK\r\nX: "), "{place} closed the connection without an answer"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "{place} closed the connection without an answer"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "{place} did not answer in HTTP: "),
        (says(b"\x16\x03\x01\x02\x00"), "{place} "),
        (says(b"HTTP/1.1 banana\r\n\r\n"), "{place} did not answer in HTTP: "),
        (says(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "{place} did not answer in HTTP: "),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "{place} did not answer in HTTP: "),
        (
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            "200 OK, but the body from {place} ended after 4 of 9 bytes",
        ),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"),
            "200 OK, but the body from {place} ended early",
        ),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), ""),
    ],
)
def test_an_invalid_response(script: Script, words: str) -> None:
    with Server(script) as server:
        error = failure(Get(server.url))
    assert error.startswith(words.format(place=f"127.0.0.1:{server.port}"))
    assert len(error) < 500


# -- TLS ---------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """An authority that is trusted during the test."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    exchange._ssl_context.cache_clear()
    yield made
    exchange._ssl_context.cache_clear()


def serving(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


@contextlib.contextmanager
def answering_at_once(answer: bytes) -> Iterator[int]:
    """The port of a server that sends `answer` after the first bytes, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(60)


def test_a_valid_certificate_is_accepted(authority: Authority) -> None:
    with Server(answers(b"hello"), serving(authority.issue("IP:127.0.0.1"))) as server:
        assert asyncio.run(Get(server.url).run(context_with(MemoryLog()))) == "hello"


@pytest.mark.parametrize(
    ("names", "times", "words"),
    [
        (["IP:127.0.0.1"], {"ends": "20210101000000Z"}, "has expired"),
        (["IP:127.0.0.1"], {"begins": "20980101000000Z"}, "is not valid yet"),
        (["DNS:other.example"], {}, "is not for '127.0.0.1'"),
        (["IP:127.0.0.2"], {}, "is not for '127.0.0.1'"),
    ],
)
def test_an_invalid_certificate(
    authority: Authority, names: list[str], times: dict[str, str], words: str
) -> None:
    with Server(answers(b"hello"), serving(authority.issue(*names, **times))) as server:
        assert failure(Get(server.url)) == f"the certificate of 127.0.0.1:{server.port} {words}"
    assert server.asked == []


def test_a_certificate_of_an_unknown_authority(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with Server(answers(b""), serving(other.issue("IP:127.0.0.1"))) as server:
        assert "is from an authority that is not trusted here" in failure(Get(server.url))
    own = Certificate(other.certificate, other.certificate.with_name("authority.key"))
    with Server(answers(b""), serving(own)) as server:
        assert "is self-signed" in failure(Get(server.url))


def test_http_to_an_https_server_and_the_reverse(authority: Authority) -> None:
    with answering_at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = failure(Get(f"https://127.0.0.1:{port}/"))
    assert error == f"127.0.0.1:{port} does not speak TLS; is its address http:// instead?"
    with Server(answers(b""), serving(authority.issue("IP:127.0.0.1"))) as server:
        error = failure(Get(server.url.replace("https:", "http:")))
    assert error.startswith(f"127.0.0.1:{server.port} ")


def test_a_server_that_closes_the_connection_in_the_handshake(authority: Authority) -> None:
    with answering_at_once(b"") as port:
        error = failure(Get(f"https://127.0.0.1:{port}/"))
    assert error == f"127.0.0.1:{port} closed the connection during the TLS handshake"


# -- a proxy of the environment ----------------------------------------------------


def test_a_proxy_of_the_environment_is_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(answers(b"hello")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:s3cr3t@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        log = MemoryLog()
        assert asyncio.run(Get("http://far.example/x").run(context_with(log))) == "hello"
        assert proxy.asked[0].startswith(b"GET http://far.example/x HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic " in proxy.asked[0]
        proxy._script = says(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        error = failure(Get("https://far.example/"))
        assert error == "the proxy refused to connect to far.example:443: 407 Who are you"
        port = proxy.port
    error = failure(Get("http://far.example/"))
    assert error.startswith(f"the proxy 127.0.0.1:{port} refused the connection")
    with Server(answers(b"near")) as near:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert asyncio.run(Get(near.url).run(context_with(MemoryLog()))) == "near"
    monkeypatch.setenv("http_proxy", "socks4://127.0.0.1:1")
    assert "socks4:// is not supported" in failure(Get("http://far.example/"))


def test_a_name_lookup_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "goflow-names":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(dial, "names", Names())
    monkeypatch.setattr(threading.Thread, "start", refused)
    error = failure(Get("http://some.example/"))
    assert error.endswith("could not be looked up (DNS): the system gives no thread for it")
    with Server(answers(b"hello")) as server:  # an address needs no lookup
        assert asyncio.run(Get(server.url).run(context_with(MemoryLog()))) == "hello"
