"""The X-Forwarded-* headers of proxies.

The rule: X-Forwarded-For, -Proto and -Host are used only if the connection comes from a trusted
proxy, since any client can send them.

`Forwarded` (RFC 7239) is ignored: nginx, Caddy, Traefik and Apache do not set it, so a client's
own header would pass through them.
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
    """A sender of the request: the client or a proxy."""

    address: Address
    port: int


class Forwarded:
    """Passes the client, scheme and Host that trusted proxies report on to `app`.

    - `trusted`: addresses and networks of proxies, from `parse_trusted`. If there are none,
      requests are not changed.

    Each proxy appends to these headers, so they are read from the end: one entry per trusted
    proxy in a row. The Host header that the last proxy sent is kept in `scope["proxied_host"]`,
    since the guard checks it, too.
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
        values: dict[bytes, list[str]] = {name: [] for name in HEADERS}
        for name, value in scope["headers"]:
            if name in values:
                values[name] += [one.strip() for one in value.decode("latin-1").split(",")]
        addresses, schemes, hosts = (values[name] for name in HEADERS)
        client, proxies = self._client(peer, addresses)
        scope = {**scope, "client": (str(client.address), client.port)}
        if schemes and (scheme := _entry(proxies, schemes).lower()) in SCHEMES:
            scope["scheme"] = scheme
        if hosts:
            scope |= _with_host(scope, _entry(proxies, hosts))
        return scope

    def _client(self, peer: Hop, addresses: Sequence[str]) -> tuple[Hop, int]:
        """The last sender that is not a trusted proxy, and the number of proxies after it."""
        client, proxies = peer, 0
        for text in reversed(addresses):
            proxies += 1
            if (sender := _parse_hop(text)) is None:  # "unknown" or garbage
                return client, proxies
            client = sender
            if not self._trusts(sender.address):
                return client, proxies
        return client, max(proxies, 1)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_trusted(proxies: Iterable[object]) -> list[Network]:
    """Addresses and networks as networks. Raises `ValueError`."""
    found: list[Network] = []
    for proxy in proxies:
        try:
            if not isinstance(proxy, str):
                raise ValueError("not a str")
            found.append(ipaddress.ip_network(proxy))
        except ValueError as error:
            raise ValueError(
                f"trusted_proxies: {proxy!r} is not an IP address or network, "
                f"such as 127.0.0.1 or 10.0.0.0/8: {error}"
            ) from None
    return found


def _entry(proxies: int, values: Sequence[str]) -> str:
    """The entry of the first of so many proxies. The list is shorter if a proxy replaced it."""
    return values[max(0, len(values) - proxies)]


def _with_host(scope: Scope, host: str) -> Scope:
    """The changes of a scope that replace its Host header by `host`."""
    own = [value for name, value in scope["headers"] if name == b"host"]
    if len(own) > 1:  # the guard refuses the request
        return {}
    others = [pair for pair in scope["headers"] if pair[0] != b"host"]
    headers = [(b"host", host.encode("latin-1")), *others]
    return {"headers": headers, "proxied_host": own[0] if own else None}


def _parse_hop(text: str) -> Hop | None:
    """An address in a proxy's notation: `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[::1]:80`."""
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
    # a dual-stack socket reports IPv4 clients so
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return Hop(mapped or address, port)
