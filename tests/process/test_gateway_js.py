"""The JavaScript gateway, packed, installed into an empty folder and run by Node: what it hands over is accepted and
trusted, its spool is Python's, and so are its words."""

import base64
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.log import Log
from streams.core.control_step import take_control
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from streams.core.replay import advance_by_cuts
from streams.core.signature import reading_key
from streams.core.state import State
from streams.kafka.producer import LogProducer
from tallyroot_gateway import Gateway, Reading
from tallyroot_gateway.receipts import Receipt, Receipts
from tallyroot_gateway.spool import Spool
from tests.support.gateway_faults import FAULTS, GOOD
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts
from tests.support.gateway_packages import ROOT, node_device, node_environment
from tests.support.gateway_packages import run as run_command
from tests.support.gateway_spools import NOW_MS, check_after_kill
from tests.support.sim_log import HOURLY, START_MS, private_key, shop_records

CHILD = Path(__file__).with_name("gateway_child.mjs")
SPOOL_CHILD = Path(__file__).with_name("spool_child.mjs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing is installed but the packed package, and the child beside it."""
    folder = node_device(tmp_path_factory.mktemp("device"))
    shutil.copy(CHILD, folder)
    shutil.copy(SPOOL_CHILD, folder)
    return folder


@pytest.fixture
def run(installed: Path) -> Any:
    def run(task: dict[str, Any]) -> list[Any]:
        """The lines that the child said."""
        command = ["node", str(installed / CHILD.name), json.dumps(task)]
        done = subprocess.run(command, env=node_environment(), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == (-9 if task.get("dies") else 0), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def put(kafka: str, name: str, records: list[dict[str, Any]]) -> None:
    """What the child's client would have done with its records."""
    producer = LogProducer(kafka, Log(log_id=name, topic=name))
    for record in records:
        headers = [(name, base64.b64decode(value)) for name, value in record["headers"]]
        value, key = base64.b64decode(record["value"]), base64.b64decode(record["key"])
        producer.send(int(time.time() * 1000), key, value, headers, record["partition"])
    producer.flush()
    producer.close()


def test_the_package_is_what_it_says(installed: Path) -> None:
    package = installed / "node_modules" / "tallyroot-gateway"
    about = json.loads((package / "package.json").read_text())
    assert (about["name"], about["type"], about.get("dependencies", {})) == ("tallyroot-gateway", "module", {})
    assert sorted(path.name for path in package.iterdir()) == sorted(
        [*about["files"], "package.json", "README.md", "LICENSE"]
    )
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for target in about["exports"]["."].values():
        assert (package / target).exists()
    names = re.findall(r"\{ ([\w, ]+) \} from", (package / "index.js").read_text())
    exported = {name for group in names for name in group.split(", ")}
    assert exported == set(re.findall(r"(?m)^export class (\w+)", (package / "index.d.ts").read_text()))


def test_its_records_are_accepted_and_trusted(kafka: str, run: Any, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-js", require_signature=True)
    now_ms = int(time.time() * 1000)
    readings = [{"machine": "taxi-1", "meter": "trips", "quantity": 1} for _ in range(120)]
    readings[7] |= {"session": "s-1", "session_started_at": now_ms - 5_000, "session_start": True}
    *records, said = run(
        {
            "options": {
                "logId": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": str(tmp_path),
                "keyId": "gw-1", "privateKey": KEY.hex(), "batchRows": 50,
            },
            "readings": [*readings, {"machine": "taxi-1", "meter": "energy", "register": 5}],
            "refusals": 2,
        },
    )  # fmt: skip
    assert (said["waiting"], said["left"], said["problem"], said["publicKey"]) == (0, 0, None, reading_key(KEY))
    first = said["sent"][0]["seq"]
    assert [reading["seq"] for reading in said["sent"]] == [*range(first, first + 120), said["sent"][-1]["seq"]]
    assert len(records) == 3
    put(kafka, log.topic, [*records, records[1]])
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    assert (done.counts.accepted, done.counts.duplicate) == (122, 50)
    assert window_facts(state) == (121, 120, 1)


def test_goods_are_received_once_whatever_is_killed(run: Any, tmp_path: Path) -> None:
    """The machine has ordered. What a killed gateway left, and what Python's left, is sent by the next one."""
    state = State.new(HOURLY, 0)
    for _ in advance_by_cuts(state, shop_records(0, START_MS)[:4]):
        pass
    options = {
        "logId": HOURLY.log_id, "route": "shop", "spool": str(tmp_path), "partitions": 1,
        "keyId": "k", "privateKey": private_key(1).hex(),
    }  # fmt: skip
    receipt = {"machine": "shop", "item": "beans", "number": 1, "quantity": 4, "observed_at": START_MS}
    bad = [receipt | {"number": 0}, receipt | {"quantity": 0.5}]
    assert run({"options": options, "receipts": [receipt, *bad], "dies": True})[0][0] is None
    Receipts(tmp_path).keep(Receipt("shop", "beans", 1, 3, START_MS))
    *records, said = run({"options": options, "receipts": [receipt, *bad]})
    assert said["received"] == [
        None, "this receipt was not taken: number: orders are numbered from 1",
        "this receipt was not taken: quantity: use an integer in the meter's unit, not 0.5",
    ]  # fmt: skip
    assert (said["waiting"], len(records)) == (0, 2)
    whole, fewer = sorted((record_of(each) for each in records), key=lambda record: b":3," in (record.value or b""))
    assert [take_control(state, record) for record in (whole, fewer, whole)] == [None, "order_closed", "duplicate"]


def record_of(said: dict[str, Any]) -> Record:
    """What the child handed to Kafka, as a record of the log."""
    headers = [(name, base64.b64decode(value)) for name, value in said["headers"]]
    return Record(9, START_MS, base64.b64decode(said["key"]), base64.b64decode(said["value"]), headers)


def test_its_words_are_python_s(run: Any, tmp_path: Path) -> None:
    bad = [GOOD | given for given, _ in FAULTS]
    options = {"logId": "l", "route": "taxi-1", "spool": str(tmp_path)}
    unknown = [GOOD | {"seq": 3}, GOOD | {"power": 3}]
    *_, said = run({"options": options, "readings": [GOOD], "bad": [*bad, *unknown]})
    assert said["faults"] == [
        *(f"this reading was not taken: {words}" for _, words in FAULTS),
        "this reading was not taken: seq is not a field to send: leave it out",
        "this reading was not taken: power is not a field to send: leave it out",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"logId": "a b"}, "logId: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not 'a b'"),
        ({"keyId": "k"}, "a gateway that signs needs both keyId and privateKey"),
        ({"keyId": "k", "privateKey": "00"}, "privateKey is not an Ed25519 private key: give its 32 bytes"),
        ({"partitions": 1.5}, "partitions: use an integer from 1 to 1024, not 1.5"),
        ({"sync": "never"}, "sync: use batch or reading, not 'never'"),
    ],
)
def test_an_option_that_cant_be_right_is_said(run: Any, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    (said,) = run({"options": {"logId": "l", "route": "r", "spool": str(tmp_path)} | options})
    assert said["fault"].startswith(words)


def test_a_register_that_falls_needs_reset_also_after_a_restart_by_either(run: Any, tmp_path: Path) -> None:
    energy = {"machine": "m", "meter": "energy"}
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(tmp_path)}
    readings = [energy | {"register": 9}, energy | {"register": 5}, {"machine": "m", "meter": "import", "register": 7}]
    (sent,) = run({"options": options, "readings": readings, "dies": True})
    assert "register: 5 is below 9, the last of m's energy" in sent[1]
    (again,) = run({"options": options, "dies": True, "readings": [readings[1], readings[1] | {"reset": True}]})
    assert "5 is below 9" in again[0]
    assert again[1]["boot"] > sent[0]["boot"]
    over = [energy | {"register": 9}, energy | {"register": 5, "rolls_over": True}]
    (rolled,) = run({"options": options, "dies": True, "readings": over})
    assert [reading["boot"] for reading in rolled] == [again[1]["boot"]] * 2
    spool = Spool(tmp_path, "log-1", "taxi-1", now_ms=int(time.time() * 1000))
    assert (spool.boot, spool.count) == (again[1]["boot"], 5)
    assert [spool.last_register("m", meter) for meter in ("energy", "import")] == [5, 7]
    spool.begin_boot("m", "import", int(time.time() * 1000))
    spool.close()
    *_, said = run({"options": options, "readings": [energy | {"register": 4}]})
    assert "4 is below 5" in said["sent"][0]
    assert said["boot"] == spool.boot


