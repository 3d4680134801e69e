"""Uptime as 23 CFR 680.116 means it, of machines that say so: by a level meter `availability`, 1 in service, else out.

What the meter said holds until its next word; its last word holds until the window of the machine's last reading ends.
Windows carry no levels, so the archive is replayed by the real core, and only where such a meter was ever named: each
epoch once, for what stands after the last one is kept.

`availability.json`          the outcome, for the view `machines`, and how far the archive was looked at
`availability/<n>.standing`  what the meters of a partition said in a year, and its state after the last epoch
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.query import query
from files.format import FORMAT
from files.read import read_json
from files.write import make_folder, write_bytes, write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import epoch_folder
from schemas.reading import Reading
from schemas.units import DAY_MS, MINUTE_MS

if TYPE_CHECKING:
    from deploy.explain.archive_source import ArchiveSource
    from streams.core.state import State

METER = b"availability"
IN_SERVICE = 1
YEAR_MS = 365 * DAY_MS
AVAILABILITY_FILE, FOLDER = "availability.json", "availability"

Point = tuple[int, int]
"""A moment (epoch ms) and the level that the meter showed."""


class MachineAvailability(Struct, frozen=True):
    """`outage_minutes` of `period_minutes`, which begin with the meter's first word, a year back at most."""

    machine: str
    period_minutes: int
    outage_minutes: int


class Looked(Struct, frozen=True):
    """A partition: its last archived epoch (the folder's name), and whether the archive names such a meter."""

    epoch: str
    is_named: bool


class Standing(Struct, frozen=True):
    """A partition after the epoch of that folder: `tables` are its state's (`storage/snapshot`), `points` by machine.

    It is gone on from only where the state has the digest that the epoch's manifest names.
    """

    format: int
    log: Log
    epoch: str
    tables: dict[str, bytes]
    points: dict[str, list[Point]]


class AvailabilityFile(Struct, frozen=True):
    """availability.json."""

    partitions: dict[int, Looked] = {}
    machines: tuple[MachineAvailability, ...] = ()


def refresh_availability(data: DataFolder) -> None:
    """Brings availability.json up to the archive. Raises InvalidInput where the archive is damaged."""
    path = data.data_dir / AVAILABILITY_FILE
    kept = _kept(path)
    found = {partition: _look(files, kept.partitions.get(partition)) for partition, files in _archive(data).items()}
    if found == kept.partitions:
        return
    log = data.log()
    points: dict[str, list[Point]] = {}
    for partition, looked in found.items():
        if looked.is_named:
            points |= _points(data.data_dir, log, partition)
    with suppress(OSError):  # who may only read this folder sees what was written last
        write_json(path, AvailabilityFile(found, _machines(data, points)))


