"""What is asked of strangers is cut where it takes too long or is too long."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from deploy import strangers
from deploy.strangers import NoAnswer, ask


@pytest.fixture
def served() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a server of one connection; returns its URL."""
    opened = []

    def serve(answer: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def run() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(65_536)
                try:
                    answer(line)
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/machines"

    yield serve
    for listener in opened:
        listener.close()


def test_attack_a_stranger_s_answer_is_cut(
    served: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence, a byte at a time, no end, endless headers; a redirect is an answer like any other."""
    monkeypatch.setattr(strangers, "BODY_MAX", 1_000)
    stop = threading.Event()

    def slowly(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.wait(0.02):
            line.sendall(b"x")

    def endless_headers(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            line.sendall(b"x: y\r\n" * 1_000)

    def too_long(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001)

    for answer, said, limit_s in (
        (lambda line: stop.wait(5), "within 0.2 s", 0.2), (slowly, "within 0.2 s", 0.2),
        (endless_headers, "HTTPException", 60), (too_long, "more than", 60),
        (lambda line: line.sendall(b"nonsense"), "no answer", 60), (lambda line: None, "no answer", 60),
    ):  # fmt: skip
        with pytest.raises(NoAnswer, match=said):
            ask("GET", served(answer), b"", {}, limit_s)  # type: ignore[arg-type]
    stop.set()
    moved = served(lambda line: line.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\nthere"))
    found = ask("GET", moved, b"", {}, 60)
    assert (found.status, found.body) == (302, b"there")
    with pytest.raises(NoAnswer, match="ConnectionRefusedError"):
        ask("GET", "http://127.0.0.1:9/", b"", {}, 60)


def test_a_certificate_of_nobody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS an answer comes as without, from who the authority vouches for."""
    authority = trustme.CA()
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        for _ in range(2):
            line, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(line, server_side=True) as tls:
                tls.recv(65_536)
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    thread = threading.Thread(target=run)
    thread.start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/machines"
    with pytest.raises(NoAnswer, match="SSLCertVerificationError"):
        ask("GET", url, b"", {}, 60)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert ask("GET", url, b"", {}, 60).body == b"ok"
    thread.join()
    listener.close()
