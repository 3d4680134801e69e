"""What the log makes of a gateway's records: each that is wrong, and what each machine would have earned.

The topic is read from its first record on and judged by the core itself: a short one interpreted; a long one, and what
arrives from now on, by the compiled loops. Nothing is written.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.advice import ADVICE, NOTICE_ADVICE, Notice, fault_in, machine_in
from deploy.explain.meter_signs import MeterSign, MeterSigns
from deploy.explain.refusal_facts import key_text, misplaced, why_refused
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import READING, Reading
from schemas.reject import WHOLE_RECORD, Reason, Reject
from schemas.window import Window
from streams.core.kernel.compiled import INTERPRETED_ENTRIES_MAX, interpret_if_few
from streams.core.records import LogRecord, Rows, decode_readings, media_type, record_type
from streams.core.state import State
from streams.kafka.reader import KafkaLogReader

CHUNK = 5_000
"""How many records are judged in one call."""

LOOK_SECONDS = 0.5
"""How often the topic is asked for new records."""


class Problem(Struct, frozen=True, kw_only=True):
    """Something wrong with a record, or a row of it (-1: all of it). `detail` says what, `advice` what to do."""

    partition: int
    offset: int
    row: int
    machine: str | None
    reason: Reason | Notice
    detail: str | None
    advice: str


class MachineReport(Struct, frozen=True, kw_only=True):
    """The outcome of one machine's readings. `problems` counts refusals and notices by reason.

    `earned_micros` is gross, in micros of the log's currency, open windows included; `trust` the lowest of its windows,
    None without one; `skipped` are numbers that never came.
    """

    machine: str
    accepted: int
    duplicate: int
    problems: dict[str, int]
    skipped: int
    trust: int | None
    earned_micros: int


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
    """`problems` are the first ones, `problem_count` counts all; `records` of readings were judged.

    `signs` say of meters that earn less than they could what mends them.
    """

    log_id: str
    ok: bool
    records: int
    problem_count: int
    problems: list[Problem]
    signs: list[MeterSign]
    machines: list[MachineReport]


def check_gateway(
    data: DataFolder, options: CheckOptions, step: Callable[[str], None], on_problem: Callable[[Problem], None]
) -> CheckResult:
    """Checks what the log holds, or with `from_now` what arrives, until Ctrl-C.

    With `from_now`, `on_problem` is called with each problem as it arrives.
    Raises InvalidInput where there is no log or Kafka does not answer.
    """
    log = data.log()
    reader = KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges())
    check = _Check(log, reader, options, step, on_problem)
    try:
        check.read()
    finally:
        reader.close()
    return check.result()


class _Check:
    """One check of all partitions."""

    def __init__(
        self, log: Log, reader: KafkaLogReader, options: CheckOptions, step: Callable[[str], None],
        on_problem: Callable[[Problem], None],
    ) -> None:  # fmt: skip
        self._reader = reader
        self._log, self._options, self._step, self._on_problem = log, options, step, on_problem
        self._checks = [
            PartitionCheck(log, partition, self._note, options.machine) for partition in range(log.partitions)
        ]
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._records = 0

    def read(self) -> None:
        """Reads what the log holds; with `from_now` then what arrives."""
        next_offsets = self._ends()
        for partition, chunk in self._held(next_offsets):
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
        machines = _joined([report for check in self._checks for report in check.reports()])
        signs = [sign for check in self._checks for sign in check.signs()]
        missing = self._options.machine is not None and not machines
        return CheckResult(
            log_id=self._log.log_id,
            ok=not self._problem_count and not signs and not missing,
            records=self._records,
            problem_count=self._problem_count,
            problems=self._problems,
            signs=signs,
            machines=machines,
        )

    def _held(self, ends: dict[int, int]) -> Iterable[tuple[int, list[LogRecord]]]:
        """What the log holds, by partition. Few records are read before one is judged, for their rows decide how."""
        chunks = (
            (partition, chunk)
            for partition, end in ends.items()
            for chunk in _chunks(self._reader.read(partition, 0, end))
        )
        if self._options.from_now or sum(ends.values()) > INTERPRETED_ENTRIES_MAX:
            return chunks
        held = list(chunks)
        rows = (row for _, chunk in held for record in chunk for row in _rows(record) or [None])
        interpret_if_few(sum(1 for _ in islice(rows, INTERPRETED_ENTRIES_MAX + 1)))
        return held

    def _watch(self, next_offsets: dict[int, int]) -> None:
        wanted = self._options.records
        while wanted is None or self._records < wanted:
            for partition, end in self._ends().items():
                for chunk in _chunks(self._reader.read(partition, next_offsets[partition], end)):
                    self._judge(partition, chunk)
                next_offsets[partition] = end
            time.sleep(LOOK_SECONDS)

    def _ends(self) -> dict[int, int]:
        ranges = self._reader.ranges(list(range(self._log.partitions)))
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
                self._on_problem(problem)


def _chunks(records: Iterator[LogRecord]) -> Iterator[list[LogRecord]]:
    while chunk := list(islice(records, CHUNK)):
        yield chunk


def _rows(record: LogRecord) -> Rows:
    """The rows of a record of readings; none where it is no such record, or can't be decoded."""
    decoded = decode_readings(record.value, media_type(record)) if record_type(record) == READING else []
    return [] if isinstance(decoded, str) else decoded


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


