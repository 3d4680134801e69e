"""From a window down to the readings that earned it, by replaying its partition's archive through the real core.

    sum of what the readings earned = gross of the window, exactly

What one reading earns is a fraction of a micro. So along each line of the window, in the order of the log, a reading
gets the whole micros by which it raises the line's running amount: the parts of a micro pass from one to the next as
the window's carry does.

A short log is replayed interpreted, a long one by the compiled loops.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from deploy.explain.archive_source import ArchiveSource
from deploy.explain.why import EarningReading
from files.foreign import PlainFiles
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.reading import CORRECTED, Correction, Reading
from schemas.units import CARRY_BASE
from schemas.window import Window
from streams.core.kernel.compiled import interpret_if_few
from streams.core.rating import PER_SESSION
from streams.core.records import LogRecord
from streams.core.state import State
from streams.storage.epoch_files import epoch_paths, read_windows

if TYPE_CHECKING:
    from streams.core.replay import LineChange, Where


class WindowReadings(Struct, frozen=True):
    """A sealed window as replayed from the archive, and all that earned in it, by line and then in the log's order."""

    window: Window
    readings: tuple[EarningReading, ...]


class _Added(Struct, frozen=True):
    """What one entry of a record added to one line."""

    record: LogRecord
    row: int
    entry: Reading | Correction
    line: "LineChange"
    is_proven: bool


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
                f"the archive and the published window of {machine} at {start_ms} ms differ: run `tallyroot audit`"
            )
    return found


def _published(data_dir: Path, log: Log, machine: str, start_ms: int) -> tuple[int, list[Window]]:
    """The machine's partition, and the windows that were published for it."""
    epoch = log.epoch_of(start_ms)
    for partition in range(log.partitions):
        found = read_windows(epoch_paths(data_dir, log, epoch, partition), machine)
        windows = [window for window in found if window.start_ms == start_ms]
        if windows:
            return partition, windows
    raise InvalidInput(
        f"no window of {machine} at {start_ms} ms in {data_dir}: take machine and window from `tallyroot why`"
    )


def _replayed(data_dir: Path, log: Log, partition: int, published: Sequence[Window]) -> list[WindowReadings]:
    """The same windows, sealed by the replay, with what was added to them."""
    machine = published[0].machine
    first, last = min(w.first_offset for w in published), max(w.last_offset for w in published)
    state, archive = State.new(log, partition), ArchiveSource(PlainFiles(data_dir), partition)
    interpret_if_few(sum(manifest.counts.entries for manifest in archive.manifests))
    from streams.core.replay import judge_watched, replay

    sealed: dict[Where, Window] = {}
    added: dict[Where, list[_Added]] = {(window.start_ms, window.adjusts_ms): [] for window in published}

    def is_watched(record: LogRecord) -> bool:
        return first <= record.offset <= last and _may_name(record, machine)

    for stop in replay(state, chain.from_iterable(archive.slices()), is_watched):
        for window in stop.windows:
            if window.machine == machine and (window.start_ms, window.adjusts_ms) in added:
                sealed[window.start_ms, window.adjusts_ms] = window
        if len(sealed) == len(added):
            break
        if (record := stop.record) is not None:
            for change in judge_watched(state, record, (machine,)):
                if change.entry and change.window and (where := change.window.where) in added:
                    added[where] += [
                        _Added(record, change.row, change.entry, line, change.window.is_proven)
                        for line in change.window.lines
                    ]
    if len(sealed) < len(added):
        raise archive.gap or InvalidInput(f"the archive of partition {partition} ends before the window: restore it")
    return [
        WindowReadings(sealed[where], tuple(_earned(partition, sealed[where], own))) for where, own in added.items()
    ]


def _may_name(record: LogRecord, machine: str) -> bool:
    """Whether a record's value may name a machine: plainly, or with escapes in JSON."""
    value = record.value or b""
    return machine.encode() in value or b"\\" in value


def _earned(partition: int, window: Window, added: Sequence[_Added]) -> Iterator[EarningReading]:
    """What each addition earned: along each line, the micros by which it raises the running amount."""
    total, carry = 0, window.carry_in
    for key in sorted({_line_key(one) for one in added}):
        _, _, price_micros, per = key
        parts = price_micros * (CARRY_BASE if per == PER_SESSION else CARRY_BASE // per)
        running = carry
        for one in added:
            if _line_key(one) == key:
                before, running = running, running + one.line.usage * parts
                micros = running // CARRY_BASE - before // CARRY_BASE
                total += micros
                yield _reading(partition, one, micros)
        carry = running % CARRY_BASE
    if (total, carry) != (window.gross_micros, window.carry_out):
        raise InvariantBroken(
            f"the readings of {window.machine} at {window.start_ms} ms earned {total} micros, not {window.gross_micros}"
        )


def _line_key(one: _Added) -> tuple[str, int, int, int]:
    line = one.line
    return line.meter, line.registration_version, line.price_micros, line.per


def _reading(partition: int, one: _Added, micros: int) -> EarningReading:
    entry, line = one.entry, one.line
    boot, seq, kind = None, None, CORRECTED
    if isinstance(entry, Reading):
        boot, seq, kind, value = entry.boot, entry.seq, entry.kind, entry.value
    else:
        value = entry.difference
    return EarningReading(
        partition=partition, offset=one.record.offset, row=one.row, logged_ms=one.record.timestamp, kind=kind,
        meter=line.meter, boot=boot, seq=seq, observed_at_ms=entry.observed_at, value=value,
        registration_version=line.registration_version, usage=line.usage, price_micros=line.price_micros, per=line.per,
        micros=micros, proven=one.is_proven,
    )  # fmt: skip
