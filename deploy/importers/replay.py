"""Recorded files as one new log: merged by time, signed, produced, and ended so that every epoch is cut.

What is produced is a pure function of the files, the log, the operator's key, the agreements and the seed:
`planned` returns the same records, byte for byte and in the same order, on every host.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import NamedTuple

import msgspec

from deploy.importers.source_log import Skipped, SourceLog, SourceMachine, SourceRecord
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.registration import Agreement
from schemas.units import DAY_MS
from streams.core.encode import signed_headers
from streams.core.murmur2 import partition_of
from streams.core.records import JSON
from streams.core.signature import operator_account, sign_control
from streams.kafka.producer import LogProducer

WEEK_MS = 7 * DAY_MS
MONDAY_MS = 4 * DAY_MS
"""The first Monday after 1970-01-01, a Thursday."""

PROGRESS_RECORDS = 10_000

Agreements = Callable[[SourceMachine], Agreement]
"""A machine's agreement; called once for each machine."""

Progress = Callable[[int, int], None]
"""Called now and then with the number of records sent and the timestamp (epoch ms) of the last one."""


class Outgoing(NamedTuple):
    """One record as it goes out. A heartbeat has no key; every other record's key decides its partition."""

    partition: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    entries: int


@dataclass(frozen=True)
class ReplayReport:
    """What went into the log. Moments are epoch ms of readings; `totals` adds up the files, by meter and unit."""

    records: int
    readings: int
    machines: int
    first_ms: int
    last_ms: int
    rows: int
    left_out: int
    """Rows beyond the first days that were asked for."""
    totals: Mapping[str, int]
    skipped: Mapping[str, tuple[Skipped, ...]]
    """File name to the rows that are impossible."""
    moved_weeks: Mapping[str, int]
    notes: Mapping[str, tuple[str, ...]]
    """File name to what one should know of it."""


