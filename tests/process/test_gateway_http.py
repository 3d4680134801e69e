"""The HTTP gateway over real sockets: what is taken, what is said of what isn't, and a client that repeats over kills.

Kafka is away: what was taken is what the spool has.
"""

import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from deploy.machines.form import read_form, registration_of
from tallyroot_gateway import Gateway
from tallyroot_gateway.errors import InvalidInput, SpoolFull
from tests.support.gateway_logs import arrived, new_log, window_facts
from tests.support.http_gateway import OTHER, Client, Served, free_port, gateway_file, rows_in, started

ROOT = Path(__file__).parents[2]
LINES, EVENT, EVENTS = (
    "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("http")) as gateway:
        yield gateway


def energy(register: int, **fields: Any) -> dict[str, Any]:
    return {"machine": "charger-1", "meter": "energy", "register": register} | fields


def event(id: str, register: int, **fields: Any) -> dict[str, Any]:
    source = {"specversion": "1.0", "id": id, "source": "/charger-1", "type": "reading"}
    return source | {"data": energy(register)} | fields


def test_readings_are_taken_with_their_numbers(served: Served) -> None:
    one = served.post(energy(5))
    assert (one.status, one.body["taken"], one.body["known"]) == (202, 1, 0)
    first = one.body["numbers"][0]["last_seq"]
    more = served.post([energy(6), energy(7), {"machine": "charger-2", "meter": "m", "level": 1}])
    numbers = {(each["machine"], each["meter"]): each for each in more.body["numbers"]}
    energies = numbers["charger-1", "energy"]
    assert (energies["first_seq"], energies["last_seq"]) == (first + 1, first + 2)
    assert numbers["charger-2", "m"]["boot"] == energies["boot"]
    lines = served.post(b'{"machine": "charger-1", "meter": "energy", "value": 1.25, "unit": "kWh"}\n' * 2, LINES)
    assert lines.body["numbers"][0]["last_seq"] == first + 4


def test_a_request_that_comes_again_is_taken_once(served: Served) -> None:
    key = str(uuid.uuid4())
    one = served.post(energy(8), key=key)
    again = served.post(energy(8), key=key)
    assert one.status == again.status == 202
    assert one.body == again.body
    assert ("idempotency-replayed" in one.headers, again.headers["idempotency-replayed"]) == (False, "true")
    other = served.post(energy(9), key=key)
    assert other.status == 422
    assert "it came with other content before" in other.body["detail"]
    drone = {"machine": "drone-1", "meter": "m", "level": 1}
    assert served.post(drone, key=key, token=OTHER).body["taken"] == 1  # another sender's keys are its own
    assert served.post(energy(8), key="a b").status == 400


def test_an_event_is_its_own_key(served: Served) -> None:
    assert served.post(event("1", 10), EVENT).body["taken"] == 1
    batch = served.post([event("1", 10), event("2", 11), event("3", 12)], EVENTS)
    assert (batch.status, batch.body["taken"], batch.body["known"]) == (202, 2, 1)
    binary = {"ce_specversion": "1.0", "ce_id": "3", "ce_source": "/charger-1", "ce_type": "reading"}
    assert served.post(energy(12), **binary).body == {"taken": 0, "known": 1, "numbers": []}
    assert served.post([], EVENTS).body["taken"] == 0
    wrong = served.post([event("4", 13), event("5", -1)], EVENTS)
    assert (wrong.status, wrong.body["row"]) == (422, 2)
    assert served.post(event("4", 13), EVENT).body["taken"] == 1  # nothing of the wrong batch was taken


def test_one_wrong_row_and_nothing_is_taken(served: Served) -> None:
    before = served.post(energy(20)).body["numbers"][0]["last_seq"]
    wrong = served.post([energy(21), energy(22, meter="odometer"), energy(23)])
    assert (wrong.status, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert wrong.body == {
        "title": "Unprocessable Entity", "status": 422, "row": 2,
        "detail": "charger-1 has no meter odometer: it has energy, trips",
    } | {"title": wrong.body["title"]}  # fmt: skip
    assert served.post(energy(24)).body["numbers"][0]["first_seq"] == before + 1


def test_who_may_not_is_told(served: Served) -> None:
    for token in (None, "tr_wrong"):
        refused = served.post(energy(1), token=token)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="tallyroot"')
    assert served.post({"machine": "drone-1", "meter": "m", "level": 1}).status == 403
    assert served.post(energy(1), token=OTHER).status == 202
    assert served.ask("GET", "/metrics").status == 401
    health = served.ask("GET", "/health")
    assert (health.status, health.body["healthy"]) in ((200, True), (503, False))


def test_what_is_no_request_of_this_gateway_is_told(served: Served) -> None:
    wrong = served.ask("PUT", "/v1/readings")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert served.ask("GET", "/nothing").status == 404
    assert served.post(b"x", "text/plain").status == 415
    assert served.post(b"{}", Content_Encoding="gzip").status == 415
    assert served.post(b"{").status == 400
    assert served.post(b"[" * 500_000).status == 400
    assert served.post(b'{"machine": "charger-1", "machine": "charger-2"}').status == 400
    assert served.post([energy(1)] * 10_001).status == 413
    assert served.post(b" " * (1 << 20) + b"{}").status == 413
    page = served.ask("GET", "/openapi.json")
    assert page.body == json.loads((ROOT / "docs" / "openapi-http-gateway.json").read_text())


def talk(port: int, *parts: bytes, pause: float = 0.0, seconds: float = 1.5) -> bytes:
    """What is answered to bytes that are sent piece by piece; empty where the connection just ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while data := connection.recv(65_536):
                said += data
        except (ConnectionError, TimeoutError):
            pass
        return said


HEAD = b"POST /v1/readings HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer tr_depot\r\nContent-Type: application/json\r\n"


def test_bodies_without_end_have_one(tmp_path: Path) -> None:
    with Served(tmp_path, http="body_seconds = 0.5") as gateway:
        bodies_without_end(gateway)


def bodies_without_end(served: Served) -> None:
    slow = talk(served.port, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert slow.startswith(b"HTTP/1.1 408 ")
    endless = talk(
        served.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 40
    )
    assert endless.startswith(b"HTTP/1.1 413 ")
    trickle = talk(served.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 10, pause=0.1)
    assert trickle.startswith(b"HTTP/1.1 408 ")
    huge = talk(served.port, HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n{")
    assert huge.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    assert talk(served.port, b"\x16\x03\x01\x02\x00" * 100).startswith(b"HTTP/1.1 400 ")
    assert served.post(energy(30)).status == 202


def test_headers_without_end_have_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyroot_gateway.http.server.HEADER_SECONDS", 0.3)
    assert talk(served.port, HEAD) == b""
    assert talk(served.port, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n", HEAD, pause=0.1).count(b"HTTP/1.1") == 1


def test_a_token_has_a_rate(tmp_path: Path) -> None:
    with Served(tmp_path, per_minute=60) as gateway:
        answers = [gateway.post(energy(1)) for _ in range(12)]
        assert [one.status for one in answers].count(202) in (10, 11, 12)
        for _ in range(20):
            answers.append(gateway.post(energy(1)))
        refused = next(one for one in answers if one.status == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert gateway.post({"machine": "drone-1", "meter": "m", "level": 1}, token=OTHER).status == 202


def test_where_the_disk_takes_nothing_nobody_is_told_that_it_did(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SpoolFull("the spool is full")

    def unsynced(*_: object) -> None:
        raise InvalidInput("the spool can't be written")

    with monkeypatch.context() as patch:
        patch.setattr(Gateway, "deliver", full)
        refused = served.post(energy(40), key="full")
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert served.post(event("full", 40), EVENT).status == 503
    assert served.post(energy(40), key="full").body["taken"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(Gateway, "sync", unsynced)
        assert served.post(energy(41), key="unsynced").status == 503
    again = served.post(energy(41), key="unsynced")
    assert (again.status, again.headers["idempotency-replayed"]) == (202, "true")


def test_many_at_once_with_one_key_are_one(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: served.post(energy(50), key="at-once"), range(16)))
    assert {one.status for one in answers} == {202}
    assert len({json.dumps(one.body) for one in answers}) == 1


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = 'certificate_file = "certificate.pem"\nkey_file = "key.pem"'
    with Served(tmp_path, tls=context, http=files) as gateway:
        assert gateway.post(energy(1)).status == 202
        with pytest.raises(ssl.SSLError):
            Client(gateway.port, ssl.create_default_context()).post(energy(1))


@pytest.mark.crash
def test_a_client_that_repeats_over_kills_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    file = gateway_file(tmp_path, port)
    chance = random.Random(3)
    client = Client(port)
    ended = threading.Event()
    sent = Counter[str]()

    def send(sender: int) -> None:
        """One request after another, each until it has an answer: by a key, or as events."""
        number = 0
        while not ended.is_set():
            number += 1
            name = f"{sender}-{number}"
            rows = [{"machine": "charger-1", "meter": "trips", "quantity": 1, "session": name,
                     "session_started_at": 1_767_268_800_000} for _ in range(1 + number % 3)]  # fmt: skip
            while True:
                try:
                    if number % 2:
                        answer = client.post(rows, key=name)
                    else:
                        events = [event(f"{name}-{index}", 0, data=row) for index, row in enumerate(rows)]
                        answer = client.post(events, EVENTS)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                assert answer.status == 202, answer
                break
            sent[name] = len(rows)

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send, sender) for sender in range(4)]
        for _ in range(4):
            process = started(file, port)
            time.sleep(chance.uniform(0.2, 0.6))
            process.kill()
            process.wait()
        process = started(file, port)
        ended.set()
        for sender in senders:
            sender.result()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    rows = rows_in(tmp_path, "depot-1")
    assert Counter(row.session for row in rows) == sent
    assert len(sent) > 50
    assert len({(row.meter, row.boot, row.seq) for row in rows}) == len(rows)


def test_answers_are_the_same_after_a_restart(tmp_path: Path) -> None:
    with Served(tmp_path) as gateway:
        first = gateway.post([energy(1), energy(2)], key="k")
        many = [{"machine": f"charger-{1 + n % 2}", "meter": "trips", "quantity": 1} for n in range(1, 200, 2)]
        assert gateway.post(many, key="many").status == 202
    with Served(tmp_path) as gateway:
        again = gateway.post([energy(1), energy(2)], key="k")
        assert (again.body, again.headers["idempotency-replayed"]) == (first.body, "true")
        assert gateway.post(energy(1), key="k").status == 422
        assert gateway.post(many, key="many").body["taken"] == 100
        for number in range(600):  # the ring turns over: what is forgotten is still known
            assert gateway.post(energy(3), key=f"n{number}").status == 202
        old = gateway.post([energy(1), energy(2)], key="k")
        assert (old.status, old.body) == (202, {"taken": 2, "known": 0, "numbers": []})
        assert old.headers["idempotency-replayed"] == "true"


def test_what_is_taken_is_billed(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-http")
    with Served(tmp_path, servers=kafka, log_id=log.log_id) as gateway:
        for register in (1_000, 1_010):
            taxi = {"machine": "taxi-1", "meter": "energy", "register": register}
            assert {gateway.post(taxi, token=OTHER, key=f"k{register}").status for _ in range(3)} == {202}
        trips = {"machine": "taxi-1", "meter": "trips", "quantity": 1}
        assert gateway.post([trips] * 5, token=OTHER).status == 202
        for each in gateway.intake._gateways.values():
            each.flush()
        assert gateway.ask("GET", "/health").status == 200
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    assert window_facts(state)[:2] == (7, 10 + 5)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = gateway_file(tmp_path, taken.getsockname()[1])
        command = [sys.executable, "-m", "tallyroot_gateway", "http", "--config", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "choose another" in done.stderr


def test_what_is_discovered_is_a_form_that_can_be_registered(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tallyroot_gateway",
        "http",
        "--config",
        str(gateway_file(tmp_path, 1)),
        "--discover",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    file = tmp_path / "machines.toml"
    file.write_text(done.stdout)
    forms = read_form(file)
    made = [
        registration_of(form, currency="EUR", zone=None, version=1, salt="00" * 16, years=range(2026, 2027))
        for form in forms
    ]
    assert [(one.machine, one.route) for one in made] == [
        ("charger-1", "depot-1"), ("charger-2", "depot-1"), ("drone-1", "drone-1"),
        ("taxi-1", "taxi-1"),
    ]  # fmt: skip


def test_the_lines_of_the_how_to_run_as_they_are_written(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "devices-http.md").read_text()
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", page)
    environment = dict(os.environ) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "\n".join(["set -e", *(block for block in blocks if "pip install" not in block)])
    script = script.replace("8420", str(free_port()))
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"taken"')]
    assert [(one["taken"], one["known"]) for one in answers] == [(1, 0), (1, 0), (2, 0), (2, 0), (2, 0), (1, 0), (0, 1)]
    assert len(rows_in(tmp_path, "depot-1", "log-1")) == 5
