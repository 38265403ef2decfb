"""What a proxy in front says about the request it passes on.

The rule: X-Forwarded-For, -Proto and -Host count only if the connection comes from a trusted
proxy. Anybody can send these headers.

`Forwarded` (RFC 7239) is not read: nginx, Caddy, Traefik and Apache do not set it, so they
would pass on whatever the client sent.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SCHEMES = ("http", "https")
HEADERS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")


class Hop(NamedTuple):
    """A sender of the request: the client itself, or a proxy on the way."""

    address: Address
    port: int


class Forwarded:
    """Gives `app` the client, the scheme and the Host that trusted proxies tell of.

    - `trusted`: addresses and networks of proxies, as `parse_trusted` gives them. With none,
      nothing is changed.

    Each proxy appends what it saw to these headers, so they are read from their end: as many
    entries count as there are trusted proxies in a row. The Host that the last proxy itself
    sent stays in `scope["proxied_host"]`, for the guard to check that one too.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = ()) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] == "http":
            scope = self._seen_from_outside(scope)
        await self._app(scope, receive, send)

    def _seen_from_outside(self, scope: Scope) -> Scope:
        peer = _hop(scope["client"][0], scope["client"][1]) if scope.get("client") else None
        if peer is None or not self._trusts(peer.address):
            return scope
        said: dict[bytes, list[str]] = {name: [] for name in HEADERS}
        for name, value in scope["headers"]:
            if name in said:
                said[name] += [one.strip() for one in value.decode("latin-1").split(",")]
        addresses, schemes, hosts = (said[name] for name in HEADERS)
        client, proxies = self._client(peer, addresses)
        scope = {**scope, "client": (str(client.address), client.port)}
        if schemes and (scheme := _said_by(proxies, schemes).lower()) in SCHEMES:
            scope["scheme"] = scheme
        if hosts:
            scope |= _with_host(scope, _said_by(proxies, hosts))
        return scope

    def _client(self, peer: Hop, addresses: Sequence[str]) -> tuple[Hop, int]:
        """The first sender that is no trusted proxy, and how many of these came after it."""
        client, proxies = peer, 0
        for text in reversed(addresses):
            proxies += 1
            if (sender := _parse_hop(text)) is None:  # "unknown", or garbage: nobody to trust
                return client, proxies
            client = sender
            if not self._trusts(sender.address):
                return client, proxies
        return client, max(proxies, 1)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_trusted(proxies: Iterable[object]) -> list[Network]:
    """The networks that these addresses and networks stand for. Raises `ValueError`."""
    found: list[Network] = []
    for proxy in proxies:
        try:
            if not isinstance(proxy, str):
                raise ValueError("it is not a str")
            found.append(ipaddress.ip_network(proxy))
        except ValueError as error:
            raise ValueError(
                f"trusted_proxies: {proxy!r} is not an IP address or network, "
                f"such as 127.0.0.1 or 10.0.0.0/8: {error}"
            ) from None
    return found


def _said_by(proxies: int, values: Sequence[str]) -> str:
    """What the outermost of so many proxies appended; some replace the list instead."""
    return values[max(0, len(values) - proxies)]


def _with_host(scope: Scope, host: str) -> Scope:
    """The parts of the scope in which `host` takes the place of the one Host header."""
    own = [value for name, value in scope["headers"] if name == b"host"]
    if len(own) > 1:  # left for the guard to refuse
        return {}
    others = [pair for pair in scope["headers"] if pair[0] != b"host"]
    headers = [(b"host", host.encode("latin-1")), *others]
    return {"headers": headers, "proxied_host": own[0] if own else None}


def _parse_hop(text: str) -> Hop | None:
    """An address, as proxies write it: `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[::1]:80`."""
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed:
            return None
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
    else:
        name, port = text, ""
    digits = port.removeprefix(":")
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None
    return _hop(name, int(digits or 0))


def _hop(name: str, port: int) -> Hop | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    # what an IPv4 client is called by a socket that takes both
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return Hop(mapped or address, port)
