"""An operator's signature over good readings, by a worker of his own that doesn't try to read them.

The worker is the real one; what reads the log for it is an accomplice. The operator of the copy is the attack's own
key beside the log's, since nobody here has theirs.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from msgspec import structs

from deploy.attack.cheat import PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.ledger_copy import LedgerCopy
from deploy.attack.partition_copy import OPERATOR_KEY
from deploy.data_folder import LOG_FILE
from deploy.explain import audit_sources
from deploy.explain.archive_source import archived_records
from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from schemas.order import CANCELLED
from schemas.payment import PAID
from schemas.reading import CORRECTED, REGISTERED
from settlement.audit.sources import Sources
from settlement.chain.watcher import look
from streams.core.records import JSON, SIGNATURE, LogRecord, Record, record_type
from streams.core.signature import operator_account, sign_control
from streams.core.skipped_ranges import SkippedBatch, SkippedBatches, sign_skipped_range
from streams.storage.log_reader import LogReader, in_slices
from streams.storage.skipped_ranges_file import add_skipped_range
from streams.worker.partition import Partition

TOPIC_ID = "attack"
OPERATORS_SAY = (REGISTERED, CORRECTED, CANCELLED, PAID)
HIDDEN = 50
"""How many records are hidden at most."""


def skipping_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Before a post is settled; each has a ledger and a folder of its own."""
    hide = partial(_hide, court)
    yield Cheat("good readings skipped, their batch as evidence", "operator", PAYEES, lambda: hide(damaged=False))
    yield Cheat(
        "good readings skipped, a damaged batch as evidence, the log whole",
        "operator",
        PAYEES,
        lambda: hide(damaged=True),
    )


class HonestLog(LogReader):
    """A partition's archived log, whole."""

    def __init__(self, records: Sequence[LogRecord]) -> None:
        self.records = records

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return (record for record in self.records if first <= record.offset < next)

    def range(self, partition: int) -> tuple[int, int]:
        return 0, self.records[-1].offset + 1 if self.records else 0

    def topic_id(self) -> str:
        return TOPIC_ID

    def close(self) -> None:
        pass


class _Auditing(HonestLog):
    """The same, as an auditor reads it: without what was signed, none of which is unreadable."""

    def __init__(self, records: Sequence[LogRecord], hidden: SkippedRange) -> None:
        super().__init__([each for each in records if not hidden.first_offset <= each.offset < hidden.next_offset])


class _Accomplice(_Auditing):
    """The same, with a batch that it says nobody can read."""

    def __init__(self, records: Sequence[LogRecord], hidden: SkippedRange, batch: SkippedBatch) -> None:
        super().__init__(records, hidden)
        self._batch = batch

    def slices(
        self, partition: int, first: int, next: int, skipped: SkippedBatches | None = None
    ) -> Iterator[Sequence[LogRecord]]:
        if skipped is not None and first <= self._batch.first_offset < next:
            skipped[self._batch.first_offset] = self._batch
        return super().slices(partition, first, next, skipped)


def _hide(court: LedgerCopy, *, damaged: bool) -> Outcome:
    """Judges the copy's records again without some, posts what comes of it, and lets a watcher look.

    With a `damaged` batch the archive alone can't show it: the watcher reads the log.
    """
    folder = court.folder.with_name("skipped")
    try:
        log = with_operator(court.log)
        is_signed = any(rules.operators for rules in court.log.rulesets)
        logs = [
            [record if is_signed else signed_here(log, record) for record in archived_log(court.folder, partition)]
            for partition in range(log.partitions)
        ]
        number, first, end = _inconvenient(logs)
        folder.mkdir()
        (folder / LOG_FILE).write_bytes(msgspec.json.encode(log))
        signed = sign_skipped_range(OPERATOR_KEY, log, number, first, end, "inconvenient")
        add_skipped_range(folder, log, signed)
        batch = SkippedBatch(first, end, _batch(logs[number], signed, damaged=damaged))
        for partition, records in enumerate(logs):
            reader = _Accomplice(records, signed, batch) if partition == number else HonestLog(records)
            judge_log(folder, log, partition, reader)
        place = LedgerCopy(folder, log, court.node)
        place.post(place.header())
        watch = Stopwatch()
        sources = audit_sources.archived(log, PlainFiles(folder))
        if damaged:
            auditing = [_Auditing(each, signed) if at == number else HonestLog(each) for at, each in enumerate(logs)]
            batches = audit_sources.skipped_batches(log)
            sources = Sources(
                lambda at: audit_sources.from_log(log, auditing[at], at, [signed], batches[at]),
                audit_sources.refuting(batches),
            )
        done = [part for part in look(folder, place.node, log, place.keys, sources).done if part.event != "skipped"]
        said = "; ".join(f"{part.event} post {part.sequence}: {part.text}" for part in done) or "nothing"
        return watch.outcome("watch" if any(part.event == "disputed" for part in done) else "", f"watch: {said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def archived_log(data_dir: Path, partition: int) -> list[LogRecord]:
    """A partition's archived records; none where it has no archive."""
    try:
        return list(archived_records(data_dir, partition))
    except InvalidInput:
        return []


def _inconvenient(logs: Sequence[Sequence[LogRecord]]) -> tuple[int, int, int]:
    """A run of readings in the middle of the longest partition: its number, first offset and the one after the last."""
    number = max(range(len(logs)), key=lambda at: len(logs[at]))
    records = logs[number]
    readings = [at for at, record in enumerate(records) if record_type(record) == "reading"]
    begin = readings[len(readings) // 2]
    last = begin
    while last + 1 < len(records) - 1 and last + 1 - begin < HIDDEN and record_type(records[last + 1]) == "reading":
        last += 1
    return number, records[begin].offset, records[last].offset + 1


def with_operator(log: Log) -> Log:
    """The log with the attack's own operator beside its others."""
    own = operator_account(OPERATOR_KEY)
    rulesets = tuple(structs.replace(rules, operators=(*rules.operators, own)) for rules in log.rulesets)
    return structs.replace(log, rulesets=rulesets)


def signed_here(log: Log, record: LogRecord) -> LogRecord:
    """A control record of a log that had no operator, signed by the one that it has now."""
    kind = record_type(record)
    if kind not in OPERATORS_SAY:
        return record
    signature = sign_control(OPERATOR_KEY, log.log_id, record.key or b"", kind, JSON, record.value or b"")
    headers = (*record.headers, (SIGNATURE, signature))
    return Record(record.offset, record.timestamp, record.key, record.value, headers)


def _batch(records: Sequence[LogRecord], hidden: SkippedRange, *, damaged: bool) -> bytes:
    """The hidden records as a batch of Kafka's; `damaged` in its last byte."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for record in records:
        if hidden.first_offset <= record.offset < hidden.next_offset:
            at = record.offset - hidden.first_offset
            builder.append(at, record.timestamp, record.key, record.value, list(record.headers))
    batch = bytearray(builder.build())
    batch[:8] = hidden.first_offset.to_bytes(8, "big")
    batch[-1] ^= damaged
    return bytes(batch)


def judge_log(folder: Path, log: Log, partition: int, reader: HonestLog) -> None:
    """What a worker makes of a log."""
    opened = Partition.open(folder, log, partition, TOPIC_ID, reader)
    if opened is None:
        raise InvalidInput(f"{folder} is in use by another program: run the attack again")
    try:
        end = reader.range(partition)[1]
        at = 0
        for records in in_slices(reader.read(partition, 0, end)):
            after = records[-1].offset + 1
            opened.process(at, after, records)
            at = after
        opened.drain()
    finally:
        opened.close()
