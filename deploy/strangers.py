"""HTTP with strangers: one connection a request, bounded in bytes and seconds, and nothing is followed."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECT_S = 5.0
BODY_MAX = 4 << 20


class NoAnswer(Exception):
    """No whole answer came in time, or it was too long."""


class Answered(NamedTuple):
    """Status, headers (by name in lower case; of equal ones the last) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(method: str, url: str, body: bytes, headers: Mapping[str, str], limit_s: float) -> Answered:
    """One request by http or https, whose certificate is verified; no proxy is asked. Raises NoAnswer."""
    deadline = time.monotonic() + limit_s
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), CONNECT_S) as plain, plain.dup() as line:
            cut = threading.Timer(limit_s, _shut, (line,))  # however slowly it comes
            cut.start()
            try:
                plain.settimeout(limit_s)
                found = _asked(plain, method, url, port, body, headers)
            finally:
                cut.cancel()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline:
            raise NoAnswer(f"no whole answer within {limit_s:g} s") from None
        raise NoAnswer(f"no answer ({type(error).__name__})") from None
    if len(found.body) > BODY_MAX:
        raise NoAnswer(f"an answer of more than {BODY_MAX >> 20} MiB")
    if time.monotonic() >= deadline:  # it may have been cut where it stood
        raise NoAnswer(f"no whole answer within {limit_s:g} s")
    return found


def _asked(plain: socket.socket, method: str, url: str, port: int, body: bytes, headers: Mapping[str, str]) -> Answered:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", port)
    connection.sock = plain
    if parts.scheme == "https":
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
    try:
        words = {"Content-Type": "application/json", "Connection": "close", **headers}
        connection.request(method, parts.path or "/", body, words)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, found, answer.read(BODY_MAX + 1))
    finally:
        connection.close()


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
