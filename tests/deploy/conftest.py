"""goflow behind the proxies of the documentation, in separate processes.

The configurations are the blocks of docs/how-to/deploy.md, with other ports and paths.
"""

import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from benchmarks.ports import number_of, reserved_port
from tests.certificates import Authority, Certificate
from tests.deploy.install import find
from tests.docs.pages import ROOT, blocks

DEADLINE = 60  # seconds for operations that take milliseconds
HOST = "jobs.example.com"
CLIENT = "127.0.0.2"  # not the proxy's address
USER = ("ann", "secret")
JOBS = Path(__file__).with_name("jobs.py")

NGINX = """
daemon off; pid nginx.pid; error_log stderr; user root; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
    uwsgi_temp_path tmp; scgi_temp_path tmp;
{site}
}}
"""
APACHE = """
Listen 127.0.0.1:{port}
ServerName localhost
PidFile apache.pid
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
User www-data
Group www-data
{modules}
{site}
"""
CADDY = """
{{
    admin off
    auto_https disable_redirects
}}
{site}
"""
MODULES = (
    "mpm_event authn_core authz_core authn_file auth_basic authz_user headers proxy proxy_http"
)


def documented(language: str) -> str:
    """The one block of that language on the page."""
    page = ROOT / "docs" / "how-to" / "deploy.md"
    [block] = [block for block in blocks(page) if block.language == language]
    return block.text


@dataclass
class Site:
    """The inputs for a proxy's configuration."""

    folder: Path
    port: int  # of the proxy
    upstream: int
    certificate: Certificate

    def replaced(self, text: str, *changes: tuple[str, str]) -> str:
        """The text with each old string replaced by the new one; each must occur."""
        for old, new in (("127.0.0.1:8181", f"127.0.0.1:{self.upstream}"), *changes):
            assert old in text, f"the page has no {old!r}"
            text = text.replace(old, new)
        return text

    def passwords(self) -> Path:
        file = self.folder / "htpasswd"
        file.write_text(f"{USER[0]}:{printed('openssl', 'passwd', '-apr1', USER[1])}\n")
        file.chmod(0o644)
        return file


def printed(program: str, *arguments: str) -> str:
    path = find(program)
    assert path, f"no {program} to test with: run `make servers`"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


Made = tuple[list[str], str, str]  # arguments, the configuration, and its file's name
Change = tuple[str, str]


def nginx(site: Site, *changes: Change) -> Made:
    (site.folder / "tmp").mkdir()
    block = site.replaced(
        documented("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{site.port} ssl"),
        ("/etc/ssl/jobs.example.com.pem", str(site.certificate.chain)),
        ("/etc/ssl/private/jobs.example.com.key", str(site.certificate.key)),
        ("/etc/nginx/goflow.htpasswd", str(site.passwords())),
        *changes,
    )
    arguments = ["-p", str(site.folder), "-e", "stderr", "-c", "nginx.conf"]
    return arguments, NGINX.format(site=block), "nginx.conf"


def apache2(site: Site, *changes: Change) -> Made:
    block = site.replaced(
        documented("apache"),
        ("*:443", f"127.0.0.1:{site.port}"),
        ("/etc/ssl/jobs.example.com.pem", str(site.certificate.chain)),
        ("/etc/ssl/private/jobs.example.com.key", str(site.certificate.key)),
        ("/etc/apache2/goflow.htpasswd", str(site.passwords())),
        *changes,
    )
    folder = "/usr/lib/apache2/modules"
    modules = [f"LoadModule {m}_module {folder}/mod_{m}.so" for m in f"{MODULES} ssl".split()]
    configuration = APACHE.format(
        port=site.port, folder=site.folder, modules="\n".join(modules), site=block
    )
    arguments = ["-DFOREGROUND", "-d", str(site.folder), "-f", str(site.folder / "apache.conf")]
    return arguments, configuration, "apache.conf"


