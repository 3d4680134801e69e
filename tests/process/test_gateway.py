"""Gateways against a real broker: what they send is accepted, trusted, and there once, whatever became of them."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from schemas.reading import Reading
from streams.core.records import decode_plainly
from streams.core.sealing import open_windows
from streams.core.signature import reading_key
from tallyroot_gateway import Gateway, InvalidInput
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts

CHILD = Path(__file__).with_name("gateway_child.py")
NOBODY = "127.0.0.1:1"
"""Where nothing answers."""


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_a_signed_gateway_is_trusted(kafka: str, tmp_path: Path, form: Any) -> None:
    log = new_log(kafka, f"gateway-{form}", require_signature=True)
    with Gateway(
        kafka, log_id=log.log_id, topic=log.topic, route="taxi-1", spool=tmp_path, format=form,
        key_id="gw-1", private_key=KEY, batch_rows=50,
    ) as gateway:  # fmt: skip
        started_at = int(time.time() * 1000) - 5_000
        for number in range(200):
            gateway.send("taxi-1", "energy", register=1_000 + number // 100)
            gateway.send("taxi-1", "trips", quantity=1, session=f"s-{number}", session_started_at=started_at)
        gateway.flush()
        assert gateway.status().waiting == 0
        assert gateway.status().public_key == reading_key(KEY)
    state, done, records = arrived(kafka, log)
    assert done.rejects == []
    assert (done.counts.accepted, done.counts.duplicate) == (401, 0)
    assert window_facts(state) == (400, 201, 1)
    assert len(records) < 50


def test_kafka_may_be_away_for_long(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-away")
    options: dict[str, Any] = {"log_id": log.log_id, "topic": log.topic, "route": "taxi-1", "spool": tmp_path}
    away = Gateway(NOBODY, **options)
    numbers = [away.send("taxi-1", "trips", quantity=1).seq for _ in range(100)]
    with pytest.raises(InvalidInput, match=r"100 readings still wait for Kafka .*: they stay in"):
        away.flush(0.1)
    assert away.close(0) == 100
    with pytest.raises(InvalidInput, match="the gateway is closed"):
        away.send("taxi-1", "trips", quantity=1)
    with Gateway(kafka, **options) as back:
        numbers += [back.send("taxi-1", "trips", quantity=1).seq for _ in range(10)]
        back.flush()
    assert numbers == list(range(numbers[0], numbers[0] + 110))
    state, done, _ = arrived(kafka, log)
    assert (done.rejects, done.counts.accepted) == ([], 111)
    assert window_facts(state) == (110, 110, 0)


def test_no_reading_is_lost_or_counted_twice_over_kills(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-kills")
    said: list[tuple[int, ...]] = []
    for round in range(3):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), kafka, log.log_id, str(tmp_path), KEY.hex()], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(300 + 217 * round):
            said.append(tuple(map(int, child.stdout.readline().split())))
        child.kill()
        said += [tuple(map(int, line.split())) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        child.stdout.close()
    with Gateway(kafka, log_id=log.log_id, topic=log.topic, route="taxi-1", spool=tmp_path) as gateway:
        last = gateway.send("taxi-1", "trips", quantity=1)
        gateway.flush()
    state, done, records = arrived(kafka, log)
    sent = [row for record in records for row in decode_plainly(record.value or b"") if isinstance(row, Reading)]
    by_number = {(row.meter, row.boot, row.seq): row for row in sent}
    assert all(by_number[row.meter, row.boot, row.seq] == row for row in sent)
    trips = sorted((boot, seq) for meter, boot, seq in by_number if meter == "trips")
    # A number may be written, and its process killed before it could say so.
    assert set(said) <= set(trips)
    assert trips[-1] == (last.boot, last.seq)
    # In each boot a meter's numbers have no gap.
    for meter in ("trips", "energy"):
        numbers = sorted((boot, seq) for name, boot, seq in by_number if name == meter)
        assert all(after[0] > before[0] or after[1] == before[1] + 1 for before, after in pairwise(numbers))
    # What goes out again may be of a boot before the previous one by then: it was accepted the first time.
    assert {reject.reason for reject in done.rejects} <= {"stale_boot"}
    assert done.counts.accepted == 1 + len(by_number)
    assert window_facts(state)[0] == len(by_number)
    assert sum(window.skipped for window in open_windows(state)) == 0


def test_a_reset_bills_nothing_and_gets_the_stream_past_a_misread_register(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-reset")
    with Gateway(kafka, log_id=log.log_id, topic=log.topic, route="taxi-1", spool=tmp_path) as gateway:
        for register in (1_000, 1_010, 1_000_000_000):
            gateway.send("taxi-1", "energy", register=register)
        with pytest.raises(InvalidInput, match=r"register: 1020 is below 1000000000"):
            gateway.send("taxi-1", "energy", register=1_020)
        gateway.send("taxi-1", "energy", register=1_020, reset=True)
        gateway.send("taxi-1", "energy", register=3, reset=True)
        gateway.send("taxi-1", "energy", register=5)
        gateway.flush()
    state, done, _ = arrived(kafka, log)
    assert [reject.reason for reject in done.rejects] == ["too_high"]
    assert window_facts(state)[:2] == (5, 10 + 10 + 2)


def test_a_topic_that_is_not_there_is_said(kafka: str, tmp_path: Path) -> None:
    gateway = Gateway(kafka, log_id="l", topic="gateway-nowhere", route="taxi-1", spool=tmp_path)
    gateway.send("taxi-1", "trips", quantity=1)
    with pytest.raises(InvalidInput, match="there is no topic gateway-nowhere on this Kafka"):
        gateway.flush(2)
    assert gateway.close(0) == 1


def test_another_number_of_partitions_is_said_and_nothing_sent(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-partitions")
    gateway = Gateway(kafka, log_id=log.log_id, topic=log.topic, partitions=8, route="taxi-1", spool=tmp_path)
    gateway.send("taxi-1", "trips", quantity=1)
    with pytest.raises(InvalidInput, match="has 4 partitions, not 8: make the gateway with"):
        gateway.flush(2)
    assert gateway.close(0) == 1


@pytest.mark.timeout(30)  # nobody is waited for
def test_a_bad_reading_is_refused_before_it_has_a_number(tmp_path: Path) -> None:
    gateway = Gateway(NOBODY, log_id="l", route="taxi-1", spool=tmp_path)
    first = gateway.send("taxi-1", "trips", quantity=1).seq
    with pytest.raises(InvalidInput, match="this reading was not taken: quantity: use an integer"):
        gateway.send("taxi-1", "trips", quantity=1.0)  # type: ignore[arg-type]
    assert gateway.send("taxi-1", "trips", quantity=1).seq == first + 1
    assert gateway.close(0) == 2


def test_many_threads_may_send(tmp_path: Path) -> None:
    gateway = Gateway(NOBODY, log_id="l", route="taxi-1", spool=tmp_path)
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: gateway.send("taxi-1", "trips", quantity=1).seq, range(400)))
    assert sorted(sent) == list(range(min(sent), min(sent) + 400))
    assert gateway.close(0) == 400
