"""Certificates like those of a real authority, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[ca]
default_ca = authority
[authority]
database = index.txt
serial = serial.txt
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[server]
basicConstraints = critical,CA:FALSE
subjectAltName = {names}
[req]
distinguished_name = subject
x509_extensions = own
[subject]
[own]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
"""


@dataclass(frozen=True)
class Certificate:
    """Two PEM files."""

    chain: Path
    key: Path


class Authority:
    """A certificate authority in `folder`; only clients configured with `certificate` trust it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "authority.pem"
        (folder / "index.txt").touch()
        (folder / "serial.txt").write_text("01\n")
        self._configure("DNS:unused")
        self._openssl(
            *(
                "req",
                "-x509",
                "-config",
                "openssl.cnf",
                "-days",
                "7",
                "-subj",
                "/CN=Test authority",
            ),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "authority.key", "-out", "authority.pem"),
        )

    def issue(
        self, *names: str, begins: str = "20200101000000Z", ends: str = "20991231000000Z"
    ) -> Certificate:
        """For names such as "DNS:localhost" and "IP:127.0.0.1"; times are YYYYMMDDHHMMSSZ."""
        self._configure(",".join(names))
        name = f"server-{len(list(self._folder.iterdir()))}"
        self._openssl(
            *("req", "-config", "openssl.cnf", "-subj", "/CN=Test server", "-new"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", "openssl.cnf", "-extensions", "server"),
            *("-cert", "authority.pem", "-keyfile", "authority.key"),
            *("-startdate", begins, "-enddate", ends),
            *("-in", f"{name}.csr", "-out", f"{name}.pem"),
        )
        return Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")

    def _configure(self, names: str) -> None:
        (self._folder / "openssl.cnf").write_text(CONFIG.format(names=names))

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
