"""What an agent asks of strangers is cut where it takes too long or is too long."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.ports import Away
from deploy.agent import web_hand


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
    monkeypatch.setattr(web_hand, "ANSWER_S", 0.2)
    monkeypatch.setattr(web_hand, "BODY_MAX", 1_000)
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

    web = web_hand.WebHand()
    for answer, said in (
        (lambda line: stop.wait(5), "within 0 s"), (slowly, "within 0 s"), (endless_headers, "HTTPException"),
        (too_long, "more than"), (lambda line: line.sendall(b"nonsense"), "no answer"),
        (lambda line: None, "no answer"),
    ):  # fmt: skip
        with pytest.raises(Away, match=said):
            web.ask("GET", served(answer), b"", {})  # type: ignore[arg-type]
    stop.set()
    moved = served(lambda line: line.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\nthere"))
    assert web.ask("POST", moved, b"{}", {}) == (302, "", b"there")
    with pytest.raises(Away, match="ConnectionRefusedError"):
        web.ask("GET", "http://127.0.0.1:9/", b"", {})
