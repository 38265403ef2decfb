"""The guard: who may ask, and what browsers are told about the answers.

A page of another site can make a browser on this machine send requests here. So the guard
refuses a Host that is not ours (a foreign name that resolves to this machine), and whatever a
foreign page asks of the API: what changes something, and what only reads, since the time an
answer takes tells something too, and an open stream takes a place. The pages of the dashboard
may be linked to from anywhere. There are no CORS headers: foreign pages read nothing.
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
# Pages and their files hold nothing that another site could make use of.
_PAGES = re.compile(r"/?|/(ui|css|dist|src)(/.*)?", re.DOTALL)


class Place(NamedTuple):
    """A name or address, in lower case, and a port if one was given."""

    name: str
    port: int | None


class Origin(NamedTuple):
    """Where a page is from."""

    scheme: str
    place: Place

    @property
    def port(self) -> int:
        return DEFAULT_PORTS[self.scheme] if self.place.port is None else self.place.port


class Guard:
    """Lets a request through to `app`, or refuses it.

    - `allowed_hosts`: names served besides localhost and IP addresses, each with or
      without a port; "*" for any, which gives up the protection by Host.
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
        # HTTP/1.0 knows no Host. No browser speaks it, but health checks do.
        unnamed = scope.get("http_version") == "1.0" and b"".join(hosts) == b""
        if host is None and not unnamed:
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
        safe = scope["method"] in SAFE_METHODS
        if safe and _PAGES.fullmatch(route_path(scope, self._own)):
            return None
        if not self._is_foreign(scope.get("scheme", "http"), host, origins, sites):
            return None
        may_not = "read the API" if safe else "change anything"
        return failure(403, "foreign-origin", f"a page of another site may not {may_not}", "Origin")

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
        """Whether a page of another site made the request, as far as browsers tell."""
        if len(origins) > 1 or len(sites) > 1:
            return True
        # The browser's own judgement comes first: a page can neither set nor change it.
        if sites and sites[0] not in (b"same-origin", b"none"):
            return True
        if not origins:
            return False
        if (origin := parse_origin(origins[0].decode("latin-1"))) is None:
            return True
        if sites and sites[0] == b"same-origin":
            # So the page is from where it asked. Only the name can be wrong, as it is where a
            # foreign name resolves to this machine; a proxy may have changed Host and port.
            return not self._serves(origin.place)
        return not self._is_own(origin, scheme, host)

    def _is_own(self, origin: Origin, scheme: str, host: Place | None) -> bool:
        """Whether a page of that origin is ours. Another port or scheme makes another origin."""
        if host is not None and host.name == origin.place.name:
            # A server behind a proxy does not know that the page came by https, which a Host
            # without a port suggests. One that was asked at a port of its own does know.
            known = origin.scheme == scheme or (scheme == "http" and host.port is None)
            port = DEFAULT_PORTS[origin.scheme] if host.port is None else host.port
            return known and port == origin.port
        # A proxy may put a Host of its own in place of the one that was asked.
        usual = origin.port == DEFAULT_PORTS[origin.scheme]
        return Place(origin.place.name, origin.port) in self._allowed or (
            usual and Place(origin.place.name, None) in self._allowed
        )


def parse_origin(text: str) -> Origin | None:
    """The origin that a header Origin names; None for `null` and whatever is no web page's."""
    matched = _ORIGIN.fullmatch(text.lower())
    place = None if matched is None else parse_place(matched["authority"])
    return None if matched is None or place is None else Origin(matched["scheme"], place)


def parse_place(text: str) -> Place | None:
    """The host and port that an authority such as `localhost:8181` names; None for others."""
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