def caddy(site: Site, *changes: Change) -> Made:
    # a fast bcrypt, since Caddy checks it for every request
    hashed = printed("htpasswd", "-nbBC", "4", *USER).partition(":")[2]
    tls = f"\n    tls {site.certificate.chain} {site.certificate.key}"
    block = site.replaced(
        documented("caddyfile"),
        (f"{HOST} {{", f"https://{HOST}:{site.port} {{\n    bind 127.0.0.1{tls}"),
        ("$2a$14$…", hashed),
        *changes,
    )
    arguments = ["run", "--adapter", "caddyfile", "--config", str(site.folder / "Caddyfile")]
    return arguments, CADDY.format(site=block), "Caddyfile"


class Front:
    """A client of goflow through a proxy."""

    def __init__(self, client: httpx2.Client, prefix: str, port: int) -> None:
        self._client = client
        self._prefix = prefix
        self.origin = f"https://{HOST}:{port}"
        self._base = f"https://127.0.0.1:{port}"

    def ask(self, method: str, path: str, **headers: str) -> httpx2.Response:
        return self._client.request(method, self.url(path), headers=self._headers(headers))

    def stream(self, path: str) -> Any:
        return self._client.stream("GET", self.url(path), headers=self._headers({}))

    def press(self, path: str) -> httpx2.Response:
        """Send the request of a dashboard button."""
        return self.ask("POST", path, Origin=self.origin, **{"Sec-Fetch-Site": "same-origin"})

    def url(self, path: str) -> str:
        return f"{self._base}{self._prefix}{path}"

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Host": self.origin.removeprefix("https://"), **more}


Start = Callable[..., Front]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def behind(tmp_path: Path, authority: Authority) -> Iterator[Start]:
    """`behind(nginx)` starts goflow behind that proxy, and returns a client."""
    with ExitStack() as stack:

        def start(
            make: Callable[..., Made],
            *changes: Change,
            options: tuple[str, ...] = (),
            prefix: str = "",
        ) -> Front:
            server = _process(
                stack,
                tmp_path / "goflow",
                [
                    *(sys.executable, "-m", "goflow", "serve", str(JOBS), "--port", "0"),
                    *("--allowed-host", HOST, "--trusted-proxy", "127.0.0.1", *options),
                ],
            )
            address = _until(server, lambda: re.search(r"127\.0\.0\.1:(\d+)", server.said()))
            reserved = stack.enter_context(reserved_port())
            # Not below `tmp_path`, which only its owner may enter, since Apache reads as www-data.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
            site = Site(
                folder, number_of(reserved), int(address[1]), authority.issue(f"DNS:{HOST}")
            )
            arguments, configuration, name = make(site, *changes)
            (folder / name).write_text(configuration)
            program = find(make.__name__)
            assert program, f"no {make.__name__} to test with: run `make servers`"
            proxy = _process(stack, folder, [program, *arguments])
            _until(proxy, lambda: _listens(site.port))
            stack.callback(server.end)  # first, since Apache waits 10 s for open streams
            trust = ssl.create_default_context(cafile=str(authority.certificate))
            transport = httpx2.HTTPTransport(verify=trust, local_address=CLIENT)
            client = httpx2.Client(transport=transport, timeout=DEADLINE, auth=USER)
            stack.enter_context(client)
            client.event_hooks["request"].append(_with_the_name)
            return Front(client, quote(prefix), site.port)

        yield start


def _with_the_name(request: httpx2.Request) -> None:
    request.extensions = {**request.extensions, "sni_hostname": HOST}


@dataclass
class _Process:
    process: "subprocess.Popen[bytes]"
    output: Path

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


def _process(stack: ExitStack, folder: Path, command: list[str]) -> _Process:
    folder.mkdir(exist_ok=True)
    output = folder / "output"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment
        )

    started = _Process(process, output)
    stack.callback(started.end)
    return started


def _until(started: _Process, look: Callable[[], Any]) -> Any:
    ends = time.monotonic() + DEADLINE
    while not (found := look()):
        assert started.process.poll() is None, started.said()
        assert time.monotonic() < ends, started.said()
        time.sleep(0.02)
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
