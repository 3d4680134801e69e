"""A central system in the test's process, a scripted charge point, and what lies in the spool afterwards."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tallyroot_gateway import Reading
from tallyroot_gateway.field.config import LogOptions, ServeOptions
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.ocpp import CentralSystem
from tallyroot_gateway.ocpp.config import OcppConfig, ServerOptions
from tallyroot_gateway.ocpp.messages import time_text
from tallyroot_gateway.spool import Spool

NOBODY = "127.0.0.1:1"
"""A Kafka where nothing answers: all that is taken stays in the spool."""

START_MS = 1_790_000_000_000


class Clock:
    """Epoch ms that a test sets."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms

    def set(self, ms: int) -> None:
        """It never goes back."""
        self.ms = max(self.ms, ms)


def ocpp_config(folder: Path, chargers: dict[str, Any] | None = None, **server: Any) -> OcppConfig:
    """A file's content: charger CP-1 of machine charger-1, without passwords, unless something else is given."""
    raw = {
        "log": LogOptions(bootstrap_servers=NOBODY, log_id="log-1", spool=str(folder / "spool")),
        "serve": ServeOptions(rejects=str(folder / "rejects.jsonl")),
        "ocpp": msgspec.convert({"port": 0, "security_profile": 0, **server}, ServerOptions),
    }
    options = {"CP-1": {"machine": "charger-1"}} if chargers is None else chargers
    return msgspec.structs.replace(
        OcppConfig(**raw), chargers=msgspec.convert(options, OcppConfig.__annotations__["chargers"])
    )


@contextlib.asynccontextmanager
async def central_system(config: OcppConfig, clock: Clock | None = None) -> AsyncIterator[tuple[CentralSystem, str]]:
    """A central system that listens, and its address."""
    intake = Intake(config, now_ms=clock or Clock())
    central = CentralSystem(config, intake)
    url = await central.start()
    try:
        yield central, url
    finally:
        await central.close()
        for gateway in intake._gateways.values():
            gateway.close(0)
        await intake.close()


def taken(folder: Path, route: str = "charger-1", meter: str | None = "energy") -> list[Reading]:
    """All readings in the spool of a route, in order; of one meter, unless None is given."""
    spool = Spool(folder / "spool" / route, "log-1", route, now_ms=START_MS)
    rows, _ = spool.read(spool.acked, 1_000_000, 1 << 28)
    spool.close()
    readings = [msgspec.json.decode(row, type=Reading) for row in rows]
    return [reading for reading in readings if meter in (None, reading.meter)]


def rejects(folder: Path) -> list[dict[str, Any]]:
    """What was set aside, in order."""
    path = folder / "rejects.jsonl"
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def started(register: int, at_ms: int, tag: str = "tag", connector: int = 1) -> dict[str, Any]:
    """A StartTransaction of 1.6."""
    return {"connectorId": connector, "idTag": tag, "meterStart": register, "timestamp": time_text(at_ms)}


def stopped(transaction: int | None, register: int, at_ms: int, **more: Any) -> dict[str, Any]:
    """A StopTransaction of 1.6."""
    return {"transactionId": transaction, "meterStop": register, "timestamp": time_text(at_ms), **more}


def sampled(at_ms: int, *values: Any, **more: Any) -> dict[str, Any]:
    """A meter value; plain values are registers in Wh, of 1.6."""
    whole = [value if isinstance(value, dict) else {"value": str(value), **more} for value in values]
    return {"timestamp": time_text(at_ms), "sampledValue": whole}


def event(
    kind: str, transaction: str, seq: int, at_ms: int, *meter_values: dict[str, Any], evse: int = 1, **more: Any
) -> dict[str, Any]:
    """A TransactionEvent of 2.0.1."""
    payload = {
        "eventType": kind,
        "timestamp": time_text(at_ms),
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq,
        "transactionInfo": {"transactionId": transaction},
        "evse": {"id": evse},
        **more,
    }
    return payload | ({"meterValue": list(meter_values)} if meter_values else {})


def shown(readings: list[Reading]) -> Iterator[tuple[int, str]]:
    """(register, marks) of readings: `s` starts a session, `e` ends one, `r` was reconstructed, `-` is of none."""
    for each in readings:
        marks = "s" * each.session_start + "e" * each.session_end + "r" * each.reconstructed
        yield int(each.register or 0), marks + ("-" if each.session is msgspec.UNSET else "")
