"""`tallyroot check-gateway` on a real topic: what it shows, and what it exits with."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.cli import app as cli
from schemas.log import Log
from streams.kafka.producer import LogProducer
from tallyroot_gateway import Gateway
from tests.support.gateway_logs import KEY, new_log


def run(monkeypatch: pytest.MonkeyPatch, kafka: str, *words: str) -> int:
    """The command's exit code."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    return cli._exit_code(lambda: cli.app(["check-gateway", *words], standalone_mode=False))


def put(kafka: str, log: Log, value: Any, partition: int | None = None) -> None:
    producer = LogProducer(kafka, log)
    producer.send(int(time.time() * 1000), b"taxi-1", msgspec.json.encode(value), [], partition)
    producer.flush()
    producer.close()


def test_good_then_bad(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = new_log(kafka, "check-gateway")
    data = tmp_path / "data"
    data.mkdir()
    (data / "log.json").write_bytes(msgspec.json.encode(log))
    options: dict[str, Any] = {"log_id": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": tmp_path / "spool"}
    with Gateway(kafka, **options, key_id="gw-1", private_key=KEY) as gateway:
        for _ in range(5):
            last = gateway.send("taxi-1", "trips", quantity=1)
        gateway.flush()
    assert run(monkeypatch, kafka, "--data-dir", str(data)) == 0
    said = capsys.readouterr().out
    assert "nothing is wrong" in said
    assert "signed" in said
    assert "1.50 USD" in said

    put(kafka, log, {"machine": "taxi-1", "meter": "trips", "boot": 1, "seq": 1, "observed_at": 1, "quantity": 0.5})
    put(kafka, log, msgspec.structs.replace(last, quantity=9))
    assert run(monkeypatch, kafka, "--data-dir", str(data), "--machine", "taxi-1", "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert [problem["reason"] for problem in result["problems"]] == ["malformed", "equivocation"]
    assert result["problems"][0]["detail"] == "quantity: expected int, got float"
    (machine,) = result["machines"]
    assert (machine["accepted"], machine["trust"], machine["earned"]) == (5, 1, "1.500000")

    assert run(monkeypatch, kafka, "--data-dir", str(data), "--limit", "1") == 1
    said = capsys.readouterr().out
    assert "malformed: send integers" in said
    assert "... and 1 more" in said
    assert run(monkeypatch, kafka, "--data-dir", str(data), "--machine", "taxi-9") == 1
    assert "nothing of taxi-9 has arrived" in capsys.readouterr().out


def test_from_now_on(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = new_log(kafka, "check-gateway-now")
    (tmp_path / "log.json").write_bytes(msgspec.json.encode(log))
    trip = {"machine": "taxi-1", "meter": "trips", "boot": 1, "observed_at": int(time.time() * 1000), "quantity": 1}
    put(kafka, log, [trip | {"seq": seq} for seq in range(10)])
    codes: list[int] = []
    words = ("--from-now", "--records", "2", "--json", "--data-dir", str(tmp_path))
    thread = threading.Thread(target=lambda: codes.append(run(monkeypatch, kafka, *words)))
    thread.start()
    while "watching" not in capsys.readouterr().err:
        time.sleep(0.1)
    put(kafka, log, [trip | {"seq": seq} for seq in (10, 11, 14)])
    put(kafka, log, trip | {"seq": 15, "meter": "km"})
    thread.join(30)
    assert codes == [1]
    result = json.loads(capsys.readouterr().out)
    assert [problem["reason"] for problem in result["problems"]] == ["unknown_meter"]
    (machine,) = result["machines"]
    assert (machine["accepted"], machine["skipped"], machine["earned"]) == (3, 2, "0.900000")
