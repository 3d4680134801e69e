"""Who writes to the log: gateways and operators, honest, clumsy and hostile, stamped by clocks that none may trust."""

import random
from typing import Any

import msgspec

from schemas.log import Log, Ruleset
from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED
from schemas.units import COUNT_MAX, HOUR_MS, MINUTE_MS
from streams.core.murmur2 import partition_of
from streams.core.records import ARROW, Record
from tests.support.dirty_logs import DirtyLog, Plain
from tests.support.fleet_logs import in_arrow

ALICE, BOB = "0x" + "a1" * 20, "0x" + "B2" * 20
BOUGHT = (RECEIVED, INVOICED, CANCELLED)
NO_TIMES = (-1, -(2**63), 0, 1, 2**53, 2**62, 2**63 - 1)
"""Timestamps that a hostile producer writes: before everything, or no times at all."""
EDGES: tuple[Any, ...] = (-1, 0, COUNT_MAX, COUNT_MAX + 1, 2**63, 2**64, 1.5, None, True, "", "é", "a" * 65, [], {})


class Traffic(DirtyLog):
    """The log of one partition, and those who write it."""

    def __init__(self, seed: int, dirt: float, log: Log, partition: int) -> None:
        super().__init__(seed, dirt, boots=seed % 2 == 0, log_id=log.log_id)
        self.partition = partition
        self.is_stamped_by_producers = log.timestamp_type == "CreateTime"
        names = (f"m{number}" for number in range(10_000))
        here = (name for name in names if partition_of(name.encode(), log.partitions) == partition)
        for device, name in zip(self.devices, here, strict=False):
            device.name = name

    def begin(self) -> None:
        """The machines are registered."""
        for device in self.devices:
            self.register(device)

    def tick(self, clock: Any, others: list[Record]) -> None:
        """One event. `clock` stamps what it wrote; `others` are records of other partitions, to be sent here."""
        before = len(self.log)
        if self.draw.random() < 0.2 * self.dirt:
            self.attack(others)
        else:
            self.step()
            if self.draw.random() < 0.1:
                self.log[before:] = [in_arrow(record) for record in self.log[before:]]
        for place in range(before, len(self.log)):
            self.log[place] = self.log[place]._replace(timestamp=self.stamp(clock))

    def stamp(self, clock: Any) -> int:
        """The broker's clock, or whatever the producer says."""
        if self.is_stamped_by_producers:
            if self.draw.random() < 0.1 * self.dirt:
                return self.draw.choice(NO_TIMES)
            if self.draw.random() < 0.3:
                return self.now_ms - self.draw.choice((0, 1_000, MINUTE_MS, HOUR_MS))
        return int(clock.stamp(self.now_ms))

    def end(self, log: Log) -> None:
        """Silence, until all that was observed has sealed and its epochs are cut."""
        latest_ms = max(record.timestamp for record in self.log if record.timestamp < 2**50)
        start = max(latest_ms, self.now_ms)
        for after_ms in (0, log.epoch_ms + 30 * MINUTE_MS, log.epoch_ms + 30 * MINUTE_MS + 1):
            headers = [("ce_type", HEARTBEAT.encode())]
            self.log.append(Record(self.offset(), start + after_ms, None, b"", headers))

    def attack(self, others: list[Record]) -> None:
        """A record that nobody should have written."""
        kind = self.draw.choice((READING, READING, REGISTERED, CORRECTED, PAID, *BOUGHT, "\udcff", ""))
        headers = [("ce_type", kind.encode("utf-8", "surrogateescape"))]
        if self.draw.random() < 0.3:
            headers.append(("content-type", self.draw.choice((ARROW.encode(), b"text/plain", b"\xff", b""))))
        device = self.draw.choice(self.devices)
        match self.draw.randrange(5):
            case 0:
                value = self.draw.randbytes(self.draw.randrange(80))
            case 1:  # a flood of machines that nobody registered
                row = self.row(device, "stock")
                ghosts = [row | {"machine": f"ghost{number}"} for number in range(self.draw.choice((3, 70)))]
                value = msgspec.json.encode(ghosts)
            case 2:
                row = self.row(device, "energy")
                value = msgspec.json.encode(row | {self.draw.choice(list(row)): self.draw.choice(EDGES)})
            case 3:  # bytes of another record, one of them changed
                old = bytearray(self.draw.choice(self.log).value or b"?") or bytearray(b"?")
                old[self.draw.randrange(len(old))] = self.draw.randrange(256)
                value = bytes(old)
            case _:  # the right record in the wrong partition
                if others:
                    other = self.draw.choice(others)
                    self.log.append(other._replace(offset=self.offset()))
                return
        self.log.append(Record(self.offset(), 0, self.draw.choice((device.name.encode(), b"", None)), value, headers))

    def registration(self, device: Any, version: int) -> Plain:
        """The same, with payees that a ledger can pay; one part may go to somebody without an account."""
        registration = super().registration(device, version)
        agreement = registration["agreement"]
        names = {"alice": ALICE, "bob": BOB if device.name[-1] in "02468" else "coop"}
        agreement["payees"] = {names[payee]: points for payee, points in agreement["payees"].items()}
        return registration


def log_of(draw: random.Random) -> Log:
    """A log with short epochs, so that a short run has many."""
    return Log(
        log_id="simulated",
        partitions=draw.choice((1, 1, 1, 2, 3)),
        timestamp_type=draw.choice(("CreateTime", "LogAppendTime")),
        epoch_ms=draw.choice((2, 4)) * HOUR_MS,
        rulesets=(Ruleset(horizon_ms=6 * HOUR_MS),),
    )
