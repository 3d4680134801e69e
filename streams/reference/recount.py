"""The rules a second time, slowly: a log recounted from raw readings with fractions, sets and calendars.

Written apart from `advance`, with which it shares the decoding of one record, the check of one signature, and murmur2.
It keeps every row and has no slices, and `money` rounds nothing, so it must equal amounts plus carries exactly.
`sealed` is every window, in order. For tests, and for audits that trust nothing faster (`compare`).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec

from schemas.log import Log
from schemas.reading import Correction, Reading
from schemas.registration import Registration
from schemas.units import CARRY_BASE, DAY_MS, HOUR_MS
from schemas.window import Window
from streams.core.murmur2 import partition_of
from streams.core.records import (
    JSON,
    LogRecord,
    decode_control,
    decode_readings,
    has_signature,
    header,
    headers,
    media_type,
    record_type,
)
from streams.core.signature import is_signed_by, operator_of, reading_message

Plain = dict[str, Any]
FAR = Fraction(135, 100)
Payees = tuple[tuple[str, int], ...]
LATEST_MS = (date.max.toordinal() - date(1970, 1, 1).toordinal() + 1) * DAY_MS - 1
"""Later timestamps count as Kafka's "no timestamp"."""


class BootRecount:
    """The rows of one boot of a meter, all of them."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.rows: dict[int, Plain] = {}
        self.high: int | None = None
        self.floor = 0

    def holes(self) -> list[tuple[int, int]]:
        """Runs of unused numbers between the floor and the highest, as inclusive pairs."""
        used = [self.floor - 1, *sorted(seq for seq in self.rows if seq >= self.floor)]
        return [(a + 1, b - 1) for a, b in pairwise(used) if b - a > 1]

    def take(self, row: Plain) -> tuple[str | None, int]:
        """The reason why a row is refused or None, and how many numbers it skips."""
        seq, high = row["seq"], self.high
        if high is None or seq > high:
            if high is not None and seq - high > 2**20:
                return "seq_jump", 0
            self.put(row)
            return None, 0 if high is None else seq - high - 1
        if seq == high:
            return ("duplicate" if row == self.rows[high] else "equivocation"), 0
        if seq >= self.floor and seq not in self.rows:
            self.put(row)
            return None, 0
        if seq < self.floor:
            return "below_floor", 0
        return ("seq_reused" if row["observed_at"] > self.rows[high]["observed_at"] else "duplicate"), 0

    def put(self, row: Plain) -> None:
        """Keeps a row; of more than 16 holes the lowest go."""
        seq, high = row["seq"], self.high
        self.rows[seq] = row
        self.high = seq if high is None else max(high, seq)
        while seq - 1 != high and len(self.holes()) > 16:  # a row right after the last one makes no hole
            self.floor = self.holes()[0][1] + 1


class MeterRecount:
    """The state of one meter: its boots, baseline, suspect and slack (rules 7 to 17)."""

    def __init__(self) -> None:
        self.boots: list[BootRecount] = []
        self.base: Plain | None = None
        self.suspect: Plain | None = None
        self.quantity_at: int | None = None
        self.slack = Fraction(60_000)
        self.flag: str | None = None

    def identify(self, row: Plain, least: int | None) -> tuple[str | None, int]:
        """The verdict on a row's boot and number, and how many numbers it skips.

        `boots` are the two highest seen, the higher one first; a registered boot counts as seen before any row.
        """
        if least is not None and not self.boots:
            self.boots = [BootRecount(least)]
        known = {boot.boot: boot for boot in self.boots}
        number = row["boot"]
        if number not in known:
            stale = [least or 0, *(boot.boot for boot in self.boots[1:2])]
            if number < max(stale):
                return "stale_boot", 0
            if self.boots and number > self.boots[0].boot + 2**20:
                return "boot_jump", 0
            known[number] = BootRecount(number)
            self.boots = sorted(known.values(), key=lambda boot: -boot.boot)[:2]
        return known[number].take(row)

    def plausible(self, usage: int, elapsed: int, capacity: int) -> bool:
        """Whether the meter can have counted `usage` in `elapsed` ms and its slack."""
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        return needed <= min(elapsed, 35 * DAY_MS) + self.slack

    def accept(self, usage: int, elapsed: int, capacity: int) -> int:
        """Accepts usage: the time that it needed beyond the time elapsed is taken from the slack."""
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        self.slack = min(Fraction(60_000), self.slack + min(elapsed, 35 * DAY_MS) - needed)
        return usage

    def register(self, row: Plain, capacity: int) -> int | str:
        """The usage that a register adds, or the reason why it is refused."""
        number, at, value, base = (row["boot"], row["seq"]), row["observed_at"], row["register"], self.base
        here = {"number": number, "at": at, "value": value}
        self.flag = None
        if row["boot"] != self.boots[0].boot:
            return 0
        if base is None:
            self.base = here
            return 0
        if at < base["at"] or number < base["number"]:
            return 0
        if base["number"] != (-1, -1) and number[0] > base["number"][0] and value < base["value"]:
            self.base, self.suspect, self.slack, self.flag = here, None, Fraction(60_000), "reset"
            return 0
        origins = [base]
        if self.suspect and number > self.suspect["number"] and at > self.suspect["at"]:
            origins.append(self.suspect)
        fit = [
            (one["value"], -rank, one)
            for rank, one in enumerate(origins)
            if one["value"] <= value and self.plausible(value - one["value"], at - one["at"], capacity)
        ]
        if not fit:
            self.suspect = here
            return "too_low" if value < base["value"] else "too_high"
        origin = max(fit, key=lambda item: item[:2])[2]
        self.flag = None if origin is base else "rebaselined"
        self.base, self.suspect = here, None
        return self.accept(value - origin["value"], at - origin["at"], capacity)

    def quantity(self, row: Plain, capacity: int) -> int | str:
        """The usage that a quantity adds, or the reason why it is refused."""
        elapsed = DAY_MS if self.quantity_at is None else abs(row["observed_at"] - self.quantity_at)
        if not self.plausible(row["quantity"], elapsed, capacity):
            return "too_high"
        self.quantity_at = max(self.quantity_at or 0, row["observed_at"])
        return self.accept(row["quantity"], elapsed, capacity)


class WindowRecount:
    """One window or adjustment while it is open: usage by (meter, version, price, per)."""

    def __init__(self) -> None:
        self.readings = self.skipped = 0
        self.offsets: list[int] = []
        self.flags: set[str] = set()
        self.trust = 2
        self.usage: dict[tuple[str, int, int, int], int] = defaultdict(int)

    def lines(self, carry: Fraction) -> tuple[list[Plain], Fraction]:
        """The lines in their order and the carry after them; the fraction of a micro passes from line to line."""
        found = []
        for (meter, version, price, per), usage in sorted(self.usage.items()):
            if usage:
                exact = Fraction(usage * price, per or 1) + carry
                amount, carry = math.floor(exact), exact - math.floor(exact)
                line = {"meter": meter, "version": version, "usage": usage, "price": price, "per": per}
                found.append(line | {"amount": amount})
        return found, carry


class PartitionRecount:
    """Recounts the log of one partition. `money` is by (machine, payees), in fractions of a micro."""

    def __init__(self, log: Log, partition: int = 0) -> None:
        self.log, self.rules, self.partition = log, log.rulesets[0], partition
        self.now, self.epoch, self.earliest = -1, -1, 0
        self.versions: dict[str, list[tuple[int, Plain]]] = {}
        self.least: dict[str, int] = {}
        self.meters: dict[tuple[str, str], MeterRecount] = defaultdict(MeterRecount)
        self.corrections: dict[str, list[Plain]] = defaultdict(list)
        self.rejects: list[tuple[int, int, str]] = []
        self.accepted = self.duplicate = self.readings = self.skipped = 0
        self.money: dict[tuple[str, Payees], Fraction] = defaultdict(Fraction)
        self.marked: set[str] = set()
        self.open: dict[tuple[int, str, int], WindowRecount] = defaultdict(WindowRecount)
        self.carries: dict[tuple[str, Payees], Fraction] = defaultdict(Fraction)
        self.sealed: list[Plain] = []

    def take(self, records: Iterable[LogRecord]) -> "PartitionRecount":
        """Judges records, in the order of the log, in any number of calls; returns itself."""
        for record in records:
            self.move(record)
            kind = record_type(record)
            if kind == "reading":
                rows = decode_readings(record.value, media_type(record))
                verdicts: list[tuple[int, str | None]] = (
                    [(-1, rows)]
                    if isinstance(rows, str)
                    else [(index, self.row(row, record)) for index, row in enumerate(rows)]
                )
            elif kind == "machine.registered":
                verdicts = [(-1, self.registration(record))]
            elif kind == "usage.corrected":
                verdicts = [(-1, self.correction(record))]
            else:
                verdicts = [(-1, None if kind == "heartbeat" else "unknown_type")]
            for index, verdict in verdicts:
                self.accepted += verdict is None
                self.duplicate += verdict == "duplicate"
                if verdict not in (None, "duplicate"):
                    self.rejects.append((record.offset, index, str(verdict)))
        return self

    def move(self, record: LogRecord) -> None:
        """Moves stream time: windows seal by the rules of their epoch."""
        self.now = max(self.now, record.timestamp if record.timestamp <= LATEST_MS else -1)
        if self.epoch < 0:
            longest = max(rules.grace_ms for rules in self.log.rulesets)
            self.enter(max(0, self.now - longest) // self.log.epoch_ms)
        while self.now >= (self.epoch + 1) * self.log.epoch_ms + self.rules.grace_ms:
            self.enter(self.epoch + 1)
            self.seal(self.epoch * self.log.epoch_ms, record.offset)
        open_from = (self.now - self.rules.grace_ms) // self.log.window_ms * self.log.window_ms
        earliest = max(self.epoch * self.log.epoch_ms, open_from)
        if earliest != self.earliest:
            self.earliest = earliest
            self.seal(earliest, record.offset)

    def enter(self, epoch: int) -> None:
        """Enters an epoch: its rules come into force."""
        self.epoch = epoch
        self.rules = [rules for rules in self.log.rulesets if rules.first_epoch <= epoch][-1]

    def version(self, machine: str, moment: int) -> Plain:
        """The registration in force at a moment."""
        return [plain for start, plain in self.versions[machine] if start <= moment][-1]

    def is_sealed(self, moment: int) -> bool:
        """Whether the window of a moment is closed."""
        return moment // self.log.window_ms * self.log.window_ms < self.earliest

    def window_of(self, machine: str, moment: int, offset: int) -> WindowRecount:
        """The window of a moment, or the adjustment to it in the earliest open window."""
        grid = self.log.window_ms
        start = moment // grid * grid
        window = self.open[(self.earliest, machine, start) if self.is_sealed(moment) else (start, machine, -1)]
        window.offsets.append(offset)
        return window

    def seal(self, before: float, offset: int) -> None:
        """Seals the windows that start before a moment. `by` in a sealed window is the offset of the sealing record."""
        for key in sorted(key for key in self.open if key[0] < before):
            window = self.open.pop(key)
            start, machine, mends = key
            version = self.version(machine, start if mends < 0 else mends)
            payees = tuple(sorted(version["agreement"]["payees"].items()))
            carry = self.carries[machine, payees]
            lines, rest = window.lines(carry)
            self.carries[machine, payees] = rest
            flags = window.flags | ({"equivocation"} if machine in self.marked else set())
            self.sealed.append(
                {"machine": machine, "start": start, "mends": mends, "lines": lines, "carry_in": carry,
                 "carry_out": rest, "net": sum(line["amount"] for line in lines), "version": version["version"],
                 "payees": payees, "readings": window.readings, "skipped": window.skipped,
                 "offsets": (min(window.offsets), max(window.offsets)), "flags": sorted(flags), "trust": window.trust,
                 "by": offset}
            )  # fmt: skip

    def trust(self, record: LogRecord, version: Plain) -> int | None:
        """The trust of a row of a record under a version; None if the row must be refused."""
        if not has_signature(record):
            return None if version.get("require_signature") else 0
        signatures, names = headers(record, "signature"), headers(record, "key-id")
        keys = [key for key in version.get("keys", ()) if [key["key_id"].encode()] == names]
        if not keys or len(signatures) != 1:
            return None
        content_type = header(record, "content-type")
        parts = ("reading", JSON if content_type is None else content_type, record.value or b"")
        message = reading_message(self.log.log_id, record.key or b"", *parts)
        if not is_signed_by(bytes.fromhex(keys[0]["public_key"]), signatures[0], message):
            return None
        return 2 if keys[0].get("hardware_backed") else 1

    def row(self, row: Reading | None, record: LogRecord) -> str | None:
        """The verdict on one row of a reading record; None if it counts."""
        if row is None:
            return "malformed"
        if row.machine not in self.versions:
            return "unknown_machine"
        trust = self.trust(record, self.version(row.machine, row.observed_at))
        if trust is None:
            return "bad_signature"
        if row.observed_at > self.now + self.rules.skew_ms:
            return "from_the_future"
        plain = {name: part for name, part in msgspec.to_builtins(row).items() if part is not False}
        version = self.version(row.machine, row.observed_at)
        found = [meter for meter in version["meters"] if meter["meter"] == row.meter]
        if not found:
            return "unknown_meter"
        if found[0]["kind"] not in plain:
            return "wrong_kind"
        meter = self.meters[row.machine, row.meter]
        verdict, skipped = meter.identify(plain, self.least.get(row.machine))
        if verdict == "equivocation":
            self.marked.add(row.machine)
        if verdict:
            return verdict
        if version.get("retired"):
            return "retired"
        if self.is_sealed(row.observed_at) and row.observed_at < self.now - self.rules.horizon_ms:
            return "too_late"
        usage: int | str = 0
        meter.flag = None
        if found[0]["kind"] != "level":
            usage = getattr(meter, found[0]["kind"])(plain, found[0]["capacity_per_hour"])
        if isinstance(usage, str):
            return usage
        self.readings += 1
        self.skipped += skipped
        window = self.window_of(row.machine, row.observed_at, record.offset)
        window.readings += 1
        window.trust = min(window.trust, trust)
        window.skipped += skipped
        window.flags |= {flag for flag in (meter.flag, "reconstructed" if row.reconstructed else None) if flag}
        self.bill(plain, usage, bool(plain.get("session_start")), window)
        return None

    def bill(self, row: Plain, usage: int, starts: bool, window: WindowRecount) -> None:
        """Adds the money of a row or a difference, at the price of its moment."""
        machine, at = row["machine"], int(row["observed_at"])
        priced_by = self.version(machine, int(row.get("session_started_at", at)))
        start = at // self.log.window_ms * self.log.window_ms
        payees = tuple(sorted(self.version(machine, start)["agreement"]["payees"].items()))
        parts = self.components(priced_by["tariff"], row["meter"], at)
        if not any("per" in part for part in parts):
            parts.append({"price": 0, "per": 1})
        for part in parts:
            units = usage if "per" in part else int(starts)
            self.money[machine, payees] += Fraction(units * part["price"], part.get("per", 1))
            window.usage[row["meter"], priced_by["version"], part["price"], part.get("per", 0)] += units

    def components(self, tariff: Plain, meter: str, at: int) -> list[Plain]:
        """The price components that apply to a meter at a moment: one for usage, one for a visit."""
        seconds = [offset for start, offset in tariff["offsets"] if start <= at][-1]
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at, seconds=seconds)
        applying = [part for part in tariff["elements"] if self.applies(part.get("restrictions", {}), local)]
        parts = [part for element in applying for part in element["components"] if part["meter"] == meter]
        usage, visit = [part for part in parts if "per" in part], [part for part in parts if "per" not in part]
        return usage[:1] + visit[:1]

    def applies(self, words: Plain, local: datetime) -> bool:
        """Whether the restrictions of an element hold at a local time."""
        clock, day = local.strftime("%H:%M"), local.date().isoformat()
        start, end = words.get("start_time", "00:00"), words.get("end_time", "24:00")
        in_time = start <= clock < end if start < end else start == end or clock >= start or clock < end
        names = words.get("day_of_week") or [local.strftime("%A").upper()]
        in_dates = words.get("start_date", "") <= day < words.get("end_date", "9999")
        return in_time and in_dates and local.strftime("%A").upper() in names

    def is_signed(self, record: LogRecord, kind: str) -> bool:
        """Whether an operator signed a control record; true if the rules name no operators."""
        if not self.rules.operators:
            return True
        signatures, content_type = headers(record, "signature"), header(record, "content-type")
        parts = (record.key or b"", kind, JSON if content_type is None else content_type, record.value or b"")
        return len(signatures) == 1 and operator_of(signatures[0], self.log.log_id, *parts) in self.rules.operators

    def registration(self, record: LogRecord) -> str | None:
        """The verdict on a registration; None if it counts."""
        decoded = decode_control(record.value, media_type(record), Registration)
        if isinstance(decoded, str):
            return decoded
        if not self.is_signed(record, "machine.registered"):
            return "bad_signature"
        plain = decoded[1]
        machine, number = plain["machine"], plain["version"]
        if not plain.get("retired", True):
            del plain["retired"]
        past = [old for _, old in self.versions.get(machine, [])]
        if not self.is_here(record, plain["route"]) or (past and past[-1]["route"] != plain["route"]):
            return "wrong_partition"
        if past and past[-1] == plain:
            return "duplicate"
        if number != len(past) + 1:
            return "stale_version"
        if past and self.is_locked(past[-1]["agreement"], plain["agreement"]):
            return "agreement_locked"
        grid = self.log.window_ms
        start = max(
            math.ceil(Fraction(plain["effective_from"], grid)) * grid,
            ((self.now + self.rules.skew_ms) // grid + 1) * grid,
        )
        self.marked.discard(machine)
        self.versions.setdefault(machine, []).append((start if past else -(10**18), plain))
        acts = "boot" in plain and (not past or plain["boot"] != past[-1].get("boot"))
        if acts:
            self.least[machine] = plain["boot"]
            for name in [name for name in self.meters if name[0] == machine]:
                meter = self.meters[name]
                meter.boots, meter.suspect = [], None
                if meter.base and meter.base["number"][0] > plain["boot"]:
                    meter.base = None
        for part in plain["meters"]:
            if part["kind"] == "register" and "opening_register" in part and (acts or not past):
                meter = self.meters[machine, part["meter"]]
                at = self.now if past else plain["effective_from"]
                meter.base = {"number": (-1, -1), "at": at, "value": part["opening_register"]}
                meter.suspect, meter.slack = None, Fraction(60_000)
        return None

    def is_here(self, record: LogRecord, route: str) -> bool:
        """Whether the record's key is the route and Java's partitioner puts it into this partition."""
        return record.key == route.encode() and partition_of(record.key, self.log.partitions) == self.partition

    def is_locked(self, old: Plain, new: Plain) -> bool:
        """Whether a new agreement breaks the lock of the old one."""
        if self.now >= old.get("locked_until", -1):
            return False
        falls = any(new["payees"].get(name, 0) < points for name, points in old["payees"].items())
        falls = falls or new.get("pays_trust", 0) > old.get("pays_trust", 0)
        return falls or new.get("locked_until", -1) < old["locked_until"]

    def correction(self, record: LogRecord) -> str | None:
        """The verdict on a correction; None if it counts."""
        decoded = decode_control(record.value, media_type(record), Correction)
        if isinstance(decoded, str):
            return decoded
        if not self.is_signed(record, "usage.corrected"):
            return "bad_signature"
        plain = decoded[1]
        machine, past = plain["machine"], self.corrections[plain["machine"]]
        if machine not in self.versions:
            return "unknown_machine"
        if not self.is_here(record, self.versions[machine][0][1]["route"]):
            return "wrong_partition"
        if past and plain == past[-1]:
            return "duplicate"
        if plain["version"] != len(past) + 1:
            return "stale_version"
        if plain["observed_at"] > self.now + self.rules.skew_ms:
            return "from_the_future"
        meters = self.version(machine, plain["observed_at"])["meters"]
        found = [meter for meter in meters if meter["meter"] == plain["meter"]]
        if not found:
            return "unknown_meter"
        if found[0]["kind"] == "level":
            return "wrong_kind"
        if abs(plain["difference"]) > math.floor(FAR * found[0]["capacity_per_hour"] * 35 * 24):
            return "too_high"
        past.append(plain)
        window = self.window_of(machine, plain["observed_at"], record.offset)
        self.bill(plain, plain["difference"], False, window)
        return None


def plain_windows(windows: Sequence[Window]) -> list[Plain]:
    """Windows in the form of `PartitionRecount.sealed`, without `by`."""
    return [
        {
            "machine": window.machine,
            "start": window.start_ms,
            "mends": -1 if window.adjusts_ms is None else window.adjusts_ms,
            "lines": [
                {"meter": line.meter, "version": line.version, "usage": line.usage, "price": line.price_micros,
                 "per": line.per, "amount": line.amount_micros}
                for line in window.lines
            ],
            "carry_in": Fraction(window.carry_in, CARRY_BASE),
            "carry_out": Fraction(window.carry_out, CARRY_BASE),
            "net": window.net_micros,
            "version": window.registration_version,
            "payees": tuple(sorted(window.agreement.payees.items())),
            "readings": window.readings,
            "skipped": window.skipped,
            "offsets": (window.first_offset, window.last_offset),
            "flags": list(window.flags),
            "trust": window.trust,
        }
        for window in windows
    ]  # fmt: skip
