"""Readings of meters and corrections by operators: the records that become money."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.units import Account, Count, Difference, Id, Positive, Reason

MeterKind = Literal["register", "quantity", "level"]

READING = "reading"
REGISTERED = "machine.registered"
CORRECTED = "usage.corrected"
HEARTBEAT = "heartbeat"

ROWS_MAX = 10_000
"""The most rows that one record may hold."""

EVIDENCE_BYTES = 8_192
"""The most that a row's evidence may be, in UTF-8."""

EVIDENCES_MAX = 64
"""How many rows of one record have evidence that is looked at: the first ones."""

Fees = Annotated[int, Meta(ge=-1_000, le=1_000)]


class Reading(Struct, frozen=True, omit_defaults=True, gc=False):
    """One row of a `reading` record. Times are epoch ms; the value is in the meter's unit.

    `evidence` is what the meter signed of a register, an OCMF record.

    Unknown fields are ignored. A decoded row is well formed only if `is_valid` also holds.
    """

    machine: Id
    meter: Id
    boot: Count
    seq: Count
    observed_at: Count
    register: Count | UnsetType = UNSET
    quantity: Count | UnsetType = UNSET
    level: Count | UnsetType = UNSET
    session: Id | UnsetType = UNSET
    session_started_at: Count | UnsetType = UNSET
    session_start: bool = False
    session_end: bool = False
    reconstructed: bool = False
    evidence: str | UnsetType = UNSET

    def is_valid(self) -> bool:
        """Exactly one value; a session with its start, not after the reading; a mark of a session only with one;
        evidence of a register only.
        """
        values = (self.register is not UNSET) + (self.quantity is not UNSET) + (self.level is not UNSET)
        if values != 1:
            return False
        if self.session is UNSET and (self.session_start or self.session_end):
            return False
        if self.evidence is not UNSET and (self.register is UNSET or not is_evidence(self.evidence)):
            return False
        return is_session_valid(self.session, self.session_started_at, self.observed_at)

    @property
    def moment_ms(self) -> int:
        """The moment of the row (epoch ms): what a meter shows was used before it was read.

        A row that starts a session lies at its start.
        """
        return self.observed_at if self.session_start else max(0, self.observed_at - 1)

    @property
    def kind(self) -> MeterKind:
        """Which of the three values the row carries."""
        if self.register is not UNSET:
            return "register"
        return "quantity" if self.quantity is not UNSET else "level"

    @property
    def value(self) -> int:
        """The one value that the row carries, in the meter's unit."""
        for value in (self.register, self.quantity, self.level):
            if value is not UNSET:
                return value
        return 0


class Correction(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A `usage.corrected` record: a signed difference to a meter's usage at a moment (a credit or a debit note).

    `version` counts the corrections of one machine from 1. `fees` adds or takes back so many per-session prices of the
    session; what the correction takes is worth a refund to the account `refund_to`.
    """

    machine: Id
    meter: Id
    version: Positive
    observed_at: Count
    difference: Difference
    reason: Reason
    session: Id | UnsetType = UNSET
    session_started_at: Count | UnsetType = UNSET
    fees: Fees = 0
    refund_to: Account | UnsetType = UNSET

    @property
    def moment_ms(self) -> int:
        """The moment corrected (epoch ms), as a reading's."""
        return max(0, self.observed_at - 1)

    def is_valid(self) -> bool:
        """A session with its start, not after the moment corrected; fees and a refund only with a session."""
        if self.session is UNSET and (self.fees or self.refund_to is not UNSET):
            return False
        return is_session_valid(self.session, self.session_started_at, self.observed_at)


def is_evidence(text: str) -> bool:
    """Whether a text has 1 to EVIDENCE_BYTES bytes."""
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= EVIDENCE_BYTES


def is_session_valid(session: str | UnsetType, started_at: int | UnsetType, observed_at: int) -> bool:
    """A session has a name and a start, or neither; it starts at `observed_at` (epoch ms) at the latest."""
    if session is UNSET or started_at is UNSET:
        return session is UNSET and started_at is UNSET
    return started_at <= observed_at
