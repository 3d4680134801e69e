"""Where an audit reads the log: Kafka itself, or the archive beside it. Both are replayed by the same pure core."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochManifest, RangeException
from schemas.reading import HEARTBEAT
from schemas.window import Window
from streams.adapters.archive import read_archive
from streams.adapters.epochs import read_manifest
from streams.adapters.log_reader import LogReader
from streams.excepted import checked
from streams.recompute import recompute
from streams.records import LogRecord, Record

Epoch = tuple[EpochManifest, list[Window]]


def from_log(log: Log, reader: LogReader, partition: int, exceptions: Sequence[RangeException] = ()) -> Iterator[Epoch]:
    """The epochs of a partition as Kafka's log gives them, without what the exceptions leave out (as the reader does).

    Raises InvalidInput if the log has lost its beginning."""
    earliest, end = reader.range(partition)
    if earliest:
        raise InvalidInput(
            f"Kafka has lost the first {earliest} offsets of partition {partition}: audit with --from-archive"
        )
    yield from _epochs(log, partition, reader.read(partition, 0, end) if end else (), exceptions)


def from_archive(log: Log, data_dir: Path, partition: int) -> Iterator[Epoch]:
    """The epochs of a partition as its archive gives them, without Kafka. Raises InvalidInput if there is none."""
    yield from _epochs(
        log, partition, archived_records(data_dir, partition), checked(log, archived_exceptions(data_dir, partition))
    )


def archived_records(data_dir: Path, partition: int) -> Iterator[LogRecord]:
    """All archived records of a partition, then the cut of the last archived epoch.

    The record that made that cut is the first one of an archive that isn't written yet. Its manifest says its offset
    and what it did to stream time; a heartbeat that does the same stands in for it.
    """
    manifests = sorted(data_dir.glob(f"epochs/*/{partition}.manifest.json"))
    last = read_manifest(manifests[-1]) if manifests else None
    if last is None:
        raise InvalidInput(f"no archive of partition {partition} in {data_dir}: let a worker finish an epoch")
    for path in manifests:
        archive = data_dir / "log" / path.parent.name / f"{partition}.parquet"
        if not archive.is_file():
            raise InvalidInput(f"the archive {archive} is missing: restore it, or audit from Kafka")
        yield from read_archive(archive)
    end = last.manifest
    yield Record(end.next_offset, end.stream_time_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),))


def archived_exceptions(data_dir: Path, partition: int) -> Iterator[RangeException]:
    """What the manifests of a partition name: the archive needs no other file to be audited."""
    for path in sorted(data_dir.glob(f"epochs/*/{partition}.manifest.json")):
        found = read_manifest(path)
        if found is not None:
            yield from found.manifest.exceptions


def _epochs(
    log: Log, partition: int, records: Iterable[LogRecord], exceptions: Sequence[RangeException]
) -> Iterator[Epoch]:
    for result in recompute(log, partition, records, exceptions=exceptions):
        yield result.manifest, result.windows
