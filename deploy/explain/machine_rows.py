"""The machines of a log, as the view `machines` has them."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct, convert

from deploy.data_folder import DataFolder
from deploy.explain.availability import refresh_availability
from deploy.explain.query import query


class MachineRow(Struct, frozen=True, kw_only=True):
    """One machine in the view `machines`; its columns are described there."""

    machine: str
    partition: int
    first_seen: datetime | None
    last_seen: datetime | None
    windows: int
    adjustments: int
    readings: int
    gross: Decimal
    net: Decimal
    currency: str
    simulated: bool
    trust: int | None
    registration_version: int | None
    flags: list[str] | None
    equivocations: int | None
    reporting_from: datetime | None
    reporting_until: datetime | None
    reporting_minutes: int | None
    silent_minutes: int | None
    reporting: Decimal | None
    uptime_minutes: int | None
    outage_minutes: int | None
    uptime: Decimal | None


def machine_rows(data: DataFolder) -> list[MachineRow]:
    """All machines that the log has windows of, by id, with what their meters of availability say of them."""
    refresh_availability(data)
    return convert(query(data, "SELECT * FROM machines ORDER BY machine").records(), list[MachineRow])
