"""From a window down to the readings that earned it, by replaying its partition's archive through the real core.

    sum of what the readings earned = net of the window, exactly

What one reading earns is a fraction of a micro. So along each line of the window, in the order of the log, a reading
gets the whole micros by which it raises the line's running amount: the parts of a micro pass from one to the next as
the window's carry does.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from msgspec import Struct

from deploy.explain.audit_sources import ArchiveSource
from schemas.arrow import windows_from
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.reading import CORRECTED, HEARTBEAT, READING, Correction
from schemas.units import CARRY_BASE
from schemas.window import Window
from streams.core.advance import Tally, advance, judge_record
from streams.core.judge import Outcome
from streams.core.meters import NONE
from streams.core.open_window import LineKey, WindowKey
from streams.core.rating import PER_SESSION
from streams.core.records import LogRecord, Record, decode_control, decode_readings, media_type, record_type
from streams.core.state import State
from streams.storage.epoch_files import epoch_paths

CHUNK = 10_000


class EarningReading(Struct, frozen=True, kw_only=True):
    """What one reading (or correction) added to one line of a window, and the whole micros that it earned there.

    `boot` and `seq` are None for a correction. `value` is what the meter showed, or the difference, and `usage` what
    was billed, both in the meter's unit. `price_micros` is for every `per` units, or (per 0) for each session.
    """

    partition: int
    offset: int
    row: int
    logged_ms: int
    kind: str
    meter: str
    boot: int | None
    seq: int | None
    observed_at_ms: int
    value: int
    registration_version: int
    usage: int
    price_micros: int
    per: int
    micros: int


class WindowReadings(Struct, frozen=True):
    """A sealed window as the archive gives it, and all that earned in it, by line and then in the log's order."""

    window: Window
    readings: tuple[EarningReading, ...]


class _Added(Struct, frozen=True):
    """What one row added to one line."""

    key: WindowKey
    record: LogRecord
    row: int
    line: LineKey
    usage: int


class _WindowWatch(Tally):
    """Sees what each row of a record adds to certain windows."""

    def __init__(self, state: State, keys: Iterable[WindowKey], record: LogRecord) -> None:
        super().__init__()
        self.seen: list[_Added] = []
        self._state = state
        self._record = record
        self._usage = {key: self._look(key) for key in keys}

    def note(self, record: LogRecord, row: int, outcome: Outcome) -> None:
        """One entry is judged."""
        super().note(record, row, outcome)
        if outcome is not None:
            return
        for key, before in self._usage.items():
            after = self._look(key)
            for line, usage in after.items():
                if usage != before.get(line, 0):
                    self.seen.append(_Added(key, record, row, line, usage - before.get(line, 0)))
            self._usage[key] = after

    def _look(self, key: WindowKey) -> dict[LineKey, int]:
        window = self._state.open_windows.get(key[0], {}).get(key[1:])
        return {} if window is None else dict(window.usage)


def window_readings(data_dir: Path, log: Log, machine: str, moment_ms: int) -> list[WindowReadings]:
    """The machine's window that holds a moment (epoch ms), then the adjustments in it, each with its readings.

    Raises InvalidInput where there is no such window, or the archive can't be read.
    """
    start_ms = log.window_start(moment_ms)
    partition, published = _published(data_dir, log, machine, start_ms)
    found = _replayed(data_dir, log, partition, published)
    for window, own in zip(published, found, strict=True):
        if own.window.digest != window.digest:
            raise InvalidInput(
                f"the archive gives another window of {machine} at {start_ms} ms than is there: see `tallyroot audit`"
            )
    return found


def _published(data_dir: Path, log: Log, machine: str, start_ms: int) -> tuple[int, list[Window]]:
    """The machine's partition, and the windows that were published for it."""
    epoch = log.epoch_of(start_ms)
    for partition in range(log.partitions):
        path = epoch_paths(data_dir, log, epoch, partition).windows
        if path.is_file():
            filters = [("machine", "==", machine), ("start_ms", "==", start_ms)]
            windows = windows_from(pq.read_table(path, filters=filters))
            if windows:
                return partition, sorted(windows, key=lambda window: window.sealing_key)
    raise InvalidInput(
        f"no window of {machine} at {start_ms} ms in {data_dir}: take machine and window from `tallyroot why`"
    )


