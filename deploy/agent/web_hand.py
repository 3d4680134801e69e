"""HTTP with strangers: one connection a request, bounded in bytes and seconds, and nothing is followed."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from agent.ports import Answer, Away
from till import wire

CONNECT_S, ANSWER_S = 5.0, 10.0
PAY_S = 60.0
"""For the answer to a payment: a till may wait for the session's start."""

BODY_MAX = 4 << 20


class WebHand:
    """Asks servers by http or https; certificates are verified, and no proxy is asked."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context()

    def ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request. Raises Away where no whole answer came in time, or it is too long."""
        limit_s = PAY_S if wire.SIGNATURE_HEADER in headers else ANSWER_S
        deadline = time.monotonic() + limit_s
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with socket.create_connection((host, port), CONNECT_S) as plain, plain.dup() as line:
                cut = threading.Timer(limit_s, _shut, (line,))  # however slowly it comes
                cut.start()
                try:
                    answer = self._asked(plain, parts.scheme == "https", host, port, method, url, body, headers)
                finally:
                    cut.cancel()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline:
                raise Away(f"no whole answer within {limit_s:.0f} s") from None
            raise Away(f"no answer ({type(error).__name__})") from None
        if len(answer.body) > BODY_MAX:
            raise Away(f"an answer of more than {BODY_MAX >> 20} MiB")
        if time.monotonic() >= deadline:  # it may have been cut where it stood
            raise Away(f"no whole answer within {limit_s:.0f} s")
        return answer

    def _asked(
        self, plain: socket.socket, is_tls: bool, host: str, port: int, method: str, url: str, body: bytes,
        headers: Mapping[str, str],
    ) -> Answer:  # fmt: skip
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        plain.settimeout(PAY_S)
        connection.sock = self._tls.wrap_socket(plain, server_hostname=host) if is_tls else plain
        try:
            words = {"Content-Type": "application/json", "Connection": "close", **headers}
            connection.request(method, urlsplit(url).path or "/", body, words)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheader(wire.REQUIRED_HEADER, ""), answer.read(BODY_MAX + 1))
        finally:
            connection.close()


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
