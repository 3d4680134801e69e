"""One contender in a process of its own. Arguments: its name, the broker, its folder, the topic, the load's file.

`register` only takes in what the log holds: the machines. Prints one JSON object.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import orjson
from confluent_kafka import Consumer

from schemas.log import Log
from streams.kafka.security import client_config
from streams.worker.app import WorkerProgress, WorkerSettings, run_worker
from tests.bench.clock import Clock
from tests.bench.load import ROWS_A_RECORD, Load
from tests.bench.readings import PARTITIONS

WINDOW_MS = 15 * 60 * 1_000
COMMITS_FILE = "commits.jsonl"
"""One line for each commit of a tallyroot contender: [epoch seconds, readings]."""


def tallyroot(encoding: str, servers: str, folder: Path, log: Log, clock: Clock) -> None:
    """The real worker on a data folder in which the machines are registered already; without an encoding, before."""
    rows = ROWS_A_RECORD.get(encoding, 1)
    commits: list[tuple[float, int]] = []

    def on_progress(progress: WorkerProgress) -> None:
        clock.batch_done(progress.records * rows)
        commits.append((time.time(), progress.records * rows))

    settings = WorkerSettings(
        bootstrap_servers=servers, data_dir=folder, log=log, until_caught_up=True, on_progress=on_progress
    )
    run_worker(settings)
    clock.stop()
    if encoding:
        lines = [msgspec.json.encode(commit) for commit in commits]
        (folder / f"{os.getpid()}-{COMMITS_FILE}").write_bytes(b"\n".join(lines))


def is_right(folder: Path, load: Load) -> bool:
    """Whether the checkpoints hold what the load comes to: machine by machine, refused entries by reason, trust."""
    machines: dict[str, tuple[int, int]] = {}
    rejects: dict[str, int] = {}
    duplicates, trust = 0, set()
    for partition in range(PARTITIONS):
        with duckdb.connect(str(folder / "partitions" / f"{partition}.duckdb"), read_only=True) as db:
            for machine, readings, usage in db.execute(
                "SELECT machine, sum(readings), any_value(usage) FROM windows LEFT JOIN"
                " (SELECT machine, sum(usage) AS usage FROM lines GROUP BY ALL) USING (machine) GROUP BY ALL"
            ).fetchall():
                machines[machine] = int(readings), int(usage or 0)
            for reason, count in db.execute("SELECT reason, count(*) FROM rejects GROUP BY ALL").fetchall():
                rejects[reason] = rejects.get(reason, 0) + count
            trust |= {
                row[0] for row in db.execute("SELECT DISTINCT trust FROM windows WHERE gross_micros > 0").fetchall()
            }
            duplicates += db.execute("SELECT duplicate FROM position").fetchall()[0][0]
    expected = {machine: (readings, usage) for machine, (readings, usage, _) in load.machines.items()}
    return (machines, rejects, duplicates, trust) == (expected, load.rejects, load.duplicates, {load.trust})


def has_machines(folder: Path, count: int) -> bool:
    """Whether the checkpoints have judged so many registrations, and accepted each."""
    accepted = entries = 0
    for path in (folder / "partitions").glob("*.duckdb"):
        with duckdb.connect(str(path), read_only=True) as db:
            some = db.execute("SELECT accepted, entries FROM position").fetchall()[0]
            accepted, entries = accepted + some[0], entries + some[1]
    return accepted == entries == count


def count_only(servers: str, topic: str, load: Load, clock: Clock) -> bool:
    """librdkafka's consumer, which counts values and looks into none: the ceiling of whoever takes record by record."""
    consumer = Consumer(
        client_config(servers)
        | {"group.id": f"count-{os.getpid()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([topic])
    counted = 0
    while counted < load.readings + PARTITIONS:
        batch = consumer.consume(20_000, 0.1)
        if batch:
            counted += sum(message.value() is not None for message in batch)
            clock.batch_done(len(batch))
    clock.stop()
    consumer.close()
    return counted == load.readings + PARTITIONS


def stock_faust(
    servers: str, folder: Path, topic: str, load: Load, clock: Clock, report: Callable[[bool], None]
) -> None:
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
    source = app.topic(topic, key_serializer="raw", value_serializer="raw", value_type=bytes)
    sums: dict[tuple[str, int], list[int]] = {}
    left = load.readings + PARTITIONS

    async def agent(stream: Any) -> None:
        nonlocal left
        async for event in stream.events():
            reading = orjson.loads(event.value)
            key = reading["machine"], reading["observed_at"] // WINDOW_MS
            window = sums.setdefault(key, [0, 0])
            window[0] += reading["register"]
            window[1] += 1
            left -= 1
            if clock.began is None or not left:
                clock.batch_done(1)
            if not left:
                clock.stop()
                report(_are_right(sums, load))
                os._exit(0)

    app.agent(source)(agent)
    sys.argv = ["stock", "worker", "-l", "error", "--without-web"]
    app.main()


def _are_right(sums: dict[tuple[str, int], list[int]], load: Load) -> bool:
    found: dict[str, tuple[int, int]] = {}
    for (machine, _), (total, count) in sums.items():
        before = found.get(machine, (0, 0))
        found[machine] = before[0] + count, before[1] + total
    found.pop("", None)
    return found == {machine: (count, total) for machine, (count, _, total) in load.machines.items()}


def main(arguments: list[str]) -> None:
    """Runs the contender that is named."""
    name, servers, folder, topic = arguments[0], arguments[1], Path(arguments[2]), arguments[3]
    log = Log(log_id=topic, topic=topic, partitions=PARTITIONS, timestamp_type="CreateTime")
    clock = Clock()
    if name == "register":
        tallyroot("", servers, folder, log, clock)
        return
    load = Load.read(Path(arguments[4]))
    if name == "faust-stock":
        stock_faust(servers, folder, topic, load, clock, lambda correct: clock.report(name, load.readings, correct))
    elif name == "count-only":
        correct = count_only(servers, topic, load, clock)
        clock.report(name, load.readings, correct)
    else:
        tallyroot(name.removeprefix("tallyroot-"), servers, folder, log, clock)
        if load.machines:  # of two workers on one folder, whoever started them asks
            correct = "--unchecked" in arguments or is_right(folder, load)
        else:
            correct = has_machines(folder, load.readings)
        clock.report(name, load.readings, correct)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # DuckDB's bindings would list on stderr what the interpreter's end leaves of them
