"""Reserves a port for a server that needs a port number in advance."""

import socket


def reserved_port() -> socket.socket:
    """A socket on a free port of 127.0.0.1. Close it when the port is no longer needed.

    It never listens, so a server may: both set SO_REUSEADDR. While it is open, the kernel assigns
    its port to no other socket, neither for listening nor for connecting.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def number_of(reserved: socket.socket) -> int:
    port: int = reserved.getsockname()[1]
    return port
