"""A log in memory that files are ingested into: forms registered, readings sent, windows sealed, as a broker would."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import msgspec

from deploy.importers.drafts import Draft, Drafts, SkippedRow, read_drafts
from deploy.importers.ingest import placed, read_files, records_of
from deploy.importers.mapping import Mapping, read_mapping
from deploy.importers.placing import Placement
from deploy.importers.register_form import register_form
from deploy.importers.spool import Spool
from deploy.machines.form import read_form, registration_of
from deploy.machines.operator import Operator
from deploy.machines.register import record_of, signed
from schemas.log import Log, Ruleset
from schemas.reading import HEARTBEAT
from schemas.reject import Reject
from schemas.units import DAY_MS
from schemas.window import Window
from settlement.chain.signer import Signer
from streams.core.advance import advance
from streams.core.murmur2 import partition_of
from streams.core.records import LogRecord, Record
from streams.core.state import State
from streams.storage.log_reader import LogReader

OPERATOR = Operator(Signer.from_seed("test", "operator"))
ACCOUNT = "0x" + "11" * 20
NOW_MS = 1_790_000_000_000


def filled_in(form: str, price: str = "0.40") -> str:
    """A form as a person would fill it in."""
    return re.sub(r"\?\.\?\?", price, form.replace("0x... YOUR ACCOUNT", ACCOUNT))


@dataclass
class FileRead:
    """What a file says, in memory."""

    drafts: list[Draft]
    skipped: list[SkippedRow]
    names: dict[str, str]
    rows: int
    twice_by_the_clock: int
    totals: Counter[str]

    @classmethod
    def of(cls, found: Drafts) -> Self:
        drafts = [draft for machine in found.machines() for draft in found.of(machine)]
        return cls(drafts, list(found.skipped), found.names, found.rows, found.twice_by_the_clock, found.totals)


def drafts_of(files: Sequence[Path], mapping: Mapping) -> FileRead:
    with TemporaryDirectory() as folder, Spool(Path(folder) / "spool") as spool:
        return FileRead.of(read_drafts(files, mapping, spool))


def form_of(file: Path, mapping: Mapping) -> str:
    with TemporaryDirectory() as folder, Spool(Path(folder) / "spool") as spool:
        return register_form(read_files([file], mapping, spool), mapping, "EUR")


class IngestedLog(LogReader):
    """Implements LogReader. Partitions begin with a heartbeat at `begins_ms`, as `init --from` makes them."""

    def __init__(self, folder: Path, begins_ms: int, *, partitions: int = 2) -> None:
        self.folder = folder
        self.log = Log(
            log_id="log-1", currency="EUR", partitions=partitions, timestamp_type="CreateTime",
            rulesets=(Ruleset(operators=(OPERATOR.address,)),),
        )  # fmt: skip
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.heartbeats(begins_ms)

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return iter(self.records[partition][first:next])

    def range(self, partition: int) -> tuple[int, int]:
        return 0, len(self.records[partition])

    def topic_id(self) -> str:
        return "topic"

    def close(self) -> None:
        pass

    def append(self, timestamp_ms: int, record: Record, partition: int) -> None:
        before = self.records[partition][-1].timestamp if self.records[partition] else 0
        offset = len(self.records[partition])
        self.records[partition].append(record._replace(offset=offset, timestamp=max(before, timestamp_ms)))

    def heartbeats(self, timestamp_ms: int) -> None:
        for partition in range(self.log.partitions):
            self.append(timestamp_ms, Record(0, 0, None, b"{}", (("ce_type", HEARTBEAT.encode()),)), partition)

    def register(self, form: str) -> None:
        path = self.folder / "form.toml"
        path.write_text(form, "utf-8")
        for machine in read_form(path):
            registration = registration_of(
                machine, currency="EUR", zone=None, version=1, salt="00" * 16, years=range(2010, 2040)
            )
            record = signed(self.log, OPERATOR, record_of(registration))
            self.append(0, record, partition_of((record.key or b""), self.log.partitions))

    def register_file(self, file: Path, mapping: Mapping, price: str = "0.40") -> None:
        """Registers what the file names, with the form that the file gives."""
        self.register(filled_in(form_of(file, mapping), price))

    def plan(self, file: Path, mapping: Mapping) -> tuple[FileRead, Placement]:
        with Spool(self.folder / "spool.sqlite") as spool:
            drafts = read_files([file], mapping, spool)
            found = FileRead.of(drafts)
            _, new = placed(self.log, self, drafts, mapping, spool, NOW_MS, lambda _: None)
            skipped = [row for row in drafts.skipped if row not in found.skipped]
            return found, replace(new.sums, readings=list(new.readings.by_time()), skipped=skipped)

    def ingest(self, file: Path, mapping: Mapping, at_most: int | None = None) -> Placement:
        """Sends what is new; with `at_most`, a run that is killed after so many records."""
        _, placement = self.plan(file, mapping)
        for at_ms, route, value in list(records_of(placement.readings))[:at_most]:
            self.append(at_ms, Record(0, 0, route.encode(), value), partition_of(route.encode(), self.log.partitions))
        return placement

    def sealed(self) -> tuple[list[Window], list[Reject]]:
        """All windows and rejects, after a heartbeat that seals the last."""
        last_ms = max(records[-1].timestamp for records in self.records)
        windows: list[Window] = []
        rejects: list[Reject] = []
        for partition, records in enumerate(self.records):
            end = Record(len(records), last_ms + 2 * DAY_MS, None, b"{}", (("ce_type", HEARTBEAT.encode()),))
            state, left = State.new(self.log, partition), [*records, end]
            while left:
                done = advance(state, left)
                left = left[done.consumed :]
                windows += done.windows
                rejects += done.rejects
        return windows, rejects


def usage(windows: Sequence[Window]) -> dict[str, Counter[str]]:
    """Usage by machine and meter."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for window in windows:
        for line in window.lines:
            found[window.machine][line.meter] += line.usage
    return dict(found)


def csv_file(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def mapping_of(text: str, folder: Path) -> Mapping:
    path = folder / "mapping.toml"
    path.write_text(text, "utf-8")
    return read_mapping(path)


def readings_of(placement: Placement) -> list[dict[str, object]]:
    """The readings as they travel."""
    return [msgspec.json.decode(msgspec.json.encode(placed.reading)) for placed in placement.readings]
