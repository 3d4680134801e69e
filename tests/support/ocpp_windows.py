"""What the log makes of readings that a gateway took: windows by the core, held against the slow text."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from streams.reference.vectors import recounted, replay
from tallyroot_gateway import Reading

RULESET = {
    "partition": 0, "partitions": 1, "window_ms": 900_000, "epoch_ms": 86_400_000, "grace_ms": 600_000,
    "horizon_ms": 3_024_000_000, "skew_ms": 300_000,
}  # fmt: skip
FEE = 500_000


class Windows:
    """Usage by (machine, meter, start of window), fees by machine, and why readings were refused."""

    def __init__(self, readings: Sequence[Reading], start_ms: int, meter_key: dict[str, str] | None = None) -> None:
        """The readings in the order of the log, each a second after it was observed or just after the one before.

        With a `meter_key` what the meters signed is proof.
        """
        meters: dict[str, set[str]] = {}
        for reading in readings:
            if reading.register is not msgspec.UNSET:
                meters.setdefault(reading.machine, set()).add(reading.meter)
        log = [_registration(machine, sorted(meters[machine]), start_ms, meter_key) for machine in sorted(meters)]
        now_ms = start_ms
        for reading in readings:
            if reading.register is not msgspec.UNSET:
                now_ms = max(now_ms, reading.observed_at + 1_000)
                log.append({"timestamp": now_ms, "type": "reading", "value": msgspec.to_builtins(reading)})
        log.append({"timestamp": now_ms + 86_400_000, "type": "heartbeat", "value": {}})
        document: dict[str, Any] = {
            "ruleset": RULESET,
            "log": [{"offset": offset, **record} for offset, record in enumerate(log)],
        }
        result = replay(document)
        slow = recounted(document)
        if [window["lines"] for window in result["windows"]] != [window["lines"] for window in slow["windows"]]:
            raise AssertionError("core and slow text differ")
        self.usage: Counter[tuple[str, str, int]] = Counter()
        self.fees: Counter[str] = Counter()
        for window in result["windows"]:
            start = window["start"] if window["mends"] is None else window["mends"]
            for line in window["lines"]:
                if line["price"] == FEE:
                    self.fees[window["machine"]] += line["usage"]
                else:
                    self.usage[window["machine"], line["meter"], start] += line["usage"]
        self.flags = {flag for window in result["windows"] for flag in window["flags"]}
        self.trusts = {window["trust"] for window in result["windows"]}
        self.rejects = Counter(reason for _, _, reason in result["rejects"])

    def total(self, machine: str) -> int:
        """All that a machine's meters used."""
        return sum(usage for (name, _, _), usage in self.usage.items() if name == machine)


def _registration(machine: str, meters: list[str], start_ms: int, key: dict[str, str] | None) -> dict[str, Any]:
    proof = {} if key is None else {"meter_key": key}
    components = [{"meter": meter, "price": 300_000, "per": 1_000} for meter in meters]
    fees = [{"meter": meter, "price": FEE, "per_session": True} for meter in meters]
    value = {
        "machine": machine,
        "route": machine,
        "version": 1,
        "kind": "charger",
        "effective_from": 0,
        "meters": [
            {"meter": meter, "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000, **proof} for meter in meters
        ],
        "tariff": {"elements": [{"components": components + fees}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}},
    }
    return {"timestamp": start_ms, "type": "machine.registered", "value": value}
