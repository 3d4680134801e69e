"""Random logs of one partition, from clean to hostile: what `advance` must take without losing or inventing an entry.

A few machines measure, restart, lose and resend; operators register, correct and lock; `dirt` (0 to 1) is the share of
events that are wrong in some way. The same seed gives the same log.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from schemas.log import Log, Ruleset
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.records import Record

START_MS = 1_700_000_100_000 // (15 * MINUTE_MS) * (15 * MINUTE_MS)
STEPS_MS = (0, 0, SECOND_MS, 30 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS)
LEAPS_MS = (-10 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, 9 * HOUR_MS)
JUNK = (b"", b"{", b"[]", b"[1]", b"null", b"\xff\xfe", b'{"machine":"m0"}', b"[" * 2000, b"[" * 70 + b"]" * 70)
METERS = {"energy": "register", "trips": "quantity", "stock": "level"}
DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")

Plain = dict[str, Any]


def small_log() -> Log:
    """Epochs of two hours and a horizon of six, so that a short log has cuts, adjustments and readings too late."""
    return Log(log_id="dirty", partitions=1, epoch_ms=2 * HOUR_MS, rulesets=(Ruleset(horizon_ms=6 * HOUR_MS),))


def dirty_log(seed: int, dirt: float, length: int = 120, *, boots: bool = True) -> list[Record]:
    """The records of one random log; without `boots` no registration sets one."""
    return DirtyLog(seed, dirt, boots).records(length)


class Device:
    """A machine as it is: its registers, and the numbers that it has given out."""

    def __init__(self, draw: random.Random, name: str) -> None:
        self.name = name
        self.boot = draw.choice((0, 1, 7))
        self.seq = dict.fromkeys(METERS, draw.choice((-1, 3)))
        self.register = draw.choice((0, 5_000))
        self.last_ms = START_MS
        self.version = 0
        self.correction = 0
        self.session: tuple[str, int] | None = None
        self.registration: Plain = {}


class DirtyLog:
    """Writes one log, event by event."""

    def __init__(self, seed: int, dirt: float, boots: bool) -> None:
        self.boots = boots
        self.draw = random.Random(seed)
        self.dirt = dirt
        self.now_ms = START_MS
        self.devices = [Device(self.draw, f"m{place}") for place in range(self.draw.randint(1, 3))]
        self.log: list[Record] = []
        self.held_back: list[tuple[Device, Plain]] = []

    def records(self, length: int) -> list[Record]:
        for device in self.devices:
            self.register(device)
        while len(self.log) < length:
            self.step()
        self.now_ms += 3 * HOUR_MS
        self.send("", HEARTBEAT, b"")
        return self.log

    def step(self) -> None:
        self.now_ms += self.draw.choice(STEPS_MS)
        if self.draw.random() < 0.03 + 0.05 * self.dirt:
            self.now_ms += self.draw.choice(LEAPS_MS)
        device = self.draw.choice(self.devices)
        if self.draw.random() < self.dirt:
            self.draw.choice(self.dirty_events())(device)
        else:
            self.draw.choices((self.read, self.register, self.correct, self.beat), (30, 1, 1, 1))[0](device)

    def dirty_events(self) -> tuple[Callable[[Device], None], ...]:
        return (
            self.resend, self.resend, self.junk, self.close_hole, self.close_hole, self.lose,
            self.lose_every_other, self.restart, self.read_wrongly, self.read_wrongly, self.read_wrongly,
            self.misread, self.misread, self.register_wrongly, self.correct_wrongly, self.register, self.correct,
        )  # fmt: skip

    # What is right

    def read(self, device: Device) -> None:
        rows = [self.row(device, self.draw.choice(tuple(METERS))) for _ in range(self.draw.choice((1, 1, 1, 2, 5)))]
        self.send_rows(device, rows if len(rows) > 1 or self.draw.random() < 0.5 else rows[0])

    def row(self, device: Device, meter: str) -> Plain:
        device.seq[meter] += 1
        device.last_ms = max(device.last_ms, self.now_ms - self.draw.choice((0, 1, 5, 20)) * SECOND_MS)
        row: Plain = {"machine": device.name, "meter": meter, "boot": device.boot, "seq": device.seq[meter]}
        row["observed_at"] = device.last_ms
        if METERS[meter] == "register":
            device.register += self.draw.choice((0, 1, 30, 400))
            row["register"] = device.register
        else:
            row[METERS[meter]] = self.draw.choice((0, 1, 3))
        self.visit(device, row)
        if self.draw.random() < 0.05:
            row["reconstructed"] = self.draw.random() < 0.7
        return row

    def visit(self, device: Device, row: Plain) -> None:
        chance = self.draw.random()
        if chance < 0.1:
            device.session = (f"s{row['seq']}", row["observed_at"])
            row["session_start"] = True
        elif chance < 0.2:
            device.session = None
        if device.session is not None:
            row["session"], row["session_started_at"] = device.session

    def register(self, device: Device) -> None:
        if device.version and self.draw.random() < 0.5 + self.dirt / 2:
            return
        registration = self.registration(device, device.version + 1)
        self.send(device.name, REGISTERED, msgspec.json.encode(registration))
        locked = device.registration.get("agreement", {}).get("locked_until", 0) > self.now_ms
        if not locked or registration["agreement"] == device.registration["agreement"]:
            device.version += 1
            device.registration = registration

    def registration(self, device: Device, version: int) -> Plain:
        meters: list[Plain] = [
            {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 50_000},
            {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60},
            {"meter": "stock", "unit": "count", "kind": "level", "capacity_per_hour": 1_000},
        ]
        if self.draw.random() < 0.3:
            meters[0]["opening_register"] = max(0, device.register - self.draw.choice((0, 100, 10**9)))
        if version > 1 and self.draw.random() < 0.1:
            meters.pop()
        left = self.draw.choice((5_000, 10_000, 1))
        payees = {"alice": left, "bob": 10_000 - left} if left < 10_000 else {"alice": 10_000}
        agreement: Plain = {"payees": payees}
        if self.draw.random() < 0.2:
            agreement["locked_until"] = self.now_ms + self.draw.choice((HOUR_MS, DAY_MS))
        registration: Plain = {
            "machine": device.name, "route": device.name, "version": version, "kind": "ev_charger",
            "effective_from": START_MS if version == 1 else self.now_ms + self.draw.choice((-HOUR_MS, 0, HOUR_MS)),
            "meters": meters, "tariff": self.tariff([meter["meter"] for meter in meters]), "agreement": agreement,
        }  # fmt: skip
        if self.boots and self.draw.random() < 0.15:
            device.boot = max(0, device.boot + self.draw.choice((-1, 0, 1)))
            registration["boot"] = device.boot
        if version > 1 and self.draw.random() < 0.1:
            registration["retired"] = self.draw.random() < 0.7
        return registration

    def tariff(self, meters: list[str]) -> Plain:
        elements = [
            {"components": [self.component(self.draw.choice(meters)) for _ in range(self.draw.randint(1, 3))]}
            | ({"restrictions": self.restrictions()} if self.draw.random() < 0.7 else {})
            for _ in range(self.draw.randint(0, 3))
        ]
        offsets = [[0, self.draw.choice((0, -28_800, 20_700))]]
        if self.draw.random() < 0.4:
            offsets.append([START_MS + 2 * HOUR_MS, self.draw.choice((3_600, -25_200))])
        return {"elements": elements, "offsets": offsets}

    def component(self, meter: str) -> Plain:
        part: Plain = {"meter": meter, "price": self.draw.choice((0, 1, 333_333, 1_000_001))}
        if self.draw.random() < 0.3:
            return part | {"per_session": True}
        return part | {"per": self.draw.choice((1, 3, 7_200, 1_000, 3_600_000))}

    def restrictions(self) -> Plain:
        found: Plain = {}
        if self.draw.random() < 0.5:
            found["start_time"] = self.draw.choice(("00:00", "06:15", "22:30"))
        if self.draw.random() < 0.5:
            found["end_time"] = self.draw.choice(("00:00", "06:15", "23:59"))
        if self.draw.random() < 0.2:
            found["start_date"] = self.draw.choice(("2023-11-14", "2023-11-15"))
        if self.draw.random() < 0.2:
            found["end_date"] = self.draw.choice(("2023-11-15", "2024-02-29"))
        if self.draw.random() < 0.2:
            found["day_of_week"] = self.draw.sample(DAYS, self.draw.randint(0, 4))
        return found

    def correct(self, device: Device) -> None:
        device.correction += 1
        self.send(device.name, CORRECTED, msgspec.json.encode(self.correction(device, device.correction)))

    def correction(self, device: Device, version: int) -> Plain:
        return {
            "machine": device.name, "meter": self.draw.choice(("energy", "trips")), "version": version,
            "observed_at": self.now_ms - self.draw.choice((0, MINUTE_MS, HOUR_MS, DAY_MS)),
            "difference": self.draw.choice((-500, -1, 0, 7, 20_000)), "reason": "credit note é",
        }  # fmt: skip

    def beat(self, _device: Device) -> None:
        self.send("", HEARTBEAT, self.draw.choice((b"", b"\xff", b"[1]")))

    # What is wrong

    def resend(self, _device: Device) -> None:
        old = self.draw.choice(self.log)
        self.log.append(old._replace(offset=self.offset(), timestamp=self.now_ms))

    def junk(self, device: Device) -> None:
        kind = self.draw.choice((READING, READING, REGISTERED, CORRECTED, "order", HEARTBEAT))
        self.send(device.name, kind, self.draw.choice((*JUNK, None, b"[" + b"1," * 10_000 + b"1]")))

    def lose(self, device: Device) -> None:
        self.held_back += [(device, self.row(device, self.draw.choice(tuple(METERS)))) for _ in range(3)]

    def lose_every_other(self, device: Device) -> None:
        """More holes than a meter keeps."""
        meter = self.draw.choice(("stock", "stock", "trips"))
        rows = [self.row(device, meter) for _ in range(40)]
        self.send_rows(device, rows[1::2])
        self.held_back += [(device, row) for row in self.draw.sample(rows[::2], 8)]

    def close_hole(self, device: Device) -> None:
        if self.held_back:
            owner, row = self.held_back.pop(self.draw.randrange(len(self.held_back)))
            self.send_rows(owner, row)
        else:
            self.lose(device)

    def restart(self, device: Device) -> None:
        device.boot += self.draw.choice((1, 1, 1, 2, -1))
        device.boot = max(0, device.boot)
        device.seq = dict.fromkeys(METERS, self.draw.choice((-1, 0, 50)))
        device.register = self.draw.choice((0, device.register))
        self.read(device)

    def read_wrongly(self, device: Device) -> None:
        """A row with one field changed: another identity, moment, kind or type."""
        row = self.row(device, self.draw.choice(tuple(METERS)))
        changes: tuple[Plain, ...] = (
            {"machine": "ghost"}, {"machine": "bad id"}, {"meter": "nothing"}, {"boot": row["boot"] + 2**20 + 1},
            {"boot": row["boot"] + 1},
            {"boot": max(0, row["boot"] - 1)}, {"seq": row["seq"] + 40}, {"seq": max(0, row["seq"] - 2)},
            {"seq": row["seq"] + 2**20 + 1}, {"seq": COUNT_MAX}, {"observed_at": self.now_ms + 5 * MINUTE_MS},
            {"observed_at": self.now_ms + 5 * MINUTE_MS + 1}, {"observed_at": self.now_ms - HOUR_MS},
            {"observed_at": self.now_ms - 6 * HOUR_MS}, {"observed_at": self.now_ms - 40 * DAY_MS}, {"observed_at": 0},
            {"register": 5}, {"level": 1.0}, {"boot": True}, {"seq": None}, {"seq": -1}, {"boot": COUNT_MAX + 1},
            {"session": "s"}, {"session_start": True}, {"session_start": False}, {"extra": [None, 1.5]},
        )  # fmt: skip
        rows = [row | self.draw.choice(changes), self.row(device, "trips")]
        self.send_rows(device, rows[0] if self.draw.random() < 0.5 else self.draw.sample(rows, 2))

    def misread(self, device: Device) -> None:
        """A register that jumps or falls: the next ones may continue from it or from the one before."""
        row = self.row(device, "energy")
        row["register"] = self.draw.choice(
            (row["register"] + 10**6, max(0, row["register"] - 300), 0, COUNT_MAX, row["register"] + 20_000)
        )
        if self.draw.random() < 0.3:
            device.register = min(row["register"], 10**12)
        self.send_rows(device, row)

    def register_wrongly(self, device: Device) -> None:
        registration = self.registration(device, self.draw.choice((device.version, device.version + 1, 99)))
        changes: tuple[Plain, ...] = (
            {"route": "elsewhere"}, {"surplus": 1}, {"version": 0}, {"agreement": {"payees": {"alice": 9_999}}},
            {"machine": "ghost2", "version": 2}, {"meters": registration["meters"] * 2}, {"retired": 1},
        )  # fmt: skip
        self.send(device.name, REGISTERED, msgspec.json.encode(registration | self.draw.choice(changes)))

    def correct_wrongly(self, device: Device) -> None:
        correction = self.correction(device, device.correction + self.draw.choice((0, 1, 2)))
        changes: tuple[Plain, ...] = (
            {"difference": 10**12}, {"difference": -COUNT_MAX}, {"meter": "stock"}, {"meter": "nothing"},
            {"machine": "ghost"}, {"observed_at": self.now_ms + HOUR_MS}, {"reason": ""}, {"surplus": None},
        )  # fmt: skip
        self.send(device.name, CORRECTED, msgspec.json.encode(correction | self.draw.choice(changes)))

    # The log

    def send_rows(self, device: Device, rows: Plain | list[Plain]) -> None:
        self.send(device.name, READING, msgspec.json.encode(rows))

    def send(self, key: str, kind: str, value: bytes | None) -> None:
        headers = [] if kind == READING and self.draw.random() < 0.5 else [("ce_type", kind.encode())]
        self.log.append(Record(self.offset(), self.now_ms, key.encode(), value, headers))

    def offset(self) -> int:
        # Offsets have gaps, as transactions and compaction leave them.
        return (self.log[-1].offset if self.log else -1) + self.draw.choice((1, 1, 1, 3, 700))
