"""Sends signed control records and reads the log on until it shows what became of each."""

import time
from collections.abc import Callable, Sequence

from deploy.machines.registry import Registry, Verdict
from schemas.errors import InvalidInput
from schemas.log import Log
from streams.core.records import Record
from streams.kafka.producer import LogProducer

ARRIVAL_SECONDS = 30.0
"""How long a record that Kafka has acknowledged may take until a second reader sees it."""


def send(
    log: Log, servers: str, registry: Registry, records: Sequence[Record], now_ms: int, progress: Callable[[int], None]
) -> list[Verdict]:
    """Produces the records and returns what the log makes of each, in their order.

    `progress` is called with the number of records of the log read so far. Raises InvalidInput where Kafka doesn't take
    a record, or doesn't show it within ARRIVAL_SECONDS.
    """
    times_ms = [_timestamp_ms(log, registry, record, now_ms) for record in records]
    for record in records:
        registry.awaits(record.value or b"")
    producer = LogProducer(servers, log)
    try:
        for record, time_ms in zip(records, times_ms, strict=True):
            headers = [(name, value or b"") for name, value in record.headers]
            producer.send(time_ms, record.key, record.value or b"", headers)
        producer.flush()
    finally:
        producer.close()
    return _verdicts(registry, records, progress)


def _verdicts(registry: Registry, records: Sequence[Record], progress: Callable[[int], None]) -> list[Verdict]:
    partitions = sorted({registry.partition_of((record.key or b"").decode()) for record in records})
    values = [record.value or b"" for record in records]
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        registry.read(progress, partitions)
        found = [registry.verdict_on(value) for value in values]
        if all(seen for seen, _ in found):
            return [verdict for _, verdict in found]
        if time.monotonic() > deadline:
            raise InvalidInput(
                "Kafka acknowledged the records, but they can't be read back: run the same command again"
            )
        time.sleep(0.05)


def _timestamp_ms(log: Log, registry: Registry, record: Record, now_ms: int) -> int:
    """Now, or in a backfill the partition's stream time: a later one would seal what is still to come."""
    if log.timestamp_type == "LogAppendTime":
        return now_ms
    stream_time_ms = registry.stream_time_ms(registry.partition_of((record.key or b"").decode()))
    if stream_time_ms is None:
        raise InvalidInput(f"the log {log.log_id} has no time yet: make it with `tallyroot init --from DATE`")
    return stream_time_ms
