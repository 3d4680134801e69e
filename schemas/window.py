"""An earnings window: what one machine earned in one stretch of time, as of its sealing record."""

from typing import Literal

from msgspec import Struct, structs, to_builtins

from schemas.canonical import canonical_json, document_digest
from schemas.registration import Agreement

SELF_REPORTED, SIGNED, HARDWARE_BACKED = range(3)
"""Trust of a reading: not signed, signed by a registered key, signed by a registered key in hardware."""

Flag = Literal["equivocation", "rebaselined", "reconstructed", "reset"]


class Line(Struct, frozen=True):
    """Usage at one price: `amount` is in micros, `price` in micros for every `per` units (0: for each session)."""

    meter: str
    unit: str
    version: int
    usage: int
    price_micros: int
    per: int
    amount_micros: int


class Window(Struct, frozen=True, kw_only=True):
    """A sealed window, or (with `mends_ms`) an adjustment that lies in it and mends an earlier one.

    Times are epoch ms, [start, end). `utc_offset_s` (seconds east of UTC) is the machine's zone at the start, or at the
    start of what it mends: the offset that its version's tariff has there. `trust` is the lowest of its readings, or
    the highest if it has none (corrections only). Carries are in 1/3,600,000 of a micro: sum of usage × price ×
    (3,600,000 / per) + carry_in = gross × 3,600,000 + carry_out, so each can be checked alone.
    """

    machine: str
    start_ms: int
    end_ms: int
    mends_ms: int | None
    utc_offset_s: int
    gross_micros: int
    expenses_micros: int
    net_micros: int
    lines: tuple[Line, ...]
    carry_in: int
    carry_out: int
    registration_version: int
    agreement: Agreement
    readings: int
    first_offset: int
    last_offset: int
    skipped: int
    flags: tuple[Flag, ...]
    trust: int
    digest: bytes = b""

    def sealed(self, salt: str) -> "Window":
        """The same window with its digest: SHA-256 over all of it and the registration's salt (hex)."""
        return structs.replace(self, digest=document_digest("window 1", self.document() | {"salt": salt}))

    def document(self) -> dict[str, object]:
        """What the digest covers. Amounts and usage are decimal strings: they may leave the safe integers."""
        return {
            "machine": self.machine,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "mends_ms": self.mends_ms,
            "utc_offset_s": self.utc_offset_s,
            "gross_micros": str(self.gross_micros),
            "expenses_micros": str(self.expenses_micros),
            "net_micros": str(self.net_micros),
            "lines": [
                [line.meter, line.unit, line.version, str(line.usage), line.price_micros, line.per,
                 str(line.amount_micros)]
                for line in self.lines
            ],
            "carry_in": self.carry_in,
            "carry_out": self.carry_out,
            "registration_version": self.registration_version,
            "agreement": to_builtins(self.agreement),
            "readings": self.readings,
            "first_offset": self.first_offset,
            "last_offset": self.last_offset,
            "skipped": self.skipped,
            "flags": list(self.flags),
            "trust": self.trust,
        }  # fmt: skip

    def canonical(self) -> bytes:
        """The canonical bytes of the document, without the salt."""
        return canonical_json(self.document())

    @property
    def sealing_key(self) -> tuple[int, bytes, int]:
        """Orders windows as they seal: by start, machine, then the plain window before its adjustments."""
        return self.start_ms, self.machine.encode(), -1 if self.mends_ms is None else self.mends_ms
