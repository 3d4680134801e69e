"""What a gateway has taken and Kafka has not: readings in files, and their numbers.

A folder holds segments, `000000000001.readings` and so on. A segment's first line says whose it is and, for each meter,
its last number and register before the segment; each further line is one reading. Every line is eight hex digits of its
text's SHA-256, a space, the text (JSON), a newline. The JavaScript gateway keeps the same files.

What a device delivered together may be a line of its own before its readings, a delivery: how many readings follow,
the key under which it is taken once, and notes that the gateway keeps with them. A folder with one has format 2, which
the JavaScript gateway refuses.

1. A reading has its number and is written before `append` returns.
2. `sync` makes all written readings outlast a loss of power. The sender calls it before it produces: no number is ever
   on its way to Kafka that a restart could use again.
3. `forget` records how far Kafka has them and removes segments behind that: the next one repeats the meters' last.

A line cut off at the end was never produced and is dropped, with the delivery that it belongs to. Any other line that
is wrong, and what follows it in its segment, is set aside (`*.damaged`) and reported in `warnings`; a higher boot
begins, as after a loss of the folder.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct

from tallyroot_gateway.errors import InvalidInput, InvariantBroken, SpoolFull
from tallyroot_gateway.reading import Reading
from tallyroot_gateway.wire import json_row

FORMAT = 1
"""The version of the files of a gateway that is called reading by reading."""

FORMAT_OF_DELIVERIES = 2
"""The version of files that hold deliveries."""

KEYS_MAX = 10_000
"""How many keys of deliveries are remembered, the last ones. A device repeats what was not acknowledged: the latest."""

BOOT_UNIT_MS = 15 * 60_000
"""A new boot is the number of quarters of an hour since 2020, its first number the ms within the quarter.

So a gateway that has lost its folder still numbers above all that it ever did. A boot may be 2^20 above the one before:
thirty years of quarters. A number may too: more than the 900,000 ms of a quarter.
"""
BOOTS_BEGIN_MS = 1_577_836_800_000
"""2020-01-01, epoch ms."""

MARK_BYTES = 9
"""Eight hex digits and a space before each line's text."""

LINE_MAX_BYTES = 1 << 15
"""No reading's line is longer."""

_DELIVERY = b'{"delivery":'


Notes = Mapping[str, str | None]
"""What a gateway keeps between deliveries, by name; None forgets one."""

_Line = TypeVar("_Line")


class Place(NamedTuple):
    """Somewhere between two lines: a segment's number and how many bytes into it."""

    segment: int
    offset: int


class Last(NamedTuple):
    """A meter's last number and, if it ever had one in this boot, its last register."""

    machine: str
    meter: str
    seq: int
    register: int | None = None


class Head(Struct, frozen=True, omit_defaults=True):
    """A segment's first line. `first` is the number before a meter's first one; `last` is sorted."""

    spool: int
    log_id: str
    route: str
    boot: int
    first: int
    last: list[Last]
    keys: list[str] = []
    notes: dict[str, str] = {}


class Delivery(Struct, frozen=True, omit_defaults=True):
    """A line before `delivery` readings that count together or not at all. A note of None is forgotten."""

    delivery: int
    key: str | None = None
    notes: dict[str, str | None] = {}


class _Row(Struct, frozen=True):
    machine: str
    meter: str
    seq: int
    register: int | None = None


