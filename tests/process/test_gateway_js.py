"""The JavaScript gateway, run by Node: its records are accepted and trusted, and its spool is Python's."""

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.setup.bootstrap import find_node
from schemas.log import Log
from schemas.reading import Reading
from streams.core.murmur2 import partition_of
from streams.core.signature import reading_key
from streams.gateway.gateway import Gateway
from streams.gateway.spool import Spool
from streams.kafka.producer import LogProducer
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts

CHILD = Path(__file__).with_name("gateway_child.mjs")


@pytest.fixture(scope="module")
def node() -> str:
    folder = find_node()
    assert folder is not None, "no Node: run `make setup`"
    path = shutil.which("node", path=folder)
    assert path is not None
    return path


def run(node: str, task: dict[str, Any]) -> list[Any]:
    """The lines that the child said."""
    done = subprocess.run([node, str(CHILD), json.dumps(task)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == (-9 if task.get("dies") else 0), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def put(kafka: str, name: str, records: list[dict[str, Any]]) -> None:
    """What the child's client would have done with its records."""
    producer = LogProducer(kafka, Log(log_id=name, topic=name))
    for record in records:
        headers = [(name, base64.b64decode(value)) for name, value in record["headers"]]
        value, key = base64.b64decode(record["value"]), base64.b64decode(record["key"])
        producer.send(int(time.time() * 1000), key, value, headers, record["partition"])
    producer.flush()
    producer.close()


def test_its_records_are_accepted_and_trusted(kafka: str, node: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-js", require_signature=True)
    now_ms = int(time.time() * 1000)
    keys = [f"site-{number}.é{'x' * (number % 7)}" for number in range(200)]
    readings = [{"machine": "taxi-1", "meter": "trips", "quantity": 1} for _ in range(120)]
    readings[7] |= {"session": "s-1", "session_started_at": now_ms - 5_000, "session_start": True}
    good = readings[0]
    *records, said = run(
        node,
        {
            "options": {
                "logId": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": str(tmp_path),
                "keyId": "gw-1", "privateKey": KEY.hex(), "batchRows": 50,
            },
            "readings": [*readings, {"machine": "taxi-1", "meter": "energy", "register": 5}],
            "refusals": 2,
            "bad": [
                good | {"quantity": 1.5}, good | {"register": 1}, good | {"session": "s"}, good | {"machine": "a b"},
                good | {"seq": 3},
            ],
            "keys": keys,
        },
    )  # fmt: skip
    assert said["waiting"] == 0
    assert said["publicKey"] == reading_key(KEY)
    assert said["partitions"] == [partition_of(key.encode(), 64) for key in keys]
    assert [fault.split(": ")[1] for fault in said["faults"]] == [
        "quantity", "exactly one of register, quantity and level, not register and quantity",
        "session and session_started_at come together", "machine", "seq is no field of a reading to send",
    ]  # fmt: skip
    first = said["sent"][0]["seq"]
    assert [reading["seq"] for reading in said["sent"]] == [*range(first, first + 120), said["sent"][-1]["seq"]]
    assert len(records) == 3
    put(kafka, log.topic, [*records, records[1]])
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    assert (done.counts.accepted, done.counts.duplicate) == (122, 50)
    assert window_facts(state) == (121, 120, 1)


def test_killed_it_leaves_a_spool_that_python_goes_on_with(kafka: str, node: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-js-killed")
    options = {"logId": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": str(tmp_path)}
    readings = [{"machine": "taxi-1", "meter": "trips", "quantity": 1} for _ in range(30)]
    (sent,) = run(node, {"options": options, "readings": readings, "dies": True})
    (more,) = run(node, {"options": options, "readings": readings, "dies": True})
    assert [reading["seq"] for reading in sent + more] == list(range(sent[0]["seq"], sent[0]["seq"] + 60))
    with Gateway(kafka, log_id=log.log_id, topic=log.topic, route="taxi-1", spool=tmp_path) as gateway:
        last = gateway.send("taxi-1", "trips", quantity=1)
        assert (last.boot, last.seq) == (sent[0]["boot"], sent[0]["seq"] + 60)
        gateway.flush()
    state, done, _ = arrived(kafka, log)
    assert (done.rejects, done.counts.accepted) == ([], 62)
    assert window_facts(state) == (61, 61, 0)


def test_it_goes_on_with_the_spool_of_python(node: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path, "log-1", "taxi-1", now_ms=int(time.time() * 1000))
    seqs = []
    for register in range(40):
        reading = Reading("taxi-1", "energy", spool.boot, spool.next_seq("taxi-1", "energy"), 10**12, register=register)
        spool.append(reading)
        seqs.append(reading.seq)
    _, place = spool.read(spool.acked, 15, 1 << 20)
    spool.forget(place, 15)
    spool.close()
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(tmp_path)}
    readings = [{"machine": "taxi-1", "meter": "energy", "register": 41}]
    record, said = run(node, {"options": options, "readings": readings})
    rows = json.loads(base64.b64decode(record["value"]))
    assert [row["seq"] for row in rows] == [*seqs[15:], seqs[-1] + 1]
    assert said["boot"] == spool.boot


def test_it_sets_damage_aside_and_begins_a_higher_boot(node: str, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    spool = Spool(tmp_path, "log-1", "taxi-1", now_ms=now_ms)
    for register in range(4):
        seq = spool.next_seq("taxi-1", "energy")
        spool.append(Reading("taxi-1", "energy", spool.boot, seq, now_ms, register=register))
    spool.close()
    (path,) = tmp_path.glob("*.readings")
    data = bytearray(path.read_bytes())
    data[-150] ^= 4
    path.write_bytes(data)
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(tmp_path)}
    readings = [{"machine": "taxi-1", "meter": "energy", "register": 9}]
    record, said = run(node, {"options": options, "readings": readings})
    rows = json.loads(base64.b64decode(record["value"]))
    assert [(row["boot"] - spool.boot, row["register"]) for row in rows][:2] == [(0, 0), (0, 1)]
    assert rows[-1]["boot"] == said["boot"] > spool.boot
    assert path.with_suffix(".damaged").read_bytes() in bytes(data)
