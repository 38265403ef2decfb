"""A server whose responses a test controls byte by byte."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

Script = Callable[[socket.socket, bytes], None]


class Server:
    """Listens on a free port, and calls `script` for each connection with the request's head.

    `asked` keeps the heads. A connection closes when the script returns.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[bytes] = []
        self.was_asked = threading.Event()
        self.ending = threading.Event()
        self._script = script
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Server":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listening.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := connection.recv(65536)):
                    return
                head += more
            self.asked.append(head)
            self.was_asked.set()
            self._script(connection, head)


def says(*parts: bytes) -> Script:
    """A script that sends this and closes."""

    def script(connection: socket.socket, head: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    return script


def answers(body: bytes, *headers: str, status: str = "200 OK") -> Script:
    """A script that responds like a well-behaved server."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"])
    return says(head.encode("latin-1") + b"\r\n\r\n" + body)
