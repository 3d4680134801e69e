"""What bytes to columns costs, in nanoseconds of CPU a reading: `python -m tests.bench.kernel [--readings 60000]`.

A slice of one partition as the broker would send it, in lz4 batches of 500 records (Arrow: of 4), without a broker:
checksum and unpacking, split, rows. The least of several repeats, on one core, with all loops compiled.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from streams.core.kernel.entries import Entries
from streams.core.kernel.readings import Readings as Rows
from streams.core.records import ARROW, JSON
from streams.kafka.raw_batches import RawBatch, RawBatches
from streams.kafka.unpacking import LZ4
from tests.bench.dirt import DirtyReadings
from tests.bench.load import ARRAY_ROWS, ARROW_ROWS
from tests.bench.readings import Readings

MACHINES, REPEATS = 5_000, 9
Sent = tuple[int, int, bytes, bytes]


def load(encoding: str, count: int) -> tuple[Iterable[Sent], str, int]:
    """(partition, moment, key, value) of each record; their media type, and how many to a batch."""
    readings = Readings(MACHINES, count)
    if encoding == "arrow":
        return readings.batches(ARROW_ROWS, "arrow"), ARROW, 4
    if encoding == "json-array":
        return readings.batches(ARRAY_ROWS, "json"), JSON, 20
    share = {"json": 0.0, "json-dirty10": 0.1, "json-dirty100": 1.0}[encoding]
    return (DirtyReadings(readings, share).singles() if share else readings.singles()), JSON, 500


def fetched(sent: Iterable[Sent], media: str, size: int) -> Iterator[bytes]:
    """The records as packed batches, one after the other."""
    headers = [] if media == JSON else [("content-type", media.encode())]
    records = iter(sent)
    while some := list(islice(records, size)):
        builder = Builder(2, LZ4, 0, -1, -1, -1, 1 << 30)
        for number, (_, moment, key, value) in enumerate(some):
            builder.append(number, moment, key, value, list(headers))
        yield bytes(builder.build())


def least(step: Callable[[], object]) -> float:
    """Seconds of CPU that a step takes at the least."""
    spent = []
    for _ in range(REPEATS):
        begun = time.thread_time()
        step()
        spent.append(time.thread_time() - begun)
    return min(spent)


def batches_of(raw: bytes) -> Iterator[RawBatch]:
    """The batches of a fetch."""
    batches = RawBatches(raw)
    while (batch := batches.next_batch()) is not None:
        yield batch


def unpack(raw: bytes) -> None:
    """Checks and unpacks each batch, and lets it go."""
    for batch in batches_of(raw):
        if not batch.validate_crc() or not len(batch.unpacked):
            raise SystemExit("a batch of the load is damaged")


def split(batches: Sequence[RawBatch], entries: Entries) -> None:
    """Their records as columns, in memory that was used before."""
    entries.clear()
    for batch in batches:
        entries.add(batch)


def rows(entries: Entries) -> int:
    """How many rows they have, all of them read."""
    readings, line, count = Rows(entries), 0, 0
    while line < len(entries.records):
        line, some = readings.read(line)
        count += len(some)
    return count


def main() -> None:
    """Prints a line for each encoding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--readings", type=int, default=60_000)
    count = parser.parse_args().readings
    print(f"{'ns a reading':<16}{'unpack':>8}{'split':>8}{'rows':>8}{'sum':>8}")
    for encoding in ("json", "json-dirty10", "json-dirty100", "json-array", "arrow"):
        raw = b"".join(fetched(*load(encoding, count)))
        batches = list(batches_of(raw))
        entries = Entries()
        split(batches, entries)
        steps = [least(lambda: unpack(raw)), least(lambda: split(batches, entries)), least(lambda: rows(entries))]  # noqa: B023
        cells = "".join(f"{seconds / count * 1e9:8.1f}" for seconds in (*steps, sum(steps)))
        print(f"{encoding:<16}{cells}")


if __name__ == "__main__":
    main()
