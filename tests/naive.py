"""The rules once more, slowly: what a log comes to, recounted from raw readings with fractions, sets and calendars.

Written apart from `streams`: it shares only the decoding of one record. It keeps every row, knows no epochs and no
slices, and rounds nothing, so its sums must equal amounts plus carries exactly.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec

from schemas.log import Log
from schemas.reading import Correction, Reading
from schemas.registration import Registration
from schemas.units import DAY_MS, HOUR_MS
from streams.records import JSON, Record, decode_control, decode_readings

Plain = dict[str, Any]
FAR = Fraction(135, 100)


class NaiveBoot:
    """The rows of one boot of a meter, all of them."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.rows: dict[int, Plain] = {}
        self.floor = 0

    def holes(self) -> list[tuple[int, int]]:
        used = [self.floor - 1, *sorted(seq for seq in self.rows if seq >= self.floor)]
        return [(a + 1, b - 1) for a, b in pairwise(used) if b - a > 1]

    def take(self, row: Plain) -> tuple[str | None, int]:
        seq, high = row["seq"], max(self.rows, default=None)
        if high is None or seq > high:
            if high is not None and seq - high > 2**20:
                return "seq_jump", 0
            return self.put(row), 0 if high is None else seq - high - 1
        if seq == high:
            return ("duplicate" if row == self.rows[high] else "equivocation"), 0
        if seq >= self.floor and seq not in self.rows:
            return self.put(row), 0
        if seq < self.floor:
            return "below_floor", 0
        return ("seq_reused" if row["observed_at"] > self.rows[high]["observed_at"] else "duplicate"), 0

    def put(self, row: Plain) -> None:
        self.rows[row["seq"]] = row
        while len(self.holes()) > 16:
            self.floor = self.holes()[0][1] + 1


class NaiveMeter:
    def __init__(self) -> None:
        self.boots: list[NaiveBoot] = []
        self.base: Plain | None = None
        self.suspect: Plain | None = None
        self.quantity_at: int | None = None
        self.slack = Fraction(60_000)

    def identify(self, row: Plain, least: int | None) -> tuple[str | None, int]:
        """The two highest boots seen, the higher one first; a registered boot is seen before any row."""
        if least is not None and not self.boots:
            self.boots = [NaiveBoot(least)]
        known = {boot.boot: boot for boot in self.boots}
        number = row["boot"]
        if number not in known:
            stale = [least or 0, *(boot.boot for boot in self.boots[1:2])]
            if number < max(stale):
                return "stale_boot", 0
            if self.boots and number > self.boots[0].boot + 2**20:
                return "boot_jump", 0
            known[number] = NaiveBoot(number)
            self.boots = sorted(known.values(), key=lambda boot: -boot.boot)[:2]
        return known[number].take(row)

    def plausible(self, usage: int, elapsed: int, capacity: int) -> bool:
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        return needed <= min(elapsed, 35 * DAY_MS) + self.slack

    def accept(self, usage: int, elapsed: int, capacity: int) -> int:
        needed = math.ceil(usage * HOUR_MS / (FAR * capacity))
        self.slack = min(Fraction(60_000), self.slack + min(elapsed, 35 * DAY_MS) - needed)
        return usage

    def register(self, row: Plain, capacity: int) -> int | str:
        place, at, value, base = (row["boot"], row["seq"]), row["observed_at"], row["register"], self.base
        here = {"place": place, "at": at, "value": value}
        if row["boot"] != self.boots[0].boot:
            return 0
        if base is None:
            self.base = here
            return 0
        if at < base["at"] or place < base["place"]:
            return 0
        if base["place"] != (-1, -1) and place[0] > base["place"][0] and value < base["value"]:
            self.base, self.suspect, self.slack = here, None, Fraction(60_000)
            return 0
        origins = [base]
        if self.suspect and place > self.suspect["place"] and at > self.suspect["at"]:
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
        self.base, self.suspect = here, None
        return self.accept(value - origin["value"], at - origin["at"], capacity)

    def quantity(self, row: Plain, capacity: int) -> int | str:
        elapsed = DAY_MS if self.quantity_at is None else abs(row["observed_at"] - self.quantity_at)
        if not self.plausible(row["quantity"], elapsed, capacity):
            return "too_high"
        self.quantity_at = max(self.quantity_at or 0, row["observed_at"])
        return self.accept(row["quantity"], elapsed, capacity)


