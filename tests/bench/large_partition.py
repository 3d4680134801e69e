"""A partition of many machines: how long it takes to register them, to end an epoch and to open again. Asserts no time.

One process does all of it, as a worker's thread of checkpoints would: (1) registrations, and a reading of each machine;
(2) its windows seal; (3) a record ends the epoch, the cut; (4) the epoch's files become final beside it; (5) the
partition is closed and opened again, a restart. Seconds of CPU are those of the thread for a cut, whose files are
written on another one, and else of the process, all that DuckDB takes included.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from schemas.log import Log
from schemas.reading import HEARTBEAT
from schemas.units import HOUR_MS
from streams.core.records import LogRecord
from streams.kafka.reader import KafkaLogReader
from streams.worker.partition import Partition
from tests.bench.clock import peak_bytes
from tests.bench.load import flush, produce, producer_of, register_machines
from tests.bench.readings import ROW, START_MS, names_of

Result = dict[str, float]


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    thread: float
    process: float


def of_partition(servers: str, folder: Path, machines: int) -> Result:
    """One partition with so many machines, on a broker, in a folder that is empty."""
    name = f"bench-partition-{machines}"
    log = Log(log_id=name, topic=name, partitions=1, timestamp_type="CreateTime")
    register_machines(servers, log, machines)
    _send_readings(producer_of(servers), log, machines)
    reader = KafkaLogReader(servers, log.topic)
    opened: list[Partition] = []

    def open_it() -> None:
        partition = Partition.open(folder, log, 0, reader.topic_id(), reader, background=True)
        if partition is None:
            raise SystemExit("a worker still holds the partition")
        opened.append(partition)

    open_it()
    slices = list(reader.slices(0, 0, reader.range(0)[1]))
    registered = _spent(lambda: _process(opened[0], slices, machines))
    _process(opened[0], slices, 2 * machines)
    _process(opened[0], slices, 2 * machines + 1)
    cut = _spent(lambda: _process(opened[0], slices, 2 * machines + 2))
    final = _spent(opened[0].drain)
    opened[0].close()
    restart = _spent(open_it)
    is_right = opened[1].machines == machines and opened[1].next_offset == 2 * machines + 2 and not opened[1].pending
    opened[1].close()
    reader.close()
    return {
        "machines": machines,
        "registrations_per_cpu_second": round(machines / registered.process),
        "cut_seconds": round(cut.wall, 3),
        "cut_cpu_seconds": round(cut.thread, 3),
        "final_cpu_seconds": round(final.process, 3),
        "restart_seconds": round(restart.wall, 3),
        "restart_cpu_seconds": round(restart.process, 3),
        "peak_rss_bytes": peak_bytes(),
        "correct": is_right,
    }


def _send_readings(producer: Producer, log: Log, machines: int) -> None:
    """A reading of each machine, what seals their windows, and what ends the epoch."""
    for number, name in enumerate(names_of(machines)):
        value = ROW % (name, 1, 0, START_MS, number)
        produce(producer, number, log.topic, value, name, timestamp=START_MS, headers=[])
    _, end_ms = log.epoch_span(log.epoch_of(START_MS))
    for moment in (START_MS + HOUR_MS, end_ms + HOUR_MS):
        headers = [("ce_type", HEARTBEAT.encode())]
        produce(producer, 0, log.topic, b"", b"end", timestamp=moment, headers=headers)
    flush(producer)


def _process(partition: Partition, slices: Sequence[Sequence[LogRecord]], end: int) -> None:
    """Commits the records from the partition's offset on, before `end`."""
    for records in slices:
        start, (first, last) = partition.next_offset or 0, (records[0].offset, records[-1].offset)
        if first <= start <= last and start < end:
            next_offset = min(end, last + 1)
            partition.process(start, next_offset, records[start - first : next_offset - first])


def _spent(step: Callable[[], None]) -> Spent:
    """What a step takes."""
    clocks = (time.perf_counter, time.thread_time, time.process_time)
    begun = [clock() for clock in clocks]
    step()
    return Spent(*(clock() - before for clock, before in zip(clocks, begun, strict=True)))
