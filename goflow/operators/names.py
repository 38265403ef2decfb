"""Resolves host names in separate threads.

A lookup can hang while a name server does not respond. In the event loop's few threads it would
block everything else that needs a thread.
"""

import asyncio
import contextlib
import ipaddress
import queue
import socket
import threading
from dataclasses import dataclass

THREADS = 16  # lookups at once; further ones wait


@dataclass(frozen=True)
class _Lookup:
    name: str
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[list[str]]"

    def look(self) -> None:
        if self.answer.done():  # the caller has stopped waiting
            return
        found: list[str] | OSError
        try:
            infos = socket.getaddrinfo(self.name, None, type=socket.SOCK_STREAM)
            found = [str(info[4][0]) for info in infos]
        except OSError as error:
            found = error
        except UnicodeError:  # an empty or too long label
            found = socket.gaierror(socket.EAI_NONAME, "not a host name")
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self.loop.call_soon_threadsafe(self._tell, found)

    def _tell(self, found: list[str] | OSError) -> None:
        if self.answer.done():
            return
        if isinstance(found, OSError):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(found)


class Names:
    """The threads. They start on first use and do not keep the process alive."""

    def __init__(self) -> None:
        self._lookups: queue.SimpleQueue[_Lookup] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0

    async def addresses(self, name: str) -> list[str]:
        """Resolve a name. Addresses are in the system's order. Raises `socket.gaierror`."""
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        with self._lock:
            needs_thread = self._free <= self._lookups.qsize() and self._threads < THREADS
            self._threads += needs_thread
        self._lookups.put(_Lookup(name, loop, answer))
        if needs_thread:
            try:
                threading.Thread(target=self._look, name="goflow-names", daemon=True).start()
            except RuntimeError:  # no thread is available; the existing ones do it
                with self._lock:
                    self._threads -= 1
                    if not self._threads:
                        answer.cancel()
                        raise socket.gaierror(
                            socket.EAI_MEMORY, "the system gives no thread for it"
                        ) from None
        return list(dict.fromkeys(await answer))

    def _look(self) -> None:
        while True:
            with self._lock:
                self._free += 1
            lookup = self._lookups.get()
            with self._lock:
                self._free -= 1
            lookup.look()


names = Names()
