"""A log that is written by hand, step by step, for tests of single rules."""

from typing import Any

import msgspec

from schemas.log import Log
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED
from schemas.units import DAY_MS, MINUTE_MS
from schemas.window import Window
from streams.core.advance import Advanced
from streams.core.records import JSON, Record
from streams.core.replay import advance_through
from streams.core.signature import sign_control, sign_reading
from streams.core.state import State
from tests.support.signed_logs import private_key

START_MS = 19_000 * DAY_MS
QUARTER_MS = 15 * MINUTE_MS
ONE = Log(log_id="one", partitions=1)
Plain = dict[str, Any]


def registration(version: int = 1, **changes: Any) -> Plain:
    return {
        "machine": "m", "route": "m", "version": version, "kind": "charger", "effective_from": 0,
        "meters": [
            {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 10_000},
            {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60},
        ],
        "tariff": {"elements": [{"components": [{"meter": "trips", "price": 100, "per": 1}]}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}},
    } | changes  # fmt: skip


def priced(price: int) -> Plain:
    return {"elements": [{"components": [{"meter": "trips", "price": price, "per": 1}]}], "offsets": [[0, 0]]}


def correction(version: int, difference: int, at_ms: int, **changes: Any) -> Plain:
    return {"machine": "m", "meter": "trips", "version": version, "observed_at": START_MS + at_ms,
            "difference": difference, "reason": "meter was wrong"} | changes  # fmt: skip


class Partition:
    """A log that is written and taken step by step. Times are ms since START_MS."""

    def __init__(self, log: Log = ONE, partition: int = 0) -> None:
        self.state = State.new(log, partition)
        self.offset = -1
        self.seq = 0
        self.records: list[Record] = []
        self.parts: list[Advanced] = []

    def send(self, kind: str, value: Any, at_ms: int, key: str = "m", headers: Any = ()) -> list[str]:
        """The reasons that the entries of one record are refused for."""
        self.offset += 1
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        record = Record(self.offset, START_MS + at_ms, key.encode(), body, [("ce_type", kind.encode()), *headers])
        self.records.append(record)
        parts = advance_through(self.state, [record])
        self.parts += parts
        return [reject.reason for part in parts for reject in part.rejects]

    def sign_and_send(
        self, kind: str, value: Any, at_ms: int, *, device: int = 0, account: bytes | None = None
    ) -> list[str]:
        """The same of a record signed by the device's key `k` of a number, or by an account's private key."""
        body = msgspec.json.encode(value)
        parts = (self.state.log.log_id, b"m", kind, JSON, body)
        if account is not None:
            return self.send(kind, body, at_ms, headers=[("signature", sign_control(account, *parts))])
        signature = sign_reading(private_key(device), *parts)
        return self.send(kind, body, at_ms, headers=[("signature", signature), ("key-id", b"k")])

    def register(self, version: int = 1, at_ms: int = 0, **changes: Any) -> list[str]:
        return self.send(REGISTERED, registration(version, **changes), at_ms)

    def correct(self, version: int, difference: int, at_ms: int, now_ms: int = 0, **changes: Any) -> list[str]:
        return self.send(CORRECTED, correction(version, difference, at_ms, **changes), now_ms)

    def trips(self, count: int, at_ms: int, now_ms: int | None = None, **changes: Any) -> list[str]:
        self.seq += 1
        row = {"machine": "m", "meter": "trips", "boot": 1, "seq": self.seq, "observed_at": START_MS + at_ms}
        return self.send(READING, row | {"quantity": count} | changes, at_ms if now_ms is None else now_ms)

    def seal(self, at_ms: int = DAY_MS) -> list[Window]:
        """All that sealed so far, once time has passed."""
        assert not self.send(HEARTBEAT, b"", at_ms)
        return [window for part in self.parts for window in part.windows]
