"""A few thousand bytes on the broker's disk that unpack to 60 MB cost a reader at most 200 MB; more is an error."""

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.log import Log
from streams.kafka.topics import create_topic
from tests.support.kafka_log import a_log

ROOT = Path(__file__).resolve().parents[2]
COST_MAX = 200 << 20
READ = """
import resource, sys
from schemas.errors import InvalidInput
from streams.core.records import decode_readings, is_oversized
from streams.core.kernel.entries import Entries, Written
from streams.kafka.reader import KafkaLogReader
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
reader = KafkaLogReader(sys.argv[1], sys.argv[2])
before = peak()
try:
    for record in reader.read(0, 0, reader.range(0)[1]):
        print("oversized" if is_oversized(record) else "looked into", len(record.value), end=" ")
except InvalidInput as error:
    print(error)
print("cost", peak() - before)
"""
"""What a reader makes of partition 0, and what memory that costs it at the most."""


def send(servers: str, log: Log, value: bytes) -> None:
    """One record in a batch of its own, packed by zstd."""
    large = {"message.max.bytes": 10**9, "queue.buffering.max.kbytes": 2_000_000}
    producer = Producer({"bootstrap.servers": servers, "compression.type": "zstd", **large})
    producer.produce(log.topic, value, partition=0)
    assert producer.flush(60) == 0


def read(servers: str, log: Log) -> tuple[str, int]:
    """(what a process of its own says, bytes of memory that it took)."""
    command = [sys.executable, "-c", READ, servers, log.topic]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown, _, cost = said.rpartition("cost ")
    return shown, int(cost)


def test_sixty_megabytes_are_read_and_left_alone(kafka: str) -> None:
    log = a_log("bomb-60", partitions=1)
    create_topic(kafka, log)
    send(kafka, log, b'["' + b"a" * 60_000_000 + b'"' + b",[]" * 70 + b"]")
    shown, cost = read(kafka, log)
    assert shown == "oversized 60000214 "
    assert cost < COST_MAX


@pytest.mark.parametrize("megabytes", [70, 900])
def test_more_is_an_error_that_names_partition_and_offsets(kafka: str, megabytes: int) -> None:
    log = a_log(f"bomb-{megabytes}", partitions=1)
    create_topic(kafka, log)
    send(kafka, log, b"{}")
    send(kafka, log, bytes(megabytes * 1_000_000))
    shown, cost = read(kafka, log)
    assert shown.startswith("looked into 2 partition 0 of the topic")
    assert "between the offsets 1 and 2" in shown and "64 MiB" in shown and "skip-range" in shown
    assert cost < COST_MAX
