"""`ingest`: files of one's own into the log, once each row, whatever was sent before and wherever a run was killed.

    (1) read the files   (2) read the log: machines, and the readings that stand in it   (3) place what is new
    (4) write names and skipped rows   (5) send, in each partition by ascending time   (6) end the period, if asked

Killed anywhere, the same command goes on: what has arrived is recognised in the log.
"""

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.importers.drafts import Drafts, SkippedRow, drafts_of
from deploy.importers.log_readings import LogReadings, NotingReader
from deploy.importers.mapping import Mapping as FileMapping
from deploy.importers.placing import UNREGISTERED, Limits, Placed, Placement, place
from deploy.importers.register_form import register_form
from deploy.machines.registry import Registry
from files.lock import FileLock
from files.read import FileMissing, read_json
from files.write import make_folder, write_bytes, write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import HEARTBEAT
from schemas.registration import Registration
from streams.core.encode import json_row, json_value
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.storage.log_reader import LogReader

Step = Callable[[str], None]
FOLDER = "ingest"
NAMES_FILE = "names.json"
LOCK_FILE = "ingest.lock"
RECORD_ROWS = 1_000
"""The most readings of one moment that go into one record."""
PROGRESS_RECORDS = 20_000


class IngestOptions(Struct, frozen=True, kw_only=True):
    """`end_ms` (epoch ms): the files are whole up to there, so the log's time may go on to it and its epochs end.
    `skipped` is where the rows go that are not sent; by default a file in the data folder, named after the first."""

    end_ms: int | None = None
    skipped: Path | None = None
    dry_run: bool = False


class IngestReport(Struct, frozen=True, kw_only=True):
    """What became of each row: rows = sent + there already + those skipped, by reason. Moments are epoch ms.

    `totals` are the new readings by "meter unit", `file_totals` all that the files say; registers have none.
    `names` are the machines whose id is not their name. `left_over` is what made no whole unit, as text.
    """

    files: list[str]
    rows: int
    sent_rows: int
    there_already: int
    skipped: dict[str, int]
    skipped_file: str | None
    machines: int
    unregistered: list[str]
    names: dict[str, str]
    readings: int
    records: int
    late: int
    twice_by_the_clock: int
    first_ms: int | None
    last_ms: int | None
    totals: dict[str, int]
    file_totals: dict[str, int]
    left_over: dict[str, str]
    ended_at_ms: int | None
    sent: bool


class _Registrations:
    """Registrations as `placing` asks for them."""

    def __init__(self, registry: Registry, machines: Sequence[str]) -> None:
        self._found = {name: registry.machine(name) for name in machines}

    def at(self, machine: str, moment_ms: int) -> Registration | None:
        found = self._found[machine]
        return None if found is None else found.version_at(moment_ms).registration

    def last(self, machine: str) -> Registration | None:
        found = self._found[machine]
        return None if found is None else found.last.registration


def ingest(
    data: DataFolder, files: Sequence[Path], mapping: FileMapping, options: IngestOptions, step: Step
) -> IngestReport:
    """Sends what the log lacks of the files. Raises InvalidInput, in one line, where nothing of them can be sent.

    Two runs at once in one data folder would number alike: the second is refused.
    """
    log = data.log()
    if options.end_ms is not None and log.timestamp_type != "CreateTime":
        raise InvalidInput("--end is for a log of recorded data: a live log's time is the broker's clock")
    if options.end_ms is not None and options.end_ms > _now_ms():
        raise InvalidInput("--end lies ahead: a period ends with a day that is over")
    make_folder(data.data_dir)
    lock = FileLock.acquire(data.data_dir / LOCK_FILE)
    if lock is None:
        raise InvalidInput(f"another `tallyroot ingest` is at work in {data.data_dir}: wait for it")
    try:
        found = read_files(files, mapping)  # (1)
        step(f"  {found.rows:,} rows read, {len(found.names):,} machines")
        reader = KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges())
        registry, placement = placed(log, reader, found, mapping, _now_ms(), step)  # (2) (3)
        return _carry_out(data, log, files, mapping, options, found, registry, placement, step)
    finally:
        lock.release()