class Naive:
    """Takes a whole log. `money` is by (machine, payees), in fractions of a micro."""

    def __init__(self, log: Log) -> None:
        self.log, self.rules = log, log.rulesets[0]
        self.now = -1
        self.versions: dict[str, list[tuple[int, Plain]]] = {}
        self.least: dict[str, int] = {}
        self.meters: dict[tuple[str, str], NaiveMeter] = defaultdict(NaiveMeter)
        self.corrections: dict[str, list[Plain]] = defaultdict(list)
        self.rejects: list[tuple[int, int, str]] = []
        self.accepted = self.duplicate = self.readings = self.skipped = 0
        self.money: dict[tuple[str, tuple[tuple[str, int], ...]], Fraction] = defaultdict(Fraction)

    def take(self, records: Sequence[Record]) -> "Naive":
        for record in records:
            self.now = max(self.now, record.timestamp)
            kind = dict(record.headers).get("ce_type", b"reading").decode()
            if kind == "reading":
                rows = decode_readings(record.value)
                verdicts: list[tuple[int, str | None]] = (
                    [(-1, rows)]
                    if isinstance(rows, str)
                    else [(place, self.row(row)) for place, row in enumerate(rows)]
                )
            elif kind == "machine.registered":
                verdicts = [(-1, self.registration(record))]
            elif kind == "usage.corrected":
                verdicts = [(-1, self.correction(record))]
            else:
                verdicts = [(-1, None if kind == "heartbeat" else "unknown_type")]
            for place, verdict in verdicts:
                self.accepted += verdict is None
                self.duplicate += verdict == "duplicate"
                if verdict not in (None, "duplicate"):
                    self.rejects.append((record.offset, place, str(verdict)))
        return self

    def version(self, machine: str, moment: int) -> Plain:
        return [plain for start, plain in self.versions[machine] if start <= moment][-1]

    def sealed(self, moment: int) -> bool:
        end = (moment // self.log.window_ms + 1) * self.log.window_ms
        return end + self.rules.grace_ms <= self.now

    def row(self, row: Reading | None) -> str | None:
        if row is None:
            return "malformed"
        if row.machine not in self.versions:
            return "unknown_machine"
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
        if verdict:
            return verdict
        if version.get("retired"):
            return "retired"
        if self.sealed(row.observed_at) and row.observed_at < self.now - self.rules.horizon_ms:
            return "too_late"
        usage: int | str = 0
        if found[0]["kind"] != "level":
            usage = getattr(meter, found[0]["kind"])(plain, found[0]["capacity_per_hour"])
        if isinstance(usage, str):
            return usage
        self.readings += 1
        self.skipped += skipped
        self.bill(plain, usage, bool(plain.get("session_start")))
        return None

    def bill(self, row: Plain, usage: int, starts: bool) -> None:
        machine, at = row["machine"], row["observed_at"]
        priced_by = self.version(machine, row.get("session_started_at", at))
        start = at // self.log.window_ms * self.log.window_ms
        payees = tuple(sorted(self.version(machine, start)["agreement"]["payees"].items()))
        for part in self.components(priced_by["tariff"], row["meter"], at):
            units = Fraction(usage, part["per"]) if "per" in part else Fraction(starts)
            self.money[machine, payees] += units * part["price"]

    def components(self, tariff: Plain, meter: str, at: int) -> list[Plain]:
        seconds = [offset for start, offset in tariff["offsets"] if start <= at][-1]
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at, seconds=seconds)
        applying = [part for part in tariff["elements"] if self.applies(part.get("restrictions", {}), local)]
        parts = [part for element in applying for part in element["components"] if part["meter"] == meter]
        usage, visit = [part for part in parts if "per" in part], [part for part in parts if "per" not in part]
        return usage[:1] + visit[:1]

    def applies(self, words: Plain, local: datetime) -> bool:
        clock, day = local.strftime("%H:%M"), local.date().isoformat()
        start, end = words.get("start_time", "00:00"), words.get("end_time", "24:00")
        in_time = start <= clock < end if start < end else start == end or clock >= start or clock < end
        names = words.get("day_of_week") or [local.strftime("%A").upper()]
        in_dates = words.get("start_date", "") <= day < words.get("end_date", "9999")
        return in_time and in_dates and local.strftime("%A").upper() in names

    def registration(self, record: Record) -> str | None:
        decoded = decode_control(record.value, JSON, Registration)
        if isinstance(decoded, str):
            return decoded
        plain = decoded[1]
        machine, number = plain["machine"], plain["version"]
        if not plain.get("retired", True):
            del plain["retired"]
        past = [old for _, old in self.versions.get(machine, [])]
        if plain["route"] != (record.key or b"").decode() or (past and past[-1]["route"] != plain["route"]):
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
        self.versions.setdefault(machine, []).append((start if past else -(10**18), plain))
        acts = "boot" in plain and (not past or plain["boot"] != past[-1].get("boot"))
        if acts:
            self.least[machine] = plain["boot"]
            for name in [name for name in self.meters if name[0] == machine]:
                meter = self.meters[name]
                meter.boots, meter.suspect = [], None
                if meter.base and meter.base["place"][0] > plain["boot"]:
                    meter.base = None
        for part in plain["meters"]:
            if part["kind"] == "register" and "opening_register" in part and (acts or not past):
                meter = self.meters[machine, part["meter"]]
                at = self.now if past else plain["effective_from"]
                meter.base = {"place": (-1, -1), "at": at, "value": part["opening_register"]}
                meter.suspect, meter.slack = None, Fraction(60_000)
        return None

    def is_locked(self, old: Plain, new: Plain) -> bool:
        if self.now >= old.get("locked_until", -1):
            return False
        falls = any(new["payees"].get(name, 0) < points for name, points in old["payees"].items())
        return falls or new.get("locked_until", -1) < old["locked_until"]

    def correction(self, record: Record) -> str | None:
        decoded = decode_control(record.value, JSON, Correction)
        if isinstance(decoded, str):
            return decoded
        plain = decoded[1]
        machine, past = plain["machine"], self.corrections[plain["machine"]]
        if machine not in self.versions:
            return "unknown_machine"
        if self.versions[machine][0][1]["route"].encode() != record.key:
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
        self.bill(plain, plain["difference"], False)
        return None
