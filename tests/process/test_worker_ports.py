"""The ports of a worker: the one it serves its status on, and those of a broker that it looks for."""

import http.client
import json
import socket

import pytest

from schemas.errors import InvalidInput
from streams.worker.health import Condition, StatusServer
from streams.worker.watchdog import is_away


def get(url: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_status_server_answers_and_gives_its_port_back() -> None:
    conditions = [Condition(reason=None, partitions=(3,)), Condition(reason="stalled: x")]
    server = StatusServer("127.0.0.1", 0, lambda: conditions.pop(0), lambda: b"metric 1\n")
    server.start()
    try:
        status, text = get(server.url, "/health")
        assert (status, json.loads(text)) == (200, {"status": "ok", "reason": None, "partitions": [3]})
        status, text = get(server.url, "/health?verbose")
        assert (status, json.loads(text)["reason"]) == (503, "stalled: x")
        assert get(server.url, "/metrics") == (200, "metric 1\n")
        assert get(server.url, "/")[0] == 404
        with pytest.raises(InvalidInput, match="choose another --metrics-port"):
            StatusServer("127.0.0.1", int(server.url.rpartition(":")[2]), lambda: conditions[0], lambda: b"")
    finally:
        server.stop()
    StatusServer("127.0.0.1", int(server.url.rpartition(":")[2]), lambda: conditions[0], lambda: b"").stop()


def test_a_broker_is_away_if_no_server_of_the_list_takes_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert not is_away(there)
        with socket.create_server(("127.0.0.1", 0)) as other:
            gone = f"127.0.0.1:{other.getsockname()[1]}"
        assert not is_away(f"{gone}, {there}")
        assert is_away(gone)
