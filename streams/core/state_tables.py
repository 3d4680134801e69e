"""The tables that a state is dumped to and loaded from: their columns, and the rows of each part of the state."""

from typing import NamedTuple

import msgspec
import pyarrow as pa

from streams.core.machines import Machine
from streams.core.meters import METERS
from streams.core.orders import ItemOrders
from streams.core.tables import TableSpec

INT, TEXT, BYTES = pa.int64(), pa.string(), pa.binary()
CLOCK = TableSpec(pa.schema([("id", INT), ("stream_time_ms", INT), ("epoch", INT)]), ("id",))
MACHINES = TableSpec(pa.schema([("machine", TEXT), ("state", BYTES)]), ("machine",))
VERSIONS = TableSpec(
    pa.schema([("machine", TEXT), ("version", INT), ("in_force_from_ms", INT), ("content", TEXT)]),
    ("machine", "version"),
)
CARRIES = TableSpec(pa.schema([("machine", TEXT), ("agreement", TEXT), ("carry", INT)]), ("machine", "agreement"))
OPEN_WINDOWS = TableSpec(
    pa.schema([("start_ms", INT), ("machine", TEXT), ("adjusts_ms", INT), ("state", BYTES)]),
    ("start_ms", "machine", "adjusts_ms"),
)
SESSIONS = TableSpec(pa.schema([("machine", TEXT), ("session", TEXT), ("state", BYTES)]), ("machine", "session"))
TABLES: dict[str, TableSpec] = {
    "carries": CARRIES,
    "clock": CLOCK,
    "machines": MACHINES,
    "meters": METERS,
    "open_windows": OPEN_WINDOWS,
    "sessions": SESSIONS,
    "versions": VERSIONS,
}
"""The dumped state. A `state` is the canonical JSON of a struct, fields in their order; `adjusts_ms` is -1 in a plain
window.
"""

Row = tuple[object, ...]


class _MachineFacts(NamedTuple):
    """A machine without its id and its versions."""

    route: str
    least_boot: int
    is_marked: bool
    correction_version: int
    correction_digest: str
    payment_version: int
    payment_digest: str
    payment_place: tuple[int, int]
    orders: list[tuple[str, ItemOrders]]


def machine_row(machine: Machine) -> Row:
    """A row of MACHINES."""
    facts = _MachineFacts(
        machine.route,
        machine.least_boot,
        machine.is_marked,
        machine.correction_version,
        machine.correction_digest,
        machine.payment_version,
        machine.payment_digest,
        machine.payment_place,
        sorted(machine.orders.items()),
    )
    return machine.machine, msgspec.json.encode(facts)


def machine_from(name: str, dumped: bytes) -> Machine:
    """The machine of a row of MACHINES, without its versions."""
    facts = msgspec.json.decode(dumped, type=_MachineFacts)
    plain = facts._asdict() | {"orders": dict(facts.orders)}
    return Machine(name, **plain)


def version_row(machine: Machine, number: int) -> Row:
    """A row of VERSIONS."""
    version = machine.versions[number - 1]
    return machine.machine, number, version.in_force_from_ms, version.content
