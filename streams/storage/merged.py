# ruff: noqa: S608 - every name put into a statement is a constant of ours
"""Small epochs for analysts: the tables of a day's epochs in one file each, `merged/<day>.<table>.parquet`.

Epochs of a day or longer are merged by the month. Only what is over is merged: every partition has published all epochs
that start in the day, and no live file shows any of them. The epochs' own files stay as they are: they are what
settlement, audits and proofs read.

(1) the files of a day, each whole or not there: views that are open don't show them
(2) merged/until.json
(3) the views, made again: from here on queries read the day from merged/

One that is killed repeats its day; between (2) and (3) the old views are right, and the next query makes new ones.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from msgspec import Struct

from files.format import FORMAT, METADATA
from files.lock import FileLock
from files.write import Step, Temporary, file_digest, make_folder, no_step, sync_folder, write_json
from schemas.arrow import ORDER, TABLES
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import epoch_folder
from schemas.units import DAY_MS, SECOND_MS
from streams.storage.analytics import make_analytics, manifest_type
from streams.storage.epoch_files import existing_manifest
from streams.storage.views_origin import MERGED, UNTIL_FILE, MergedUntil, merged_until

Progress = Callable[[float, str], None]


class Merged(Struct, frozen=True, kw_only=True):
    """Days (or months) that were merged now, the files of epochs that queries no longer list, and those in their place.

    `until_ms` is where the epochs begin that are still read from their own files; 0 where none was ever merged.
    """

    days: tuple[str, ...]
    files_before: int
    files_after: int
    until_ms: int


def merge(data_dir: Path, log: Log, progress: Progress, step: Step = no_step) -> Merged:
    """Merges every day that is over. Repeating it changes nothing. `step` is for crash tests.

    Raises InvalidInput where another merge runs, or a file of an epoch isn't the one that its manifest names.
    """
    make_folder(data_dir / MERGED)
    lock = FileLock.acquire(data_dir / MERGED / "merge.lock")
    if lock is None:
        raise InvalidInput(f"another merge of {data_dir} runs: wait for it to end")
    days, before, after = [], 0, 0
    try:
        published = sorted((data_dir / "epochs").glob("*/*.manifest.json"))
        bound_ms = _bound(data_dir, log, published)
        spans = list(_spans(log, merged_until(data_dir), published, bound_ms))
        for done, (name, start_ms, end_ms) in enumerate(spans):
            progress(done / len(spans), name)
            first, end = epoch_folder(start_ms), epoch_folder(end_ms)
            manifests = [path for path in published if first <= path.parent.name < end]
            sources, targets = _merge_day(data_dir, name, manifests)  # (1)
            step("1 files")
            write_json(data_dir / MERGED / UNTIL_FILE, MergedUntil(end_ms))  # (2)
            step("2 until")
            make_analytics(data_dir, log)  # (3)
            step("3 views")
            days.append(name)
            before, after = before + sources, after + targets
    finally:
        lock.release()
    return Merged(days=tuple(days), files_before=before, files_after=after, until_ms=merged_until(data_dir))


def _bound(data_dir: Path, log: Log, published: list[Path]) -> int:
    """Up to where (epoch ms) all partitions have published all their epochs, and queries read none from live/."""
    lasts = {path.name.split(".")[0]: path for path in published}
    if len(lasts) < log.partitions:
        return 0  # one that has published nothing yet may begin with any epoch
    ends = [existing_manifest(path).manifest.end_ms for path in lasts.values()]
    live = [pq.read_table(path)["from_ms"][0].as_py() for path in (data_dir / "live").glob("*/boundary.parquet")]
    return int(min(ends + live))


def _spans(log: Log, until_ms: int, published: list[Path], bound_ms: int) -> Iterator[tuple[str, int, int]]:
    """The days, or months, that are over and not merged: their names, starts and ends (epoch ms)."""
    if not published:
        return
    start_ms = until_ms or _floor(log, _moment_ms(published[0].parent.name))[1]
    longest_ms = 31 * DAY_MS if log.epoch_ms >= DAY_MS else DAY_MS
    while (end_ms := _floor(log, start_ms + longest_ms)[1]) <= bound_ms:
        yield _floor(log, start_ms)[0], start_ms, end_ms
        start_ms = end_ms


def _floor(log: Log, moment_ms: int) -> tuple[str, int]:
    """The name of the day or month that holds a moment, and its start."""
    moment = datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).replace(hour=0, minute=0, second=0)
    if log.epoch_ms >= DAY_MS:
        moment = moment.replace(day=1)
    return moment.strftime("%Y%m" if log.epoch_ms >= DAY_MS else "%Y%m%d"), int(moment.timestamp()) * SECOND_MS


def _moment_ms(folder: str) -> int:
    return int(datetime.strptime(folder, "%Y%m%dT%H%M%S%z").timestamp()) * SECOND_MS


def _merge_day(data_dir: Path, day: str, manifests: list[Path]) -> tuple[int, int]:
    """Writes a day's files; returns how many there were, and are."""
    sources: dict[str, list[str]] = {table: [] for table in TABLES}
    for path in manifests:
        for name, digest in existing_manifest(path).files.items():
            table = name.rpartition("/")[2].split(".")[1]
            if name.startswith("epochs/") and table in sources:
                if file_digest(data_dir / name) != digest:
                    raise InvalidInput(f"{data_dir / name} is not the file that {path} names: restore it from a backup")
                sources[table].append(str(data_dir / name))
    written = 0
    with duckdb.connect(config={"threads": 1}) as db:
        for table, paths in sources.items():
            if paths:
                order = ", ".join(f'"{column}" NULLS FIRST' for column in ORDER[table])
                name = rf"regexp_extract(filename, '([0-9TZ]+/[0-9]+)\.{table}\.parquet$', 1)"
                rows = (
                    f'SELECT * EXCLUDE filename, {name} AS "name", split_part("name", \'/\', 2)::BIGINT AS "partition"'
                    f' FROM read_parquet($paths, filename = true, union_by_name = true) ORDER BY {order}, "name"'
                )
                _copy(db, rows, paths, data_dir / MERGED / f"{day}.{table}.parquet")
                written += 1
        rows = f"FROM read_json($paths, columns = {{manifest: {manifest_type()}, manifest_digest: 'VARCHAR'}})"
        _copy(db, rows, [str(path) for path in manifests], data_dir / MERGED / f"{day}.epochs.parquet")
    sync_folder(data_dir / MERGED)
    return sum(map(len, sources.values())) + len(manifests), written + 1


def _copy(db: duckdb.DuckDBPyConnection, rows: str, paths: list[str], target: Path) -> None:
    file = Temporary(target)
    into = str(file.temporary).replace("'", "''")
    metadata = f"{{'{METADATA.decode()}': '{FORMAT}'}}"
    db.execute(
        f"COPY ({rows}) TO '{into}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 65536, KV_METADATA {metadata})",
        {"paths": paths},
    )
    file.publish()
