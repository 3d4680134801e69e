"""Checks a gateway: reads the topic, has the core judge it, and says what is wrong with which record. Never writes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.check import MachineReport, PartitionCheck, Problem
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import READING
from streams.core.records import LogRecord, record_type
from streams.kafka.reader import KafkaLogReader

CHUNK = 5_000
"""Records that are judged at once."""

LOOK_SECONDS = 0.5
"""How often the topic is asked for new records."""


@dataclass(frozen=True)
class CheckOptions:
    """What to check: one `machine` or all; from the beginning, or from now on until this many `records` of readings.

    At most `limit` problems are kept in the result; all are counted.
    """

    machine: str | None = None
    from_now: bool = False
    records: int | None = None
    limit: int = 100


class CheckResult(Struct, frozen=True, kw_only=True):
    """`problems` are the first ones, `problem_count` counts all; `records` of readings were judged."""

    log_id: str
    ok: bool
    records: int
    problem_count: int
    problems: list[Problem]
    machines: list[MachineReport]


def check_gateway(
    data: DataFolder, options: CheckOptions, step: Callable[[str], None], tell: Callable[[Problem], None]
) -> CheckResult:
    """Checks what the log holds, or with `from_now` what arrives, until Ctrl-C.

    With `from_now`, `tell` is called with each problem as it arrives.
    Raises InvalidInput where there is no log or Kafka does not answer.
    """
    log = data.log()
    servers = data.kafka_servers()
    run = _Check(log, KafkaLogReader(servers, log.topic, 0, data.skipped_ranges()), options, step, tell)
    try:
        run.read()
    finally:
        run.reader.close()
    return run.result()


class _Check:
    """One check of all partitions."""

    def __init__(
        self, log: Log, reader: KafkaLogReader, options: CheckOptions, step: Callable[[str], None],
        tell: Callable[[Problem], None],
    ) -> None:  # fmt: skip
        self.reader = reader
        self._log, self._options, self._step, self._tell = log, options, step, tell
        self._checks = [
            PartitionCheck(log, partition, self._note, options.machine) for partition in range(log.partitions)
        ]
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._records = 0

    def read(self) -> None:
        """Reads what the log holds; with `from_now` then what arrives."""
        next_offsets = self._ends()
        for partition, end in next_offsets.items():
            for chunk in _chunks(self.reader.read(partition, 0, end)):
                if self._options.from_now:
                    self._checks[partition].skip(chunk)
                else:
                    self._judge(partition, chunk)
        if not self._options.from_now:
            return
        self._step("watching what arrives; end with Ctrl-C")
        try:
            self._watch(next_offsets)
        except KeyboardInterrupt:
            self._step("")

    def result(self) -> CheckResult:
        """The result. That nothing of the named machine has arrived is not ok either."""
        machines = [report for check in self._checks for report in check.reports()]
        machines = _joined(machines)
        missing = self._options.machine is not None and not machines
        return CheckResult(
            log_id=self._log.log_id,
            ok=not self._problem_count and not missing,
            records=self._records,
            problem_count=self._problem_count,
            problems=self._problems,
            machines=machines,
        )

    def _watch(self, next_offsets: dict[int, int]) -> None:
        wanted = self._options.records
        while wanted is None or self._records < wanted:
            for partition, end in self._ends().items():
                for chunk in _chunks(self.reader.read(partition, next_offsets[partition], end)):
                    self._judge(partition, chunk)
                next_offsets[partition] = end
            time.sleep(LOOK_SECONDS)

    def _ends(self) -> dict[int, int]:
        ranges = self.reader.ranges(list(range(self._log.partitions)))
        for partition, (first, _) in ranges.items():
            if first:
                raise InvalidInput(
                    f"partition {partition} of the topic {self._log.topic} begins at offset {first}: without the"
                    " records before it nothing can be judged; restore it, or check the gateway on a new log"
                )
        return {partition: end for partition, (_, end) in ranges.items()}

    def _judge(self, partition: int, records: list[LogRecord]) -> None:
        self._checks[partition].judge(records)
        self._records += sum(record_type(record) == READING for record in records)

    def _note(self, problem: Problem) -> None:
        self._problem_count += 1
        if len(self._problems) < self._options.limit:
            self._problems.append(problem)
            if self._options.from_now:
                self._tell(problem)


def _chunks(records: Iterator[LogRecord]) -> Iterator[list[LogRecord]]:
    while chunk := list(islice(records, CHUNK)):
        yield chunk


def _joined(reports: list[MachineReport]) -> list[MachineReport]:
    """One report for each machine, whose records may wrongly lie in several partitions."""
    joined: dict[str, MachineReport] = {}
    for report in reports:
        other = joined.get(report.machine)
        joined[report.machine] = report if other is None else _sum(other, report)
    return [joined[name] for name in sorted(joined)]


def _sum(one: MachineReport, other: MachineReport) -> MachineReport:
    trusts = [report.trust for report in (one, other) if report.trust is not None]
    reasons = sorted({*one.problems, *other.problems})
    return MachineReport(
        machine=one.machine,
        accepted=one.accepted + other.accepted,
        duplicate=one.duplicate + other.duplicate,
        problems={reason: one.problems.get(reason, 0) + other.problems.get(reason, 0) for reason in reasons},
        skipped=one.skipped + other.skipped,
        trust=min(trusts, default=None),
        earned_micros=one.earned_micros + other.earned_micros,
    )
