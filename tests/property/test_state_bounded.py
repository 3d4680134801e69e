"""The state grows with what operators register, never with what strangers or gateways send."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.log import Log, Ruleset
from schemas.order import CANCELLED
from schemas.payment import PAID
from schemas.units import COUNT_MAX, HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.core.replay import advance_through
from streams.core.state import State

RULES = Ruleset(horizon_ms=6 * HOUR_MS)
LOG = Log(log_id="bounded", partitions=1, epoch_ms=HOUR_MS, rulesets=(RULES,))
START_MS = 19_000 * 24 * HOUR_MS
METERS = ("energy", "trips", "stock")
KINDS = ("register", "quantity", "level")

WINDOWS_MAX = (RULES.horizon_ms + RULES.grace_ms + RULES.skew_ms) // LOG.window_ms + 4
"""Windows of one machine that may be open: one adjustment for each window of the horizon, and the plain ones."""

METER_BYTES, WINDOW_BYTES, SESSION_BYTES, ORDER_BYTES = 2_000, 1_000, 300, 2_500
"""A meter with all its holes and facts, a window with its lines, an open session, and the orders of an item in a month
are not larger.
"""


def registration(machine: str, offset: int) -> Record:
    """A machine of three meters, which orders what runs out."""
    document = {
        "machine": machine, "route": machine, "version": 1, "kind": "charger", "effective_from": 0,
        "meters": [
            {"meter": meter, "unit": "x", "kind": kind, "capacity_per_hour": 10**6}
            for meter, kind in zip(METERS, KINDS, strict=True)
        ],
        "tariff": {"elements": [{"components": [{"meter": meter, "price": 1, "per": 1} for meter in METERS]}],
                   "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}},
        "orders": [{"item": "beans", "meter": "stock", "reorder_at": 10**6, "quantity": 1, "unit_price": 1,
                    "supplier": "0x" + "a" * 40, "budget": COUNT_MAX}],
    }  # fmt: skip
    return Record(
        offset, START_MS, machine.encode(), msgspec.json.encode(document), [("ce_type", b"machine.registered")]
    )


def size_of(state: State) -> int:
    """Bytes of the dumped state."""
    return sum(table.nbytes for table in state.tables().values())


class Flood:
    """Whatever could make a state grow: every moment, number, boot, session and machine."""

    def __init__(self, seed: int, machines: int) -> None:
        self.draw = random.Random(seed)
        self.names = [f"m{number}" for number in range(machines)]
        self.now_ms = START_MS
        self.offset = machines
        self.trades = dict.fromkeys(self.names, 0)

    def wave(self, records: int) -> list[Record]:
        """Records of 50 rows each."""
        return [self.record() for _ in range(records)]

    def record(self) -> Record:
        self.offset += 1
        self.now_ms += self.draw.choice((0, 0, 0, 1_000, 5 * MINUTE_MS, 20 * MINUTE_MS))
        timestamp = self.draw.choice((self.now_ms, self.now_ms, 0, -1, 2**62))
        if self.draw.random() < 0.3:
            return self.trade(timestamp)
        value = msgspec.json.encode([self.row() for _ in range(50)])
        return Record(self.offset, timestamp, b"", value, [])

    def trade(self, timestamp: int) -> Record:
        """The machine's next payment, for a session of its own, or an order that is cancelled."""
        machine = self.draw.choice(self.names)
        self.trades[machine] += 1
        number = self.trades[machine]
        kind, document = self.draw.choice(
            (
                (PAID, {"version": number, "session": f"s{number}".ljust(64, "x"), "payer": "0x" + "d" * 40,
                        "amount": 1, "valid_until": self.now_ms + HOUR_MS, "block": number,
                        "transaction": "0x" + "0" * 64, "log_index": 0}),
                (CANCELLED, {"item": "beans", "number": self.draw.randrange(1, 9), "reason": "x" * 200}),
            )
        )  # fmt: skip
        self.trades[machine] -= kind == CANCELLED
        value = msgspec.json.encode({"machine": machine} | document)
        return Record(self.offset, timestamp, machine.encode(), value, [("ce_type", kind.encode())])

    def row(self) -> dict[str, Any]:
        place = self.draw.randrange(3)
        at_ms = self.now_ms + 5 * MINUTE_MS - self.draw.randrange(7 * HOUR_MS)
        if self.draw.random() < 0.1:
            at_ms = self.draw.choice((0, COUNT_MAX, self.now_ms + 5 * MINUTE_MS, self.now_ms + HOUR_MS))
        row = {
            "machine": self.draw.choice((*self.names, *self.names, f"ghost{self.draw.randrange(10**9)}")),
            "meter": self.draw.choice((METERS[place], METERS[place], f"other{self.draw.randrange(10**9)}")),
            "boot": self.draw.choice((1, 1, 1, 2, self.draw.randrange(5), self.draw.randrange(2**21), COUNT_MAX)),
            "seq": self.draw.choice((self.draw.randrange(100_000), self.draw.randrange(10**6), COUNT_MAX)),
            "observed_at": at_ms,
            KINDS[place]: self.draw.choice((0, 1, self.draw.randrange(10**6), COUNT_MAX)),
        }
        if self.draw.random() < 0.5:
            row["session"] = f"s{self.draw.randrange(10**9)}".ljust(64, "x")
            row["session_started_at"] = max(0, at_ms - self.draw.randrange(35 * 24 * HOUR_MS))
            row[self.draw.choice(("session_start", "session_end"))] = self.draw.random() < 0.5
        return row