def minutes_of(machine: str, points: Sequence[Point], last_seen_ms: int, until_ms: int) -> MachineAvailability:
    """What a machine's words come to by `until_ms`, partial minutes counting as out. `points` is not empty."""
    said = sorted(points, key=lambda point: point[0])  # of one moment, the later record's word stands
    from_ms = max(said[0][0], until_ms - YEAR_MS)
    silent_ms = min(until_ms, last_seen_ms)
    up_ms = sum(
        max(0, min(end, silent_ms) - max(start, from_ms))
        for (start, level), (end, _) in pairwise([*said, (silent_ms, 0)])
        if level == IN_SERVICE
    )
    period = max(0, until_ms - from_ms) // MINUTE_MS
    return MachineAvailability(machine, period, period - min(period, up_ms // MINUTE_MS))


def _kept(path: Path) -> AvailabilityFile:
    try:
        return read_json(path, AvailabilityFile, what="an account of availability", remedy="remove it")
    except InvalidInput:
        return AvailabilityFile()  # it is made again from the archive


def _archive(data: DataFolder) -> dict[int, list[Path]]:
    """The archive's files by partition, in the order of their epochs."""
    files: dict[int, list[Path]] = {}
    for path in sorted(data.data_dir.glob("log/*/*.parquet")):
        files.setdefault(int(path.stem), []).append(path)
    return files


def _look(files: Sequence[Path], before: Looked | None) -> Looked:
    """Reads on where the last look ended, until a record names such a meter."""
    if before is not None and before.is_named:
        return Looked(files[-1].parent.name, is_named=True)
    after = "" if before is None else before.epoch
    is_named = any(_is_named_in(path) for path in files if path.parent.name > after)
    return Looked(files[-1].parent.name, is_named)


def _is_named_in(path: Path) -> bool:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return any(
            pc.any(pc.match_substring(batch.column("value"), METER)).as_py()
            for batch in file.iter_batches(columns=["value"])
        )


def _points(data_dir: Path, log: Log, partition: int) -> dict[str, list[Point]]:
    """What the meters of a partition's machines said in the last year, as far as it was accepted."""
    from deploy.explain.archive_source import ArchiveSource
    from files.foreign import PlainFiles
    from streams.core.records import LogRecord
    from streams.core.replay import judge_watched, replay
    from streams.core.state import State
    from streams.storage.snapshot import packed

    def may_name(record: LogRecord) -> bool:
        value = record.value or b""
        return METER in value or b"\\" in value  # with an escape it may name anything

    path = data_dir / FOLDER / f"{partition}.standing"
    archive = ArchiveSource(PlainFiles(data_dir), partition)
    state, points, after = _stood(path, log, partition, archive) or (State.new(log, partition), {}, "")
    for stop in replay(state, archive.whole(after), may_name):
        for change in () if stop.record is None else judge_watched(state, stop.record, ()):
            row = change.entry if isinstance(change.entry, Reading) and change.outcome is None else None
            if row is not None and row.meter.encode() == METER and row.kind == "level":
                points.setdefault(row.machine, []).append((row.observed_at, row.value))
    last = archive.manifests[-1]
    points = {machine: _of_a_year(said, last.end_ms) for machine, said in points.items()}
    if (epoch := epoch_folder(last.start_ms)) != after:
        with suppress(OSError):
            make_folder(path.parent)
            standing = Standing(FORMAT, log, epoch, packed(state.tables()), points)
            write_bytes(path, msgspec.msgpack.encode(standing))
    return points


def _stood(
    path: Path, log: Log, partition: int, archive: "ArchiveSource"
) -> "tuple[State, dict[str, list[Point]], str] | None":
    """State, points and epoch that were kept; None where they are of other rules, damaged, or not of this archive."""
    from pyarrow import ArrowException

    from streams.core.state import State
    from streams.storage.snapshot import unpacked

    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=Standing)
        digest = {epoch_folder(each.start_ms): each.state_digest for each in archive.manifests}.get(kept.epoch)
        state = State.load(log, partition, unpacked(kept.tables))
    except (OSError, msgspec.MsgspecError, ArrowException, LookupError, ValueError, TypeError):
        return None
    is_ours = (kept.format, kept.log) == (FORMAT, log) and state.digest().hex() == digest
    return (state, kept.points, kept.epoch) if is_ours else None


def _of_a_year(said: Sequence[Point], end_ms: int) -> list[Point]:
    """The points that can still count at `end_ms` or later, by time: from the last one before that year on."""
    ordered = sorted(said, key=lambda point: point[0])
    first = sum(at_ms <= end_ms - YEAR_MS for at_ms, _ in ordered)
    return ordered[max(0, first - 1) :]


def _machines(data: DataFolder, points: dict[str, list[Point]]) -> tuple[MachineAvailability, ...]:
    if not points:
        return ()
    rows = query(
        data,
        'SELECT machine, epoch_ms(last_seen), epoch_ms(max("end")) FROM machines JOIN epochs USING ("partition")'
        " GROUP BY machine, last_seen ORDER BY machine",
    ).rows
    found = [
        minutes_of(str(name), points[str(name)], int(str(last_seen)), int(str(until)))
        for name, last_seen, until in rows
        if str(name) in points and last_seen is not None
    ]
    return tuple(row for row in found if row.period_minutes)
