"""An earnings window: what one machine earned in one stretch of time, as of its sealing record."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from msgspec import Struct, structs

from schemas.errors import InvariantBroken
from schemas.registration import Agreement

SELF_REPORTED, SIGNED, HARDWARE_BACKED = range(3)
"""Trust of a reading: not signed, signed by a registered key, signed by a registered key in hardware."""

Flag = Literal["behind", "clock", "equivocation", "evidence", "fees", "proven", "rebaselined", "reconstructed", "reset"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
"""In the order of their bits, from the lowest; also the order of the alphabet."""

LINES_MAX = 256
"""The most lines of a window, also those whose usage came back to 0."""

DueKind = Literal["expense", "refund"]
DUE_KINDS: tuple[DueKind, ...] = get_args(DueKind)

DOMAIN = b"tallyroot window 2\n"
ABSENT = -1


def flag_bits(flags: Iterable[Flag]) -> int:
    """Flags as bits."""
    return sum(1 << FLAGS.index(flag) for flag in flags)


def flags_from(bits: int) -> tuple[Flag, ...]:
    """The flags of some bits, in the order of FLAGS."""
    return tuple(flag for place, flag in enumerate(FLAGS) if bits >> place & 1)


class Line(Struct, frozen=True):
    """Usage at one price: `amount` is in micros, `price` in micros for every `per` units (0: for each session)."""

    meter: str
    unit: str
    version: int
    usage: int
    price_micros: int
    per: int
    amount_micros: int


class Statement(Struct, frozen=True):
    """What became of a prepaid session, in micros: used + refund = paid, or more was used than was paid."""

    session: str
    payer: str
    paid_micros: int
    used_micros: int
    refund_micros: int

    @property
    def uncollected_micros(self) -> int:
        """What was used beyond what was paid."""
        return max(0, self.used_micros - self.paid_micros)


class Due(Struct, frozen=True):
    """Money that a window owes to one account beside its net: a supplier's invoice or a customer's refund.

    `ref` is item/number of an order, or a session.
    """

    kind: DueKind
    account: str
    ref: str
    micros: int


class Window(Struct, frozen=True, kw_only=True):
    """A sealed window, or (with `adjusts_ms`) an adjustment that lies in it and adjusts an earlier one.

    Times are epoch ms, [start, end). `utc_offset_s` (seconds east of UTC) is the machine's zone at the start, or at the
    start of what it adjusts: the offset that its version's tariff has there. `trust` is the lowest of its readings that
    billed something, or the highest if none did. net = gross - expenses - uncollected; `collected` is what prepaid
    sessions brought. Offsets are -1 where nothing of the log lies in it. Carries are in 1/3,600,000 of a micro: sum of
    usage × price × (3,600,000 / per) + carry_in = gross × 3,600,000 + carry_out, so each can be checked alone.
    """

    machine: str
    start_ms: int
    end_ms: int
    adjusts_ms: int | None
    utc_offset_s: int
    gross_micros: int
    expenses_micros: int
    uncollected_micros: int
    net_micros: int
    collected_micros: int
    lines: tuple[Line, ...]
    sessions: tuple[Statement, ...]
    dues: tuple[Due, ...]
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
        """The same window with its digest: SHA-256 of a domain line, its registration's salt (hex) and `canonical`."""
        return structs.replace(self, digest=hashlib.sha256(DOMAIN + _text(salt) + self.canonical()).digest())

    def canonical(self) -> bytes:
        """The bytes that the digest covers, without the salt.

        A text is its length (u16) and its UTF-8 bytes, an integer an i64, a list its length (u32) and its items; all
        are big-endian. They are: the machine; the integers of `_integers`; the agreement's digest; then each line, each
        statement and each due, field by field as declared. Raises InvariantBroken if an integer leaves 64 bits.
        """
        try:
            return b"".join(
                (
                    _text(self.machine),
                    _INTEGERS.pack(*self._integers()),
                    self.agreement.terms_digest(),
                    _rows([_row(line, 2) for line in self.lines]),
                    rare_bytes(self.sessions, self.dues),
                )
            )
        except struct.error as error:
            raise InvariantBroken(f"a window of {self.machine} at {self.start_ms} leaves 64 bits") from error

    def _integers(self) -> tuple[int, ...]:
        return (
            self.start_ms,
            self.end_ms,
            ABSENT if self.adjusts_ms is None else self.adjusts_ms,
            self.utc_offset_s,
            self.gross_micros,
            self.expenses_micros,
            self.uncollected_micros,
            self.net_micros,
            self.collected_micros,
            self.carry_in,
            self.carry_out,
            self.registration_version,
            self.readings,
            self.first_offset,
            self.last_offset,
            self.skipped,
            flag_bits(self.flags),
            self.trust,
        )

    @property
    def sealing_key(self) -> tuple[int, bytes, int]:
        """Orders windows as they seal: by start, machine, then the plain window before its adjustments."""
        return self.start_ms, self.machine.encode(), ABSENT if self.adjusts_ms is None else self.adjusts_ms


_INTEGERS = struct.Struct(">18q")


def rare_bytes(sessions: Sequence[Statement], dues: Sequence[Due]) -> bytes:
    """The end of a window's canonical bytes: what few have. Raises struct.error if an integer leaves 64 bits."""
    return _rows([_row(statement, 2) for statement in sessions]) + _rows([_row(due, 3) for due in dues])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _row(row: Line | Statement | Due, texts: int) -> bytes:
    """A row whose first fields are texts, the others integers."""
    fields = structs.astuple(row)
    integers = fields[texts:]
    return b"".join(_text(text) for text in fields[:texts]) + struct.pack(f">{len(integers)}q", *integers)


def _rows(rows: Sequence[bytes]) -> bytes:
    return len(rows).to_bytes(4, "big") + b"".join(rows)
