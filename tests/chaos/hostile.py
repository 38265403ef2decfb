"""Servers with hostile responses, each in a thread on its own port."""

import contextlib
import gzip
import http.server
import socket
import threading
from collections.abc import Iterator


def layered() -> bytes:
    """A small body: 1 MiB of zeros in three layers of gzip."""
    body = bytes(1 << 20)
    for _ in range(3):
        body = gzip.compress(body)
    return body


class Hostile(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, headers = self.server.answer  # type: ignore[attr-defined]
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving(body: bytes, **headers: str) -> Iterator[int]:
    """The port of a server that answers each GET with this body and headers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.answer = body, {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def places() -> Iterator[dict[str, int]]:
    """The ports of all hostile servers."""
    with (
        contextlib.closing(socket.socket()) as bound,  # bound, so that no other process may listen
        serving(b"a" * 250_000, Content_Type="text/plain; charset=punycode") as punycode,
        serving(layered(), Content_Encoding="gzip, gzip, gzip") as layers,
    ):
        bound.bind(("127.0.0.1", 0))
        yield {"refusing": bound.getsockname()[1], "punycode": punycode, "layered": layers}
