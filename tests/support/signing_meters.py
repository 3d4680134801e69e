"""Random logs of a charger whose meter signs, in the vectors' form: rules 41 and 42 in all their branches."""

import random
from typing import Any

from schemas.registration import Curve
from schemas.units import HOUR_MS, MINUTE_MS
from streams.reference.vectors import Document
from tests.support.ocmf import meter_key, register, signed

START_MS = 1_700_000_100_000 // HOUR_MS * HOUR_MS
CURVES: tuple[Curve, ...] = ("secp256r1", "secp256k1", "brainpoolP256r1")

Plain = dict[str, Any]


def signing_log(seed: int, length: int = 60) -> Document:
    """A log of this many records."""
    return SigningMeter(seed).document(length)


class SigningMeter:
    """One charger, its meter and its faults."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now_ms, self.seq, self.boot, self.shown = START_MS, 0, 1, 5_000
        self.version, self.number = 0, 7
        self.curve = self.draw.choice(CURVES)
        self.unit = self.draw.choice(("Wh", "Wh", "kWh", "mWh"))
        self.obis = self.draw.choice((None, "1-b:1.8.0"))
        self.last: Plain | None = None
        self.session: tuple[str, int] | None = None
        self.log: list[Plain] = []

    def document(self, length: int) -> Document:
        self.register_machine()
        while len(self.log) < length:
            self.now_ms += self.draw.choice((1, 5, 20)) * MINUTE_MS
            if self.draw.random() < 0.05:
                self.register_machine()
            rows = [self.row() for _ in range(self.draw.choice((1, 1, 1, 2, 3)))]
            if self.draw.random() < 0.03:  # more than are looked at
                rows += [self.row() for _ in range(70)]
            self.send("reading", rows if len(rows) > 1 else rows[0], trust=self.draw.choice((0, 1, 1, None)))
        return self.ended()

    def ended(self) -> Document:
        """The log so far, and a heartbeat that seals it."""
        self.now_ms += 3 * HOUR_MS
        self.send("heartbeat", None)
        ruleset = {
            "window_ms": 15 * MINUTE_MS, "grace_ms": 10 * MINUTE_MS, "horizon_ms": 6 * HOUR_MS,
            "skew_ms": 5 * MINUTE_MS, "epoch_ms": 2 * HOUR_MS, "partition": 0, "partitions": 1,
        }  # fmt: skip
        return {"ruleset": ruleset, "log": self.log}

    def send(self, kind: str, value: Any, trust: int | None = 0) -> None:
        self.log.append(
            {"offset": len(self.log), "timestamp": self.now_ms, "type": kind, "value": value, "trust": trust}
        )

    def register_machine(self) -> None:
        self.version += 1
        meter: Plain = {"meter": "energy", "unit": self.unit, "kind": "register", "capacity_per_hour": 10**9}
        self.number = self.draw.choice((7, 7, 7, 8))
        if self.draw.random() < 0.95:
            key = meter_key(self.curve, self.number)
            meter["meter_key"] = {"curve": key.curve, "public_key": key.public_key}
            if self.obis is not None:
                meter["meter_key"]["obis"] = self.obis
        component = [{"meter": "energy", "price": 350_000, "per": 1_000}]
        if self.draw.random() < 0.5:
            component.append({"meter": "energy", "price": 1_000_000, "per_session": True})
        self.send("machine.registered", {
            "machine": "evse", "route": "evse", "version": self.version, "kind": "charger",
            "effective_from": self.now_ms, "meters": [meter], "agreement": {"payees": {"owner": 10_000}},
            "tariff": {"elements": [{"components": component}], "offsets": [[0, 0]]},
        })  # fmt: skip

    def row(self) -> Plain:
        draw = self.draw
        self.seq += 1
        if draw.random() < 0.02:  # a restart: the register begins again
            self.boot, self.seq, self.shown = self.boot + 1, 1, 0
        self.shown += draw.choice((0, 0, 1, 700, 5_000)) if draw.random() < 0.97 else -300
        self.shown = max(0, self.shown)
        at_ms = self.now_ms - draw.choice((0, 0, 500, 4 * MINUTE_MS, 40 * MINUTE_MS))
        row: Plain = {"machine": "evse", "meter": "energy", "boot": self.boot, "seq": self.seq, "observed_at": at_ms,
                      "register": self.shown}  # fmt: skip
        kind = self._session(row, at_ms)
        if draw.random() < 0.75:
            row["evidence"] = self._evidence(row, kind)
        self.last = row
        return row

    def _session(self, row: Plain, at_ms: int) -> str:
        if self.session is None and self.draw.random() < 0.5:
            self.session = (f"s{self.seq}-{self.boot}", at_ms)
            row |= {"session": self.session[0], "session_started_at": at_ms, "session_start": True}
            return "B"
        if self.session is None or self.session[1] > at_ms:
            return "C"
        row |= {"session": self.session[0], "session_started_at": self.session[1]}
        if self.draw.random() < 0.4:
            row["session_end"] = True
            self.session = None
            return "E"
        return "C"

    def _evidence(self, row: Plain, kind: str) -> Any:
        draw = self.draw
        if draw.random() < 0.02:
            return draw.choice(("", "x" * 8_193, "OCMF|{}|{}", "ä|b", 7, None, "OCMF|" + "[" * 40 + "|{}"))
        size = {"mWh": 1, "Wh": 1_000, "kWh": 1_000_000}[self.unit]
        milli = row["register"] * size + draw.choice((0, 0, 0, size - 1))
        unit, value = draw.choice((
            ("Wh", f"{milli // 1000}.{milli % 1000:03d}"), ("kWh", f"  {milli // 10**6}.{milli % 10**6:06d}"),
            ("mWh", milli), ("Wh", milli // 1000),
        ))  # fmt: skip
        own = register(row["observed_at"], kind, value, RU=unit)
        readings = [own]
        if self.last is not None and draw.random() < 0.6:
            begin = register(self.last["observed_at"], "B", self.last["register"], RU=self.unit)
            readings = [begin, own]
            if draw.random() < 0.3:
                readings[1] = {name: part for name, part in own.items() if name not in ("RI", "EF", "ST")}
        if draw.random() < 0.15:
            readings.append(register(row["observed_at"], "E", 30, RU="sec", RI="01-00:00.08.06.FF"))
        if draw.random() < 0.1:
            readings.append(register(row["observed_at"], "E", 1, RI="1-b:2.8.0"))
        if draw.random() < 0.25:
            wrong: Plain = draw.choice((
                {"ST": "E"}, {"EF": "t"}, {"RV": "1e3"}, {"RV": -1}, {"RU": "kvarh"}, {"TM": "1970-01-01"},
                {"TM": own["TM"].replace(" S", " U")}, {"TM": own["TM"].replace("+0000", "+9900")}, {"RI": None},
                {"TM": own["TM"].replace("+0000", "-0000").replace(" S", " R")}, {"RV": None}, {"TX": None},
                {"TM": "0001-01-01T00:00:00,000+2359 S"}, {"TM": own["TM"].replace(":00,", ":60,")},
            ))  # fmt: skip
            readings[draw.randrange(len(readings))] |= wrong
        said: dict[str, str] = {}
        if draw.random() < 0.1:
            said = draw.choice(
                ({"SE": "base64"}, {"SE": "hex"}, {"SM": "application/x-der"}, {"SA": "none"}, {"X": ""})
            )
        text = signed(self.curve, *readings, number=self.number if draw.random() < 0.9 else 9, **said)
        if draw.random() < 0.1:
            at = draw.randrange(len(text))
            text = text[:at] + draw.choice('0a|"{}, \t') + text[at + 1 :]
        return text
