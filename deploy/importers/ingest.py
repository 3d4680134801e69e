"""`ingest`: files of one's own into the log, once each row, whatever was sent before and wherever a run was killed.

    (1) read the files   (2) read the log: machines, and the readings that stand in it   (3) place what is new
    (4) write names and skipped rows   (5) send, in each partition by ascending time   (6) end the period, if asked

Killed anywhere, the same command goes on: what has arrived is recognised in the log. Between the steps all lies on disk
(`spool`): memory holds the rows of one machine at a time, however long the files and the log are.
"""

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.importers.drafts import Drafts, SkippedRow, read_drafts
from deploy.importers.log_readings import LogIndex, NotingReader
from deploy.importers.mapping import Mapping as FileMapping
from deploy.importers.placing import UNREGISTERED, Limits, Placed, Placement, place
from deploy.importers.register_form import register_form
from deploy.importers.spool import Shelf, Spool
from deploy.machines.registry import Registry
from files.lock import FileLock
from files.read import FileMissing, read_json
from files.write import make_folder, write_bytes, write_chunks, write_json
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
SPOOL_FILE = "spool.sqlite"
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
        with Spool(data.data_dir / FOLDER / SPOOL_FILE) as spool:
            found = read_files(files, mapping, spool)  # (1)
            step(f"  {found.rows:,} rows read, {len(found.names):,} machines")
            reader = KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges())
            registry, new = placed(log, reader, found, mapping, spool, _now_ms(), step)  # (2) (3)
            return _carry_out(data, log, files, mapping, options, found, registry, new, step)
    finally:
        lock.release()


def read_files(files: Sequence[Path], mapping: FileMapping, spool: Spool) -> Drafts:
    """The files as drafts. Raises InvalidInput where no row says anything."""
    found = read_drafts(files, mapping, spool)
    if not found.count:
        first = next(iter(found.skipped), None)
        what = "it has no rows" if first is None else f"row {first.origin.row}: {first.reason} {first.detail}".strip()
        raise InvalidInput(f"{files[0].name} has no row that could be read ({what}): does the mapping fit it?")
    return found


def write_register_form(data: DataFolder, files: Sequence[Path], mapping: FileMapping, path: Path) -> int:
    """Writes a registration form for the files' machines, to be filled in; returns how many there are.

    Raises InvalidInput where the path is taken: what a person filled in is not overwritten.
    """
    if path.exists():
        raise InvalidInput(f"{path} is there already: name another file, or remove it")
    with Spool(data.data_dir / FOLDER / f"form.{SPOOL_FILE}") as spool:
        found = read_files(files, mapping, spool)
        write_bytes(path, register_form(found, mapping, data.log().currency).encode())
        return len(found.names)


class New:
    """What the log lacks of the files: readings by ascending time, on disk, and what they add up to."""

    def __init__(self, spool: Spool) -> None:
        self.readings: Shelf[Placed] = spool.shelf("new_readings", Placed)
        self.sums = Placement()
        """Without its lists."""
        self.count = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def add(self, placement: Placement) -> None:
        """Adds what becomes of one machine's drafts."""
        self.sums.there_already += placement.there_already
        self.sums.sent_rows += placement.sent_rows
        self.sums.late += placement.late
        self.sums.totals.update(placement.totals)
        self.count += len(placement.readings)
        for each in placement.readings:
            at_ms = each.reading.observed_at
            self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
            self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)
            self.readings.add(each, each.reading.machine, at_ms)


