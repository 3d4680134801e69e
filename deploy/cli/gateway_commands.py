"""What `check-gateway` does: it reads the topic, has the core judge it, and says what is wrong. It never writes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from msgspec import Struct

from deploy.cli.terminal import Terminal, money
from deploy.data_folder import DataFolder
from deploy.explain.check import MachineReport, PartitionCheck, Problem
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import READING
from streams.core.records import LogRecord, record_type
from streams.kafka.reader import KafkaLogReader

CHUNK = 5_000
"""So many records are judged at once."""

LOOK_SECONDS = 0.5
"""How often the topic is asked for new records."""

TRUST = ("self-reported", "signed", "hardware-backed")
"""What a window's trust is called."""


@dataclass(frozen=True)
class CheckOptions:
    """What to look at: one `machine` or all; from the beginning, or from now on until so many `records` of readings."""

    machine: str | None = None
    from_now: bool = False
    records: int | None = None
    limit: int = 100


class CheckResult(Struct, frozen=True, kw_only=True):
    """`problems` are the first ones, `problem_count` is of all; `records` of readings were judged."""

    log_id: str
    ok: bool
    records: int
    problem_count: int
    problems: list[Problem]
    machines: list[MachineReport]


def check_gateway(data: DataFolder, terminal: Terminal, options: CheckOptions) -> bool:
    """Checks and shows; whether nothing is wrong. Raises InvalidInput where there is no log or Kafka doesn't answer."""
    log = data.log()
    servers = data.settings.kafka_bootstrap_servers or data.stack().kafka_bootstrap_servers
    run = _Run(log, KafkaLogReader(servers, log.topic, 0, data.exceptions()), terminal, options)
    try:
        run.read()
    finally:
        run.reader.close()
    result = run.result()
    _show(terminal, log, result, options)
    terminal.result(result)
    return result.ok


class _Run:
    """One check of all partitions."""

    def __init__(self, log: Log, reader: KafkaLogReader, terminal: Terminal, options: CheckOptions) -> None:
        self.reader = reader
        self._log, self._terminal, self._options = log, terminal, options
        self._checks = [
            PartitionCheck(log, partition, self._note, options.machine) for partition in range(log.partitions)
        ]
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._records = 0

    def read(self) -> None:
        """Reads what there is; with `from_now` then what comes."""
        next_offsets = self._ends()
        for partition, end in next_offsets.items():
            for chunk in _chunks(self.reader.read(partition, 0, end)):
                if self._options.from_now:
                    self._checks[partition].skip(chunk)
                else:
                    self._judge(partition, chunk)
        if not self._options.from_now:
            return
        self._terminal.step("watching what arrives; end with Ctrl-C")
        try:
            self._watch(next_offsets)
        except KeyboardInterrupt:
            self._terminal.step("")

    def result(self) -> CheckResult:
        """What it came to. With a machine, nothing of it is a problem, too."""
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
                    f"partition {partition} of the topic {self._log.topic} begins at offset {first}: without what came"
                    " before nothing can be judged; restore it, or check the gateway on a new log"
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
                self._terminal.say(
                    f"partition {problem.partition} offset {problem.offset} row {problem.row}"
                    f" {problem.machine or '?'}: {problem.reason}{f' ({problem.detail})' if problem.detail else ''};"
                    f" {problem.advice}"
                )


def _chunks(records: Iterator[LogRecord]) -> Iterator[list[LogRecord]]:
    while chunk := list(islice(records, CHUNK)):
        yield chunk


def _joined(reports: list[MachineReport]) -> list[MachineReport]:
    """One report for each machine: its records may lie in several partitions, wrongly."""
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


def _show(terminal: Terminal, log: Log, result: CheckResult, options: CheckOptions) -> None:
    if result.problems and not options.from_now:
        terminal.table(
            "what is wrong",
            ["partition", "offset", "row", "machine", "reason", "what"],
            [(p.partition, p.offset, p.row, p.machine, p.reason, p.detail) for p in result.problems],
        )
        if result.problem_count > len(result.problems):
            terminal.say(f"... and {result.problem_count - len(result.problems):,} more (--limit shows more)")
        terminal.say("")
        terminal.say("what to do")
        for reason, advice in {problem.reason: problem.advice for problem in result.problems}.items():
            terminal.say(f"  {reason}: {advice}")
        terminal.say("")
    terminal.table(
        f"{result.records:,} records of readings in the log {log.log_id}, by machine",
        ["machine", "accepted", "duplicate", "wrong", "skipped numbers", "trust", "would have earned"],
        [
            (
                report.machine,
                report.accepted,
                report.duplicate,
                ", ".join(f"{count} {reason}" for reason, count in report.problems.items()),
                report.skipped,
                "" if report.trust is None else TRUST[report.trust],
                money(report.earned_micros, log.currency),
            )
            for report in result.machines
        ],
    )
    if options.machine is not None and not result.machines:
        terminal.say(f"nothing of {options.machine} has arrived: check the topic, the key and the machine's name")
    elif result.ok:
        terminal.say("nothing is wrong")
