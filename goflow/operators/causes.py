"""Explains a failed exchange with a server, in one sentence that names the server.

HTTP libraries wrap the system's errors in exceptions that say less. This module finds the original.
"""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TypeGuard

LIMIT = 300  # characters of a text that comes from others
_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE")

# OpenSSL raises these when the peer has sent too little, or has closed the connection.
_NO_ERRORS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Trouble(Exception):
    """An exchange failed; the message says why."""


def of_any(error: BaseException, place: str, host: str) -> Trouble:
    """Explain a failure at an unknown point of the exchange."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLError):
            return of_tls(error, place, host)
        if _says_why(cause):
            if cause.errno in (errno.ECONNRESET, errno.EPIPE):
                return of_transfer(cause, place, "waiting for the answer")
            return of_connecting([cause], place, host)
    return of_protocol(error, place)


def of_connecting(errors: Sequence[BaseException], place: str, host: str) -> Trouble:
    """Explain why no connection was made, given the error of each address."""
    causes: list[OSError] = []
    for error in errors:
        causes += [cause for cause in _chain(error) if _says_why(cause)]
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return Trouble(_of_name(cause, host))
    codes = [cause.errno for cause in causes]
    if errno.ECONNREFUSED in codes:
        return Trouble(f"{place} refused the connection: cannot connect, nothing listens there")
    if errno.ETIMEDOUT in codes:
        return Trouble(f"cannot connect to {place}: it does not answer")
    reason = os.strerror(codes[0] or 0) if codes else _short(str(errors[0]))
    return Trouble(f"cannot connect to {place}: {reason[:1].lower() + reason[1:]}")


def of_tls(error: BaseException, place: str, host: str) -> Trouble:
    """Explain a failed TLS handshake."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Trouble(f"the certificate of {place} {_of_certificate(cause, host)}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NO_ERRORS):
            reason = cause.reason or str(cause)
            if reason in _PLAIN_HTTP:
                return Trouble(f"{place} does not speak TLS; is its address http:// instead?")
            words = reason.replace("_", " ").lower()
            return Trouble(f"the TLS handshake with {place} failed: {_short(words)}")
    return Trouble(f"{place} closed the connection during the TLS handshake")


def of_transfer(error: BaseException, place: str, doing: str) -> Trouble:
    """Explain why an open connection ended."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            words = cause.reason.replace("_", " ").lower()
            return Trouble(f"{place} broke off while {doing}: TLS: {_short(words)}")
        if isinstance(cause, OSError) and cause.errno:
            if cause.errno in (errno.ECONNRESET, errno.EPIPE):
                return Trouble(f"{place} reset the connection while {doing}")
            reason = os.strerror(cause.errno)
            return Trouble(f"{place} broke off while {doing}: {reason[:1].lower() + reason[1:]}")
    return Trouble(f"{place} closed the connection while {doing}")


def of_protocol(error: BaseException, place: str) -> Trouble:
    """Explain why a response is not valid HTTP."""
    said = str(error)
    if "without sending a response" in said:
        return Trouble(f"{place} closed the connection without an answer")
    if cut := re.search(r"received (\d+) bytes, expected (\d+)", said):
        return Trouble(f"the body from {place} ended after {cut[1]} of {cut[2]} bytes")
    if "without sending complete message body" in said:
        return Trouble(f"the body from {place} ended early")
    if "Receive buffer too long" in said:
        return Trouble(f"{place} sent a line that is too long")
    return Trouble(f"{place} did not answer in HTTP: {_short(said)}")


def _of_name(error: socket.gaierror, host: str) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"the name {host!r} could not be looked up: no name server answers (DNS)"
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return f"the name {host!r} is not known (DNS)"
    return f"the name {host!r} could not be looked up (DNS): {_short(error.strerror or str(error))}"


def _of_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    match error.verify_code:  # X509_V_ERR_… of OpenSSL
        case 10:
            return "has expired"
        case 9:
            return "is not valid yet"
        case 18:
            return "is self-signed, so no authority confirms it"
        case 19 | 20 | 21:
            return f"is from an authority that is not trusted here ({error.verify_message})"
        case 62 | 64:
            return f"is not for {host!r}"
    return f"cannot be verified: {_short(error.verify_message or str(error))}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, outermost first."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [arg for arg in one.args[:1] if isinstance(arg, BaseException)]
        if (before := one.__cause__ or one.__context__) is not None:
            inner.append(before)
        if isinstance(one, BaseExceptionGroup):
            inner += one.exceptions
        waiting += inner


def _says_why(cause: BaseException) -> TypeGuard[OSError]:
    return isinstance(cause, OSError) and cause.errno is not None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LIMIT else f"{text[:LIMIT]}…"