def placed(
    log: Log, reader: LogReader, found: Drafts, mapping: FileMapping, spool: Spool, now_ms: int, step: Step
) -> tuple[Registry, New]:
    """Reads the log and works out what is new, machine by machine; what can't be sent joins `found.skipped`.

    Raises InvalidInput where no machine of the files is registered.
    """
    machines = found.machines()
    index = LogIndex(machines, found.first_ms, found.last_ms, spool)
    registry = Registry(log, NotingReader(reader, index.note), machines)
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
    new = New(spool)
    for name in machines:
        placement = place(found.of(name), mapping.kind, units, index.of(name), registered, limits)
        new.add(placement)
        for row in placement.skipped:
            found.skipped.add(row)
    return registry, new


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
    registry: Registry, new: New, step: Step,
) -> IngestReport:  # fmt: skip
    reasons, names = found.skipped.reasons, _changed_names(found.names)
    path = options.skipped or data.data_dir / FOLDER / f"{files[0].name}.skipped.csv"
    if new.sums.late:
        step(f"  {new.sums.late:,} rows lie before the log's time: they become adjustments of their windows")
    if not options.dry_run:
        _keep_names(data.data_dir / FOLDER / NAMES_FILE, names)  # (4)
        if reasons:
            make_folder(path.parent)
            write_chunks(path, _skipped_csv(found.skipped))
    records = records_of(new.readings.by_time())
    if options.dry_run:
        count = sum(1 for _ in records)
    else:
        count = _send(log, data.kafka_servers(), registry, records, options.end_ms, step)  # (5) (6)
    units = {meter: amount.unit for meter, amount in mapping.amounts.items()}
    return IngestReport(
        files=[file.name for file in files], rows=found.rows, sent_rows=new.sums.sent_rows,
        there_already=new.sums.there_already, skipped=dict(reasons.most_common()),
        skipped_file=str(path) if reasons and not options.dry_run else None, machines=len(found.names),
        unregistered=sorted({row.detail for row in found.skipped if row.reason == UNREGISTERED}), names=names,
        readings=new.count, records=count, late=new.sums.late, twice_by_the_clock=found.twice_by_the_clock,
        first_ms=new.first_ms, last_ms=new.last_ms, totals=_with_units(new.sums.totals, units),
        file_totals={} if mapping.kind == "registers" else _with_units(found.totals, units),
        left_over={f"{meter} {units[meter]}": _thousandths(rest) for meter, rest in found.left_over.items() if rest},
        ended_at_ms=options.end_ms if not options.dry_run else None, sent=not options.dry_run,
    )  # fmt: skip


def records_of(readings: Iterable[Placed]) -> Iterator[tuple[int, str, bytes]]:
    """(moment, route, value) of the records that carry the readings: one for those of a route and a moment."""
    for (at_ms, route), group in groupby(readings, key=lambda each: (each.reading.observed_at, each.route)):
        rows = [json_row(each.reading) for each in group]
        for first in range(0, len(rows), RECORD_ROWS):
            yield at_ms, route, json_value(rows[first : first + RECORD_ROWS])


def _send(
    log: Log,
    servers: str,
    registry: Registry,
    records: Iterable[tuple[int, str, bytes]],
    end_ms: int | None,
    step: Step,
) -> int:
    """Sends the records, and returns how many there were."""
    times = {number: registry.stream_time_ms(number) or 0 for number in range(log.partitions)}
    producer, count = LogProducer(servers, log), 0
    try:
        for count, (at_ms, route, value) in enumerate(records, 1):
            partition = registry.partition_of(route)
            times[partition] = max(times[partition], at_ms)
            producer.send(times[partition], route.encode(), value)
            if count % PROGRESS_RECORDS == 0:
                step(f"  {count:,} records sent")
        producer.flush()
        if end_ms is not None:
            last_ms = end_ms + log.rulesets[-1].grace_ms
            for partition in (number for number, time_ms in times.items() if time_ms < last_ms):
                producer.send(last_ms, None, b"{}", [("ce_type", HEARTBEAT.encode())], partition)
            producer.flush()
    finally:
        producer.close()
    return count


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


def _skipped_csv(skipped: Iterable[SkippedRow]) -> Iterator[bytes]:
    rows = ((row.origin.file, row.origin.row, row.reason, row.detail) for row in skipped)
    for each in chain([("file", "row", "reason", "detail")], rows):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(each)
        yield text.getvalue().encode()


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