def test_while_kafka_is_away_readings_still_outlast_a_loss_of_power(installed: Path, tmp_path: Path) -> None:
    text = f"""
import fs from "node:fs";
import {{ syncBuiltinESMExports }} from "node:module";
import {{ Gateway }} from "tallyroot-gateway";
const spool = {json.dumps(str(tmp_path))};
const gateway = new Gateway({{ logId: "l", route: "r", spool, produce: () => new Promise(() => {{}}) }});
for (let n = 0; n < 2; n++) {{
  await new Promise((resolve) => {{
    fs.fsyncSync = resolve;
    syncBuiltinESMExports();
    gateway.send({{ machine: "m", meter: "e", level: n }});
  }});
}}
console.log(await gateway.close(0));
"""
    command = ["node", "--input-type=module", "-e", text]
    assert run_command(command, installed, node_environment()) == "2\n"


def test_a_folder_that_cant_be_written_is_said(run: Any) -> None:
    (said,) = run({"options": {"logId": "l", "route": "r", "spool": "/dev/null/spool"}})
    assert said["fault"] == "the spool /dev/null/spool can't be used (ENOTDIR): name a folder that can be written"


def test_the_partition_is_kafka_s(installed: Path) -> None:
    keys = [f"site-{number}.é{'x' * (number % 7)}" for number in range(200)]
    text = (
        'import { partitionOf } from "./node_modules/tallyroot-gateway/wire.js";'
        f"console.log(JSON.stringify({json.dumps(keys)}.map((key) => partitionOf(key, 64))))"
    )
    command = ["node", "--input-type=module", "-e", text]
    done = subprocess.run(command, cwd=installed, env=node_environment(), check=True, capture_output=True, timeout=60)
    assert json.loads(done.stdout) == [partition_of(key.encode(), 64) for key in keys]


