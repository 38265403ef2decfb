"""Connections to untrusted servers, for the HTTP client.

The rule that must not be broken: the part of a response before its body is bounded in size, however
it arrives. Every failure says in one sentence what failed, and where.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

from goflow.operators.causes import Trouble, of_connecting, of_tls, of_transfer
from goflow.operators.names import names

MAX_HEAD = 64 * 1024  # bytes of status lines and headers, including 1xx responses
AT_ONCE = 4 * 1024  # bytes, so that parsing them takes a few milliseconds
ADDRESSES = 8  # addresses of one name that are tried
AHEAD = 0.25  # seconds until the next address is tried as well (RFC 8305)


class Progress:
    """The progress of an exchange, for the message of a timeout."""

    def __init__(self) -> None:
        self.place = ""  # host and port of the server, also if the connection is to a proxy
        self.doing = "starting"
        self.status = ""  # status of the response, once it has arrived
        self.head: int | None = 0  # bytes read before the body; None from then on

    def begin(self, place: str) -> None:
        self.place, self.doing, self.status, self.head = place, "starting", "", 0

    def answered(self, status: str) -> None:
        self.status, self.doing, self.head = status, "reading the body", None


class Backend(httpcore2.AsyncNetworkBackend):
    """Makes connections for httpcore and updates `progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if place != self._progress.place:
            place = f"the proxy {place}"
        self._progress.doing = f"looking up the name {host!r}"
        try:
            addresses = await names.addresses(host)
        except OSError as error:
            raise of_connecting([error], place, host) from None
        self._progress.doing = "connecting"
        stream = await self._first(addresses[:ADDRESSES], port, place, host)
        self._progress.doing = "sending the request"
        return _Stream(stream, self._progress)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _first(
        self, addresses: list[str], port: int, place: str, host: str
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first address that accepts; each address gets a head start."""
        waiting, failed = list(addresses), list[BaseException]()
        trying: set[asyncio.Task[httpcore2.AsyncNetworkStream]] = set()
        try:
            while waiting or trying:
                if waiting:
                    address = waiting.pop(0)
                    trying.add(asyncio.ensure_future(self._plain.connect_tcp(address, port)))
                done, trying = await asyncio.wait(
                    trying,
                    timeout=AHEAD if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    if (error := task.exception()) is None:
                        trying |= done - {task}
                        return task.result()
                    failed.append(error)
            raise of_connecting(failed, place, host)
        finally:
            await _abandon(trying)


async def _abandon(tasks: set["asyncio.Task[httpcore2.AsyncNetworkStream]"]) -> None:
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await task.result().aclose()


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        progress = self._progress
        if progress.head is None:
            return await self._read(max_bytes)
        progress.doing = "waiting for the answer"
        data = await self._read(AT_ONCE)
        progress.head += len(data)
        # The start of the body may have come with it, but at most one read.
        if progress.head > MAX_HEAD + AT_ONCE:
            raise Trouble(f"{progress.place} sent more than {MAX_HEAD // 1024} KiB of headers")
        return data

    async def _read(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.read(max_bytes)
        except httpcore2.ReadError as error:
            raise of_transfer(error, self._progress.place, self._progress.doing) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # httpcore handles a WriteError: the server may have responded anyway.
        await self._stream.write(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self._progress.doing = "the TLS handshake"
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname)
        except BaseException as error:
            await self.aclose()  # httpcore does not own the connection yet
            if isinstance(error, httpcore2.ConnectError | OSError | ValueError):
                raise of_tls(error, self._progress.place, server_hostname or "") from None
            raise
        self._progress.doing = "sending the request"
        return _Stream(stream, self._progress)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
