"""Results that only a command makes, of what several functions returned: see `deploy.cli.dialect`."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from deploy.config import Origin
from deploy.explain.meter_signs import MeterSign


class SettingsShown(Struct, frozen=True):
    """Every setting."""

    settings: list[Origin]


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


class MachinesShown(Struct, frozen=True):
    """All machines that the log has windows of, and what mends those that earn less than they could."""

    machines: list[MachineRow]
    signs: list[MeterSign]


class Accepted(Struct, frozen=True):
    """Machines whose signed payloads the log took."""

    accepted: list[str]


class ProofFolder(Struct, frozen=True):
    """Where the proofs of all accounts were written, and how many."""

    folder: Path
    proofs: int


class Disputed(Struct, frozen=True):
    """The first post that was disputed; all after it fall with it."""

    sequence: int
    transaction: str


class Restored(Struct, frozen=True):
    """Sequences of the posts that were rebuilt."""

    restored: list[int]


class WorkerEnded(Struct, frozen=True):
    """The exit code of a worker: 0, or 75 after a stall."""

    exit_code: int


class Written(Struct, frozen=True):
    """A file that a person goes on with, and how many machines it names."""

    form: str
    machines: int