@settings(max_examples=5)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_state_stays_under_a_constant_for_each_registered_meter(seed: int, machines: int) -> None:
    state = State.new(LOG, 0)
    flood = Flood(seed, machines)
    advance_through(state, [registration(name, place) for place, name in enumerate(flood.names)])
    for _ in range(3):
        advance_through(state, flood.wave(12))
        tables = state.tables()
        rows = {name: table.num_rows for name, table in tables.items()}
        assert (rows["machines"], rows["versions"], rows["meters"]) == (machines, machines, 3 * machines)
        assert rows["carries"] <= machines
        assert rows["open_windows"] <= WINDOWS_MAX * machines
        assert rows["open_lines"] <= len(METERS) * rows["open_windows"]
        assert rows["sessions"] <= 256 * machines
        meters = [state.meters.look(name, meter) for name in flood.names for meter in METERS]
        boots = [boot for meter in meters for boot in (meter.current, meter.previous) if boot]
        assert all(len(boot.holes) <= 16 for boot in boots)
        assert all(len(meter.starts.last) <= 4 for meter in meters)
        most = 3 * METER_BYTES + WINDOWS_MAX * WINDOW_BYTES + rows["sessions"] * SESSION_BYTES + ORDER_BYTES
        assert size_of(state) <= most * machines


def test_a_second_flood_adds_nothing_to_the_first() -> None:
    """A reading at every window of the horizon, and then as many again: the same rows, the same bytes."""
    state = State.new(LOG, 0)
    advance_through(state, [registration("m0", 0)])
    sizes = []
    for wave in range(3):
        rows = [
            {"machine": "m0", "meter": "stock", "boot": 1, "seq": wave * 360 + place, "level": 5,
             "observed_at": START_MS - RULES.horizon_ms + 1 + place * MINUTE_MS}
            for place in range(RULES.horizon_ms // MINUTE_MS)
        ]  # fmt: skip
        parts = advance_through(state, [Record(10 + wave, START_MS, b"", msgspec.json.encode(rows), [])])
        assert parts[-1].counts.accepted == len(rows)
        sizes.append(size_of(state))
        assert state.tables()["open_windows"].num_rows == RULES.horizon_ms // LOG.window_ms
    assert sizes[2] - sizes[0] < 100  # Offsets and numbers have more digits.


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_an_honest_machine_earns_after_any_flood(seed: int) -> None:
    """Registered after it, it is paid for every unit."""
    state, flood = State.new(LOG, 0), Flood(seed, 1)
    advance_through(state, [registration("m0", 0), *flood.wave(4)])
    start_ms = state.now_ms + HOUR_MS
    honest = registration("honest", flood.offset + 1)._replace(timestamp=state.now_ms)
    rows = [
        {"machine": "honest", "meter": "energy", "boot": 1, "seq": seq, "observed_at": start_ms + seq * MINUTE_MS,
         "register": 100 * seq}
        for seq in range(30)
    ]  # fmt: skip
    sent = [
        Record(flood.offset + 2 + row["seq"], row["observed_at"], b"honest", msgspec.json.encode(row), [])
        for row in rows
    ]
    end = Record(flood.offset + 100, start_ms + 3 * HOUR_MS, None, b"", [("ce_type", b"heartbeat")])
    windows = [window for part in advance_through(state, [honest, *sent, end]) for window in part.windows]
    assert sum(window.gross_micros for window in windows if window.machine == "honest") == 100 * 29
