"""Masks secrets in URLs for logs and errors.

The rule that must not be broken: passwords, tokens in place of a user name, query values and
fragments are never shown. A secret in the path cannot be recognised, and is shown.
"""

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import unquote, unquote_plus, urlsplit

MASK = "***"
# Shorter secrets would be found in unrelated words.
SHORTEST_PASSWORD = 4  # characters
SHORTEST_VALUE = 8

_PARAMETER = re.compile(r";([^=;/]*)=[^;/]*")
_NO_PASSWORDS = ("", "x-oauth-basic")  # with these the user name is the token
_NO_SECRETS = re.compile(r"accept|content-|user-agent|host|cache-control|if-|range", re.IGNORECASE)


def masked(url: str, known: Collection[str] = ()) -> str:
    """The address with `***` for possible secrets. Accepts any text, valid URL or not.

    Query values that are among the `known` ones are shown.
    """
    if "@" in url and not _is_sound(url):
        # In an invalid URL everything before the last @ may be part of a password.
        scheme, slashes, _ = url.partition("://")
        shown = f"{scheme}{slashes}" if slashes and scheme.isalpha() else ""
        return f"{shown}{MASK}@{_masked(url.rpartition('@')[2], known)}"
    return _masked(url, known)


def masked_header(name: str, value: str, known: Collection[str] = ()) -> str:
    """The value of a header, or `***` if it may be secret and is not among the `known` ones."""
    return value if _NO_SECRETS.match(name) or value in known else MASK


def secrets(url: str, headers: Mapping[str, str]) -> list[str]:
    """The secrets to mask where a server repeats them, the longest first."""
    address, _, query = url.partition("#")[0].partition("?")
    values = [pair.partition("=")[2] or pair for pair in query.split("&")]
    values += [unquote_plus(value) for value in values]
    for name, value in headers.items():
        if not _NO_SECRETS.match(name):
            values += [value, *value.split(" ")]
    place = address.partition("://")[2].partition("/")[0]
    user, _, password = place.rpartition("@")[0].partition(":")
    name = "" if password not in _NO_PASSWORDS else user
    passwords = [name, unquote(name), password, unquote(password)]
    passwords.append(base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
    found = {value for value in values if len(value) >= SHORTEST_VALUE}
    found |= {password for password in passwords if len(password) >= SHORTEST_PASSWORD}
    return sorted(found, key=len, reverse=True)


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _masked(url: str, known: Collection[str]) -> str:
    rest, hash, fragment = url.partition("#")
    address, mark, query = rest.partition("?")
    scheme, slashes, rest = address.partition("://") if "://" in address else ("", "", address)
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if at:
        name, _, password = user.partition(":")
        host = f"{MASK if password in _NO_PASSWORDS else f'{name}:{MASK}'}@{host}"
    path = _PARAMETER.sub(rf";\1={MASK}", path)
    query = "&".join(_masked_pair(pair, known) for pair in query.split("&"))
    fragment = fragment and MASK
    return f"{scheme}{slashes}{host}{slash}{path}{mark}{query}{hash}{fragment}"


def _masked_pair(pair: str, known: Collection[str]) -> str:
    key, equals, value = pair.partition("=")
    if value in known:
        return pair
    if equals:
        return f"{key}={value and MASK}"
    return pair and MASK  # a token alone looks like a key alone


def _is_sound(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
