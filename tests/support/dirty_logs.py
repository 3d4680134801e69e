"""Random logs of one partition, from clean to hostile: what `advance` must take without losing or inventing an entry.

A few machines measure, restart, lose and resend, with clocks that step and registers that roll over; they order what
runs out, and customers pay before sessions; operators register, correct and lock. `dirt` (0 to 1) is the share of
events that are wrong in some way. The same seed gives the same log.
"""

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec

from schemas.log import Log, Ruleset
from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.records import JSON, Record
from streams.core.signature import operator_account, sign_control, sign_reading
from tests.support.dirty_trade import PAYERS, SUPPLIERS, Trade
from tests.support.signed_logs import key_of, private_key

START_MS = 1_700_000_100_000 // (15 * MINUTE_MS) * (15 * MINUTE_MS)
STEPS_MS = (0, 0, SECOND_MS, 30 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS)
LEAPS_MS = (-10 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, 9 * HOUR_MS)
LONG_LEAPS_MS = (2 * DAY_MS, 8 * DAY_MS, 31 * DAY_MS, 91 * DAY_MS)
"""Past the horizon, past a session's term, past an order's month, past its life."""

CLOCK_STEPS_MS = (-20 * MINUTE_MS, -MINUTE_MS, -SECOND_MS, 30 * SECOND_MS, 4 * MINUTE_MS)
PRICES = (0, 1, 333_333, 333_333, 1_000_001, 1_000_001, -250_000, COUNT_MAX // 1_000, -COUNT_MAX)
"""Some below zero, some so high that a line of a few units leaves its bounds."""

MODULI = (3_000, 65_536, COUNT_MAX)
DEVICE_KEY = 4
"""The number of the key that machines sign their receipts with."""

JUNK = (b"", b"{", b"[]", b"[1]", b"null", b"\xff\xfe", b'{"machine":"m0"}', b"[" * 2000, b"[" * 70 + b"]" * 70)
METERS = {"energy": "register", "trips": "quantity", "stock": "level"}
DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")

Plain = dict[str, Any]


def small_log() -> Log:
    """Epochs of two hours and a horizon of six, so that a short log has cuts, adjustments and readings too late."""
    return Log(log_id="dirty", partitions=1, epoch_ms=2 * HOUR_MS, rulesets=(Ruleset(horizon_ms=6 * HOUR_MS),))


def dirty_log(
    seed: int, dirt: float, length: int = 120, *, boots: bool = True, log_id: str = "dirty", is_long: bool = False
) -> list[Record]:
    """The records of one random log; without `boots` no registration sets one. A long one lasts for months."""
    return DirtyLog(seed, dirt, boots, log_id, is_long).records(length)


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
        self.off_ms = 0
        """How far its clock is wrong."""
        self.trade = Trade(draw)

    @property
    def shown(self) -> int:
        """What its register shows, which rolls over."""
        modulus = next((m["modulus"] for m in self.registration.get("meters", ()) if "modulus" in m), None)
        return self.register if modulus is None else self.register % int(modulus)


class DirtyLog:
    """Writes one log, event by event. Receipts and invoices are signed for the log of this id."""

    def __init__(self, seed: int, dirt: float, boots: bool, log_id: str = "dirty", is_long: bool = False) -> None:
        self.boots = boots
        self.log_id = log_id
        self.leaps_ms = (*LEAPS_MS, *LONG_LEAPS_MS) if is_long else LEAPS_MS
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
            self.now_ms += self.draw.choice(self.leaps_ms)
        device = self.draw.choice(self.devices)
        if self.draw.random() < self.dirt:
            self.draw.choice(self.dirty_events())(device)
        else:
            events = (self.read, self.register, self.correct, self.beat, self.buy, self.pay, self.start_often)
            self.draw.choices(events, (30, 1, 1, 1, 5, 2, 0.3))[0](device)

    def dirty_events(self) -> tuple[Callable[[Device], None], ...]:
        return (
            self.resend, self.resend, self.junk, self.close_hole, self.close_hole, self.lose,
            self.lose_every_other, self.restart, self.read_wrongly, self.read_wrongly, self.read_wrongly,
            self.misread, self.misread, self.register_wrongly, self.correct_wrongly, self.register, self.correct,
            self.buy_wrongly, self.buy_wrongly, self.pay_wrongly, self.pay_wrongly, self.step_clock,
        )  # fmt: skip

    # What is right

    def read(self, device: Device) -> None:
        rows = [self.row(device, self.draw.choice(tuple(METERS))) for _ in range(self.draw.choice((1, 1, 1, 2, 5)))]
        self.send_rows(device, rows if len(rows) > 1 or self.draw.random() < 0.5 else rows[0])

    def row(self, device: Device, meter: str) -> Plain:
        device.seq[meter] += 1
        if self.draw.random() < 0.01:
            self.step_clock(device)
        device.last_ms = max(device.last_ms, self.now_ms - self.draw.choice((0, 1, 5, 20)) * SECOND_MS + device.off_ms)
        row: Plain = {"machine": device.name, "meter": meter, "boot": device.boot, "seq": device.seq[meter]}
        row["observed_at"] = device.last_ms
        if METERS[meter] == "register":
            device.register += self.draw.choice((0, 1, 30, 400, 1_000))
            row["register"] = device.shown
        else:
            row[METERS[meter]] = self.draw.choice((0, 1, 3))
        if meter == "stock":
            device.trade.note_level(row["level"])
        self.visit(device, row)
        if self.draw.random() < 0.05:
            row["reconstructed"] = self.draw.random() < 0.7
        return row

    def visit(self, device: Device, row: Plain) -> None:
        chance = self.draw.random()
        if chance < 0.1:
            paid = [*device.trade.paid][-3:]
            is_paid = paid and self.draw.random() < 0.7
            device.session = (self.draw.choice(paid) if is_paid else f"s{row['seq']}", row["observed_at"])
            row["session_start"] = True
        elif chance < 0.2:
            if device.session is not None and self.draw.random() < 0.6:
                row["session"], row["session_started_at"] = device.session
                row["session_end"] = True
            device.session = None
        if device.session is not None:
            row["session"], row["session_started_at"] = device.session

    def start_often(self, device: Device) -> None:
        """More starts than a meter may have at once."""
        meter = self.draw.choice(tuple(METERS))
        rows = [self.row(device, meter) for _ in range(14)]
        for row in rows:
            row |= {"session": f"o{row['seq']}", "session_started_at": row["observed_at"], "session_start": True}
        self.send_rows(device, rows)

    def step_clock(self, device: Device) -> None:
        """From now on its clock is wrong in another way; it may go back behind what it has said."""
        device.off_ms = self.draw.choice((0, *CLOCK_STEPS_MS))
        device.last_ms, device.session = START_MS, None

    def register(self, device: Device) -> None:
        if device.version and self.draw.random() < 0.5 + self.dirt / 2:
            return
        registration = self.registration(device, device.version + 1)
        is_refused = False
        if device.registration.get("agreement", {}).get("locked_until", 0) > self.now_ms:
            registration, is_refused = self.under_lock(device, registration)
        self.send(device.name, REGISTERED, msgspec.json.encode(registration))
        if not is_refused:
            device.version += 1
            device.registration = registration
            device.trade.policies = {policy["item"]: policy for policy in registration.get("orders", ())}

    def under_lock(self, device: Device, registration: Plain) -> tuple[Plain, bool]:
        """What a lock allows to change, or something that it doesn't; and whether that is so."""
        old = device.registration
        same = {part: old[part] for part in ("meters", "agreement", "tariff", "orders") if part in old}
        new = {part: value for part, value in registration.items() if part != "orders"} | copy.deepcopy(same)
        cheapest = {"meter": new["meters"][0]["meter"], "price": -COUNT_MAX, "per": 1}
        match self.draw.randrange(6):
            case 0:
                del new["agreement"]["locked_until"]
                return new, True
            case 1:
                new["tariff"]["elements"].append({"components": [cheapest]})
                return new, all(cheapest not in element["components"] for element in old["tariff"]["elements"])
            case 2 if new.get("orders"):
                new["orders"][0]["supplier"] = PAYERS[0]
                return new, new["orders"] != old["orders"]
            case 3 if new.get("orders"):
                new["orders"][0]["budget"] //= 2
            case 4:
                for element in new["tariff"]["elements"]:
                    for part in element["components"]:
                        part["price"] += 1
        return new, False

    def registration(self, device: Device, version: int) -> Plain:
        meters = self.meters(device)
        if version > 1 and self.draw.random() < 0.1:
            meters.pop()
        names = [meter["meter"] for meter in meters]
        registration: Plain = {
            "machine": device.name, "route": device.name, "version": version, "kind": "ev_charger",
            "effective_from": START_MS if version == 1 else self.now_ms + self.draw.choice((-HOUR_MS, 0, HOUR_MS)),
            "meters": meters, "tariff": self.tariff(names), "agreement": self.agreement(),
        }  # fmt: skip
        if self.boots and self.draw.random() < 0.15:
            device.boot = max(0, device.boot + self.draw.choice((-1, 0, 1)))
            registration["boot"] = device.boot
        if version > 1 and self.draw.random() < 0.1:
            registration["retired"] = self.draw.random() < 0.7
        if self.draw.random() < 0.9:
            registration["keys"] = [key_of("device", DEVICE_KEY, hardware=self.draw.random() < 0.3)]
        if "stock" in names and self.draw.random() < 0.8:
            registration["orders"] = device.trade.new_policies()
        return registration

    def meters(self, device: Device) -> list[Plain]:
        energy: Plain = {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 50_000}
        trips: Plain = {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60}
        stock: Plain = {"meter": "stock", "unit": "count", "kind": "level", "capacity_per_hour": 1_000}
        if self.draw.random() < 0.4:
            energy["burst"] = self.draw.choice((1, 1_000, 30_000, COUNT_MAX))
        if self.draw.random() < 0.3:
            trips["burst"] = self.draw.choice((1, 5))
        if self.draw.random() < 0.3:
            energy["modulus"] = self.draw.choice(MODULI)
        for meter in (energy, trips, stock):
            if self.draw.random() < 0.3:
                meter["starts_per_hour"] = self.draw.choice((1, 4, 1_000))
        if self.draw.random() < 0.3:
            opening = max(0, device.register - self.draw.choice((0, 100, 10**9)))
            energy["opening_register"] = opening % energy.get("modulus", COUNT_MAX)
        return [energy, trips, stock]

    def agreement(self) -> Plain:
        left = self.draw.choice((5_000, 10_000, 1))
        payees = {"alice": left, "bob": 10_000 - left} if left < 10_000 else {"alice": 10_000}
        agreement: Plain = {"payees": payees}
        if self.draw.random() < 0.2:
            agreement["locked_until"] = self.now_ms + self.draw.choice((HOUR_MS, DAY_MS))
        if self.draw.random() < 0.1:
            agreement["pays_trust"] = self.draw.choice((0, 1))
        return agreement

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
        part: Plain = {"meter": meter, "price": self.draw.choice(PRICES)}
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
        # One that was refused has used no version up.
        device.correction += self.draw.random() < 0.8 or not device.correction
        self.send(device.name, CORRECTED, msgspec.json.encode(self.correction(device, device.correction)))

    def correction(self, device: Device, version: int) -> Plain:
        correction: Plain = {
            "machine": device.name, "meter": self.draw.choice(("energy", "trips")), "version": version,
            "observed_at": self.now_ms - self.draw.choice((0, MINUTE_MS, HOUR_MS, DAY_MS)),
            "difference": self.draw.choice((-500, -1, 0, 7, 20_000)), "reason": "credit note é",
        }  # fmt: skip
        if device.session is None or self.draw.random() < 0.3:
            return correction
        correction["session"], started_at = device.session
        correction["session_started_at"] = min(started_at, correction["observed_at"])
        if self.draw.random() < 0.5:
            correction["fees"] = self.draw.choice((-1, -1, 0, 1, 3))
        if self.draw.random() < 0.6:
            correction["refund_to"] = self.draw.choice(PAYERS)
        return correction

    def buy(self, device: Device) -> None:
        """The next record that an order waits for, or that it is cancelled."""
        trade = device.trade
        item = trade.draw_item()
        waits_for = trade.missing[item]
        if waits_for and self.draw.random() < 0.15:
            self.send_bought(device, CANCELLED, trade.cancellation(item))
        elif "receipt" in waits_for and self.draw.random() < 0.6:
            self.send_bought(device, RECEIVED, trade.receipt(item, self.now_ms))
        elif "invoice" in waits_for:
            self.send_bought(device, INVOICED, trade.invoice(item))
        else:
            self.send_rows(device, self.row(device, "stock"))

    def pay(self, device: Device) -> None:
        """Before a session, or once more for one that may be open."""
        known = [*device.trade.paid, *([device.session[0]] if device.session else [])]
        session = self.draw.choice(known) if known and self.draw.random() < 0.5 else f"p{self.draw.randrange(8)}"
        self.send_document(device, PAID, device.trade.payment(session, self.now_ms))

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
            {"session_end": True}, {"session_end": False}, {"quantity": COUNT_MAX}, {"session_end": 1},
            {"observed_at": self.now_ms - 2 * DAY_MS, "session": "s", "session_started_at": START_MS},
        )  # fmt: skip
        rows = [row | self.draw.choice(changes), self.row(device, "trips")]
        self.send_rows(device, rows[0] if self.draw.random() < 0.5 else self.draw.sample(rows, 2))

    def misread(self, device: Device) -> None:
        """A register that jumps or falls: the next ones may continue from it or from the one before."""
        row = self.row(device, "energy")
        row["register"] = self.draw.choice(
            (row["register"] + 10**6, max(0, row["register"] - 300), 0, 0, COUNT_MAX, row["register"] + 20_000, 2_999)
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

    def buy_wrongly(self, device: Device) -> None:
        trade = device.trade
        item = trade.draw_item()
        kind, document = self.draw.choice(
            (
                (RECEIVED, trade.order(item) | {"quantity": 1, "observed_at": self.now_ms}),
                (INVOICED, trade.order(item) | {"quantity": 1, "unit_price": 7, "reference": "INV"}),
                (CANCELLED, trade.order(item) | {"reason": "wrong"}),
            )
        )
        signer = self.draw.choice((*SUPPLIERS, private_key(DEVICE_KEY), private_key(1), None))
        self.send_bought(device, kind, document | trade.changes_of_order(self.now_ms), signer)

    def pay_wrongly(self, device: Device) -> None:
        version = device.trade.version
        payment = device.trade.payment(self.draw.choice(("p1", "p2", "p3")), self.now_ms)
        changes = device.trade.changes_of_payment(self.now_ms)
        self.send_document(device, PAID, payment | changes)
        if changes and set(changes) - {"valid_until"}:
            device.trade.version = version

    # The log

    def send_bought(self, device: Device, kind: str, document: Plain, signer: bytes | None = None) -> None:
        """A record about an order; without `signer` by whoever must sign it."""
        key, value = device.name.encode(), msgspec.json.encode({"machine": device.name} | document)
        parts = (self.log_id, key, kind, JSON, value)
        headers: list[tuple[str, bytes]] = []
        if kind == RECEIVED:
            signature = sign_reading(signer or private_key(DEVICE_KEY), *parts)
            headers = [("signature", signature), ("key-id", b"device")]
        elif kind == INVOICED:
            headers = [("signature", sign_control(signer or self.supplier_of(device, document), *parts))]
        self.log.append(Record(self.offset(), self.now_ms, key, value, [("ce_type", kind.encode()), *headers]))

    def supplier_of(self, device: Device, document: Plain) -> bytes:
        policy = device.trade.policies.get(document["item"], {})
        keys = [key for key in SUPPLIERS if operator_account(key) == policy.get("supplier")]
        return keys[0] if keys else SUPPLIERS[0]

    def send_document(self, device: Device, kind: str, document: Plain) -> None:
        self.send(device.name, kind, msgspec.json.encode({"machine": device.name} | document))

    def send_rows(self, device: Device, rows: Plain | list[Plain]) -> None:
        self.send(device.name, READING, msgspec.json.encode(rows))

    def send(self, key: str, kind: str, value: bytes | None) -> None:
        headers = [] if kind == READING and self.draw.random() < 0.5 else [("ce_type", kind.encode())]
        self.log.append(Record(self.offset(), self.now_ms, key.encode(), value, headers))

    def offset(self) -> int:
        # Offsets have gaps, as transactions and compaction leave them.
        return (self.log[-1].offset if self.log else -1) + self.draw.choice((1, 1, 1, 3, 700))