class Spool:
    """One gateway's folder. Not thread-safe: its owner lets one thread at a time in."""

    def __init__(
        self,
        folder: Path,
        log_id: str,
        route: str,
        *,
        now_ms: int,
        least_boot: int = 0,
        limit_bytes: int = 1 << 28,
        segment_bytes: int = 1 << 22,
    ) -> None:
        """Opens the folder or makes it; `now_ms` is epoch ms. The boot is never below `least_boot`.

        Raises InvalidInput where the folder can't be written, another gateway has it, it belongs to another log or
        route, or a later version wrote it.
        """
        self.folder = folder
        self.warnings: list[str] = []
        self.count = 0
        """Readings that Kafka doesn't have yet, as far as `forget` has recorded."""
        self._log_id, self._route = log_id, route
        self._limit_bytes, self._segment_bytes = limit_bytes, min(segment_bytes, limit_bytes // 8)
        self._sizes: dict[int, int] = {}
        """Bytes of every segment by its number; the highest is the one written to."""
        self.boot, self._first = -1, 0
        self._last: dict[tuple[str, str], Last] = {}
        self._keys: dict[str, None] = {}
        self._notes: dict[str, str] = {}
        self._has_deliveries = False
        self._segment, self._file, self._head_bytes = 0, -1, 0
        self._unsynced = False
        self._lock = _lock(folder)
        try:
            self._open(now_ms, least_boot)
        except OSError as error:
            os.close(self._lock)
            raise _unusable(folder, error) from None
        except BaseException:
            os.close(self._lock)
            raise

    def next_seq(self, machine: str, meter: str) -> int:
        """The number of the meter's next reading."""
        last = self._last.get((machine, meter))
        return (self._first if last is None else last.seq) + 1

    def last_register(self, machine: str, meter: str) -> int | None:
        """The meter's last register in this boot, in its unit; None before its first."""
        last = self._last.get((machine, meter))
        return None if last is None else last.register

    def has_key(self, key: str) -> bool:
        """Whether a delivery of this key is among the last that were taken."""
        return key in self._keys

    def note(self, name: str) -> str | None:
        """What a delivery noted last under this name."""
        return self._notes.get(name)

    def begin_boot(self, machine: str, meter: str, now_ms: int) -> None:
        """Begins a higher boot, because this meter's register begins again; the other meters keep theirs.

        Raises SpoolFull without room, InvalidInput where the disk doesn't take it; then the boot is as it was.
        """
        before = self.boot, self._first, self._last
        self._check_room(self._head_bytes + LINE_MAX_BYTES)
        self._count_boot(now_ms, self.boot + 1)
        self._last = {key: last._replace(seq=self._first) for key, last in before[2].items() if key != (machine, meter)}
        try:
            self._begin_segment()
        except OSError as error:
            self.boot, self._first, self._last = before
            raise self._unwritable(error) from None

    def append(self, readings: Sequence[Reading], key: str | None = None, notes: Notes | None = None) -> None:
        """Writes readings of this boot, each with its meter's next number: all or none, also over a crash.

        A key is remembered, and the notes are, with the readings. Raises SpoolFull without room, InvalidInput where the
        disk doesn't take it; then the numbers are still free.
        """
        is_delivery = key is not None or bool(notes) or len(readings) > 1
        delivery = Delivery(len(readings), key, dict(notes or {}))
        lines = [_line(msgspec.json.encode(delivery))] if is_delivery else []
        lines += [_line(json_row(reading)) for reading in readings]
        data = b"".join(lines)
        self._check_room(len(data))
        had_deliveries, self._has_deliveries = self._has_deliveries, self._has_deliveries or is_delivery
        try:
            is_full = self._sizes[self._segment] - self._head_bytes + len(data) > self._segment_bytes
            if is_full or had_deliveries != self._has_deliveries:
                self._begin_segment()
                if not self.count:  # what held notes only
                    self.forget(Place(self._segment, 0), 0)
            self._write(data)
        except OSError as error:
            raise self._unwritable(error) from None
        self._sizes[self._segment] += len(data)
        if is_delivery:
            self._note_delivery(delivery)
        for reading in readings:
            register = None if reading.register is UNSET else reading.register
            self._note_last(reading.machine, reading.meter, reading.seq, register)
        self._unsynced = True
        self.count += len(readings)

    def sync(self) -> None:
        """Makes all that was written outlast a loss of power."""
        if self._unsynced:
            os.fsync(self._file)
            self._unsynced = False

    @property
    def end(self) -> Place:
        """The place after the last reading."""
        return Place(self._segment, self._sizes[self._segment])

    def read(self, place: Place, rows_max: int, bytes_max: int) -> tuple[list[bytes], Place]:
        """The readings' JSON from a place on, within both limits but at least one if any, and the place after them."""
        rows: list[bytes] = []
        taken = 0
        for segment in sorted(number for number in self._sizes if number >= place.segment):
            offset = place.offset if segment == place.segment else 0
            with self._path(segment).open("rb") as file:
                file.seek(offset)
                for line in file:
                    text = _text(line)
                    if text is None:
                        raise InvariantBroken(f"{self._path(segment)} is damaged at byte {offset}: make a new gateway")
                    if offset and not text.startswith(_DELIVERY):  # nor is the first line a reading
                        taken += len(text) + 1
                        if rows and taken > bytes_max:
                            return rows, Place(segment, offset)
                        rows.append(text)
                    offset += len(line)
                    if len(rows) == rows_max:
                        return rows, Place(segment, offset)
            place = Place(segment, offset)
        return rows, place

    def forget(self, place: Place, count: int) -> None:
        """Kafka has all before a place, `count` readings more than it was known to have."""
        self.acked = place
        self.count -= count
        if place == self.end and place.offset > self._segment_bytes // 2:
            self._begin_segment()
            self.acked = Place(self._segment, 0)
        for segment in [number for number in self._sizes if number < self.acked.segment]:
            self._path(segment).unlink()
            del self._sizes[segment]

    def note_acked(self) -> None:
        """Writes down how far Kafka has them, so that a restart sends less again; duplicates do no harm."""
        self._replace("acked", _line(msgspec.json.encode(self.acked)))

    def close(self) -> None:
        """Syncs, and releases the folder."""
        self.sync()
        self.note_acked()
        os.close(self._file)
        os.close(self._lock)

    # Opening

    def _open(self, now_ms: int, least_boot: int) -> None:
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.readings"))
        is_whole: list[bool] = []
        for number in numbers:
            follows_whole = bool(is_whole) and is_whole[-1]
            is_whole.append(self._load(number, is_last=number == numbers[-1], follows_whole=follows_whole))
        if not is_whole or not all(is_whole) or self.boot < least_boot:
            if now_ms < BOOTS_BEGIN_MS and self.boot < 0 and not least_boot:
                raise InvalidInput("the clock is before 2020 and the spool is new: set the clock first")
            # What was lost may have been of this quarter's boot.
            self._count_boot(now_ms + (BOOT_UNIT_MS if numbers else 0), max(least_boot, self.boot + 1))
            self._last = {}
        self.acked = self._load_acked()
        self.count = sum(1 for _ in self._lines_from(self.acked))
        self._segment = numbers[-1] if numbers else 0
        if self._segment in self._sizes:  # its end may be unsynced, and the next head holds the keys of what is there
            _sync(self._path(self._segment))
        self._begin_segment()
        if not self.count:
            self.forget(Place(self._segment, 0), 0)

    def _load(self, number: int, *, is_last: bool, follows_whole: bool) -> bool:
        """Loads a segment; whether all of it is as it was written. What isn't is cut off and set aside."""
        path = self._path(number)
        data = path.read_bytes()
        offset, end = self._take_lines(data, follows_whole=follows_whole)
        rest = data[offset:]
        is_cut_off = is_last and offset > 0 and b"\n" not in data[end:]
        if offset:
            self._sizes[number] = offset
        if rest and not is_cut_off:
            aside = path.with_suffix(".damaged")
            aside.write_bytes(rest)
            self.warnings.append(
                f"the spool {path} is damaged from byte {offset}: the rest was moved to {aside.name} and won't be sent;"
                " a new boot begins"
            )
        if not offset:
            path.unlink()
        elif rest:
            os.truncate(path, offset)
        return offset > 0 and (not rest or is_cut_off)

    def _take_lines(self, data: bytes, *, follows_whole: bool) -> tuple[int, int]:
        """Loads a segment's lines; where the last whole delivery ends, and the last whole line."""
        offset = end = 0
        delivery: Delivery | None = None
        rows: list[_Row] = []
        for line in data.splitlines(keepends=True):
            text = _text(line)
            if text is None:
                break
            if end == 0:
                if not self._take_head(text, follows_whole=follows_whole):
                    break
            elif delivery is None and text.startswith(_DELIVERY):
                delivery = _decoded(text, Delivery)
                if delivery is None:
                    break
            elif (row := _decoded(text, _Row)) is None:
                break
            else:
                rows.append(row)
            end += len(line)
            if delivery is not None and len(rows) < delivery.delivery:
                continue
            self._take_in(delivery, rows)
            offset, delivery, rows = end, None, []
        return offset, end

    def _take_in(self, delivery: Delivery | None, rows: list[_Row]) -> None:
        """What whole lines say: a reading, or a delivery with its readings."""
        if delivery is not None:
            self._note_delivery(delivery)
        for row in rows:
            self._note_last(row.machine, row.meter, row.seq, row.register)

    def _take_head(self, text: bytes, *, follows_whole: bool) -> bool:
        """Loads a segment's first line; False where it isn't one."""
        head = _decoded(text, Head)
        if head is None:
            return False
        self._check_head(head)
        if head.boot != self.boot:
            self._last = {}
        self.boot, self._first = head.boot, head.first
        for last in head.last:
            # A head that could not be made durable is behind the lines that followed it in the segment before.
            if last.seq >= self.next_seq(last.machine, last.meter) - 1:
                self._last[last.machine, last.meter] = last
        if not follows_whole:
            self._keys, self._notes = dict.fromkeys(head.keys), head.notes
        self._has_deliveries = self._has_deliveries or head.spool == FORMAT_OF_DELIVERIES
        return True

    def _note_delivery(self, delivery: Delivery) -> None:
        """A delivery's key and notes are the last; the oldest keys are forgotten."""
        if delivery.key is not None:
            self._keys[delivery.key] = None
            if len(self._keys) > KEYS_MAX:
                del self._keys[next(iter(self._keys))]
        for name, text in delivery.notes.items():
            if text is None:
                self._notes.pop(name, None)
            else:
                self._notes[name] = text

    def _note_last(self, machine: str, meter: str, seq: int, register: int | None) -> None:
        """A reading's number and, where it has one, register are its meter's last."""
        if register is None:
            register = self.last_register(machine, meter)
        self._last[machine, meter] = Last(machine, meter, seq, register)

    def _check_head(self, head: Head) -> None:
        if head.spool not in (FORMAT, FORMAT_OF_DELIVERIES):
            raise InvalidInput(f"the spool {self.folder} has format {head.spool}: use the version that wrote it")
        if (head.log_id, head.route) != (self._log_id, self._route):
            raise InvalidInput(
                f"the spool {self.folder} belongs to the route {head.route} of the log {head.log_id}:"
                " use one folder for each gateway"
            )

    def _count_boot(self, now_ms: int, least: int) -> None:
        """The boot of this moment, or the least if that is higher."""
        quarter, self._first = divmod(max(0, now_ms - BOOTS_BEGIN_MS), BOOT_UNIT_MS)
        self.boot = max(quarter, least)

    def _load_acked(self) -> Place:
        """Where Kafka was known to be; the beginning of all where that is not, or no longer, a place."""
        start = Place(min(self._sizes, default=0), 0)
        try:
            text = _text((self.folder / "acked").read_bytes())
            place = start if text is None else msgspec.json.decode(text, type=Place)
        except (OSError, msgspec.MsgspecError):
            return start
        if not 0 <= place.offset <= self._sizes.get(place.segment, -1):
            return start
        return place if not place.offset or self._path(place.segment).read_bytes()[place.offset - 1] == 10 else start

    def _lines_from(self, place: Place) -> Iterator[bytes]:
        while True:
            rows, place = self.read(place, 10_000, 1 << 22)
            if not rows:
                return
            yield from rows

    # Writing

    def _begin_segment(self) -> None:
        """Makes a new segment that outlasts a loss of power; only then may the ones before it go."""
        if self._file >= 0:
            self.sync()
        last = sorted(self._last.values())
        written = FORMAT_OF_DELIVERIES if self._has_deliveries else FORMAT
        said = Head(written, self._log_id, self._route, self.boot, self._first, last, [*self._keys], self._notes)
        head = _line(msgspec.json.encode(said))
        path = self._path(self._segment + 1)
        self._replace(path.name, head, sync=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self._file >= 0:
            os.close(self._file)
        self._segment, self._file, self._head_bytes = self._segment + 1, file, len(head)
        self._sizes[self._segment] = len(head)

    def _check_room(self, size: int) -> None:
        if sum(self._sizes.values()) + size > self._limit_bytes:
            raise SpoolFull(
                f"the spool {self.folder} is full, {self.count:,} readings wait for Kafka: this reading was not taken;"
                " see why Kafka doesn't take them, or raise spool_bytes"
            )

    def _unwritable(self, error: OSError) -> InvalidInput:
        return InvalidInput(f"the spool {self.folder} can't be written ({error.strerror}): this reading was not taken")

    def _write(self, data: bytes) -> None:
        """Writes all of the lines or nothing. Raises OSError."""
        written = 0
        try:
            written = os.write(self._file, data)
        finally:
            if written < len(data):
                os.ftruncate(self._file, self._sizes[self._segment])
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _replace(self, name: str, data: bytes, *, sync: bool = False) -> None:
        path = self.folder / name
        unfinished = path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
        if sync:
            folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(folder)
            os.close(folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.readings"


def _decoded(text: bytes, kind: type[_Line]) -> _Line | None:
    """A line of this kind; None where it isn't one."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


def _line(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:8].encode() + b" " + text + b"\n"


def _text(line: bytes) -> bytes | None:
    """What a line says, or None where it isn't as it was written."""
    text = line[MARK_BYTES:-1]
    return text if line == _line(text) else None


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _unusable(folder: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"the spool {folder} can't be used ({error.strerror}): name a folder that can be written")


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise InvalidInput(f"another gateway has the spool {folder}: use one folder for each gateway") from None
    return file