def rebased(sources: Sequence[SourceLog]) -> list[SourceLog]:
    """All sources, moved by whole weeks so that they begin in the week of the first: weekdays and hours of UTC stay."""
    weeks = [(source.start_ms - MONDAY_MS) // WEEK_MS for source in sources]
    return [source.moved((weeks[0] - week) * WEEK_MS) for source, week in zip(sources, weeks, strict=True)]


def planned(
    log: Log,
    sources: Sequence[SourceLog],
    operator_key: bytes,
    agreements: Agreements,
    seed: str | None = None,
) -> Iterator[Outgoing]:
    """All records of a replay in their order: in each partition their timestamps never fall.

    A heartbeat in every partition comes first, so that all partitions begin with the same epoch; then, where a
    source begins, its machines' registrations; heartbeats past the last epoch's end and grace come last.
    Without a seed the registrations' salts are random. Raises InvalidInput for two sources with one machine.
    """
    _check_sources(log, sources)
    first_ms, last_ms = min(source.start_ms for source in sources), max(source.end_ms for source in sources)
    yield from _heartbeats(log, first_ms)
    streams = [_source_stream(source, _registrations(source, agreements, seed)) for source in sources]
    partitions = {
        machine.route: partition_of(machine.route.encode(), log.partitions)
        for source in sources
        for machine in source.machines
    }
    for record in merge(*streams, key=lambda record: record.timestamp_ms):
        yield _outgoing(log, record, partitions[record.key], operator_key)
    epoch = log.epoch_of(last_ms)
    yield from _heartbeats(log, log.epoch_span(epoch)[1] + log.ruleset_at(epoch).grace_ms)


def replay(
    log: Log,
    bootstrap_servers: str,
    sources: Sequence[SourceLog],
    operator_key: bytes,
    agreements: Agreements,
    progress: Progress = lambda records, timestamp_ms: None,
    *,
    seed: str | None = None,
) -> ReplayReport:
    """Produces the sources into the log's topic, which must be there, and returns once the broker has it all.

    Raises InvalidInput if the log is in use beyond the first row, has no CreateTime, or the broker is away.
    """
    _check_sources(log, sources)
    producer = LogProducer(bootstrap_servers, log)
    try:
        _check_unused(log, producer, min(source.start_ms for source in sources))
        records = readings = 0
        for outgoing in planned(log, sources, operator_key, agreements, seed):
            partition = outgoing.partition if outgoing.key is None else None
            producer.send(outgoing.timestamp_ms, outgoing.key, outgoing.value, outgoing.headers, partition)
            records += 1
            readings += outgoing.entries if not outgoing.headers else 0
            if records % PROGRESS_RECORDS == 0:
                progress(records, outgoing.timestamp_ms)
        producer.flush()
    finally:
        producer.close()
    return _report(sources, records, readings)


def _report(sources: Sequence[SourceLog], records: int, readings: int) -> ReplayReport:
    totals: Counter[str] = Counter()
    for source in sources:
        totals.update(source.totals)
    return ReplayReport(
        records=records,
        readings=readings,
        machines=sum(len(source.machines) for source in sources),
        first_ms=min(source.start_ms for source in sources),
        last_ms=max(source.end_ms for source in sources),
        rows=sum(source.rows for source in sources),
        left_out=sum(source.left_out for source in sources),
        totals=dict(sorted(totals.items())),
        skipped={source.name: source.skipped for source in sources if source.skipped},
        moved_weeks={source.name: source.shift_ms // WEEK_MS for source in sources if source.shift_ms},
        notes={source.name: source.notes for source in sources if source.notes},
    )


def _check_sources(log: Log, sources: Sequence[SourceLog]) -> None:
    if not sources:
        raise InvalidInput("a replay needs at least one source: name a kind and a file")
    if log.timestamp_type != "CreateTime":
        raise InvalidInput(f"the log {log.log_id} stamps records as they arrive: replay into a log of CreateTime")
    counts = Counter(machine.machine for source in sources for machine in source.machines)
    for machine, count in counts.items():
        if count > 1:
            raise InvalidInput(f"two sources have the machine {machine}: join the files, or name it with --machine")


def _check_unused(log: Log, producer: LogProducer, first_ms: int) -> None:
    for partition, time_ms in enumerate(producer.stream_times()):
        if time_ms is not None and time_ms > first_ms:
            raise InvalidInput(
                f"the log {log.log_id} is in use: partition {partition} has passed the first row;"
                " replay into a new log (another --data-dir)"
            )


def _registrations(source: SourceLog, agreements: Agreements, seed: str | None) -> Iterator[SourceRecord]:
    for machine in source.machines:
        registration = machine.registration(agreements(machine), _salt(seed, machine.machine), source.start_ms)
        value = msgspec.json.encode(registration)
        yield SourceRecord(source.start_ms, machine.route, REGISTERED, value, 1)


def _salt(seed: str | None, machine: str) -> str:
    """16 bytes as hex: random, or the same for the same seed and machine."""
    if seed is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"tallyroot salt 1\n{seed}\n{machine}".encode()).hexdigest()[:32]


def _source_stream(source: SourceLog, registrations: Iterator[SourceRecord]) -> Iterator[SourceRecord]:
    yield from registrations
    yield from source.records()


def _outgoing(log: Log, record: SourceRecord, partition: int, operator_key: bytes) -> Outgoing:
    key, headers = record.key.encode(), record.headers
    if record.type != READING and not headers:
        signature = sign_control(operator_key, log.log_id, key, record.type, JSON, record.value)
        signed = signed_headers(JSON, operator_account(operator_key), signature)
        headers = (("ce_type", record.type.encode()), *signed)
    return Outgoing(partition, record.timestamp_ms, key, record.value, headers, record.entries)


def _heartbeats(log: Log, timestamp_ms: int) -> Iterator[Outgoing]:
    for partition in range(log.partitions):
        yield Outgoing(partition, timestamp_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),), 1)
