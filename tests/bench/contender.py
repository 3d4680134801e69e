"""One contender in a process of its own. Arguments: its name, the broker, its folder, readings, usage, registers.

What is measured begins when the first batch is done and ends with the last, so that no start-up counts; a batch is what
the contender takes at once (a record, for stock Faust). Prints one JSON object.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import orjson
from confluent_kafka import Consumer

from streams.adapters.kafka_reader import client_config
from streams.app import WorkerProgress, WorkerSettings, run_worker
from tests.bench.load import PARTITIONS, ROWS_A_RECORD, Load, log_of

WINDOW_MS = 15 * 60 * 1_000


class Clock:
    """Wall and CPU time from the end of the first batch to the end of the last."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None
        self.ended = (0.0, 0.0)
        self.readings = 0

    def batch_done(self, readings: int) -> None:
        self.ended = time.perf_counter(), time.process_time()
        if self.began is None:
            self.began = self.ended
        else:
            self.readings += readings

    def report(self, name: str, correct: bool) -> None:
        """Prints the result."""
        began = self.began or self.ended
        wall, cpu = (end - start for end, start in zip(self.ended, began, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
        result = {
            "contender": name,
            "readings": self.readings,
            "wall_seconds": round(wall, 3),
            "cpu_seconds": round(cpu, 3),
            "readings_per_cpu_second": round(self.readings / cpu) if cpu else 0,
            "peak_rss_bytes": peak,
            "correct": correct,
        }
        sys.__stdout__.write(msgspec.json.encode(result).decode() + "\n")
        sys.__stdout__.flush()


def tallyroot(encoding: str, servers: str, folder: Path, load: Load, clock: Clock) -> bool:
    """The real worker on a data folder in which the machines are registered already."""
    rows = ROWS_A_RECORD[encoding]

    def on_progress(progress: WorkerProgress) -> None:
        clock.batch_done(progress.records * rows)

    settings = WorkerSettings(
        bootstrap_servers=servers, data_dir=folder, log=log_of(encoding), until_caught_up=True, on_progress=on_progress
    )
    if run_worker(settings) != 0:
        return False
    readings = usage = 0
    for partition in range(PARTITIONS):
        with duckdb.connect(str(folder / "partitions" / f"{partition}.duckdb"), read_only=True) as db:
            query = "SELECT sum(readings), sum(list_sum([line.usage for line in lines])) FROM windows"
            ((found, used),) = db.execute(query).fetchall()
            readings, usage = readings + int(found or 0), usage + int(used or 0)
    return (readings, usage) == (load.readings, load.usage)


def count_only(servers: str, load: Load, clock: Clock) -> bool:
    """librdkafka's consumer, which counts values and looks into none."""
    consumer = Consumer(
        client_config(servers)
        | {"group.id": f"count-{os.getpid()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([log_of("plain").topic])
    counted = 0
    while counted < load.readings:
        batch = consumer.consume(20_000, 0.1)
        if batch:
            counted += sum(message.value() is not None for message in batch)
            clock.batch_done(len(batch))
    consumer.close()
    return counted == load.readings


def stock_faust(servers: str, folder: Path, load: Load, clock: Clock, report: Callable[[bool], None]) -> None:
    """A plain agent of stock faust-streaming: the sum of each machine's window, in a dict. Ends the process."""
    import faust

    app: Any = faust.App(
        f"stock-{os.getpid()}",
        broker=f"kafka://{servers}",
        store="memory://",
        datadir=folder,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        broker_max_poll_records=20_000,
        web_enabled=False,
    )
    topic = app.topic(log_of("plain").topic, key_serializer="raw", value_serializer="raw", value_type=bytes)
    sums: dict[tuple[str, int], list[int]] = {}

    async def agent(stream: Any) -> None:
        seen = 0
        async for event in stream.events():
            reading = orjson.loads(event.value)
            key = reading["machine"], reading["observed_at"] // WINDOW_MS
            window = sums.setdefault(key, [0, 0])
            window[0] += reading["register"]
            window[1] += 1
            seen += 1
            if seen == 1:
                clock.batch_done(1)
            if seen == load.readings:
                clock.batch_done(seen - 1)
                counted, total = (sum(column) for column in zip(*((b, a) for a, b in sums.values()), strict=True))
                report((counted, total) == (load.readings, load.registers))
                os._exit(0)

    app.agent(topic)(agent)
    sys.argv = ["stock", "worker", "-l", "error", "--without-web"]
    app.main()


def main(arguments: list[str]) -> None:
    """Runs the contender that is named."""
    name, servers, folder = arguments[0], arguments[1], Path(arguments[2])
    load = Load(*map(int, arguments[3:6]))
    clock = Clock()
    if name == "stock-faust":
        stock_faust(servers, folder, load, clock, lambda correct: clock.report(name, correct))
    elif name == "count-only":
        clock.report(name, count_only(servers, load, clock))
    else:
        clock.report(name, tallyroot(name.removeprefix("tallyroot-"), servers, folder, load, clock))


if __name__ == "__main__":
    main(sys.argv[1:])
