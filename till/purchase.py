"""A purchase: from a signed authorisation to a payment in the log and a command at the machine's gateway."""

from typing import Literal

from msgspec import Struct

from till.authorization import Authorization

State = Literal["accepted", "signed", "final", "numbered", "recorded", "started", "returned", "failed", "stranded"]
"""`returned`: recorded, but its session was over by then, so the log pays it back. `failed`: nothing was paid.
`stranded`: paid, and the log refuses the record: a person pays it back.
"""

UNDER_WAY: tuple[State, ...] = ("accepted", "signed", "final", "numbered", "recorded")
"""A purchase in one of these goes on by itself."""

UNPAID: tuple[State, ...] = ("accepted", "signed")
PAID: tuple[State, ...] = ("recorded", "started", "returned")


class Attempt(Struct, frozen=True):
    """A signed transaction that sends the authorisation, with the nonce of the till's own account."""

    nonce: int
    raw: bytes
    transaction: str


class Place(Struct, frozen=True, order=True):
    """Where the transfer is on the chain: final, and used for this purchase alone."""

    block: int
    log_index: int
    transaction: str


class Purchase(Struct, frozen=True, kw_only=True):
    """One purchase, known by payer and nonce of its authorisation. Times with _ms are epoch ms.

    `secret_digest` is of the secret that stops the session; `record` are the bytes of the payment in the log with the
    operator's signature.
    """

    authorization: Authorization
    machine: str
    session: str
    is_top_up: bool
    units: int
    amount_micros: int
    accepted_ms: int
    accepted_block: int
    valid_until_ms: int
    connector: int
    secret_digest: str
    state: State = "accepted"
    attempts: int = 0
    attempt: Attempt | None = None
    place: Place | None = None
    record: bytes = b""
    signature: bytes = b""
    stopped_ms: int | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its session may still be used, as far as the till knows."""
        return self.state in (*UNDER_WAY, "started") and self.stopped_ms is None