def test_killed_it_leaves_a_spool_that_python_goes_on_with(kafka: str, run: Any, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-js-killed")
    options = {"logId": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": str(tmp_path)}
    readings = [{"machine": "taxi-1", "meter": "trips", "quantity": 1} for _ in range(30)]
    (sent,) = run({"options": options, "readings": readings, "dies": True})
    (more,) = run({"options": options, "readings": readings, "dies": True})
    assert [reading["seq"] for reading in sent + more] == list(range(sent[0]["seq"], sent[0]["seq"] + 60))
    with Gateway(kafka, log_id=log.log_id, topic=log.topic, route="taxi-1", spool=tmp_path) as gateway:
        last = gateway.send("taxi-1", "trips", quantity=1)
        assert (last.boot, last.seq) == (sent[0]["boot"], sent[0]["seq"] + 60)
        gateway.flush()
    state, done, _ = arrived(kafka, log)
    assert (done.rejects, done.counts.accepted) == ([], 62)
    assert window_facts(state) == (61, 61, 0)


def test_wherever_its_spool_is_cut_python_goes_on(installed: Path, tmp_path: Path) -> None:
    command = ["node", str(installed / SPOOL_CHILD.name), str(tmp_path), str(NOW_MS)]
    lines = run_command(command, installed, node_environment()).splitlines()
    assert len(lines) > 50
    for line in lines:
        done = json.loads(line)
        returned = [Reading(**reading) for reading in done["returned"]]
        check_after_kill(tmp_path / str(done["step"]), returned, done["acknowledged"])
    assert len(returned) == 22


def test_it_goes_on_with_the_spool_of_python(run: Any, tmp_path: Path) -> None:
    spool = Spool(tmp_path, "log-1", "taxi-1", now_ms=int(time.time() * 1000))
    seqs = []
    for register in range(40):
        reading = Reading("taxi-1", "energy", spool.boot, spool.next_seq("taxi-1", "energy"), 10**12, register=register)
        spool.append([reading])
        seqs.append(reading.seq)
    _, place = spool.read(spool.acked, 15, 1 << 20)
    spool.forget(place, 15)
    spool.close()
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(tmp_path)}
    record, said = run({"options": options, "readings": [{"machine": "taxi-1", "meter": "energy", "register": 41}]})
    rows = json.loads(base64.b64decode(record["value"]))
    assert [row["seq"] for row in rows] == [*seqs[15:], seqs[-1] + 1]
    assert said["boot"] == spool.boot


def test_both_write_the_same_bytes(run: Any, tmp_path: Path) -> None:
    energy = {"machine": "m", "meter": "energy", "observed_at": 1_764_288_000_000}
    now_ms = int(time.time() * 1000)
    python, js = tmp_path / "python", tmp_path / "js"
    for folder in (python, js):
        folder.mkdir()
        first = Spool(folder, "log-1", "taxi-1", now_ms=now_ms)
        first.append([Reading("m", "import", first.boot, first.next_seq("m", "import"), now_ms, level=2)])
        first.close()
    spool = Spool(python, "log-1", "taxi-1", now_ms=now_ms)
    spool.append(
        [Reading(**energy, boot=spool.boot, seq=spool.next_seq("m", "energy"), register=9, reconstructed=True)]
    )
    spool.close()
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(js)}
    run({"options": options, "readings": [energy | {"register": 9, "reconstructed": True}], "dies": True})
    for path in python.glob("*.readings"):
        assert (js / path.name).read_bytes() == path.read_bytes()


def test_it_sets_damage_aside_and_begins_a_higher_boot(run: Any, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    spool = Spool(tmp_path, "log-1", "taxi-1", now_ms=now_ms)
    for register in range(4):
        seq = spool.next_seq("taxi-1", "energy")
        spool.append([Reading("taxi-1", "energy", spool.boot, seq, now_ms, register=register)])
    spool.close()
    (path,) = tmp_path.glob("*.readings")
    data = bytearray(path.read_bytes())
    data[-150] ^= 4
    path.write_bytes(data)
    options = {"logId": "log-1", "route": "taxi-1", "spool": str(tmp_path)}
    record, said = run({"options": options, "readings": [{"machine": "taxi-1", "meter": "energy", "register": 9}]})
    rows = json.loads(base64.b64decode(record["value"]))
    assert [(row["boot"] - spool.boot, row["register"]) for row in rows][:2] == [(0, 0), (0, 1)]
    assert rows[-1]["boot"] == said["boot"] > spool.boot
    assert path.with_suffix(".damaged").read_bytes() in bytes(data)