def read_files(files: Sequence[Path], mapping: FileMapping) -> Drafts:
    """The files as drafts. Raises InvalidInput where no row says anything."""
    found = drafts_of(files, mapping)
    if not found.drafts:
        first = found.skipped[0] if found.skipped else None
        what = "it has no rows" if first is None else f"row {first.origin.row}: {first.reason} {first.detail}".strip()
        raise InvalidInput(f"{files[0].name} has no row that could be read ({what}): does the mapping fit it?")
    return found


def write_register_form(files: Sequence[Path], mapping: FileMapping, currency: str, path: Path) -> int:
    """Writes a registration form for the files' machines, to be filled in; returns how many there are.

    Raises InvalidInput where the path is taken: what a person filled in is not overwritten.
    """
    if path.exists():
        raise InvalidInput(f"{path} is there already: name another file, or remove it")
    found = read_files(files, mapping)
    write_bytes(path, register_form(found, mapping, currency).encode())
    return len(found.names)


def placed(
    log: Log, reader: LogReader, found: Drafts, mapping: FileMapping, now_ms: int, step: Step
) -> tuple[Registry, Placement]:
    """Reads the log and works out what is new. Raises InvalidInput where no machine of the files is registered."""
    machines = sorted({draft.machine for draft in found.drafts})
    first_ms, last_ms = min(d.start_ms for d in found.drafts), max(d.end_ms for d in found.drafts)
    known = LogReadings(frozenset(machines), first_ms, last_ms)
    registry = Registry(log, NotingReader(reader, known.note), machines)
    registry.read(lambda count: step(f"  {count:,} records of the log read"))
    registered = _Registrations(registry, machines)
    missing = [name for name in machines if registered.last(name) is None]
    if len(missing) == len(machines):
        raise InvalidInput(
            f"none of the {len(machines)} machines of the file is registered: write a form with"
            " `tallyroot ingest FILE --register-form machines.toml`, fill it in, and `tallyroot register` it"
        )
    limits = {name: _limits(log, registry, name, now_ms) for name in machines if name not in missing}
    units = {meter: amount.unit for meter, amount in mapping.amounts.items()}
    return registry, place(found.drafts, mapping.kind, units, known, registered, limits)


def _limits(log: Log, registry: Registry, machine: str, now_ms: int) -> Limits:
    ruleset = log.rulesets[-1]
    time_ms: int | None = now_ms
    if log.timestamp_type == "CreateTime":
        found = registry.machine(machine)
        time_ms = registry.stream_time_ms(registry.partition_of(found.route if found is not None else machine))
        if time_ms is None:
            raise InvalidInput(f"the log {log.log_id} has no time yet: make it with `tallyroot init --from DATE`")
    time_ms = now_ms if time_ms is None else time_ms
    return Limits(time_ms - ruleset.horizon_ms, time_ms, now_ms + ruleset.skew_ms)


def _carry_out(
    data: DataFolder, log: Log, files: Sequence[Path], mapping: FileMapping, options: IngestOptions, found: Drafts,
    registry: Registry, placement: Placement, step: Step,
) -> IngestReport:  # fmt: skip
    skipped = [*found.skipped, *placement.skipped]
    names = _changed_names(found.names)
    path = options.skipped or data.data_dir / FOLDER / f"{files[0].name}.skipped.csv"
    if placement.late:
        step(f"  {placement.late:,} rows lie before the log's time: they become adjustments of their windows")
    if not options.dry_run:
        _keep_names(data.data_dir / FOLDER / NAMES_FILE, names)  # (4)
        if skipped:
            make_folder(path.parent)
            write_bytes(path, _skipped_csv(skipped))
    records = list(records_of(placement.readings))
    end_ms = options.end_ms
    if not options.dry_run:
        _send(log, data.kafka_servers(), registry, records, end_ms, step)  # (5) (6)
    moments = [each.reading.observed_at for each in placement.readings]
    units = {meter: amount.unit for meter, amount in mapping.amounts.items()}
    return IngestReport(
        files=[file.name for file in files], rows=found.rows, sent_rows=placement.sent_rows,
        there_already=placement.there_already, skipped=dict(Counter(row.reason for row in skipped).most_common()),
        skipped_file=str(path) if skipped and not options.dry_run else None, machines=len(found.names),
        unregistered=sorted({row.detail for row in skipped if row.reason == UNREGISTERED}), names=names,
        readings=len(placement.readings), records=len(records), late=placement.late,
        twice_by_the_clock=found.twice_by_the_clock, first_ms=min(moments, default=None),
        last_ms=max(moments, default=None), totals=_with_units(placement.totals, units),
        file_totals={} if mapping.kind == "registers" else _with_units(found.totals(), units),
        left_over={f"{meter} {units[meter]}": _thousandths(rest) for meter, rest in found.left_over.items() if rest},
        ended_at_ms=end_ms if not options.dry_run else None, sent=not options.dry_run,
    )  # fmt: skip