@dataclass
class _Account:
    rows: int = 0
    """Whole readings; each is accepted, refused or a duplicate."""
    refused: int = 0
    accepted: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    trust: int | None = None
    earned_micros: int = 0

    def add(self, window: Window, sign: int = 1) -> None:
        self.earned_micros += sign * window.gross_micros
        self.skipped += sign * window.skipped
        self.accepted += sign * window.readings  # rule 26: every accepted reading lies in a window


class PartitionCheck:
    """The check of one partition. It takes the records in the order of the log, from its first one on."""

    def __init__(self, log: Log, partition: int, on_problem: Callable[[Problem], None], machine: str | None) -> None:
        """`on_problem` is called with each; with a `machine`, only with those that are, or may be, its own."""
        self._partition, self._machine = partition, machine
        self._on_problem = on_problem
        self._state = State.new(log, partition)
        self._accounts: dict[str, _Account] = {}
        self._signs = MeterSigns()
        self._keys: dict[bytes, str | None] = {}
        """Of each key met, where it belongs if not in this partition."""
        self._first: int | None = None
        """The offset of the first record that was judged: what came before is skipped."""

    def skip(self, records: Sequence[LogRecord]) -> None:
        """Records that only make the state, and are no part of the report."""
        from streams.core.replay import advance_through

        advance_through(self._state, records)

    def judge(self, records: Sequence[LogRecord]) -> None:
        """Records that the report is about."""
        from streams.core.replay import advance_through
        from streams.core.sealing import open_windows

        if self._first is None and records:
            self._first = records[0].offset
            for window in open_windows(self._state):  # what they came to before is no part of it
                self._account(window.machine).add(window, -1)
        refused: dict[int, list[Reject]] = {}
        for part in advance_through(self._state, records):
            for window in part.windows:
                self._add(window)
            for reject in part.rejects:
                refused.setdefault(reject.offset, []).append(reject)
        for record in records:
            self._look_at(record, refused.get(record.offset, []))

    def reports(self) -> list[MachineReport]:
        """One for each machine met, by name. Call it once, at the end."""
        from streams.core.sealing import open_windows

        if self._first is not None:
            for window in open_windows(self._state):
                self._add(window)
        names = sorted(name for name in self._accounts if self._machine in (None, name))
        return [
            MachineReport(
                machine=name,
                accepted=account.accepted,
                duplicate=account.rows - account.refused - account.accepted,
                problems=dict(sorted(account.problems.items())),
                skipped=account.skipped,
                trust=account.trust,
                earned_micros=account.earned_micros,
            )
            for name, account in ((name, self._accounts[name]) for name in names)
            if account.rows or account.problems
        ]

    def signs(self) -> list[MeterSign]:
        """What mends the meters that earn less than they could. Call it after `reports`."""
        return [sign for sign in self._signs.found() if self._machine in (None, sign.machine)]

    def _look_at(self, record: LogRecord, rejects: Sequence[Reject]) -> None:
        """Counts a record's rows by machine, and reports what is wrong with it."""
        is_reading, rows = record_type(record) == READING, _rows(record)
        reasons = {reject.row: reject.reason for reject in rejects}
        for place, row in enumerate(rows):
            if row is not None:
                self._account(row.machine).rows += 1
                self._note_signs(row, reasons.get(place))
        for reject in rejects:
            reading = rows[reject.row] if reject.row < len(rows) and reject.row != WHOLE_RECORD else None
            machine, detail = None, None
            if reading is None:
                machine = machine_in(record, reject.row)
                detail = fault_in(record, reject.row) if is_reading else None
            else:
                machine = reading.machine
                self._account(machine).refused += 1
                detail = why_refused(self._state, record, reading, reject.reason)
            self._report(record, reject.row, machine, reject.reason, detail, ADVICE[reject.reason])
        if is_reading:
            self._look_at_key(record, next((row.machine for row in rows if row is not None), None))

    def _note_signs(self, row: Reading, reason: Reason | None) -> None:
        machine = self._state.machines.get(row.machine)
        if machine is not None:
            self._signs.see(row, reason, machine.version_at(row.moment_ms).registration)

    def _look_at_key(self, record: LogRecord, machine: str | None) -> None:
        """A machine's records must share a partition: notices of keys that only seem to do that."""
        known = None if machine is None else self._state.machines.get(machine)
        notice: Notice
        if record.key is None:
            notice, detail = "no_key", None
        elif (elsewhere := self._misplaced(record.key)) is not None:
            notice, detail = "misplaced_key", elsewhere
        elif known is not None and record.key != known.route.encode():
            notice, detail = "not_the_route", f"the key is {key_text(record.key)}, the route {known.route}"
        else:
            return
        self._report(record, WHOLE_RECORD, machine, notice, detail, NOTICE_ADVICE[notice])

    def _misplaced(self, key: bytes) -> str | None:
        if key not in self._keys:
            self._keys[key] = misplaced(self._state, key)
        return self._keys[key]

    def _report(
        self, record: LogRecord, row: int, machine: str | None, reason: Reason | Notice, detail: str | None, advice: str
    ) -> None:
        name = machine if machine is not None else key_text(record.key or b"")
        if self._machine is not None and name != self._machine:
            if not self._may_be_its(record, machine):
                return
            name = self._machine
        if name:
            self._account(name).problems[reason] += 1
        self._on_problem(
            Problem(
                partition=self._partition, offset=record.offset, row=row, machine=machine, reason=reason,
                detail=detail, advice=advice,
            )
        )  # fmt: skip

    def _may_be_its(self, record: LogRecord, machine: str | None) -> bool:
        """Whether a record that names no machine has the key of the one that is asked for."""
        known = self._state.machines.get(self._machine or "")
        return machine is None and known is not None and record.key == known.route.encode()

    def _add(self, window: Window) -> None:
        account = self._account(window.machine)
        account.add(window)
        is_meant = self._first is not None and window.last_offset >= self._first
        if is_meant:
            self._signs.see_flags(window.machine, window.flags)
        if is_meant and window.readings:
            account.trust = window.trust if account.trust is None else min(account.trust, window.trust)

    def _account(self, machine: str) -> _Account:
        return self._accounts.setdefault(machine, _Account())
