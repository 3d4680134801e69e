"""A node before another one: it passes questions on, and answers some of them itself, or spoils what it passes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import msgspec
import requests


class Reply(NamedTuple):
    """What comes back over HTTP; `length` may promise more than the body has."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    length: int | None = None


Mood = Callable[[dict[str, Any], Callable[[], bytes]], Reply]
"""What is answered to a question; its second argument asks the node behind."""


def result(asked: Mapping[str, Any], value: object) -> Reply:
    """A result, or what passes for one."""
    return Reply(msgspec.json.encode({"jsonrpc": "2.0", "id": asked["id"], "result": value}))


@contextmanager
def moody(rpc_url: str, mood: Mood) -> Iterator[str]:
    """The URL of a node that answers as `mood` does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))

            def honest() -> bytes:
                with requests.Session() as session:
                    session.trust_env = False
                    headers = {"Content-Type": "application/json"}
                    return session.post(rpc_url, data=body, headers=headers, timeout=10).content

            reply = mood(msgspec.json.decode(body), honest)
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(reply.body)
            except OSError:
                pass  # who asked has had enough

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