def _replayed(data_dir: Path, log: Log, partition: int, published: Sequence[Window]) -> list[WindowReadings]:
    """The same windows, sealed anew, with what was added to them."""
    machine = published[0].machine
    keys = [(window.start_ms, machine, NONE if window.mends_ms is None else window.mends_ms) for window in published]
    first, last = min(w.first_offset for w in published), max(w.last_offset for w in published)
    state, archive = State.new(log, partition), ArchiveSource(data_dir, partition)
    sealed: dict[WindowKey, Window] = {}
    added: list[_Added] = []
    held: list[LogRecord] = []
    for record in archive.records():
        if first <= record.offset <= last and _may_name(record, machine):
            # The heartbeat stands in for the record while time moves and windows seal; its entries are watched then.
            beat = Record(record.offset, record.timestamp, None, b"{}", (("ce_type", HEARTBEAT.encode()),))
            _seal(state, [*held, beat], keys, sealed)
            held = []
            watch = _WindowWatch(state, keys, record)
            judge_record(state, record, watch)
            added += watch.seen
            continue
        held.append(record)
        if len(held) == CHUNK:
            _seal(state, held, keys, sealed)
            held = []
            if len(sealed) == len(keys):
                break
    _seal(state, held, keys, sealed)
    if len(sealed) < len(keys):
        raise archive.gap or InvalidInput(f"the archive of partition {partition} ends before the window: restore it")
    return [
        WindowReadings(sealed[key], tuple(_earned(partition, sealed[key], [a for a in added if a.key == key])))
        for key in keys
    ]


def _seal(
    state: State, records: Sequence[LogRecord], keys: Sequence[WindowKey], sealed: dict[WindowKey, Window]
) -> None:
    """Takes the state through records, and through the ends of epochs among them; keeps the windows looked for."""
    while True:
        done = advance(state, records)
        for window in done.windows:
            key = (window.start_ms, window.machine, NONE if window.mends_ms is None else window.mends_ms)
            if key in keys:
                sealed[key] = window
        records = records[done.consumed :]
        if done.cut is None:
            return


def _may_name(record: LogRecord, machine: str) -> bool:
    """Whether a record's value may name a machine: plainly, or with escapes in JSON."""
    value = record.value or b""
    return machine.encode() in value or b"\\" in value


def _earned(partition: int, window: Window, added: Sequence[_Added]) -> Iterator[EarningReading]:
    """What each addition earned: along each line, the micros by which it raises the running amount."""
    total, carry = 0, window.carry_in
    for line in sorted({one.line for one in added}):
        _, version, price_micros, per = line
        parts = price_micros * (CARRY_BASE if per == PER_SESSION else CARRY_BASE // per)
        running = carry
        for one in added:
            if one.line == line:
                before, running = running, running + one.usage * parts
                micros = running // CARRY_BASE - before // CARRY_BASE
                total += micros
                yield _reading(partition, one, version, price_micros, per, micros)
        carry = running % CARRY_BASE
    if (total, carry) != (window.net_micros + window.expenses_micros, window.carry_out):
        raise InvariantBroken(
            f"the readings of {window.machine} at {window.start_ms} ms earned {total} micros, not {window.net_micros}"
        )


def _reading(partition: int, one: _Added, version: int, price_micros: int, per: int, micros: int) -> EarningReading:
    record = one.record
    boot, seq = None, None
    if record_type(record) == READING:
        rows = decode_readings(record.value, media_type(record))
        row = None if isinstance(rows, str) else rows[one.row]
        if row is None:
            raise InvariantBroken(f"an accepted row of offset {record.offset} can't be decoded")
        kind: str = row.kind
        boot, seq, observed_at_ms, value = row.boot, row.seq, row.observed_at, row.value
    else:
        decoded = decode_control(record.value, media_type(record), Correction)
        if isinstance(decoded, str):
            raise InvariantBroken(f"an accepted correction at offset {record.offset} can't be decoded")
        kind, observed_at_ms, value = CORRECTED, decoded[0].observed_at, decoded[0].difference
    return EarningReading(
        partition=partition, offset=record.offset, row=one.row, logged_ms=record.timestamp, kind=kind,
        meter=one.line[0], boot=boot, seq=seq, observed_at_ms=observed_at_ms, value=value,
        registration_version=version, usage=one.usage, price_micros=price_micros, per=per, micros=micros,
    )  # fmt: skip
