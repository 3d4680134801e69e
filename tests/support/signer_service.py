"""A stand-in for a key service: an HTTP server that holds one key and signs digests, as a KMS does.

It knows neither low s nor v: by default it answers in DER and takes the high s, which half of all KMS answers have.
Where it is shown the EIP-712 document of a record, it signs that, whatever digest stands beside it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

from settlement.chain.remote_signer import ORDER


class SignerService(ThreadingHTTPServer):
    """`form` is how it answers: der, raw, pair, or the body of an answer that is no signature."""

    def __init__(self, private_key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.account = Account.from_key(private_key)
        self.form: str | bytes = "der"
        self.status = 200
        self.asked: list[dict[str, Any]] = []
        self.credentials: list[str | None] = []

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}/sign"

    def answer(self, question: dict[str, Any]) -> bytes:
        """The body of its answer."""
        if isinstance(self.form, bytes):
            return self.form
        if "typed_data" in question:
            signed: Any = self.account.sign_message(encode_typed_data(full_message=question["typed_data"]))
        else:
            signed = self.account.sign_transaction(question["transaction"])
        r, s = signed.r, max(signed.s, ORDER - signed.s)
        if self.form == "pair":
            return json.dumps({"r": hex(r), "s": hex(s)}).encode()
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        body = _integer(r) + _integer(s)
        return json.dumps(
            {"signature": (raw if self.form == "raw" else bytes([0x30, len(body)]) + body).hex()}
        ).encode()


@contextmanager
def signer_service(private_key: str) -> Iterator[SignerService]:
    """The service, for as long as a test needs it."""
    service = SignerService(private_key)
    thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: SignerService

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(question)
        self.server.credentials.append(self.headers["Authorization"])
        body = self.server.answer(question)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _integer(value: int) -> bytes:
    """A DER INTEGER: no more bytes than it needs, and the first bit clear."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(content)]) + content
