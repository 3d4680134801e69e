"""Other stream processors, each at its best settings that we know of: a 15-minute tumbling SUM and COUNT per machine.

They run in an environment of their own (peers_env.py), so nothing of this project is imported but the clock.
Arguments: the contender's name, the broker, a folder, the topic, the load's file. Prints one JSON object.
"""

import json
import os
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.bench.clock import Clock

WINDOW = timedelta(minutes=15)
PARTITIONS = 4
"""Each of them ends with a reading of nobody, stamped so late that it closes all windows."""

Sums = dict[str, tuple[int, int]]


def quixstreams(servers: str, folder: Path, topic: str, messages: int, clock: Clock) -> Sums:
    """State in RocksDB without changelog topics; a partition's windows close as its time goes on."""
    with warnings.catch_warnings(record=True):  # of a package of its own about another
        from quixstreams import Application
        from quixstreams.dataframe.windows import Count, Sum

    sums: Sums = {}
    left = messages

    def processed(_topic: str, _partition: int, _offset: int) -> None:
        nonlocal left
        left -= 1
        if clock.began is None:
            clock.batch_done(1)
        if not left:
            app.stop()

    app = Application(
        broker_address=servers,
        consumer_group=f"quix-{os.getpid()}",
        auto_offset_reset="earliest",
        state_dir=folder,
        use_changelog_topics=False,
        loglevel="ERROR",
        on_message_processed=processed,
    )
    source = app.topic(topic, value_deserializer="json", key_deserializer="str")
    windows = app.dataframe(source).tumbling_window(WINDOW, grace_ms=0).agg(total=Sum("register"), count=Count())

    def closed(value: dict[str, int], key: Any, _timestamp: int, _headers: Any) -> None:
        count, total = sums.get(key, (0, 0))
        sums[key] = count + value["count"], total + value["total"]

    windows.final(closing_strategy="partition").update(closed, metadata=True)
    app.run()
    clock.batch_done(0)
    return sums


def bytewax(servers: str, _folder: Path, topic: str, messages: int, clock: Clock) -> Sums:
    """Decoded batch by batch, folded window by window, in memory, unordered, without recovery."""
    import bytewax.operators as op
    import orjson
    from bytewax.connectors.kafka import KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
    from bytewax.testing import TestingSink, run_main

    found: list[Any] = []
    load_of = orjson.loads

    def decode(batch: Any) -> Any:
        if clock.began is None and batch:
            clock.batch_done(len(batch))
        readings = [load_of(message.value) for message in batch]
        return [(reading["machine"], reading) for reading in readings]

    def moment_of(reading: dict[str, Any]) -> datetime:
        return datetime.fromtimestamp(reading["observed_at"] / 1_000, UTC)

    flow = Dataflow("bench")
    source = op.input("source", flow, KafkaSource([servers], [topic], tail=False, batch_size=5_000))
    keyed = op.flat_map_batch("decode", source, decode)
    windows = fold_window(
        "window",
        keyed,
        EventClock(moment_of, wait_for_system_duration=timedelta(0)),
        TumblingWindower(length=WINDOW, align_to=datetime(2019, 1, 1, tzinfo=UTC)),
        lambda: (0, 0),
        lambda sums, reading: (sums[0] + 1, sums[1] + reading["register"]),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ordered=False,
    )
    op.output("sink", windows.down, TestingSink(found))
    run_main(flow)
    clock.batch_done(0)
    sums: Sums = {}
    for machine, (_, (count, total)) in found:
        before = sums.get(machine, (0, 0))
        sums[machine] = before[0] + count, before[1] + total
    return sums


def are_right(sums: Sums, load: dict[str, Any]) -> bool:
    """Whether the sums by machine are those of the load; what closed the windows is not looked at."""
    found = {machine: sums[machine] for machine in sums if machine not in ("", "end")}
    return found == {machine: (count, total) for machine, (count, _, total) in load["machines"].items()}


def main(arguments: list[str]) -> None:
    """Runs the contender that is named."""
    name, servers, folder, topic, load_file = arguments
    load = json.loads(Path(load_file).read_bytes())
    clock = Clock()
    run = {"quixstreams": quixstreams, "bytewax": bytewax}[name]
    sums = run(servers, Path(folder), topic, load["readings"] + PARTITIONS, clock)
    clock.stop()
    clock.report(name, load["readings"], are_right(sums, load))


if __name__ == "__main__":
    main(sys.argv[1:])
