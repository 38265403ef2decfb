"""The guard: who may ask, and what browsers are told about the answers.

A page of another site can make a browser on this machine send requests here. So a Host
that is not ours is refused (a foreign name that resolves to this machine), and so is a
request that changes something and comes from a foreign page. There are no CORS headers:
foreign pages read nothing.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goflow.web.answer import failure

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}
EVERY_HOST = "*"

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]

_AUTHORITY = re.compile(r"(?P<name>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{0,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]+)", re.ASCII)


class Place(NamedTuple):
    """A name or address, in lower case, and a port if one was given."""

    name: str
    port: int | None


class Guard:
    """Lets a request through to `app`, or refuses it.

    - `allowed_hosts`: names served besides localhost and IP addresses, each with or
      without a port; "*" for any, which gives up the protection by Host.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._any_host = EVERY_HOST in allowed_hosts
        self._allowed = frozenset(_check_allowed(allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        refusal = self._refuse(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        hosts, origins, sites = [], [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                sites.append(value)
        host = parse_place(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if host is None:
            return failure(400, "invalid-host", "a request needs one valid Host header", "Host")
        # A browser whose own address is trusted as a proxy's may claim any X-Forwarded-Host, so
        # the Host that it sent itself counts too.
        proxied = scope.get("proxied_host")
        for asked in (host, proxied and parse_place(proxied.decode("latin-1"))):
            if asked is not None and not self._serves(asked):
                return failure(
                    421,
                    "forbidden-host",
                    f"host {asked.name!r} is not served here; add it to allowed_hosts if it "
                    "should be",
                    "Host",
                )
        if scope["method"] in SAFE_METHODS or self._is_own_page(host, origins, sites):
            return None
        return failure(
            403, "foreign-origin", "a page of another site may not change anything", "Origin"
        )

    def _serves(self, host: Place) -> bool:
        return (
            self._any_host
            or host.name == "localhost"
            or _is_address(host.name)
            or self._is_allowed(host)
        )

    def _is_allowed(self, place: Place) -> bool:
        return place in self._allowed or Place(place.name, None) in self._allowed

    def _is_own_page(self, host: Place, origins: Sequence[bytes], sites: Sequence[bytes]) -> bool:
        """Whether the request is not a foreign page's, as far as browsers tell."""
        if len(origins) > 1 or len(sites) > 1:
            return False
        if not origins:
            return not sites or sites[0] in (b"same-origin", b"none")
        matched = _ORIGIN.fullmatch(origins[0].decode("latin-1").lower())
        origin = None if matched is None else parse_place(matched["authority"])
        if matched is None or origin is None:
            return False
        usual = DEFAULT_PORTS.get(matched["scheme"])
        origin = Place(origin.name, origin.port or usual)
        if self._is_allowed(origin):
            return True
        own = Place(host.name, host.port or usual)
        return origin == own and (not sites or sites[0] == b"same-origin")


def parse_place(text: str) -> Place | None:
    """The host and port that an authority such as `localhost:8181` names; None for others."""
    matched = _AUTHORITY.fullmatch(text.lower())
    if matched is None:
        return None
    port = int(matched["port"]) if matched["port"] else None
    if port is not None and port > 65_535:
        return None
    if matched["name"].startswith("[") and not _is_address(matched["name"]):
        return None
    return Place(matched["name"], port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _check_allowed(hosts: Iterable[str]) -> Iterable[Place]:
    for host in hosts:
        if host == EVERY_HOST:
            continue
        if (place := parse_place(host)) is None:
            raise ValueError(f"allowed_hosts: {host!r} is not a host name")
        yield place
