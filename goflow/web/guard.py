"""The guard: protects against requests from pages of other sites, and sets security headers.

A page of another site can make a browser on this machine send requests to this server. So the guard
refuses unknown Host names (a foreign name may resolve to this machine) and all API requests of
foreign pages. That includes reads: a foreign page cannot see the response, but it can measure its
time and keep streams open. Links to the dashboard's pages work from anywhere. There are no CORS
headers, so foreign pages can read nothing.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goflow.web.path import route_path
from goflow.web.policy import CONTENT_POLICY
from goflow.web.responses import failure

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}
EVERY_HOST = "*"

HEADERS = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]

_AUTHORITY = re.compile(r"(?P<name>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{0,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]+)", re.ASCII)
# Pages and their files are not sensitive.
_PAGES = re.compile(r"/?|/(ui|css|dist|src)(/.*)?", re.DOTALL)


class Place(NamedTuple):
    """A host name or address in lower case, and the port if given."""

    name: str
    port: int | None


class Origin(NamedTuple):
    """The origin of a page."""

    scheme: str
    place: Place

    @property
    def port(self) -> int:
        return DEFAULT_PORTS[self.scheme] if self.place.port is None else self.place.port


class Guard:
    """Passes a request on to `app`, or refuses it.

    - `allowed_hosts`: host names to accept besides localhost and IP addresses, each with or
      without a port. "*" accepts any and disables the check of Host.
    - `own`: see `route_path`.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Sequence[str] = (), own: Collection[str] = ()
    ) -> None:
        self._own = own
        self._app = app
        self._any_host = EVERY_HOST in allowed_hosts
        self._allowed = frozenset(_check_allowed(allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                known = {name for name, _ in headers}
                headers += [header for header in HEADERS if header[0] not in known]
                message = {**message, "headers": headers}
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
        # HTTP/1.0 has no Host. Health checks use it, browsers do not.
        unnamed = scope.get("http_version") == "1.0" and b"".join(hosts) == b""
        if host is None and not unnamed:
            return failure(400, "invalid-host", "a request must have one valid Host header", "Host")
        # A browser may run at a trusted proxy's address, where its pages can set any
        # X-Forwarded-Host. So the Host header that it sent is checked, too.
        proxied = scope.get("proxied_host")
        for asked in (host, proxied and parse_place(proxied.decode("latin-1"))):
            if asked is not None and not self._serves(asked):
                return failure(
                    421,
                    "forbidden-host",
                    f"unknown host {asked.name!r}; add it to allowed_hosts if this server should "
                    "accept it",
                    "Host",
                )
        safe = scope["method"] in SAFE_METHODS
        if safe and _PAGES.fullmatch(route_path(scope, self._own)):
            return None
        if not self._is_foreign(scope.get("scheme", "http"), host, origins, sites):
            return None
        forbidden = "read the API" if safe else "change anything"
        return failure(
            403, "foreign-origin", f"a page of another site must not {forbidden}", "Origin"
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

    def _is_foreign(
        self,
        scheme: str,
        host: Place | None,
        origins: Sequence[bytes],
        sites: Sequence[bytes],
    ) -> bool:
        """Whether a page of another site made the request, according to the browser."""
        if len(origins) > 1 or len(sites) > 1:
            return True
        # Sec-Fetch-Site comes first: a page cannot change it.
        if sites and sites[0] not in (b"same-origin", b"none"):
            return True
        if not origins:
            return False
        if (origin := parse_origin(origins[0].decode("latin-1"))) is None:
            return True
        if sites and sites[0] == b"same-origin":
            # The page comes from the host of the request. The name can still be foreign, if it
            # resolves to this machine. Host and port may differ if a proxy changed them.
            return not self._serves(origin.place)
        return not self._is_own(origin, scheme, host)

    def _is_own(self, origin: Origin, scheme: str, host: Place | None) -> bool:
        """Whether the origin is this server's. Scheme and port are part of an origin."""
        if host is not None and host.name == origin.place.name:
            # Behind a proxy that speaks https the scheme is http here. Then Host usually has no
            # port, so https is accepted only in that case.
            known = origin.scheme == scheme or (scheme == "http" and host.port is None)
            port = DEFAULT_PORTS[origin.scheme] if host.port is None else host.port
            return known and port == origin.port
        # A proxy may replace the Host header.
        usual = origin.port == DEFAULT_PORTS[origin.scheme]
        return Place(origin.place.name, origin.port) in self._allowed or (
            usual and Place(origin.place.name, None) in self._allowed
        )


def parse_origin(text: str) -> Origin | None:
    """The origin in an Origin header; None for `null` and for other schemes than http(s)."""
    matched = _ORIGIN.fullmatch(text.lower())
    place = None if matched is None else parse_place(matched["authority"])
    return None if matched is None or place is None else Origin(matched["scheme"], place)


def parse_place(text: str) -> Place | None:
    """The host and port of an authority such as `localhost:8181`; None if it is invalid."""
    matched = _AUTHORITY.fullmatch(text.lower())
    if matched is None:
        return None
    port = int(matched["port"]) if matched["port"] else None
    if port is not None and port > 65_535:
        return None
    name = matched["name"]
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name.strip('[]')).compressed}]"
        except ValueError:
            return None
    return Place(name, port)


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
