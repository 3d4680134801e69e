"""Results that only a command makes, of what several functions returned: see `deploy.cli.dialect`."""

from pathlib import Path

from msgspec import Struct

from deploy.config import Origin
from deploy.explain.machine_rows import MachineRow
from deploy.explain.meter_signs import MeterSign
from schemas.manifest import SkippedRange
from settlement.results import RoleHolder


class SettingsShown(Struct, frozen=True):
    """Every setting."""

    settings: list[Origin]


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


class GatewayEnded(Struct, frozen=True):
    """How a gateway ended (0: it was stopped), and the text of what it discovered, where it was asked for that."""

    code: int
    discovered: str | None


class TillEnded(Struct, frozen=True):
    """A till that was stopped, and how many purchases its next start goes on with."""

    under_way: int


class WorkerEnded(Struct, frozen=True):
    """The exit code of a worker: 0, or 75 after a stall."""

    exit_code: int


class Written(Struct, frozen=True):
    """A file that a person goes on with, and how many machines it names."""

    form: str
    machines: int


class RolesShown(Struct, frozen=True):
    """Who holds which role of the ledger."""

    roles: list[RoleHolder]


class SkippedShown(Struct, frozen=True):
    """The skipped range that was added just now, and all of them."""

    added: SkippedRange | None
    skipped_ranges: list[SkippedRange]
