"""A facilitator as others run it: the protocol's own, from PyPI, behind a small server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import ExactEvmFacilitatorScheme
from x402.schemas import PaymentPayload, PaymentRequirements


@contextmanager
def facilitator(key: str, rpc_url: str, network: str) -> Iterator[str]:
    """Its URL."""
    settling = x402FacilitatorSync()
    settling.register([network], ExactEvmFacilitatorScheme(FacilitatorWeb3Signer(key, rpc_url)))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(settling.get_supported().model_dump_json(by_alias=True))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            payload = PaymentPayload.model_validate(asked["paymentPayload"])
            wanted = PaymentRequirements.model_validate(asked["paymentRequirements"])
            done = settling.verify if self.path == "/verify" else settling.settle
            self.answer(done(payload, wanted).model_dump_json(by_alias=True))

        def answer(self, text: str) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