def records_of(readings: Sequence[Placed]) -> Iterator[tuple[int, str, bytes]]:
    """(moment, route, value) of the records that carry the readings: one for those of a route and a moment."""
    for (at_ms, route), group in groupby(readings, key=lambda each: (each.reading.observed_at, each.route)):
        rows = [json_row(each.reading) for each in group]
        for first in range(0, len(rows), RECORD_ROWS):
            yield at_ms, route, json_value(rows[first : first + RECORD_ROWS])


def _send(
    log: Log,
    servers: str,
    registry: Registry,
    records: Sequence[tuple[int, str, bytes]],
    end_ms: int | None,
    step: Step,
) -> None:
    times = {number: registry.stream_time_ms(number) or 0 for number in range(log.partitions)}
    producer = LogProducer(servers, log)
    try:
        for count, (at_ms, route, value) in enumerate(records, 1):
            partition = registry.partition_of(route)
            times[partition] = max(times[partition], at_ms)
            producer.send(times[partition], route.encode(), value)
            if count % PROGRESS_RECORDS == 0:
                step(f"  {count:,} of {len(records):,} records sent")
        producer.flush()
        if end_ms is not None:
            last_ms = end_ms + log.rulesets[-1].grace_ms
            for partition in (number for number, time_ms in times.items() if time_ms < last_ms):
                producer.send(last_ms, None, b"{}", [("ce_type", HEARTBEAT.encode())], partition)
            producer.flush()
    finally:
        producer.close()


def _changed_names(names: Mapping[str, str]) -> dict[str, str]:
    """Machines whose id isn't what the file calls them."""
    return {machine: name for machine, name in sorted(names.items()) if machine != name.replace(" / ", ".")}


def _keep_names(path: Path, names: Mapping[str, str]) -> None:
    """Adds to the names that are kept. Raises InvalidInput where an id would mean two of them."""
    try:
        kept = read_json(path, dict[str, str], what="the names of machines", remedy="restore it, or remove it")
    except FileMissing:
        kept = {}
    for machine, name in names.items():
        if kept.get(machine, name) != name:
            raise InvalidInput(f"{machine} would be '{kept[machine]}' and '{name}': rename one of the two in the file")
    if not names.items() <= kept.items():
        make_folder(path.parent)
        write_json(path, dict(sorted({**kept, **names}.items())))


def _skipped_csv(skipped: Sequence[SkippedRow]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "row", "reason", "detail"))
    writer.writerows((row.origin.file, row.origin.row, row.reason, row.detail) for row in skipped)
    return text.getvalue().encode()


def _with_units(totals: Mapping[str, int], units: Mapping[str, str]) -> dict[str, int]:
    """Totals by "meter unit", what lies on further lanes (energy.2) with its meter."""
    found: Counter[str] = Counter()
    for meter, total in totals.items():
        base = meter if meter in units else meter.rpartition(".")[0]
        found[f"{base} {units[base]}"] += total
    return dict(sorted(found.items()))


def _thousandths(rest: Fraction) -> str:
    whole, thousandths = divmod(int(rest * 1_000), 1_000)
    return f"{whole}.{thousandths:03}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
