"""A port for a server that has to be told which, and that nobody else is given meanwhile."""

import socket


def reserved_port() -> socket.socket:
    """A socket on a free port of 127.0.0.1, to be closed once the port is not needed any more.

    It never listens, so a server may: both say SO_REUSEADDR, as servers do. While it is open
    the kernel gives its port to no other socket, be it for listening or for connecting.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def number_of(reserved: socket.socket) -> int:
    port: int = reserved.getsockname()[1]
    return port
