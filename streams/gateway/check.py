"""What the log makes of a gateway's records: each that is wrong, and what each machine would have earned.

The judgement is the core's own, from the partition's first record on. Nothing is written.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from schemas.log import Log
from schemas.reading import READING, Reading
from schemas.reject import WHOLE_RECORD, Reason
from schemas.window import Window
from streams.advance import Tally, advance, judge_record, seal_windows
from streams.gateway.advice import ADVICE, NOTICE_ADVICE, Notice, fault_in, machine_in
from streams.judge import Outcome
from streams.murmur2 import partition_of
from streams.open_window import seal, version_of
from streams.records import LogRecord, decode_readings, media_type, record_type
from streams.state import State


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
    """What became of one machine's entries. `problems` counts refusals and notices by reason.

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


@dataclass
class _Account:
    accepted: int = 0
    duplicate: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    trust: int | None = None
    earned_micros: int = 0

    def add(self, window: Window, sign: int = 1) -> None:
        self.earned_micros += sign * window.gross_micros
        self.skipped += sign * window.skipped


class PartitionCheck:
    """The check of one partition. Records are given in the order of the log, from its first one on."""

    def __init__(self, log: Log, partition: int, on_problem: Callable[[Problem], None], machine: str | None) -> None:
        """`on_problem` is told of each; with a `machine`, only of those that are, or may be, its own."""
        self._log, self._partition, self._machine = log, partition, machine
        self._on_problem = on_problem
        self._state = State.new(log, partition)
        self._accounts: dict[str, _Account] = {}
        self._first: int | None = None
        """The offset of the first record that was judged: what came before is skipped."""

    def skip(self, records: Sequence[LogRecord]) -> None:
        """Records that only make the state, and are no part of the report."""
        while True:
            done = advance(self._state, records)
            records = records[done.consumed :]
            if done.cut is None:
                return

    def judge(self, records: Sequence[LogRecord]) -> None:
        """Records that the report is about."""
        if self._first is None and records:
            self._first = records[0].offset
            for window in self._open_windows():  # what they came to before is no part of it
                self._account(window.machine).add(window, -1)
        for record in records:
            tally = _Rows(self)
            self._state.observe(record.timestamp)
            seal_windows(self._state, tally, self._state.earliest_open_ms)
            while self._state.is_epoch_over:
                self._state.end_epoch()
                seal_windows(self._state, tally, self._state.earliest_open_ms)
            for window in tally.windows:
                self._add(window)
            judge_record(self._state, record, tally)
            if record_type(record) == READING:
                self._look_at_key(record, tally.machine)

    def reports(self) -> list[MachineReport]:
        """One for each machine met, by name. Call it once, at the end."""
        if self._first is not None:
            for window in self._open_windows():
                self._add(window)
        names = sorted(name for name in self._accounts if self._machine in (None, name))
        return [
            MachineReport(
                machine=name,
                accepted=account.accepted,
                duplicate=account.duplicate,
                problems=dict(sorted(account.problems.items())),
                skipped=account.skipped,
                trust=account.trust,
                earned_micros=account.earned_micros,
            )
            for name, account in ((name, self._accounts[name]) for name in names)
            if account.accepted or account.duplicate or account.problems
        ]

    def note(self, record: LogRecord, row: int, outcome: Outcome, machine: str | None) -> None:
        """One entry was judged."""
        if outcome is None or outcome == "duplicate":
            if machine is not None:
                account = self._account(machine)
                account.accepted += outcome is None
                account.duplicate += outcome is not None
            return
        detail = None
        if outcome in ("malformed", "undecodable") and record_type(record) == READING:
            detail = fault_in(record, row)
        elif outcome == "unknown_machine" and record.key is not None:
            detail = self._elsewhere(record.key)
        self._tell(record, row, machine, outcome, detail, ADVICE[outcome])

    def _look_at_key(self, record: LogRecord, machine: str | None) -> None:
        """A machine's records must share a partition: notices of keys that only seem to do that."""
        known = None if machine is None else self._state.machines.get(machine)
        notice: Notice
        if record.key is None:
            notice, detail = "no_key", None
        elif (elsewhere := self._elsewhere(record.key)) is not None:
            notice, detail = "misplaced_key", elsewhere
        elif known is not None and record.key != known.route.encode():
            notice, detail = "not_the_route", f"the key is {_text(record.key)}, the route {known.route}"
        else:
            return
        self._tell(record, WHOLE_RECORD, machine, notice, detail, NOTICE_ADVICE[notice])

    def _elsewhere(self, key: bytes) -> str | None:
        belongs = partition_of(key, self._log.partitions)
        if belongs == self._partition:
            return None
        return f"the key {_text(key)} belongs in partition {belongs}, the record lies in {self._partition}"

    def _tell(
        self, record: LogRecord, row: int, machine: str | None, reason: Reason | Notice, detail: str | None, advice: str
    ) -> None:
        name = machine if machine is not None else _text(record.key or b"")
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
        if is_meant and window.readings:
            account.trust = window.trust if account.trust is None else min(account.trust, window.trust)

    def _open_windows(self) -> list[Window]:
        """The open windows as they would seal now; the state stays as it is."""
        state = self._state
        carries: dict[tuple[str, str], int] = {}
        sealed = []
        for start_ms in sorted(state.open_windows):
            for (name, mends_ms), window in sorted(state.open_windows[start_ms].items(), key=lambda item: item[0]):
                key = (start_ms, name, mends_ms)
                machine = state.machines[name]
                version = version_of(machine, key)
                place = (name, version.agreement_digest)
                carry = carries.get(place, state.carry_of(machine, version))
                done = seal(self._log, machine, version, key, window, carry)
                carries[place] = done.carry_out
                sealed.append(done)
        return sealed

    def _account(self, machine: str) -> _Account:
        return self._accounts.setdefault(machine, _Account())


class _Rows(Tally):
    """One record's entries, each with the machine that it names."""

    def __init__(self, check: PartitionCheck) -> None:
        super().__init__()
        self.machine: str | None = None
        """The machine that the first entry names."""
        self._check = check
        self._rows: list[Reading | None] | None = None

    def note(self, record: LogRecord, row: int, outcome: Outcome) -> None:
        """One entry is judged."""
        machine = self._machine_of(record, row)
        self.machine = self.machine or machine
        self._check.note(record, row, outcome, machine)

    def _machine_of(self, record: LogRecord, row: int) -> str | None:
        if row == WHOLE_RECORD:
            return machine_in(record, row)
        if self._rows is None:
            rows = decode_readings(record.value, media_type(record))
            self._rows = [] if isinstance(rows, str) else rows
        reading = self._rows[row]
        return machine_in(record, row) if reading is None else reading.machine


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
